//! The commands that change what a task declares: rate and time limits (celery.worker.control: rate_limit, time_limit).

use petiole_protocol::Map;
use serde_json::{Value, json};

use super::{Refusal, ok, required};
use crate::worker::Worker;

/// Sets or lifts the rate limit of a task.
pub(super) fn rate_limit(worker: &Worker, arguments: &Map) -> Result<Value, Refusal> {
    let task = required(arguments, "task_name", "rate_limit")?.as_str().unwrap_or_default();
    // As in Python, "0" is something and 0 is nothing: both lift the limit, the words differ.
    let (rate, lifts) = match required(arguments, "rate_limit", "rate_limit")? {
        Value::Null => ("0".to_owned(), true),
        Value::String(text) if text.is_empty() => ("0".to_owned(), true),
        Value::String(text) => (text.clone(), false),
        number => (number.to_string(), number.as_f64() == Some(0.0)),
    };
    if !worker.tasks.contains_key(task) {
        return Ok(json!({"error": "unknown task"}));
    }
    match worker.rate_limits.set(task, &rate) {
        Ok(()) if lifts => Ok(ok("rate limit disabled successfully")),
        Ok(()) => Ok(ok("new rate limit set successfully")),
        // A unit that is unknown surfaces as Python's KeyError, a number that cannot be read as Celery's own words.
        Err(refusal) => Ok(json!({"error": refusal})),
    }
}

/// Sets the time limits of a task for the calls that give none; one that is missing is lifted.
pub(super) fn time_limit(worker: &Worker, arguments: &Map) -> Result<Value, Refusal> {
    let task = required(arguments, "task_name", "time_limit")?.as_str().unwrap_or_default();
    let seconds = |name: &str| match arguments.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            match value.as_f64().or_else(|| value.as_str()?.parse().ok()).filter(|seconds| *seconds >= 0.0) {
                Some(seconds) => Ok(Some(seconds)),
                None => Err(format!("TypeError(\"{name} must be a number of seconds, is {value}\")")),
            }
        }
    };
    let (soft, hard) = (seconds("soft")?, seconds("hard")?);
    if !worker.tasks.contains_key(task) {
        return Ok(json!({"error": "unknown task"}));
    }
    worker.set_time_limits(task, soft, hard);
    Ok(ok("time limits set successfully"))
}
