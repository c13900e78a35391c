//! Publishing, acknowledging and giving back (kombu.transport.redis: Channel, QoS).

use std::time::Duration;

use petiole_protocol::Envelope;
use redis::{AsyncCommands, Pipeline, pipe};
use serde_json::Value;

use crate::commands::Commands;
use crate::connection::Connector;
use crate::error::RedisError;
use crate::keys::{Keys, binding_member};
use crate::long;
use crate::scripts;

/// The commands of a broker, on a shared connection.
#[derive(Clone)]
pub struct Broker {
    connection: Commands,
    connector: Connector,
}

/// On which side of its list a message is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Next to be served: restore after a timeout or at shutdown.
    Next,
    /// Last in line: requeue after a reject.
    Last,
}

/// A message that goes back to its queue.
#[derive(Debug, Clone)]
pub struct GiveBack {
    /// The tag under which it lies in `unacked`.
    pub tag: String,
    /// The queue it came from.
    pub queue: String,
    /// The message as it was fetched.
    pub text: String,
}

impl Broker {
    /// A broker on a connection of its own.
    ///
    /// # Errors
    /// As [`Connector::commands`].
    pub fn new(connector: &Connector) -> Result<Self, RedisError> {
        Ok(Self { connection: connector.commands()?, connector: connector.clone() })
    }

    /// The names of keys.
    pub fn keys(&self) -> &Keys {
        self.connector.keys()
    }

    /// Where it connects to.
    pub fn connector(&self) -> &Connector {
        &self.connector
    }

    /// The shared connection.
    pub fn connection(&self) -> Commands {
        self.connection.clone()
    }

    /// Puts a message at the end of its queue.
    ///
    /// # Errors
    /// Redis is away: the message may or may not be there.
    pub async fn publish(&self, queue: &str, priority: i64, text: &str) -> Result<(), RedisError> {
        Ok(self.connection.clone().lpush(self.keys().list(queue, priority), text).await?)
    }

    /// Puts several messages at the end of their queues, all or none.
    ///
    /// # Errors
    /// Redis is away: all may or may not be there.
    pub async fn publish_all(&self, messages: &[(String, i64, String)]) -> Result<(), RedisError> {
        let mut pipe = pipe();
        pipe.atomic();
        for (queue, priority, text) in messages {
            pipe.lpush(self.keys().list(queue, *priority), text).ignore();
        }
        self.run(&pipe).await
    }

    /// Gives messages that `owner` holds back, marked as redelivered. For [`Side::Next`] the last one given is served first.
    /// Gives how many were still its own to be given back.
    ///
    /// # Errors
    /// Redis is away: to be called again.
    pub async fn give_back(&self, owner: &str, side: Side, messages: &[GiveBack]) -> Result<usize, RedisError> {
        self.give_back_if(owner, side, messages, None, redelivered).await
    }

    /// Gives messages back that `owner` fetched and has not read: unmarked, next to be served, the last one given first.
    /// Gives how many were still its own.
    ///
    /// # Errors
    /// As [`Self::give_back`].
    pub async fn hand_back(&self, owner: &str, messages: &[GiveBack]) -> Result<usize, RedisError> {
        let unmarked = |text: &str| (text.to_owned(), redelivered(text).1);
        self.give_back_if(owner, Side::Next, messages, None, unmarked).await
    }

    /// [`Self::give_back`], where `mark` gives what is to be pushed of a message, and its priority; with a time, in seconds
    /// since the epoch, for what was delivered or renewed no later, whoever holds it.
    pub(crate) async fn give_back_if(
        &self,
        owner: &str,
        side: Side,
        messages: &[GiveBack],
        no_later: Option<f64>,
        mark: impl Fn(&str) -> (String, i64),
    ) -> Result<usize, RedisError> {
        if messages.is_empty() {
            return Ok(0);
        }
        let mut call = scripts::RESTORE.prepare_invoke();
        call.key(self.keys().unacked()).key(self.keys().unacked_index()).key(self.keys().held(owner));
        call.key(self.keys().owners());
        call.arg(match side {
            Side::Next => "RPUSH",
            Side::Last => "LPUSH",
        });
        call.arg(no_later.map(|time| format!("{time:.6}")).unwrap_or_default());
        for message in messages {
            let (text, priority) = mark(&message.text);
            call.key(self.keys().list(&message.queue, priority)).arg(&message.tag).arg(text);
        }
        Ok(call.invoke_async(&mut self.connection.clone()).await?)
    }

