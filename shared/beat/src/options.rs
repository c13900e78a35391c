//! Options of a call, written as JSON (celery.app.task: apply_async).

use chrono::DateTime;
use petiole_client::{Expires, Map, Signature, TaskSend};
use serde_json::Value;

/// The options that are known.
pub const OPTIONS: [&str; 11] = [
    "queue",
    "priority",
    "countdown",
    "expires",
    "time_limit",
    "soft_time_limit",
    "ignore_result",
    "shadow",
    "headers",
    "link",
    "link_error",
];

/// Lays options over a call. Null is the same as missing.
///
/// # Errors
/// The option's name and what is wrong with it.
pub fn apply(options: &Map, task: &mut TaskSend) -> Result<(), (String, String)> {
    for (name, value) in options.iter().filter(|(_, value)| !value.is_null()) {
        set(task, name, value).map_err(|expects| {
            let reason = match OPTIONS.contains(&name.as_str()) {
                true => format!("must be {expects}, is {value}"),
                false => format!("is not known; known are {}", OPTIONS.join(", ")),
            };
            (name.clone(), reason)
        })?;
    }
    Ok(())
}

fn set(task: &mut TaskSend, name: &str, value: &Value) -> Result<(), &'static str> {
    let text = || value.as_str().filter(|text| !text.is_empty()).map(str::to_owned).ok_or("a text");
    let seconds = || value.as_f64().filter(|seconds| *seconds >= 0.0).ok_or("a number of seconds, 0 or more");
    match name {
        "queue" => task.queue = Some(text()?),
        "shadow" => task.shadow = Some(text()?),
        "countdown" => task.countdown = Some(seconds()?),
        "time_limit" => task.time_limit = Some(seconds()?),
        "soft_time_limit" => task.soft_time_limit = Some(seconds()?),
        "ignore_result" => task.ignore_result = Some(value.as_bool().ok_or("true or false")?),
        "headers" => task.headers = value.as_object().cloned().ok_or("an object")?,
        "link" => task.link = links(value)?,
        "link_error" => task.link_error = links(value)?,
        "priority" => {
            let priority = value.as_u64().filter(|priority| *priority <= 9);
            task.priority = Some(priority.ok_or("a number from 0 to 9")? as u8);
        }
        "expires" => {
            let time = value.as_str().and_then(|text| DateTime::parse_from_rfc3339(text).ok()).map(Expires::At);
            let expires = time.or_else(|| seconds().ok().map(Expires::In));
            task.expires = Some(expires.ok_or("a number of seconds, or a time with its offset")?);
        }
        _ => return Err("known"),
    }
    Ok(())
}

fn links(value: &Value) -> Result<Vec<Signature>, &'static str> {
    petiole_protocol::signature::signatures(value).map_err(|_| "a signature or a list of them")
}
