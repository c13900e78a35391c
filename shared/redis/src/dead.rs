//! Dead letters: messages that no worker will run, kept to be looked at and sent again. kombu has none: there such a message is
//! dropped with a word in the log, or brings down one worker after the other.

use petiole_protocol::serializer::from_json;
use redis::{AsyncCommands, cmd, pipe};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::broker::Broker;
use crate::error::RedisError;
use crate::keys::Keys;
use crate::scripts;
use crate::settle::Write;

/// So many are kept; the oldest go when there are more.
const KEPT: u64 = 10_000;

/// A message that no worker will run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Its delivery tag, by which it is found here.
    pub id: String,
    /// The task it calls, when that can be read.
    pub task: Option<String>,
    /// The task's id, when that can be read.
    pub task_id: Option<String>,
    /// The queue it came from.
    pub queue: String,
    /// Why it is here.
    pub reason: String,
    /// How often it was begun again.
    pub redeliveries: u64,
    /// The node that gave it up.
    pub worker: String,
    /// When, ISO 8601.
    pub time: String,
    /// The message as it was fetched.
    pub message: String,
}

impl DeadLetter {
    /// What puts it among the others, to be written when its message is acknowledged. `now` in seconds since the epoch.
    pub fn write(&self, keys: &Keys, now: f64) -> Write {
        Write::DeadLetter {
            index: keys.dead(),
            letters: keys.dead_letters(),
            id: self.id.clone(),
            score: now,
            // Made of text only: it cannot fail.
            text: serde_json::to_string(self).unwrap_or_default(),
            kept: KEPT,
        }
    }
}

impl Broker {
    /// Counts that a message that was delivered before is begun once more. Gives how often that was.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn begun_again(&self, tag: &str) -> Result<u64, RedisError> {
        Ok(self.connection().hincr(self.keys().redeliveries(), tag, 1).await?)
    }

    /// Forgets how often a message was begun again: it ended, or its worker gave it back alive.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn forget_begun(&self, tag: &str) -> Result<(), RedisError> {
        Ok(self.connection().hdel(self.keys().redeliveries(), tag).await?)
    }

    /// Dead letters, the latest first: those after the one with the id `after`. None: that one is not there.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn dead_letters(&self, after: Option<&str>, limit: usize) -> Result<Option<Vec<DeadLetter>>, RedisError> {
        let mut connection = self.connection();
        let first = match after {
            None => 0,
            Some(id) => match connection.zrevrank::<_, _, Option<isize>>(self.keys().dead(), id).await? {
                Some(rank) => rank + 1,
                None => return Ok(None),
            },
        };
        let ids: Vec<String> =
            connection.zrevrange(self.keys().dead(), first, first + (limit.max(1) as isize) - 1).await?;
        if ids.is_empty() {
            return Ok(Some(vec![]));
        }
        let texts: Vec<Option<String>> =
            cmd("HMGET").arg(self.keys().dead_letters()).arg(&ids).query_async(&mut connection).await?;
        Ok(Some(texts.into_iter().flatten().filter_map(|text| serde_json::from_str(&text).ok()).collect()))
    }

    /// One dead letter.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn dead_letter(&self, id: &str) -> Result<Option<DeadLetter>, RedisError> {
        let text: Option<String> = self.connection().hget(self.keys().dead_letters(), id).await?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    }

    /// Sends a dead letter's message again, as if it were new. False: it is not there (any more).
    ///
    /// # Errors
    /// Redis is away.
    pub async fn replay(&self, id: &str) -> Result<bool, RedisError> {
        let Some(letter) = self.dead_letter(id).await? else { return Ok(false) };
        let (text, priority) = anew(&letter.message);
        let keys = self.keys();
        let mut call = scripts::REPLAY.key(keys.dead());
        call.key(keys.dead_letters()).key(keys.redeliveries()).key(keys.list(&letter.queue, priority));
        call.arg(id).arg(text);
        Ok(call.invoke_async::<i64>(&mut self.connection()).await? == 1)
    }

    /// Throws a dead letter away. False: it is not there (any more).
    ///
    /// # Errors
    /// Redis is away.
    pub async fn delete_dead(&self, id: &str) -> Result<bool, RedisError> {
        let mut gone = pipe();
        gone.atomic().zrem(self.keys().dead(), id).ignore().hdel(self.keys().dead_letters(), id);
        let (deleted,): (u64,) = gone.query_async(&mut self.connection()).await?;
        Ok(deleted == 1)
    }
}

/// A message with a tag of its own and no past, and its priority. What is no envelope stays as it is.
pub(crate) fn anew(text: &str) -> (String, i64) {
    let Ok(Value::Object(mut envelope)) = from_json(text.as_bytes()) else { return (text.to_owned(), 0) };
    let mut priority = 0;
    if let Some(Value::Object(headers)) = envelope.get_mut("headers") {
        headers.shift_remove("redelivered");
    }
    if let Some(Value::Object(properties)) = envelope.get_mut("properties") {
        priority = properties.get("priority").and_then(Value::as_i64).unwrap_or(0);
        properties.insert("delivery_tag".into(), uuid::Uuid::new_v4().to_string().into());
        if let Some(Value::Object(info)) = properties.get_mut("delivery_info") {
            info.shift_remove("redelivered");
        }
    }
    (Value::Object(envelope).to_string(), priority)
}