    /// Strikes places of `owner` into which nothing came. See [`crate::claims::Claims::strike`].
    pub(crate) async fn strike(
        &self,
        owner: &str,
        tags: &[String],
        lapsed: Option<Duration>,
    ) -> Result<(), RedisError> {
        let tags: Vec<&String> = tags.iter().filter(|tag| long::is_tag(tag)).collect();
        if tags.is_empty() {
            return Ok(());
        }
        let mut strike = scripts::STRIKE.key(self.keys().unacked());
        strike.key(self.keys().owners()).key(self.keys().held(owner)).arg(owner);
        strike.arg(lapsed.map(|lapsed| lapsed.as_millis().to_string()).unwrap_or_default()).arg(tags);
        Ok(strike.invoke_async(&mut self.connection.clone()).await?)
    }

    /// Makes a queue known to Python's tools: its permanent binding.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn bind_queue(&self, queue: &str) -> Result<(), RedisError> {
        let member = binding_member(queue, "", queue);
        let mut pipe = pipe();
        pipe.atomic().sadd(self.keys().binding(queue), &member).ignore();
        pipe.sadd(self.keys().binding_permanent(queue), &member).ignore();
        self.run(&pipe).await
    }

    /// Adds a binding that may be swept an hour after it was last renewed: mailboxes, replies, event queues.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn bind_expiring(&self, exchange: &str, key: &str, pattern: &str, queue: &str) -> Result<(), RedisError> {
        let mut call = scripts::BIND.prepare_invoke();
        call.key(self.keys().binding(exchange)).key(self.keys().binding_deadlines());
        call.arg(binding_member(key, pattern, queue)).arg(exchange).arg(3_600_000);
        Ok(call.invoke_async(&mut self.connection.clone()).await?)
    }

    /// Removes a binding and the lists of its queue.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn unbind(&self, exchange: &str, key: &str, pattern: &str, queue: &str) -> Result<(), RedisError> {
        let member = binding_member(key, pattern, queue);
        let mut pipe = pipe();
        pipe.atomic().srem(self.keys().binding(exchange), &member).ignore();
        pipe.srem(self.keys().binding_permanent(exchange), &member).ignore();
        pipe.del(self.keys().lists(queue).as_slice()).ignore();
        self.run(&pipe).await
    }

    /// The queues that are bound to an exchange.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn bound_queues(&self, exchange: &str) -> Result<Vec<String>, RedisError> {
        let members: Vec<String> = self.connection.clone().smembers(self.keys().binding(exchange)).await?;
        Ok(members.iter().filter_map(|member| member.split(crate::keys::SEP).nth(2).map(str::to_owned)).collect())
    }

    /// The queues that a direct exchange routes a key to.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn route(&self, exchange: &str, routing_key: &str) -> Result<Vec<String>, RedisError> {
        let members: Vec<String> = self.connection.clone().smembers(self.keys().binding(exchange)).await?;
        let queue = |member: &String| {
            let mut fields = member.split(crate::keys::SEP);
            (fields.next() == Some(routing_key)).then(|| fields.nth(1).map(str::to_owned)).flatten()
        };
        Ok(members.iter().filter_map(queue).collect())
    }

    /// Publishes to a direct exchange: pushes to every queue that is bound with the routing key. Gives how many.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn publish_direct(&self, envelope: &Envelope) -> Result<usize, RedisError> {
        let properties = &envelope.properties;
        let queues = self.route(&properties.exchange, &properties.routing_key).await?;
        let text = envelope.to_text();
        for queue in &queues {
            self.publish(queue, properties.priority, &text).await?;
        }
        Ok(queues.len())
    }

    /// The lengths of a queue's lists, by priority step.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn queue_lengths(&self, queue: &str) -> Result<[u64; 4], RedisError> {
        let mut pipe = pipe();
        for list in self.keys().lists(queue) {
            pipe.llen(list);
        }
        Ok(pipe.query_async(&mut self.connection.clone()).await?)
    }

    /// Asks Redis for a sign of life.
    ///
    /// # Errors
    /// It gives none.
    pub async fn ping(&self) -> Result<(), RedisError> {
        Ok(self.connection.clone().ping().await?)
    }

    async fn run(&self, pipe: &Pipeline) -> Result<(), RedisError> {
        Ok(pipe.query_async(&mut self.connection.clone()).await?)
    }
}

/// A message marked as redelivered, and its priority. What is no envelope goes back as it is.
pub(crate) fn redelivered(text: &str) -> (String, i64) {
    let Ok(Value::Object(mut envelope)) = petiole_protocol::serializer::from_json(text.as_bytes()) else {
        return (text.to_owned(), 0);
    };
    let mut priority = 0;
    if let Some(Value::Object(headers)) = envelope.get_mut("headers") {
        headers.insert("redelivered".into(), true.into());
    }
    if let Some(Value::Object(properties)) = envelope.get_mut("properties") {
        priority = properties.get("priority").and_then(Value::as_i64).unwrap_or(0);
        if let Some(Value::Object(info)) = properties.get_mut("delivery_info") {
            info.insert("redelivered".into(), true.into());
        }
    }
    (Value::Object(envelope).to_string(), priority)
}
