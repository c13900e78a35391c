//! The command that changes a task's rate limit (celery.worker.control: rate_limit).

use petiole_protocol::Map;
use serde_json::{Value, json};

use super::{Refusal, ok, required};
use crate::worker::Worker;

/// Sets or lifts the limit of a task.
pub(super) fn rate_limit(worker: &Worker, arguments: &Map) -> Result<Value, Refusal> {
    let task = required(arguments, "task_name", "rate_limit")?.as_str().unwrap_or_default();
    let rate = match required(arguments, "rate_limit", "rate_limit")? {
        Value::Null => "0".to_owned(),
        Value::String(text) if text.is_empty() => "0".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if !worker.tasks.contains_key(task) {
        return Ok(json!({"error": "unknown task"}));
    }
    match worker.rate_limits.set(task, &rate) {
        Ok(true) => Ok(ok("new rate limit set successfully")),
        Ok(false) => Ok(ok("rate limit disabled successfully")),
        // A unit that is unknown surfaces as Python's KeyError, a number that cannot be read as Celery's own words.
        Err(refusal) => Ok(json!({"error": refusal})),
    }
}
