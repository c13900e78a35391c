//! Canvas in the worker: what a task's end sends, counts or fails (celery.app.trace, celery.backends.base,
//! celery.app.task: replace, add_to_chord).

mod chord;
mod errback;
mod replace;

use std::collections::HashMap;
use std::sync::Arc;

use chrono::Utc;
use petiole_client::ClientError;
use petiole_protocol::signature::Canvas;
use petiole_protocol::{Map, Signature, State, TaskException, TaskMeta, time, to_value};
use petiole_redis::settle::Write;
use serde_json::Value;

pub(crate) use chord::{chord_part, count_part, part_of, settle_part};
pub(crate) use errback::call_errbacks;
pub(crate) use replace::{add_to_chord, replace};

use crate::context::Context;
use crate::request::Request;
use crate::worker::{Parent, Worker};

/// The messages of the callbacks and the next step of the chain, each with the result in front of its arguments.
pub(crate) fn follow_ups(
    worker: &Worker,
    request: &Request,
    context: &Context,
    value: &Value,
) -> Result<Vec<Write>, ClientError> {
    let (message, prefix) = (&request.message, std::slice::from_ref(value));
    let embed = &message.embed;
    if embed.callbacks.is_empty() && embed.chain.is_empty() {
        return Ok(vec![]);
    }
    let callbacks = match embed.callbacks.as_slice() {
        [one] => vec![one.clone()],
        many => {
            let (mut sends, others): (Vec<_>, Vec<_>) =
                many.iter().cloned().partition(|callback| callback.subtask_type.as_deref() == Some("group"));
            if !others.is_empty() {
                sends.push(Signature::group(&others));
            }
            sends
        }
    };
    let mut plans = Vec::with_capacity(callbacks.len() + 1);
    for callback in callbacks {
        plans.push(worker.plan(&Parent::of(message), callback, prefix, Map::new())?);
    }
    let next = embed.chain.split_next();
    if let Some((next, rest)) =
        next.map_err(|error| ClientError::invalid("chain", format!("the next step cannot be read: {error}")))?
    {
        plans.push(worker.planning(&Parent::of(message), |planner| planner.plan_next(next, prefix, rest))?);
    }
    let mut writes = Vec::new();
    for plan in plans {
        context.add_child(plan.handle.tuple());
        writes.extend(worker.client.writes(plan));
    }
    Ok(writes)
}

/// The rest of a failed task's chain fails with it: who waits for the last step is told.
pub(crate) async fn fail_chain(
    worker: &Arc<Worker>,
    request: &Request,
    exception: &TaskException,
    traceback: Option<&str>,
) {
    let store = worker.stores_errors(request);
    let failed = Failed { exception, traceback, store, called: &[], children: &HashMap::new() };
    fail_elements(worker, request.message.embed.chain.readable(), &failed).await;
}

/// A failure that is handed on to what will never be sent.
pub(crate) struct Failed<'a> {
    /// The exception.
    pub(crate) exception: &'a TaskException,
    /// Its traceback.
    pub(crate) traceback: Option<&'a str>,
    /// Are failures stored?
    pub(crate) store: bool,
    /// Errbacks that were called for it already: once is enough.
    pub(crate) called: &'a [Signature],
    /// The result tuples of the errbacks that were sent for it, by the ids of those that failed: their children.
    pub(crate) children: &'a HashMap<String, Value>,
}

/// Fails signatures that will never be sent, by their ids, and counts them where a chord waits for them.
pub(crate) async fn fail_elements(worker: &Arc<Worker>, elements: Vec<Signature>, failed: &Failed<'_>) {
    let result = to_value(&failed.exception);
    let mut elements = std::collections::VecDeque::from(elements);
    while let Some(element) = elements.pop_front() {
        if let Some(task_id) = element.option_text("task_id") {
            let known = match element.options.get("chord") {
                Some(chord) if !chord.is_null() => worker.client.task_meta(task_id).await.ok().flatten(),
                _ => None,
            };
            if failed.store {
                let mut meta = failure_of(&element, task_id, &result, failed.traceback);
                if let (Some(children), Some(sent)) = (&mut meta.children, failed.children.get(task_id)) {
                    children.push(sent.clone());
                }
                worker.store(&meta).await;
            }
            let ended = known.is_some_and(|meta| matches!(meta.state(), State::Failure | State::Revoked));
            let chord = element.options.get("chord").and_then(|chord| serde_json::from_value(chord.clone()).ok());
            if let (Some(body), Some(group), false) = (chord, element.option_text("group_id"), ended) {
                let index = element.options.get("group_index").and_then(Value::as_i64);
                let part = chord::Reported {
                    group,
                    index,
                    task_id,
                    root_id: task_id,
                    priority: None,
                    state: State::Failure,
                    result: &result,
                    redelivered: false,
                    called: failed.called,
                };
                Box::pin(count_part(worker, &body, part)).await;
            }
        }
        match element.canvas() {
            Ok(Canvas::Chord { body, .. }) => elements.push_front(*body),
            Ok(Canvas::Group(members)) => members.into_iter().rev().for_each(|member| elements.push_front(member)),
            _ => {}
        }
    }
}

/// The stored failure of a signature that was never sent.
pub(crate) fn failure_of(element: &Signature, task_id: &str, result: &Value, traceback: Option<&str>) -> TaskMeta {
    let mut meta = TaskMeta::new(task_id, &State::Failure, result.clone());
    meta.traceback = traceback.map(str::to_owned);
    meta.date_done = Some(time::format(Utc::now()));
    meta.group_id = element.option_text("group_id").map(str::to_owned);
    meta
}
