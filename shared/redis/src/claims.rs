//! Who holds which message, and what becomes of the messages of the dead (kombu.transport.redis: QoS.restore_visible).
//!
//! kombu knows only the time of delivery: what is older than the visibility timeout goes to another worker, however
//! alive its own one is, and a dead worker's messages wait as long. Here a worker renews the times of what it holds and
//! says that it lives; when it no longer does, the others give its messages back at once.

use std::time::Duration;

use petiole_protocol::serializer::from_json;
use redis::{AsyncCommands, cmd};
use serde_json::Value;

use crate::broker::{Broker, GiveBack, Side, redelivered};
use crate::commands::Commands;
use crate::error::RedisError;
use crate::keys::Keys;
use crate::long;
use crate::scripts;

/// A scan that takes longer than this has died.
const SCAN_LOCK: Duration = Duration::from_secs(300);
/// After Redis was away nobody is judged for so long: a worker that lives is back by then, and has renewed its claims.
const GRACE: Duration = Duration::from_secs(6);
/// So long after a worker's claim has lapsed Redis waits for no message for it any more, whatever the worker does.
const STILL: Duration = Duration::from_secs(60);
/// How many messages one scan gives back at most.
const SCAN_LIMIT: isize = 1000;

/// The claims of one worker, and its view on those of others.
#[derive(Clone)]
pub struct Claims {
    broker: Broker,
    owner: String,
}

/// What a worker learns when it says that it lives.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Alive {
    /// It had been silent for too long: others may have taken its messages.
    pub lapsed: bool,
    /// Workers that are silent for too long, while others were heard: when Redis was away nobody was, and it is begun anew.
    pub dead: Vec<String>,
    /// Redis' clock, in microseconds since the epoch.
    pub now: i64,
}

/// Is it the tag of a place for one message, which may not be there yet? It is never given a second time.
pub fn is_place(tag: &str) -> bool {
    long::is_tag(tag)
}

impl Claims {
    /// The claims of a worker. `owner` is unique for each start of a worker.
    pub fn new(broker: Broker, owner: &str) -> Self {
        Self { broker, owner: owner.to_owned() }
    }

    fn parts(&self) -> (Commands, &Keys) {
        (self.broker.connection(), self.broker.keys())
    }

