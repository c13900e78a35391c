//! Chords: counting a part, joining the results, sending or failing the body (celery.backends.redis:
//! on_chord_part_return; celery.backends.base: chord_error_from_stack).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use petiole_protocol::signature::Canvas;
use petiole_protocol::{Map, Signature, State, TaskException, TaskMessage, to_value};
use petiole_redis::RedisError;
use petiole_redis::chord::{Claim, Part};
use petiole_redis::settle::{Settled, Write};
use serde_json::Value;
use tracing::{Instrument, warn};

use super::{Failed, call_errbacks, errback, fail_elements, failure_of};
use crate::request::Request;
use crate::worker::{Parent, Worker, until_done};

/// So long a caller may take from sending a chord to waiting for it.
const CALLERS_GET: Duration = Duration::from_millis(20);

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
    /// The priority of its message, if it had one.
    pub(crate) priority: Option<i64>,
    /// How it ended.
    pub(crate) state: State,
    /// Its result or exception map.
    pub(crate) result: &'a Value,
    /// Its message was delivered before.
    pub(crate) redelivered: bool,
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
            priority: Some(message.properties.priority),
            state,
            result,
            redelivered: message.redelivered,
            called: &[],
        };
        count_part(worker, body, part).await;
    }
}

/// The count of a task in the chord that it is a part of.
pub(crate) fn part_of(worker: &Worker, message: &TaskMessage, state: State, result: &Value) -> Option<Write> {
    let (_, group_id) = (message.embed.chord.as_ref()?, message.group.as_deref()?);
    let part = Part {
        group_id,
        index: message.group_index,
        task_id: &message.id,
        state: state.as_str(),
        result,
        redelivered: message.redelivered,
    };
    Some(worker.client.backend().chord_part(&part, worker.config.chord_expires))
}

/// Settles a request whose last write counts it for its chord. The last part's message is acknowledged when the chord's body
/// is sent; its slot does not wait for that.
pub(crate) fn settle_part(worker: &Arc<Worker>, request: &Arc<Request>, writes: Vec<Write>) {
    let (worker, request) = (worker.clone(), request.clone());
    let tracker = worker.concluding.clone();
    let carried = crate::trace::carried_by(&request);
    let settling = async move {
        let (settled, open) = worker.settle_and_hear(&request, writes).await;
        let Settled::Claimed(claim) = settled else { return };
        let message = &request.message;
        let (Some(body), Some(group)) = (&message.embed.chord, &message.group) else { return };
        let part = Reported {
            group,
            index: message.group_index,
            task_id: &message.id,
            root_id: message.root(),
            priority: Some(message.properties.priority),
            state: State::Success,
            result: &Value::Null,
            redelivered: message.redelivered,
            called: &[],
        };
        let last = complete(&worker, body, &part, &claim).await.unwrap_or_else(|error| {
            warn!(group_id = part.group, %error, "the chord cannot be completed");
            vec![]
        });
        if open {
            worker.close(&request, last);
        } else {
            worker.write(last).await;
        }
    };
    tracker.spawn(petiole_client::carrying(carried, settling).in_current_span());
}

/// Counts a part; the last one sends the body, or fails it.
pub(crate) async fn count_part(worker: &Arc<Worker>, body: &Signature, reported: Reported<'_>) {
    let part = Part {
        group_id: reported.group,
        index: reported.index,
        task_id: reported.task_id,
        state: reported.state.as_str(),
        result: reported.result,
        redelivered: reported.redelivered,
    };
    let count = worker.client.backend().chord_part(&part, worker.config.chord_expires);
    let Settled::Claimed(claim) = worker.write(vec![count]).await else { return };
    match complete(worker, body, &reported, &claim).await {
        Ok(last) => drop(worker.write(last).await),
        Err(error) => warn!(group_id = reported.group, %error, "the chord cannot be completed"),
    }
}

/// Why a chord's body is not sent.
struct Broken {
    /// What is told of it.
    message: String,
    /// The exception of the part that failed.
    original: TaskException,
}

