//! The lock and the last runs, on the broker's Redis: there a message and the note that it was sent are one step.

use std::sync::LazyLock;
use std::time::Duration;

use petiole_client::{Client, ClientError};
use petiole_protocol::TaskMessage;
use petiole_redis::RedisError;
use petiole_redis::keys::binding_member;
use petiole_redis::queues::sent_queues;
use redis::{Script, ScriptInvocation};
use serde_json::json;
use uuid::Uuid;

/// How long a sent task is remembered, as by the client.
const REMEMBERED: Duration = Duration::from_secs(86_400);

macro_rules! script {
    ($name:ident, $file:literal) => {
        static $name: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!(concat!("scripts/", $file))));
    };
}

script!(LEASE, "lease.lua");
script!(RELEASE, "release.lua");
script!(REMEMBER, "remember.lua");
script!(FORGET, "forget.lua");
script!(SEND, "send.lua");

/// What became of an attempt to take or renew the lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lease {
    /// It is ours; the token is another one for every taking.
    Held(String),
    /// Somebody else has it, for so long unless it is renewed.
    Other(Duration),
}

/// What became of a sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    /// The message is in its queue, the run is noted.
    Done,
    /// The lock is somebody else's: nothing was sent.
    Lost,
    /// The last run is another one than it was taken for: nothing was sent.
    Changed,
}

/// What is sent, and what is noted of it.
pub(crate) struct Sending<'a> {
    pub(crate) key: &'a str,
    pub(crate) before: &'a str,
    pub(crate) after: &'a str,
    pub(crate) message: &'a TaskMessage,
    pub(crate) queue: &'a str,
}

/// The lock and the last runs.
pub(crate) struct Store {
    client: Client,
    prefix: String,
    owner: String,
    ttl: Duration,
}

impl Store {
    pub(crate) fn new(client: Client, prefix: &str, ttl: Duration) -> Self {
        Self { client, prefix: prefix.to_owned(), owner: Uuid::new_v4().to_string(), ttl }
    }

    fn key(&self, name: &str) -> String {
        self.client.broker().keys().key(&format!("{}{name}", self.prefix))
    }

    /// Takes the lock or renews it.
    ///
    /// # Errors
    /// Redis is away: the lock may or may not be ours.
    pub(crate) async fn lease(&self) -> Result<Lease, RedisError> {
        let mut call = LEASE.prepare_invoke();
        call.key(self.key("lock")).key(self.key("fence"));
        call.arg(&self.owner).arg(millis(self.ttl));
        let (mine, text): (String, String) = self.invoke(&call).await?;
        Ok(match mine.as_str() {
            "1" => Lease::Held(text),
            _ => Lease::Other(Duration::from_millis(text.parse().unwrap_or(0))),
        })
    }

    /// Gives the lock back.
    ///
    /// # Errors
    /// Redis is away: the lock expires by itself.
    pub(crate) async fn release(&self, token: &str) -> Result<(), RedisError> {
        let mut call = RELEASE.prepare_invoke();
        call.key(self.key("lock")).arg(token);
        self.invoke(&call).await
    }

    /// The states of entries, in their order; those that are not there yet become what is given. None: the lock is lost.
    ///
    /// # Errors
    /// Redis is away.
    pub(crate) async fn remember(
        &self,
        token: &str,
        entries: &[(String, String)],
    ) -> Result<Option<Vec<String>>, RedisError> {
        let mut call = REMEMBER.prepare_invoke();
        call.key(self.key("lock")).key(self.key("entries")).arg(token);
        for (key, state) in entries {
            call.arg(key).arg(state);
        }
        self.invoke(&call).await
    }

    /// Forgets all entries but these.
    ///
    /// # Errors
    /// Redis is away.
    pub(crate) async fn forget_others(&self, token: &str, stay: &[String]) -> Result<u64, RedisError> {
        let mut call = FORGET.prepare_invoke();
        call.key(self.key("lock")).key(self.key("entries")).arg(token).arg(stay);
        self.invoke(&call).await
    }

