//! Other workers: what they know is taken over at start (mingle), their clocks afterwards (gossip)
//! (celery.worker.consumer: mingle, gossip).

use std::sync::Arc;
use std::time::Duration;

use petiole_client::ClientError;
use petiole_protocol::serializer::from_json;
use petiole_protocol::{Envelope, pidbox};
use serde_json::{Value, json};
use tracing::{info, warn};

use crate::worker::Worker;

/// Says hello to the other workers, and takes over their revoked ids and the latest clock. Celery waits a second for
/// whoever may answer; here those are asked whose mailboxes are known, and where there are none nothing is waited for.
pub(crate) async fn mingle(worker: &Worker) {
    match ask(worker).await {
        Ok(0) => info!("mingle: all alone"),
        Ok(n) => info!("mingle: sync with {n} nodes"),
        Err(error) => warn!(%error, "mingle: the other workers cannot be asked"),
    }
}

async fn ask(worker: &Worker) -> Result<usize, ClientError> {
    let suffix = format!(".{}", pidbox::EXCHANGE);
    let mailboxes = worker.client.broker().bound_queues(pidbox::EXCHANGE).await?;
    let nodes = mailboxes.iter().filter_map(|mailbox| mailbox.strip_suffix(&suffix));
    let others: Vec<String> = nodes.filter(|node| *node != worker.node).map(str::to_owned).collect();
    if others.is_empty() {
        return Ok(0);
    }
    let Value::Object(arguments) = json!({"from_node": worker.node, "revoked": worker.state.revoked()}) else {
        return Ok(0);
    };
    let replies = worker.client.inspect("hello", arguments, Some(&others), Duration::from_secs(1)).await?;
    for reply in replies.values().filter(|reply| reply.is_object()) {
        worker.clock.adjust(reply["clock"].as_u64().unwrap_or(0));
        worker.state.revoke(crate::control::texts(&reply["revoked"]));
    }
    Ok(replies.len())
}

/// An event of another worker: its clock is taken note of.
pub(crate) fn heard(worker: &Arc<Worker>, envelope: &Envelope) {
    let Ok(Value::Object(event)) = from_json(&envelope.body) else { return };
    if event.get("hostname").and_then(Value::as_str) == Some(&worker.node) {
        return crate::election::heard(worker, &event);
    }
    if let Some(clock) = event.get("clock").and_then(Value::as_u64) {
        worker.clock.adjust(clock);
    }
    crate::election::heard(worker, &event);
}
