//! Commands about the slots (celery.worker.control: pool_grow, pool_shrink, pool_restart, autoscale).

use std::sync::Arc;

use petiole_protocol::Map;
use serde_json::{Value, json};

use super::arguments::{type_error, type_name};
use super::{Refusal, ok};
use crate::worker::Worker;

/// A number of slots, where it is given.
fn count(arguments: &Map, name: &str) -> Result<Option<usize>, Refusal> {
    match arguments.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(n) => match n.as_u64().or_else(|| n.as_str()?.parse().ok()) {
            Some(n) => Ok(Some(n as usize)),
            None => Err(type_error(format!("{name} must be a whole number, is {n}"))),
        },
    }
}

/// By how many slots; not given: by one. `wrong` makes Python's words of a type that is no number's.
fn by(arguments: &Map, wrong: impl Fn(&str) -> String) -> Result<usize, Refusal> {
    match arguments.get("n") {
        None => Ok(1),
        Some(n) => n.as_u64().map(|n| n as usize).ok_or_else(|| type_error(wrong(type_name(n)))),
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
    let n = by(arguments, |class| format!("'{class}' object cannot be interpreted as an integer"))?;
    let ready = worker.pool.resize(worker.pool.limit() + n);
    worker.qos.adjust((n * worker.config.multiplier()) as isize);
    crate::trace::start_all(worker, ready);
    Ok(ok("pool will grow"))
}

/// Fewer slots; what runs is not disturbed.
pub(super) fn shrink(worker: &Arc<Worker>, arguments: &Map) -> Result<Value, Refusal> {
    if let Some(refusal) = fixed(worker, "pool_shrink") {
        return Ok(refusal);
    }
    let n = by(arguments, |class| format!("unsupported operand type(s) for -: '{class}' and 'int'"))?;
    let left = worker.pool.limit().saturating_sub(n);
    if left < worker.pool.running().max(1) {
        return Err("ValueError(\"Can't shrink pool. All processes busy!\")".into());
    }
    worker.pool.resize(left);
    worker.qos.adjust(-((n * worker.config.multiplier()) as isize));
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
    let Some(autoscale) = &worker.autoscale else { return Err("ValueError('Autoscale not enabled')".into()) };
    let (max, min) = autoscale.set(worker, count(arguments, "max")?, count(arguments, "min")?)?;
    Ok(ok(format!("autoscale now max={max} min={min}")))
}
