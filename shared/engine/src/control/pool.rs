//! Commands about the slots (celery.worker.control: pool_grow, pool_shrink, pool_restart, autoscale).

use std::sync::Arc;

use petiole_protocol::Map;
use serde_json::{Value, json};

use super::{Refusal, ok};
use crate::worker::Worker;

fn count(arguments: &Map, name: &str) -> Result<Option<usize>, Refusal> {
    match arguments.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(n) => match n.as_u64().or_else(|| n.as_str()?.parse().ok()) {
            Some(n) => Ok(Some(n as usize)),
            None => Err(format!("TypeError(\"{name} must be a whole number, is {n}\")")),
        },
    }
}

fn fixed(worker: &Worker, command: &str) -> Option<Value> {
    let text = format!("{command} is not supported with autoscale. Adjust autoscale range instead.");
    worker.autoscale.is_some().then(|| json!({"error": text}))
}

/// More slots.
pub(super) fn grow(worker: &Arc<Worker>, arguments: &Map) -> Result<Value, Refusal> {
    if let Some(refusal) = fixed(worker, "pool_grow") {
        return Ok(refusal);
    }
    let n = count(arguments, "n")?.unwrap_or(1);
    let ready = worker.pool.resize(worker.pool.limit() + n);
    worker.qos.adjust((n * worker.config.prefetch_multiplier) as isize);
    crate::trace::start_all(worker, ready);
    Ok(ok("pool will grow"))
}

/// Fewer slots; what runs is not disturbed.
pub(super) fn shrink(worker: &Arc<Worker>, arguments: &Map) -> Result<Value, Refusal> {
    if let Some(refusal) = fixed(worker, "pool_shrink") {
        return Ok(refusal);
    }
    let n = count(arguments, "n")?.unwrap_or(1);
    let left = worker.pool.limit().saturating_sub(n);
    if left < worker.pool.running().max(1) {
        return Err("ValueError(\"Can't shrink pool. All processes busy!\")".into());
    }
    worker.pool.resize(left);
    worker.qos.adjust(-((n * worker.config.prefetch_multiplier) as isize));
    Ok(ok("pool will shrink"))
}

/// There are no processes to restart and no modules to load again: what is asked for is the case.
pub(super) fn restart(worker: &Worker) -> Result<Value, Refusal> {
    if worker.config.pool_restarts {
        Ok(ok("reload started"))
    } else {
        Err("ValueError('Pool restarts not enabled')".into())
    }
}

/// Another range for the number of slots.
pub(super) fn autoscale(worker: &Arc<Worker>, arguments: &Map) -> Result<Value, Refusal> {
    if let Some(unexpected) = arguments.keys().find(|name| !matches!(name.as_str(), "max" | "min")) {
        return Err(format!("TypeError(\"autoscale() got an unexpected keyword argument '{unexpected}'\")"));
    }
    let Some(autoscale) = &worker.autoscale else { return Err("ValueError('Autoscale not enabled')".into()) };
    let (max, min) = autoscale.set(worker, count(arguments, "max")?, count(arguments, "min")?)?;
    Ok(ok(format!("autoscale now max={max} min={min}")))
}
