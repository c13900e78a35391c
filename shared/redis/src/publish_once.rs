//! Publishing what somebody keeps: an outbox. It tries again whenever it does not know whether a try came through, so each message has
//! a mark that is written together with it. The calls are counted in the same write: a count that went back tells that Redis lost
//! some of what it held.

use std::time::Duration;

use redis::{AsyncCommands, Value};

use crate::broker::Broker;
use crate::error::RedisError;
use crate::keys::{Keys, binding_member};
use crate::queues::sent_queues;
use crate::scripts;

/// A message that is to be in its queue once, however often it is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnceMessage<'a> {
    /// The task's id, by which it is known again.
    pub task_id: &'a str,
    /// What is remembered of it: see [`Keys::sent`](crate::Keys::sent).
    pub sent: &'a str,
    /// Its queue.
    pub queue: &'a str,
    /// Its priority.
    pub priority: i64,
    /// The envelope's JSON text.
    pub text: &'a str,
}

/// What became of such a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Once {
    /// It is in its queue.
    Published,
    /// It was there before.
    Before,
    /// Redis does not take it.
    Refused(String),
}

/// What became of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedOnce {
    /// How many calls Redis remembers, with this one.
    pub count: u64,
    /// What became of each message, in their order.
    pub messages: Vec<Once>,
}

impl Keys {
    /// The count of calls.
    pub(crate) fn published_once(&self) -> String {
        self.key("petiole:outbox")
    }
}

impl Broker {
    /// How many calls of [`publish_once`](Self::publish_once) Redis remembers.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn count_published_once(&self) -> Result<u64, RedisError> {
        let count: Option<u64> = self.connection().get(self.keys().published_once()).await?;
        Ok(count.unwrap_or_default())
    }

    /// Puts messages at the end of their queues, in one round trip: those that were not put there before. It is remembered
    /// for `keep`.
    ///
    /// # Errors
    /// Redis is away: to be called again with the same messages.
    pub async fn publish_once(
        &self,
        messages: &[OnceMessage<'_>],
        keep: Duration,
    ) -> Result<PublishedOnce, RedisError> {
        let keys = self.keys();
        let mut call = scripts::PUBLISH_ONCE.key(keys.published_once());
        call.arg(keep.as_secs().max(1));
        for message in messages {
            call.key(keys.sent(message.task_id)).key(keys.list(message.queue, message.priority));
            call.key(keys.binding(message.queue)).key(sent_queues(keys));
            call.arg(message.sent).arg(message.text);
            call.arg(binding_member(message.queue, "", message.queue)).arg(message.queue);
        }
        let mut answers: Vec<Value> = call.invoke_async(&mut self.connection()).await?;
        let messages = answers.split_off(answers.len().min(1)).into_iter().map(read).collect();
        let count = answers.pop().map(redis::from_redis_value::<u64>).transpose();
        let count = count.map_err(|error| RedisError::Data(error.to_string()))?.unwrap_or_default();
        Ok(PublishedOnce { count, messages })
    }
}

fn read(answer: Value) -> Once {
    match answer {
        Value::Int(0) => Once::Before,
        Value::BulkString(why) => Once::Refused(String::from_utf8_lossy(&why).into_owned()),
        Value::SimpleString(why) => Once::Refused(why),
        _ => Once::Published,
    }
}
