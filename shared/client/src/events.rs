//! Listening to what workers tell of tasks (celery.events.receiver).

use futures::StreamExt;
use petiole_protocol::event::EXCHANGE;
use petiole_protocol::{Envelope, Map};
use redis::aio::PubSub;
use serde_json::Value;

use crate::client::Client;
use crate::error::ClientError;

/// The events of tasks from now on. Who does not listen misses them.
pub struct TaskEvents {
    channel: PubSub,
}

impl Client {
    /// Subscribes to the events of tasks. Workers send them with `-E`, or while somebody has enabled them.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn task_events(&self) -> Result<TaskEvents, ClientError> {
        let mut channel = self.connector.subscriber().await?;
        let pattern = self.connector.keys().channel(EXCHANGE, "task.*");
        channel.psubscribe(pattern).await.map_err(petiole_redis::RedisError::from)?;
        Ok(TaskEvents { channel })
    }
}

impl TaskEvents {
    /// The next events: one, or a batch of one worker. None when the connection broke. What cannot be read is left out.
    pub async fn next(&mut self) -> Option<Vec<Map>> {
        let message = self.channel.on_message().next().await?;
        Some(events_of(message.get_payload_bytes()))
    }
}

/// The events of a message: one, or a batch.
pub(crate) fn events_of(text: &[u8]) -> Vec<Map> {
    let body =
        Envelope::parse(text).ok().and_then(|envelope| petiole_protocol::serializer::from_json(&envelope.body).ok());
    let events = match body {
        Some(Value::Array(events)) => events,
        Some(event) => vec![event],
        None => vec![],
    };
    let maps = events.into_iter().filter_map(|event| match event {
        Value::Object(map) => Some(map),
        _ => None,
    });
    maps.collect()
}