/// Joins a chord. Gives what sends its body and ends it, to be written at once; a body that cannot be sent has failed.
async fn complete(
    worker: &Arc<Worker>,
    body: &Signature,
    part: &Reported<'_>,
    claim: &Claim,
) -> Result<Vec<Write>, RedisError> {
    let backend = worker.client.backend();
    let joined = until_done("join a chord", || join(worker, part.group)).await?;
    if !until_done("renew a chord's claim", || backend.renew_chord(claim)).await? {
        warn!(group_id = part.group, "the claim on the chord's body is another's now");
        return Ok(vec![]);
    }
    let broken = match joined {
        Ok(results) => {
            let parent = Parent { root_id: part.root_id, id: part.task_id, priority: part.priority };
            let planned = worker.plan(&parent, body.clone(), &[Value::Array(results)], Map::new());
            match planned {
                Ok(plan) => {
                    let mut writes = vec![backend.chord_end(claim)];
                    writes.extend(worker.client.writes(plan));
                    return Ok(writes);
                }
                Err(error) => {
                    let message = format!("Callback error: {error}");
                    Broken { original: TaskException::celery("ChordError", vec![message.clone().into()]), message }
                }
            }
        }
        Err(broken) => broken,
    };
    // Python's `get` raises the error of the part itself to a caller who waits by now, as callers of Celery always do; who comes
    // later gets the ChordError.
    tokio::time::sleep(CALLERS_GET).await;
    fail_body(worker, body, part, &broken).await;
    until_done("end a chord", || backend.fail_chord(claim)).await?;
    Ok(vec![])
}

/// The results of a header: as the parts reported them, or by the saved structure when it is nested.
async fn join(worker: &Worker, group_id: &str) -> Result<Result<Vec<Value>, Broken>, RedisError> {
    let backend = worker.client.backend();
    if let Some(tuple) = backend.group(group_id).await? {
        let mut ids = Vec::new();
        leaves(&tuple, &mut ids);
        let metas = backend.get_many(&ids).await?;
        let mut results = HashMap::new();
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

fn nest(tuple: &Value, results: &HashMap<String, Value>) -> Value {
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
        let mut children = HashMap::new();
        for member in &members {
            let (id, of_member) = errback::of_member(member);
            let id = id.unwrap_or_default();
            // Each of them once, also where the group's were given to its members.
            let mut errbacks: Vec<Signature> = Vec::new();
            for errback in of_member.into_iter().chain(body.option_signatures("link_error")) {
                if !errbacks.contains(&errback) {
                    errbacks.push(errback);
                }
            }
            let failed = TaskMessage {
                root_id: Some(part.root_id.to_owned()),
                ..TaskMessage::new(&member.task, &id, vec![], Map::new())
            };
            let sent = Box::pin(call_errbacks(worker, &failed, &errbacks, &broken.original, Some(&traceback))).await;
            children.extend(sent.map(|sent| (id.clone(), sent)));
            ids.push(id);
        }
        let result = to_value(&broken.original);
        if let Some(id) = body.option_text("task_id") {
            worker.store(&failure_of(body, id, &result, Some(&traceback))).await;
        }
        let failed = Failed {
            exception: &broken.original,
            traceback: Some(&traceback),
            store: true,
            called: part.called,
            children: &children,
        };
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
    let sent = Box::pin(call_errbacks(worker, &failed, &errbacks, &exception, Some(&traceback))).await;
    let children = sent.map(|sent| (id.clone(), sent)).into_iter().collect();
    errbacks.extend(part.called.iter().cloned());
    let mut waiting = vec![body.clone().set("task_id", id)];
    waiting.extend(body.option_signatures("chain"));
    let failed = Failed {
        exception: &exception,
        traceback: Some(&traceback),
        store: true,
        called: &errbacks,
        children: &children,
    };
    Box::pin(fail_elements(worker, waiting, &failed)).await;
}
