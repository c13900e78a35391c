//! Chords: counting a part, joining the results, sending or failing the body (celery.backends.redis:
//! on_chord_part_return; celery.backends.base: chord_error_from_stack).

use std::sync::Arc;

use petiole_protocol::signature::Canvas;
use petiole_protocol::{Map, Signature, State, TaskException, TaskMessage};
use petiole_redis::RedisError;
use petiole_redis::chord::{Claim, Part};
use serde_json::{Value, json};
use tracing::warn;

use super::{Failed, call_errbacks, fail_elements, failure_of};
use crate::worker::{Worker, until_done};

/// A part of a chord's header that has ended.
pub(crate) struct Reported<'a> {
    /// The header.
    pub(crate) group: &'a str,
    /// The place in it.
    pub(crate) index: Option<i64>,
    /// The task.
    pub(crate) task_id: &'a str,
    /// The root of its tree.
    pub(crate) root_id: &'a str,
    /// How it ended.
    pub(crate) state: State,
    /// Its result or exception map.
    pub(crate) result: &'a Value,
    /// Errbacks that were called for its failure already: once is enough.
    pub(crate) called: &'a [Signature],
}

/// Counts a task for the chord that it is a part of, if it is one.
pub(crate) async fn chord_part(worker: &Arc<Worker>, message: &TaskMessage, state: State, result: &Value) {
    if let (Some(body), Some(group)) = (&message.embed.chord, &message.group) {
        let part = Reported {
            group,
            index: message.group_index,
            task_id: &message.id,
            root_id: message.root(),
            state,
            result,
            called: &[],
        };
        count_part(worker, body, part).await;
    }
}

/// Counts a part; the last one sends the body, or fails it.
pub(crate) async fn count_part(worker: &Arc<Worker>, body: &Signature, reported: Reported<'_>) {
    let backend = worker.client.backend();
    let part = Part {
        group_id: reported.group,
        index: reported.index,
        task_id: reported.task_id,
        state: reported.state.as_str(),
        result: reported.result,
    };
    let expires = worker.config.result_expires;
    let counted = until_done("count a chord part", || backend.chord_part(&part, expires)).await;
    let claim = match counted {
        Ok(Some(claim)) => claim,
        Ok(None) => return,
        Err(error) => return warn!(task_id = reported.task_id, %error, "the chord part cannot be counted"),
    };
    if let Err(error) = complete(worker, body, &reported, &claim).await {
        warn!(group_id = reported.group, %error, "the chord cannot be completed");
    }
}

/// Why a chord's body is not sent.
struct Broken {
    /// What is told of it.
    message: String,
    /// The exception of the part that failed.
    original: TaskException,
}

async fn complete(
    worker: &Arc<Worker>,
    body: &Signature,
    part: &Reported<'_>,
    claim: &Claim,
) -> Result<(), RedisError> {
    let backend = worker.client.backend();
    let joined = until_done("join a chord", || join(worker, part.group)).await?;
    if !until_done("renew a chord's claim", || backend.renew_chord(claim)).await? {
        warn!(group_id = part.group, "the claim on the chord's body is another's now");
        return Ok(());
    }
    let broken = match joined {
        Ok(results) => match send_body(worker, body, part, results).await {
            Ok(()) => return until_done("end a chord", || backend.end_chord(claim)).await,
            Err(message) => {
                Broken { original: TaskException::celery("ChordError", vec![message.clone().into()]), message }
            }
        },
        Err(broken) => broken,
    };
    fail_body(worker, body, part, &broken).await;
    until_done("end a chord", || backend.fail_chord(claim)).await
}

async fn send_body(worker: &Worker, body: &Signature, part: &Reported<'_>, results: Vec<Value>) -> Result<(), String> {
    let told = |error: &dyn std::fmt::Display| format!("Callback error: {error}");
    let plan = worker.plan(part.root_id, part.task_id, body.clone(), &[Value::Array(results)], Map::new());
    let plan = plan.map_err(|error| told(&error))?;
    worker.execute(&plan).await.map_err(|error| told(&error))
}

