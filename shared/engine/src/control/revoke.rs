//! Commands that keep tasks from running, or end them (celery.worker.control: revoke, terminate, revoke_by_stamped_headers).

use std::sync::Arc;

use chrono::Utc;
use petiole_protocol::{Map, State, TaskException, TaskMeta, repr, time, to_value};
use serde_json::Value;
use tracing::info;

use super::arguments::{exception, quoted, signal, type_error, type_name};
use super::{Refusal, ok, required, texts};
use crate::request::{Cancel, Phase, Request};
use crate::state::{listed, stamped};
use crate::worker::Worker;

/// Remembers ids as revoked; with `terminate` ends those that run here.
pub(super) async fn revoke(worker: &Arc<Worker>, arguments: &Map) -> Result<Value, Refusal> {
    let given = required(arguments, "task_id", "revoke")?;
    let ids = texts(given);
    let terminate = arguments.get("terminate").is_some_and(truth);
    flag(worker, &ids).await;
    let listed = match given {
        Value::Array(items) => items.as_slice(),
        Value::Null => &[],
        one => std::slice::from_ref(one),
    };
    if let (false, Some(other)) = (terminate, listed.iter().find(|id| !id.is_string())) {
        let class = type_name(other);
        return Err(type_error(format!("sequence item 0: expected str instance, {class} found")));
    }
    if !terminate {
        info!("Tasks flagged as revoked: {}", ids.join(", "));
        let set: Vec<String> = ids.iter().map(|id| repr::value(&id.as_str().into())).collect();
        let set = if set.is_empty() { "set()".to_owned() } else { format!("{{{}}}", set.join(", ")) };
        return Ok(ok(format!("tasks {set} flagged as revoked")));
    }
    let signal = signal(arguments.get("signal"))?;
    let known = worker.state.requests(|request| ids.iter().any(|id| id == request.id()));
    known.iter().for_each(|request| end(request, &signal));
    let names: Vec<&str> = known.iter().map(|request| request.id()).collect();
    Ok(ok(if names.is_empty() {
        "terminate: tasks unknown".to_owned()
    } else {
        format!("terminate: {}", names.join(", "))
    }))
}

/// The same as `revoke` with `terminate`.
pub(super) async fn terminate(worker: &Arc<Worker>, arguments: &Map) -> Result<Value, Refusal> {
    let mut arguments = arguments.clone();
    arguments.insert("terminate".into(), true.into());
    revoke(worker, &arguments).await
}

fn end(request: &Request, signal: &Value) {
    if matches!(request.phase(), Phase::Active(_)) {
        request.cancel(Cancel::Terminated(signal.clone()));
    }
}

/// Remembers ids, and stores REVOKED for those that nobody has begun: whoever waits for them need not wait for the eta.
async fn flag(worker: &Arc<Worker>, ids: &[String]) {
    worker.state.revoke(ids.iter().cloned());
    for id in ids {
        let active = !worker
            .state
            .requests(|request| request.id() == id && matches!(request.phase(), Phase::Active(_) | Phase::Ended))
            .is_empty();
        let Ok(stored) = worker.client.task_meta(id).await else { continue };
        let open = stored.is_none_or(|meta| {
            matches!(meta.state(), State::Pending | State::Received | State::Retry | State::Rejected)
        });
        if open && !active {
            let exception = TaskException::celery("TaskRevokedError", vec!["revoked".into()]);
            let mut meta = TaskMeta::new(id, &State::Revoked, to_value(&exception));
            meta.children = None;
            meta.date_done = Some(time::format(Utc::now()));
            worker.store(&meta).await;
        }
    }
    crate::timer::revoke(worker, ids).await;
}

/// Remembers stamps as revoked; with `terminate` ends what runs here and carries one of them.
pub(super) fn by_stamped_headers(worker: &Arc<Worker>, arguments: &Map) -> Result<Value, Refusal> {
    let signal = signal(arguments.get("signal"))?;
    let headers = match required(arguments, "headers", "revoke_by_stamped_headers")? {
        Value::Object(headers) => headers.clone(),
        Value::Array(pairs) => pairs.iter().map(pair).collect::<Result<Map, Refusal>>()?,
        other => {
            let class = type_name(other);
            return Err(exception("AttributeError", format!("'{class}' object has no attribute 'items'")));
        }
    };
    let terminate = arguments.get("terminate").is_some_and(truth);
    let shown = repr::value(&Value::Object(headers.clone()));
    worker.state.revoke_stamps(headers.clone());
    if !terminate {
        return Ok(ok(format!("headers {shown} flagged as revoked, but not terminated")));
    }
    let running = worker
        .state
        .requests(|request| matches!(request.phase(), Phase::Active(_)) && stamped(&request.message.stamps, &headers));
    if running.is_empty() {
        return Ok(ok(format!("headers {shown} were not terminated")));
    }
    running.iter().for_each(|request| end(request, &signal));
    Ok(ok(format!("headers {} revoked", matched(&headers, &running))))
}

/// `name=value` as a stamp's name and value.
fn pair(pair: &Value) -> Result<(String, Value), Refusal> {
    let Some(text) = pair.as_str() else {
        let class = type_name(pair);
        return Err(exception("AttributeError", format!("'{class}' object has no attribute 'split'")));
    };
    let mut parts = text.split('=');
    match (parts.next(), parts.next()) {
        (Some(name), Some(value)) => Ok((name.to_owned(), value.into())),
        _ => Err(exception("IndexError", "list index out of range")),
    }
}

/// The stamps by which running tasks were found, as Python shows its `defaultdict` of sets.
fn matched(headers: &Map, running: &[Arc<Request>]) -> String {
    let mut found = Vec::new();
    for (name, values) in headers {
        let stamps: Vec<Value> =
            running.iter().filter_map(|request| request.message.stamps.get(name)).flat_map(listed).collect();
        let both: Vec<String> = listed(values).iter().filter(|value| stamps.contains(value)).map(repr::value).collect();
        if !both.is_empty() {
            found.push(format!("{}: {{{}}}", quoted(name), both.join(", ")));
        }
    }
    format!("defaultdict(<class 'set'>, {{{}}})", found.join(", "))
}

/// Does Python take it for true?
fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(is) => *is,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}
