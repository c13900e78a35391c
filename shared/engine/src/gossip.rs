//! Other workers: what they know is taken over at start (mingle), their clocks afterwards (gossip)
//! (celery.worker.consumer: mingle, gossip).

use std::sync::Arc;
use std::time::Duration;

use petiole_protocol::Envelope;
use petiole_protocol::serializer::from_json;
use serde_json::{Value, json};
use tracing::{info, warn};

use crate::worker::Worker;

/// Says hello to the other workers, and takes over their revoked ids and the latest clock.
pub(crate) async fn mingle(worker: Arc<Worker>) {
    let Value::Object(arguments) = json!({"from_node": worker.node, "revoked": worker.state.revoked()}) else { return };
    match worker.client.inspect("hello", arguments, None, Duration::from_secs(1)).await {
        Ok(replies) => {
            let others: Vec<_> =
                replies.iter().filter(|(node, reply)| **node != worker.node && reply.is_object()).collect();
            for (_, reply) in &others {
                worker.clock.adjust(reply["clock"].as_u64().unwrap_or(0));
                worker.state.revoke(crate::control::texts(&reply["revoked"]));
            }
            match others.len() {
                0 => info!("mingle: all alone"),
                n => info!("mingle: sync with {n} nodes"),
            }
        }
        Err(error) => warn!(%error, "mingle: the other workers cannot be asked"),
    }
}

/// An event of another worker: its clock is taken note of.
pub(crate) fn heard(worker: &Worker, envelope: &Envelope) {
    let Ok(Value::Object(event)) = from_json(&envelope.body) else { return };
    if event.get("hostname").and_then(Value::as_str) == Some(&worker.node) {
        return;
    }
    if let Some(clock) = event.get("clock").and_then(Value::as_u64) {
        worker.clock.adjust(clock);
    }
}