    /// Sends a message and notes it, if the lock is ours and the last run is the one that is thought.
    ///
    /// # Errors
    /// Redis is away: it may or may not have been sent; the same call again does not send twice.
    pub(crate) async fn send(&self, token: &str, sending: &Sending<'_>) -> Result<Sent, ClientError> {
        let Sending { message, queue, .. } = sending;
        let keys = self.client.broker().keys();
        let text = message.encode(Uuid::new_v4().to_string()).to_text();
        let mut call = SEND.prepare_invoke();
        call.key(self.key("lock")).key(self.key("entries"));
        call.key(keys.list(queue, message.properties.priority)).key(keys.sent(&message.id));
        // The queue becomes known to whoever lists queues.
        call.key(keys.binding(queue)).key(sent_queues(keys));
        call.arg(token).arg(millis(self.ttl)).arg(sending.key).arg(sending.before).arg(sending.after).arg(text);
        call.arg(json!({"name": message.task, "queue": queue}).to_string()).arg(REMEMBERED.as_secs());
        call.arg(binding_member(queue, "", queue)).arg(*queue);
        let answer: String = self.invoke(&call).await?;
        Ok(match answer.as_str() {
            "sent" => Sent::Done,
            "lost" => Sent::Lost,
            _ => Sent::Changed,
        })
    }

    async fn invoke<T: redis::FromRedisValue>(&self, call: &ScriptInvocation<'_>) -> Result<T, RedisError> {
        Ok(call.invoke_async(&mut self.client.broker().connection()).await?)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use petiole_client::ClientConfig;

    fn stores(ttl: u64) -> [Store; 2] {
        let url = std::env::var("TEST_REDIS_URL").expect("TEST_REDIS_URL is not set: run docker/test.sh");
        let mut config = ClientConfig::new(&url, &url);
        config.global_keyprefix = format!("test:{}:", Uuid::new_v4());
        let client = Client::new(config).unwrap();
        [(); 2].map(|()| Store::new(client.clone(), "beat:", Duration::from_millis(ttl)))
    }

    async fn held(store: &Store) -> String {
        match store.lease().await.unwrap() {
            Lease::Held(token) => token,
            Lease::Other(left) => panic!("somebody else has it for {left:?}"),
        }
    }

    async fn queued(store: &Store) -> u64 {
        store.client.queue_lengths("q").await.unwrap().iter().sum()
    }

    #[tokio::test]
    async fn one_has_the_lock_until_it_gives_it_back_or_is_silent() {
        let [one, other] = stores(300);
        let token = held(&one).await;
        assert!(matches!(other.lease().await.unwrap(), Lease::Other(left) if left <= Duration::from_millis(300)));
        assert_eq!(held(&one).await, token, "renewing keeps the token");
        one.release("not the token").await.unwrap();
        assert!(matches!(other.lease().await.unwrap(), Lease::Other(_)));
        one.release(&token).await.unwrap();
        let second = held(&other).await;
        assert!(matches!(one.lease().await.unwrap(), Lease::Other(_)));
        tokio::time::sleep(Duration::from_millis(350)).await;
        let third = held(&one).await;
        assert!(token != third && second != third);
    }

    #[tokio::test]
    async fn who_lost_the_lock_sends_nothing_and_nothing_is_sent_twice() {
        let [one, other] = stores(200);
        let message = TaskMessage::new("t", "id", vec![], Default::default());
        let sending = |before: &'static str, after: &'static str| Sending {
            key: "entry",
            before,
            after,
            message: &message,
            queue: "q",
        };
        let old = held(&one).await;
        let first = [("entry".to_owned(), "0".to_owned())];
        assert_eq!(one.remember(&old, &first).await.unwrap(), Some(vec!["0".to_owned()]));
        assert_eq!(one.send(&old, &sending("0", "1")).await.unwrap(), Sent::Done);
        assert_eq!(one.send(&old, &sending("0", "1")).await.unwrap(), Sent::Done, "the answer got lost");
        assert_eq!(queued(&one).await, 1);
        assert_eq!(one.send(&old, &sending("0", "2")).await.unwrap(), Sent::Changed);

        tokio::time::sleep(Duration::from_millis(250)).await;
        let new = held(&other).await;
        assert_eq!(other.remember(&new, &first).await.unwrap(), Some(vec!["1".to_owned()]), "the last run is known");
        assert_eq!(one.send(&old, &sending("1", "2")).await.unwrap(), Sent::Lost);
        assert_eq!(one.remember(&old, &first).await.unwrap(), None);
        assert_eq!(one.forget_others(&old, &[]).await.unwrap(), 0);
        assert_eq!(other.send(&new, &sending("1", "2")).await.unwrap(), Sent::Done);
        assert_eq!(queued(&one).await, 2);
        assert_eq!(other.forget_others(&new, &["another".to_owned()]).await.unwrap(), 1);
        assert_eq!(other.remember(&new, &first).await.unwrap(), Some(vec!["0".to_owned()]));
    }
}
