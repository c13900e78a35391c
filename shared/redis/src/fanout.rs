//! Channels: events and remote control travel here, and who does not listen misses them (kombu.transport.redis, kombu.pidbox).

use petiole_protocol::{Envelope, pidbox};
use redis::aio::PubSub;
use redis::{AsyncCommands, FromRedisValue, Msg};

use crate::broker::Broker;
use crate::connection::Connector;
use crate::error::RedisError;

/// What a worker listens to.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// A control request.
    Control(Envelope),
    /// An event of another worker.
    Event(Envelope),
    /// Petiole's workers are counted: see [`Broker::strangers_live`].
    Roll,
}

impl Broker {
    /// Publishes an event or a request to whoever listens. Gives how many do.
    ///
    /// # Errors
    /// Redis is away: nobody heard.
    pub async fn broadcast(&self, exchange: &str, routing_key: &str, envelope: &Envelope) -> Result<usize, RedisError> {
        Ok(self.connection().publish(self.keys().channel(exchange, routing_key), envelope.to_text()).await?)
    }

    /// Publishes several in one round trip, each with its routing key.
    ///
    /// # Errors
    /// Redis is away: the first ones may have been heard.
    pub async fn broadcast_all(&self, exchange: &str, messages: &[(String, Envelope)]) -> Result<(), RedisError> {
        let mut pipe = redis::pipe();
        for (routing_key, envelope) in messages {
            pipe.publish(self.keys().channel(exchange, routing_key), envelope.to_text()).ignore();
        }
        Ok(pipe.query_async(&mut self.connection()).await?)
    }
}

/// The events that workers send of themselves (celery.events, celery.worker.consumer.gossip), as routing keys.
const GOSSIP: [&str; 5] = ["worker.online", "worker.heartbeat", "worker.offline", "worker.elect", "worker.elect.ack"];

/// Subscribes to control requests, and with `gossip` to the events of other workers. By name, where kombu has patterns: Redis tries
/// each pattern at each PUBLISH, and only without any can it be told that nobody waits for a result.
///
/// # Errors
/// Redis is away or refuses.
pub async fn listen(connector: &Connector, gossip: bool) -> Result<PubSub, RedisError> {
    let mut channel = connector.subscriber().await?;
    let mut channels = vec![connector.keys().channel(pidbox::EXCHANGE, "")];
    if gossip {
        channels.extend(GOSSIP.map(|key| connector.keys().channel(petiole_protocol::event::EXCHANGE, key)));
    }
    channel.subscribe(channels).await?;
    // Last: whoever listens to control and is not counted here passes for a Python worker, which is the safe mistake.
    channel.subscribe(connector.keys().roll()).await?;
    Ok(channel)
}

/// Reads what came over a channel.
///
/// # Errors
/// What is no envelope.
pub fn heard(connector: &Connector, message: &Msg) -> Result<Heard, RedisError> {
    if message.get_channel_name() == connector.keys().roll() {
        return Ok(Heard::Roll);
    }
    let text = Vec::<u8>::from_redis_value_ref(&message.get_payload().unwrap_or(redis::Value::Nil))
        .map_err(|error| RedisError::Data(error.to_string()))?;
    let envelope = Envelope::parse(&text).map_err(|error| RedisError::Data(error.to_string()))?;
    let control = message.get_channel_name() == connector.keys().channel(pidbox::EXCHANGE, "");
    Ok(if control { Heard::Control(envelope) } else { Heard::Event(envelope) })
}
