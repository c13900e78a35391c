//! Messages whose time is far off wait here, outside of any worker's memory. kombu has no such place: there a worker holds them
//! all, and the visibility timeout gives each of them to a second one.
//!
//! A sorted set knows when each is due; by Redis' clock a script puts it back at the head of its queue.

use std::time::Duration;

use redis::{AsyncCommands, ScriptInvocation, cmd};
use serde::{Deserialize, Serialize};

use crate::broker::Broker;
use crate::consumer::Delivery;
use crate::error::RedisError;
use crate::keys::Keys;
use crate::scripts;

/// A message that is to wait.
#[derive(Debug, Clone)]
pub struct ToWait<'a> {
    /// The delivery, in `unacked`.
    pub delivery: &'a Delivery,
    /// Its priority.
    pub priority: i64,
    /// The task's id, by which it is found when it is revoked.
    pub task_id: &'a str,
    /// The node that puts it away, and shows it.
    pub node: &'a str,
    /// When it is due, in seconds since the epoch.
    pub eta: f64,
}

/// A message that waits.
#[derive(Debug, Clone, PartialEq)]
pub struct Waiting {
    /// The queue it came from.
    pub queue: String,
    /// The node that put it away.
    pub node: String,
    /// The envelope's JSON text.
    pub text: String,
}

/// What became of messages whose time has come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Due {
    /// How many there were.
    pub returned: usize,
    /// How long until the next one is due; none: nothing waits.
    pub next: Option<Duration>,
}

/// The first line of an entry.
#[derive(Serialize, Deserialize)]
struct Place {
    list: String,
    queue: String,
    node: String,
    id: String,
}

impl Keys {
    /// Delivery tag → when the message is due, in seconds since the epoch. Petiole's own.
    pub fn waiting(&self) -> String {
        self.key("petiole:waiting")
    }

    /// Delivery tag → place and message. Petiole's own.
    pub fn waiting_messages(&self) -> String {
        self.key("petiole:waiting:messages")
    }

    /// Task id → delivery tag. Petiole's own.
    pub fn waiting_ids(&self) -> String {
        self.key("petiole:waiting:ids")
    }
}

impl Broker {
    /// Moves a message from `unacked` to those that wait. False: it is not (any more) the owner's; with a call whose answer was
    /// lost before, it waits already.
    ///
    /// # Errors
    /// Redis is away: to be called again.
    pub async fn put_waiting(&self, owner: &str, message: &ToWait<'_>) -> Result<bool, RedisError> {
        let keys = self.keys();
        let Delivery { tag, queue, text, .. } = message.delivery;
        let place = Place {
            list: keys.list(queue, message.priority),
            queue: queue.clone(),
            node: message.node.to_owned(),
            id: message.task_id.to_owned(),
        };
        // Made of text only: it cannot fail.
        let place = serde_json::to_string(&place).unwrap_or_default();
        let mut call = self.with_waiting_keys(&scripts::WAIT, owner);
        call.arg(tag).arg(format!("{:.6}", message.eta)).arg(message.task_id).arg(format!("{place}\n{text}"));
        Ok(call.invoke_async::<u64>(&mut self.connection()).await? == 1)
    }

    /// Takes a waiting message by its task's id, into `unacked`. None: it does not wait.
    ///
    /// # Errors
    /// Redis is away. What was taken is then the owner's without its knowledge: see [`crate::claims::Claims::forgotten`].
    pub async fn take_waiting(&self, owner: &str, task_id: &str) -> Result<Option<Delivery>, RedisError> {
        let mut call = self.with_waiting_keys(&scripts::TAKE, owner);
        let answer: Vec<String> = call.arg(task_id).invoke_async(&mut self.connection()).await?;
        Ok(<[String; 3]>::try_from(answer).ok().map(|[tag, queue, text]| Delivery { tag, queue, text, message: None }))
    }

    fn with_waiting_keys<'a>(&self, script: &'a redis::Script, owner: &str) -> ScriptInvocation<'a> {
        let keys = self.keys();
        let mut call = script.key(keys.unacked());
        call.key(keys.unacked_index()).key(keys.held(owner));
        call.key(keys.waiting()).key(keys.waiting_messages()).key(keys.waiting_ids());
        call
    }

    /// Puts messages that are due, by Redis' clock, back to their queues, at most `limit` of them: the earliest is served next.
    ///
    /// # Errors
    /// Redis is away: to be called again.
    pub async fn return_due(&self, limit: usize) -> Result<Due, RedisError> {
        let keys = self.keys();
        let mut call = scripts::DUE.key(keys.waiting());
        call.key(keys.waiting_messages()).key(keys.waiting_ids()).arg(limit);
        let (returned, next): (usize, String) = call.invoke_async(&mut self.connection()).await?;
        let next = next.parse().ok().and_then(|next| Duration::try_from_secs_f64(next).ok());
        Ok(Due { returned, next })
    }

    /// How many messages wait.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn waiting_count(&self) -> Result<usize, RedisError> {
        Ok(self.connection().zcard(self.keys().waiting()).await?)
    }

    /// Messages that wait, the next to be due first, from the one at `first` on.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn waiting(&self, first: usize, limit: usize) -> Result<Vec<Waiting>, RedisError> {
        let last = (first + limit.max(1) - 1) as isize;
        let tags: Vec<String> = self.connection().zrange(self.keys().waiting(), first as isize, last).await?;
        self.waiting_by_tags(&tags).await
    }

    /// Messages that wait, by the ids of their tasks.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn waiting_of(&self, ids: &[String]) -> Result<Vec<Waiting>, RedisError> {
        if ids.is_empty() {
            return Ok(vec![]);
        }
        let mut get = cmd("HMGET");
        get.arg(self.keys().waiting_ids()).arg(ids);
        let tags: Vec<Option<String>> = get.query_async(&mut self.connection()).await?;
        self.waiting_by_tags(&tags.into_iter().flatten().collect::<Vec<_>>()).await
    }

    async fn waiting_by_tags(&self, tags: &[String]) -> Result<Vec<Waiting>, RedisError> {
        if tags.is_empty() {
            return Ok(vec![]);
        }
        let mut get = cmd("HMGET");
        get.arg(self.keys().waiting_messages()).arg(tags);
        let entries: Vec<Option<String>> = get.query_async(&mut self.connection()).await?;
        Ok(entries.iter().flatten().filter_map(|entry| waiting_entry(entry)).collect())
    }

    /// The workers that say that they live, by their claim names, in the order of these.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn living_owners(&self) -> Result<Vec<String>, RedisError> {
        let mut connection = self.connection();
        let (seconds, micros): (u64, u64) = cmd("TIME").query_async(&mut connection).await?;
        let now = seconds * 1000 + micros / 1000;
        let mut owners: Vec<String> = connection.zrangebyscore(self.keys().owners(), now, "+inf").await?;
        owners.sort();
        Ok(owners)
    }
}

/// A message that waits, as it lies in Redis: its place, a line's end, and the message.
pub(crate) fn waiting_entry(entry: &str) -> Option<Waiting> {
    let (place, text) = entry.split_once('\n')?;
    let place: Place = serde_json::from_str(place).ok()?;
    Some(Waiting { queue: place.queue, node: place.node, text: text.to_owned() })
}
