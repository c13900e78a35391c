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
}

/// Subscribes to control requests, and with `gossip` to the events of other workers.
///
/// # Errors
/// Redis is away or refuses.
pub async fn listen(connector: &Connector, gossip: bool) -> Result<PubSub, RedisError> {
    let mut channel = connector.subscriber().await?;
    channel.psubscribe(connector.keys().channel(pidbox::EXCHANGE, "")).await?;
    if gossip {
        channel.psubscribe(connector.keys().channel(petiole_protocol::event::EXCHANGE, "worker.*")).await?;
    }
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
