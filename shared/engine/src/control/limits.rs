//! The commands that change what a task declares: rate and time limits (celery.worker.control: rate_limit, time_limit).

use petiole_protocol::Map;
use serde_json::{Value, json};

use super::arguments::{type_error, type_name};
use super::{Refusal, ok, required};
use crate::worker::Worker;

/// Sets or lifts the rate limit of a task.
pub(super) fn rate_limit(worker: &Worker, arguments: &Map) -> Result<Value, Refusal> {
    let name = required(arguments, "task_name", "rate_limit")?;
    // As in Python, "0" is something and 0 is nothing: both lift the limit, the words differ.
    let (rate, lifts) = match required(arguments, "rate_limit", "rate_limit")? {
        Value::Null => (None, true),
        Value::String(text) if text.is_empty() => (None, true),
        Value::String(text) => (Some(text.clone()), false),
        Value::Number(number) => (Some(number.to_string()), number.as_f64() == Some(0.0)),
        Value::Bool(is) => (Some(u8::from(*is).to_string()), !is),
        other => {
            let class = type_name(other);
            return Err(type_error(format!("float() argument must be a string or a real number, not '{class}'")));
        }
    };
    // A unit that is unknown surfaces as Python's KeyError, a number that cannot be read as Celery's own words.
    if let Err(refusal) = crate::rate_limit::check(rate.as_deref().unwrap_or("0")) {
        return Ok(json!({"error": refusal}));
    }
    let Some(task) = known(worker, name)? else { return Ok(json!({"error": "unknown task"})) };
    worker.rate_limits.set(task, rate.as_deref())?;
    Ok(ok(if lifts { "rate limit disabled successfully" } else { "new rate limit set successfully" }))
}

/// The name of a task that is known.
fn known<'a>(worker: &Worker, name: &'a Value) -> Result<Option<&'a str>, Refusal> {
    match name {
        Value::Array(_) | Value::Object(_) => Err(type_error(format!("unhashable type: '{}'", type_name(name)))),
        name => Ok(name.as_str().filter(|name| worker.tasks.contains_key(*name))),
    }
}

/// Sets the time limits of a task for the calls that give none; one that is missing is lifted.
pub(super) fn time_limit(worker: &Worker, arguments: &Map) -> Result<Value, Refusal> {
    let name = arguments.get("task_name").unwrap_or(&Value::Null);
    let seconds = |name: &str| match arguments.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            match value.as_f64().or_else(|| value.as_str()?.parse().ok()).filter(|seconds| *seconds >= 0.0) {
                Some(seconds) => Ok(Some(seconds)),
                None => Err(type_error(format!("{name} must be a number of seconds, is {value}"))),
            }
        }
    };
    let (soft, hard) = (seconds("soft")?, seconds("hard")?);
    let Some(task) = known(worker, name)? else { return Ok(json!({"error": "unknown task"})) };
    worker.set_time_limits(task, soft, hard);
    Ok(ok("time limits set successfully"))
}
