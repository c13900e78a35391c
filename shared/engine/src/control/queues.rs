//! Commands about the queues that are consumed (celery.worker.control: add_consumer, cancel_consumer, active_queues).

use petiole_protocol::Map;
use serde_json::{Value, json};

use super::{Refusal, ok, required};
use crate::worker::Worker;

/// The queues that are consumed, as kombu describes a queue.
pub(super) fn active_queues(worker: &Worker) -> Value {
    let row = |name: &String| {
        json!({
            "name": name,
            "exchange": {
                "name": name, "type": "direct", "arguments": null, "durable": true, "passive": false, "auto_delete": false,
                "delivery_mode": null, "no_declare": false,
            },
            "routing_key": name, "queue_arguments": null, "binding_arguments": null, "consumer_arguments": null,
            "durable": true, "exclusive": false, "auto_delete": false, "no_ack": false, "alias": null, "bindings": [],
            "no_declare": null, "expires": null, "message_ttl": null, "max_length": null, "max_length_bytes": null,
            "max_priority": null,
        })
    };
    worker.queues().iter().map(row).collect()
}

fn queue(arguments: &Map, command: &str) -> Result<String, Refusal> {
    required(arguments, "queue", command)?
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| "TypeError('queue must be text')".into())
}

/// One queue more.
pub(super) fn add_consumer(worker: &Worker, arguments: &Map) -> Result<Value, Refusal> {
    let queue = queue(arguments, "add_consumer")?;
    worker.change_queues(|queues| {
        if !queues.contains(&queue) {
            queues.push(queue.clone());
        }
    });
    Ok(ok(format!("add consumer {queue}")))
}

/// One queue less.
pub(super) fn cancel_consumer(worker: &Worker, arguments: &Map) -> Result<Value, Refusal> {
    let queue = queue(arguments, "cancel_consumer")?;
    worker.change_queues(|queues| queues.retain(|known| *known != queue));
    Ok(ok(format!("no longer consuming from {queue}")))
}