/// The results of a header: as the parts reported them, or by the saved structure when it is nested.
async fn join(worker: &Worker, group_id: &str) -> Result<Result<Vec<Value>, Broken>, RedisError> {
    let backend = worker.client.backend();
    if let Some(tuple) = backend.group(group_id).await? {
        let mut ids = Vec::new();
        leaves(&tuple, &mut ids);
        let metas = backend.get_many(&ids).await?;
        let mut results = std::collections::HashMap::new();
        for (id, meta) in ids.iter().zip(metas) {
            let Some(meta) = meta else {
                let message = format!("Join error: no result of {id}");
                let original = TaskException::celery("ChordError", vec![message.clone().into()]);
                return Ok(Err(Broken { message, original }));
            };
            if let Some(broken) = broken(id, &meta.status, &meta.result) {
                return Ok(Err(broken));
            }
            results.insert(id.clone(), meta.result);
        }
        return Ok(Ok(match nest(&tuple, &results) {
            Value::Array(items) => items,
            one => vec![one],
        }));
    }
    let parts = backend.chord_parts(group_id).await?;
    if let Some(broken) = parts.iter().find_map(|part| broken(&part.task_id, &part.state, &part.result)) {
        return Ok(Err(broken));
    }
    Ok(Ok(parts.into_iter().map(|part| part.result).collect()))
}

fn broken(task_id: &str, state: &str, result: &Value) -> Option<Broken> {
    if !matches!(State::from(state), State::Failure | State::Revoked) {
        return None;
    }
    let original: TaskException = serde_json::from_value(result.clone())
        .unwrap_or_else(|_| TaskException::celery("ChordError", vec![result.clone()]));
    Some(Broken { message: format!("Dependency {task_id} raised {}", original.repr()), original })
}

/// The ids of the tasks in a result tuple: `[[id, parent], null]` or `[[id, parent], [members…]]`.
fn leaves(tuple: &Value, ids: &mut Vec<String>) {
    match tuple.get(1) {
        Some(Value::Array(members)) => members.iter().for_each(|member| leaves(member, ids)),
        _ => ids.extend(tuple_id(tuple)),
    }
}

fn nest(tuple: &Value, results: &std::collections::HashMap<String, Value>) -> Value {
    match tuple.get(1) {
        Some(Value::Array(members)) => members.iter().map(|member| nest(member, results)).collect(),
        _ => tuple_id(tuple).and_then(|id| results.get(&id).cloned()).unwrap_or(Value::Null),
    }
}

fn tuple_id(tuple: &Value) -> Option<String> {
    tuple.get(0)?.get(0)?.as_str().map(str::to_owned)
}

/// Fails the body of a chord: its errbacks, its result, and what waits for it in turn.
async fn fail_body(worker: &Arc<Worker>, body: &Signature, part: &Reported<'_>, broken: &Broken) {
    let exception = TaskException::celery("ChordError", vec![broken.message.as_str().into()]);
    let traceback = format!(
        "{}\n\nThe above exception was the direct cause of the following exception:\n\n{}\n",
        broken.original.last_line(),
        exception.last_line()
    );
    if let Ok(Canvas::Group(members)) = body.canvas() {
        let mut ids = Vec::new();
        for member in &members {
            let mut errbacks = member.option_signatures("link_error");
            errbacks.extend(body.option_signatures("link_error"));
            let id = member.option_text("task_id").unwrap_or_default().to_owned();
            let failed = TaskMessage {
                root_id: Some(part.root_id.to_owned()),
                ..TaskMessage::new(&member.task, &id, vec![], Map::new())
            };
            Box::pin(call_errbacks(worker, &failed, &errbacks, &broken.original, Some(&traceback))).await;
            ids.push(id);
        }
        let result = json!(broken.original);
        if let Some(id) = body.option_text("task_id") {
            worker.store(&failure_of(body, id, &result, Some(&traceback))).await;
        }
        let failed =
            Failed { exception: &broken.original, traceback: Some(&traceback), store: true, called: part.called };
        Box::pin(fail_elements(worker, members, &failed)).await;
        Box::pin(fail_elements(worker, body.option_signatures("chain"), &failed)).await;
        worker.state.revoke(ids);
        return;
    }
    let id = body.option_text("task_id").map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned);
    let failed =
        TaskMessage { root_id: Some(part.root_id.to_owned()), ..TaskMessage::new(&body.task, &id, vec![], Map::new()) };
    // Python's client gives the errbacks of a chord to the chords in its header as well.
    let mut errbacks = body.option_signatures("link_error");
    errbacks.retain(|errback| !part.called.contains(errback));
    Box::pin(call_errbacks(worker, &failed, &errbacks, &exception, Some(&traceback))).await;
    errbacks.extend(part.called.iter().cloned());
    let mut waiting = vec![body.clone().set("task_id", id)];
    waiting.extend(body.option_signatures("chain"));
    let failed = Failed { exception: &exception, traceback: Some(&traceback), store: true, called: &errbacks };
    Box::pin(fail_elements(worker, waiting, &failed)).await;
}
