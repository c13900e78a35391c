//! Commands that keep tasks from running, or end them (celery.worker.control: revoke, terminate, revoke_by_stamped_headers).

use std::sync::Arc;

use chrono::Utc;
use petiole_protocol::{Map, State, TaskException, TaskMeta, repr, time};
use serde_json::{Value, json};
use tracing::info;

use super::{Refusal, ok, required, texts};
use crate::request::{Cancel, Phase, Request};
use crate::state::stamped;
use crate::worker::Worker;

/// Remembers ids as revoked; with `terminate` ends those that run here.
pub(super) async fn revoke(worker: &Arc<Worker>, arguments: &Map) -> Result<Value, Refusal> {
    let ids = texts(required(arguments, "task_id", "revoke")?);
    let terminate = arguments.get("terminate").and_then(Value::as_bool).unwrap_or(false);
    flag(worker, &ids).await;
    if !terminate {
        info!("Tasks flagged as revoked: {}", ids.join(", "));
        let set: Vec<String> = ids.iter().map(|id| repr::value(&id.as_str().into())).collect();
        return Ok(ok(format!("tasks {{{}}} flagged as revoked", set.join(", "))));
    }
    let known = worker.state.requests(|request| ids.iter().any(|id| id == request.id()));
    known.iter().for_each(|request| end(request, arguments.get("signal")));
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

fn end(request: &Request, signal: Option<&Value>) {
    if matches!(request.phase(), Phase::Active(_)) {
        let signal = signal.filter(|signal| !signal.is_null()).cloned().unwrap_or_else(|| json!("SIGTERM"));
        request.cancel(Cancel::Terminated(signal));
    }
}

/// Remembers ids, and stores REVOKED for those that nobody has begun: whoever waits for them need not wait for the eta.
async fn flag(worker: &Worker, ids: &[String]) {
    worker.state.revoke(ids.iter().cloned());
    for id in ids {
        let active = !worker
            .state
            .requests(|request| request.id() == id && matches!(request.phase(), Phase::Active(_)))
            .is_empty();
        let Ok(stored) = worker.client.task_meta(id).await else { continue };
        let open = stored.is_none_or(|meta| {
            matches!(meta.state(), State::Pending | State::Received | State::Retry | State::Rejected)
        });
        if open && !active {
            let exception = TaskException::celery("TaskRevokedError", vec!["revoked".into()]);
            let mut meta = TaskMeta::new(id, &State::Revoked, json!(exception));
            meta.children = None;
            meta.date_done = Some(time::format(Utc::now()));
            worker.store(&meta).await;
        }
    }
}

/// Remembers stamps as revoked; with `terminate` ends what runs here and carries one of them.
pub(super) fn by_stamped_headers(worker: &Arc<Worker>, arguments: &Map) -> Result<Value, Refusal> {
    let headers = match required(arguments, "headers", "revoke_by_stamped_headers")? {
        Value::Object(headers) => headers.clone(),
        Value::Array(pairs) => pairs
            .iter()
            .filter_map(|pair| pair.as_str()?.split_once('='))
            .map(|(name, value)| (name.to_owned(), json!(value)))
            .collect(),
        other => return Err(format!("ValueError('headers must be a map or a list of name=value, are {other}')")),
    };
    let headers: Map = headers
        .into_iter()
        .map(|(name, value)| (name, if value.is_array() { value } else { json!([value]) }))
        .collect();
    let terminate = arguments.get("terminate").and_then(Value::as_bool).unwrap_or(false);
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
    running.iter().for_each(|request| end(request, arguments.get("signal")));
    Ok(ok(format!("headers {shown} revoked")))
}