    /// Says that the worker lives for another `ttl`, by Redis' clock. When no worker at all was heard for `silence`, Redis was
    /// away, and every claim holds for another `ttl`. To be called at least twice in that time.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn keep_alive(&self, ttl: Duration, silence: Duration) -> Result<Alive, RedisError> {
        let (mut connection, keys) = self.parts();
        let mut call = scripts::ALIVE.key(keys.owners());
        call.key(keys.heard()).key(keys.unjudged());
        call.arg(&self.owner).arg(ttl.as_millis() as u64).arg(silence.as_millis() as u64);
        let mut answer: Vec<String> = call.arg(GRACE.as_millis() as u64).invoke_async(&mut connection).await?;
        let lapsed = answer.first().is_some_and(|lapsed| lapsed == "1");
        let now = answer.get(1).and_then(|now| now.parse().ok()).unwrap_or_default();
        answer.drain(..answer.len().min(2));
        Ok(Alive { lapsed, dead: answer, now })
    }

    /// Which of these messages are no longer this worker's.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn lost(&self, tags: &[String]) -> Result<Vec<String>, RedisError> {
        let (mut connection, keys) = self.parts();
        let mut lost = Vec::new();
        for some in tags.chunks(1000) {
            let held: Vec<bool> =
                cmd("SMISMEMBER").arg(keys.held(&self.owner)).arg(some).query_async(&mut connection).await?;
            lost.extend(some.iter().zip(held).filter(|(_, held)| !held).map(|(tag, _)| tag.clone()));
        }
        Ok(lost)
    }

    /// Renews the delivery times of messages that are held: nobody takes them for forgotten.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn renew(&self, tags: &[String]) -> Result<(), RedisError> {
        if tags.is_empty() {
            return Ok(());
        }
        let now = self.now().await?;
        let (mut connection, keys) = self.parts();
        for some in tags.chunks(1000) {
            let mut renew = cmd("ZADD");
            renew.arg(keys.unacked_index()).arg("XX");
            for tag in some {
                renew.arg(now).arg(tag);
            }
            renew.query_async::<()>(&mut connection).await?;
        }
        Ok(())
    }

    /// Records in `unacked` what was fetched without the script and is still held: Python's workers find it there.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn record(&self, tags: &[String]) -> Result<(), RedisError> {
        let (mut connection, keys) = self.parts();
        let long: Vec<&String> = tags.iter().filter(|tag| long::is_tag(tag)).collect();
        // A few at a time: each may be a long text in Lua's hands.
        for some in long.chunks(16) {
            let mut record = scripts::RECORD.key(keys.unacked());
            record.key(keys.unacked_index()).arg(some).invoke_async::<()>(&mut connection).await?;
        }
        Ok(())
    }

    /// The worker goes: it holds nothing any more.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn leave(&self) -> Result<(), RedisError> {
        let (mut connection, keys) = self.parts();
        let mut bury = scripts::BURY.key(keys.owners());
        Ok(bury.key(keys.held(&self.owner)).arg(&self.owner).invoke_async(&mut connection).await?)
    }

    /// Tags that are this worker's by the books, but not among `known`: fetched, and the answer was lost on the way.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn forgotten(&self, known: &std::collections::HashSet<String>) -> Result<Vec<String>, RedisError> {
        let (mut connection, keys) = self.parts();
        let held: Vec<String> = connection.smembers(keys.held(&self.owner)).await?;
        Ok(held.into_iter().filter(|tag| !known.contains(tag)).collect())
    }

    /// Gives messages that `holder` has back by their tags. Gives how many it still had.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn restore(&self, holder: &str, tags: &[String]) -> Result<usize, RedisError> {
        self.restore_if(holder, tags, None).await
    }

    /// The same; with a time, for what was delivered or renewed no later, whoever has it.
    async fn restore_if(&self, holder: &str, tags: &[String], no_later: Option<f64>) -> Result<usize, RedisError> {
        if tags.is_empty() {
            return Ok(0);
        }
        let (mut connection, keys) = self.parts();
        self.record(tags).await?;
        let entries: Vec<Option<Vec<u8>>> =
            cmd("HMGET").arg(keys.unacked()).arg(tags).query_async(&mut connection).await?;
        let (mut back, mut stale) = (Vec::new(), Vec::new());
        for (tag, entry) in tags.iter().zip(entries) {
            // What is no text has been fetched as well, and is to be refused by whoever fetches it next.
            match entry.and_then(|entry| unacked_entry(&String::from_utf8_lossy(&entry))) {
                Some((text, queue)) => back.push(GiveBack { tag: tag.clone(), queue, text }),
                None => stale.push(tag.clone()),
            }
        }
        if !stale.is_empty() {
            let mut forget = scripts::FORGET.key(keys.unacked());
            forget.key(keys.unacked_index()).key(keys.held(holder)).arg(stale);
            forget.invoke_async::<()>(&mut connection).await?;
        }
        self.broker.give_back_if(holder, Side::Next, &back, no_later, redelivered).await
    }

    /// Strikes those of these places, prepared for messages of `holder`, into which nothing came. Redis must wait for none any
    /// more: `lapsed` is for how long the holder must have been silent for that, beyond its claim.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn strike(&self, holder: &str, tags: &[String], lapsed: Option<Duration>) -> Result<(), RedisError> {
        self.broker.strike(holder, tags, lapsed).await
    }

    /// Gives back the messages of workers that no longer say that they live. Gives how many.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn restore_dead(&self, dead: &[String]) -> Result<usize, RedisError> {
        let (mut connection, keys) = self.parts();
        let mut restored = 0;
        for owner in dead {
            let tags: Vec<String> = connection.smembers(keys.held(owner)).await?;
            restored += self.restore(owner, &tags).await?;
            self.strike(owner, &tags, Some(STILL)).await?;
            // One that was only asleep may have fetched again: it is looked at again.
            let mut bury = scripts::BURY.key(keys.owners());
            bury.key(keys.held(owner)).arg(owner).invoke_async::<()>(&mut connection).await?;
        }
        Ok(restored)
    }

    /// kombu's scan: gives back what was delivered longer than the visibility timeout ago and not renewed since, whoever
    /// holds it. What is no Petiole worker's is left to Python's workers while one lives: each of them scans by itself. One scans at a time, and none just after Redis was away: nobody could renew anything then.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn restore_visible(&self, visibility_timeout: Duration) -> Result<usize, RedisError> {
        let now = self.now().await?;
        let (mut connection, keys) = self.parts();
        if connection.exists(keys.unjudged()).await? {
            return Ok(0);
        }
        let token = uuid::Uuid::new_v4().simple().to_string();
        let locked: Option<String> = cmd("SET")
            .arg(keys.unacked_mutex())
            .arg(&token)
            .arg("NX")
            .arg("PX")
            .arg(SCAN_LOCK.as_millis() as u64)
            .query_async(&mut connection)
            .await?;
        if locked.is_none() {
            return Ok(0);
        }
        let no_later = now - visibility_timeout.as_secs_f64();
        let overdue: Vec<String> =
            connection.zrevrangebyscore_limit(keys.unacked_index(), no_later, 0, 0, SCAN_LIMIT).await?;
        let restore = async { self.restore_if(&self.owner, &self.judged(overdue).await?, Some(no_later)).await };
        let restored = restore.await;
        let mut unlock = scripts::UNLOCK.key(keys.unacked_mutex());
        unlock.arg(&token).invoke_async::<()>(&mut connection).await?;
        restored
    }

    /// Those of these messages that Petiole's workers may give back.
    async fn judged(&self, overdue: Vec<String>) -> Result<Vec<String>, RedisError> {
        if overdue.is_empty() || !self.broker.strangers_live().await? {
            return Ok(overdue);
        }
        let (mut connection, keys) = self.parts();
        let owners: Vec<String> = connection.zrange(keys.owners(), 0, -1).await?;
        let mut ours = vec![false; overdue.len()];
        for owner in owners {
            let held: Vec<bool> =
                cmd("SMISMEMBER").arg(keys.held(&owner)).arg(&overdue).query_async(&mut connection).await?;
            ours.iter_mut().zip(held).for_each(|(ours, held)| *ours |= held);
        }
        Ok(overdue.into_iter().zip(ours).filter(|(_, ours)| *ours).map(|(tag, _)| tag).collect())
    }

    /// Redis' clock, in seconds: the hosts' clocks may differ.
    async fn now(&self) -> Result<f64, RedisError> {
        let (seconds, micros): (u64, u64) = cmd("TIME").query_async(&mut self.broker.connection()).await?;
        Ok(seconds as f64 + micros as f64 / 1e6)
    }
}

/// The message and the queue of an entry of `unacked`: `[envelope, exchange, routing key]`. What was fetched as an envelope and
/// is none stands there as it was.
pub(crate) fn unacked_entry(text: &str) -> Option<(String, String)> {
    match from_json(text.as_bytes()) {
        Ok(Value::Array(mut entry)) if entry.len() == 3 => {
            let (key, _exchange) = (entry.pop()?, entry.pop()?);
            Some((entry.pop()?.to_string(), key.as_str()?.to_owned()))
        }
        _ => {
            let (message, key) = text.strip_prefix('[')?.strip_suffix(']')?.rsplit_once(", \"\", ")?;
            match from_json(key.as_bytes()) {
                Ok(Value::String(key)) => Some((message.to_owned(), key)),
                _ => None,
            }
        }
    }
}
