//! Commands about the slots (celery.worker.control: pool_grow, pool_shrink).

use std::sync::Arc;

use petiole_protocol::Map;
use serde_json::Value;

use super::{Refusal, ok};
use crate::worker::Worker;

fn count(arguments: &Map) -> Result<usize, Refusal> {
    match arguments.get("n") {
        None => Ok(1),
        Some(n) => n.as_u64().map(|n| n as usize).ok_or_else(|| format!("TypeError('n must be a number, is {n}')")),
    }
}

/// More slots.
pub(super) fn grow(worker: &Arc<Worker>, arguments: &Map) -> Result<Value, Refusal> {
    let n = count(arguments)?;
    let ready = worker.pool.resize(worker.pool.limit() + n);
    worker.qos.adjust((n * worker.config.prefetch_multiplier) as isize);
    crate::trace::start_all(worker, ready);
    Ok(ok("pool will grow"))
}

/// Fewer slots; what runs is not disturbed.
pub(super) fn shrink(worker: &Arc<Worker>, arguments: &Map) -> Result<Value, Refusal> {
    let n = count(arguments)?;
    let left = worker.pool.limit().saturating_sub(n);
    if left < worker.pool.running().max(1) {
        return Err("ValueError(\"Can't shrink pool. All processes busy!\")".into());
    }
    worker.pool.resize(left);
    worker.qos.adjust(-((n * worker.config.prefetch_multiplier) as isize));
    Ok(ok("pool will shrink"))
}
