//! The event `task-sent`, which the one who sends a task sends beside it (celery.app.amqp: Producer, `task_send_sent_event`).

use std::sync::atomic::{AtomicU64, Ordering};

use petiole_protocol::event::{self, Sender};
use petiole_protocol::{Envelope, time};
use serde_json::{Value, json};
use tracing::warn;

use crate::client::Client;
use crate::send::ORIGIN;

/// The Lamport clock of a process that only sends.
static CLOCK: AtomicU64 = AtomicU64::new(0);

impl Client {
    /// What tells monitors of a message that is published: the channel, and the event's text.
    pub(crate) fn sent_event(&self, message: &Envelope, queue: &str) -> (String, String) {
        let header = |name: &str| message.headers.get(name).cloned().unwrap_or(Value::Null);
        let own = json!({
            "uuid": header("id"), "root_id": header("root_id"), "parent_id": header("parent_id"), "name": header("task"),
            "args": header("argsrepr"), "kwargs": header("kwargsrepr"), "retries": header("retries"),
            "eta": header("eta"), "expires": header("expires"), "queue": queue,
            "exchange": message.properties.exchange, "routing_key": message.properties.routing_key,
        });
        let sender = Sender { hostname: ORIGIN.clone(), pid: std::process::id() };
        let clock = CLOCK.fetch_add(1, Ordering::Relaxed) + 1;
        let sent = sender.event("task-sent", time::epoch(chrono::Utc::now()), clock, &own);
        let (key, envelope) = sender.single(sent, uuid::Uuid::new_v4().to_string());
        (self.broker.keys().channel(event::EXCHANGE, &key), envelope.to_text())
    }

    /// Tells monitors of a message that was just published. They can do without: an error is only logged.
    pub(crate) async fn task_sent(&self, message: &Envelope, queue: &str) {
        let (channel, text) = self.sent_event(message, queue);
        let told: Result<(), redis::RedisError> =
            redis::AsyncCommands::publish(&mut self.broker.connection(), channel, text).await;
        if let Err(error) = told {
            warn!(%error, "the event task-sent cannot be sent");
        }
    }
}
