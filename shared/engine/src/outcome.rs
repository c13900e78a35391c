//! What follows from how a task ended (celery.app.trace, celery.worker.request, celery.backends.base).
//!
//! | ended | stored | then | event | message |
//! |---|---|---|---|---|
//! | value | callbacks and chain are sent, then SUCCESS | chord part | task-succeeded | ack |
//! | exception | FAILURE | chord part, chain failed, errbacks | task-failed | ack (or as `acks_on_failure` says) |
//! | retry | message sent again, then RETRY | | task-retried | ack |
//! | ignore, replace | | | | ack |
//! | reject | FAILURE, unless requeued | as a failure, unless requeued | task-rejected | ack or requeue |
//! | revoked, expired, terminated | REVOKED | chord part, chain failed | task-revoked | ack |

use std::sync::Arc;

use chrono::Utc;
use petiole_protocol::{State, TaskException, TaskMeta, repr, time, to_value};
use petiole_settings::trace_context;
use serde_json::{Value, json};
use tracing::{error, info, warn};

use crate::canvas;
use crate::context::Context;
use crate::give_back::{cancelled, requeue};
use crate::request::{Cancel, Request};
use crate::retry::retried;
use crate::task::{Failure, Fault};
use crate::trace::Ended;
use crate::worker::Worker;

/// What is stored of a request in a state.
pub(crate) fn meta(
    worker: &Worker,
    request: &Request,
    state: &State,
    result: Value,
    traceback: Option<String>,
    children: Vec<Value>,
) -> TaskMeta {
    let message = &request.message;
    let mut meta = TaskMeta::new(request.id(), state, result);
    meta.traceback = traceback;
    meta.children = Some(children);
    meta.date_done = state.is_final().then(|| time::format(Utc::now()));
    meta.group_id.clone_from(&message.group);
    meta.parent_id.clone_from(&message.parent_id);
    if worker.config.result_extended {
        meta.name = Some(message.task.clone());
        meta.args = Some(Value::Array(message.args.clone()));
        meta.kwargs = Some(Value::Object(message.kwargs.clone()));
        meta.worker = Some(worker.node.clone());
        meta.retries = Some(message.retries);
        meta.queue = Some(request.routing_key().to_owned());
        meta.stamped_headers.clone_from(&message.stamped_headers);
        meta.stamps.clone_from(&message.stamps);
    }
    meta
}

/// Draws the conclusions from the end of a run.
pub(crate) async fn conclude(
    worker: &Arc<Worker>,
    request: &Arc<Request>,
    context: &Context,
    ended: Ended,
    runtime: f64,
) {
    worker.count_run(request, runtime);
    match ended {
        Ended::Value(value) => succeeded(worker, request, context, value, runtime).await,
        Ended::Fault(Fault::Error(failure)) => failed(worker, request, context, &failure).await,
        Ended::Fault(Fault::Retry(retry)) => retried(worker, request, context, *retry).await,
        Ended::Fault(Fault::Ignore) => worker.acknowledge(request),
        Ended::Fault(Fault::Reject { reason, requeue }) => rejected(worker, request, context, reason, requeue).await,
        Ended::HardLimit(limit) => {
            error!(task_id = request.id(), "Hard time limit ({limit}s) exceeded for {}", request.message.task);
            let exception =
                TaskException::billiard("TimeLimitExceeded", vec![petiole_protocol::message::number(limit)]);
            failed_with(worker, request, context, &exception, None).await;
        }
        Ended::Cancelled(Cancel::Terminated(signal)) => terminated(worker, request, signal).await,
        Ended::Cancelled(Cancel::Shutdown) => cancelled(worker, request).await,
        Ended::Cancelled(Cancel::Lost) => {
            warn!(
                task_id = request.id(),
                "Another worker has taken {} over: this run is given up", request.message.task
            );
            if request.settle() {
                worker.release(request);
            }
        }
    }
}

async fn succeeded(worker: &Arc<Worker>, request: &Arc<Request>, context: &Context, value: Value, runtime: f64) {
    let mut writes = match canvas::follow_ups(worker, request, context, &value) {
        Ok(writes) => writes,
        Err(error) => {
            let exception = TaskException::new("kombu.exceptions", "OperationalError", vec![error.to_string().into()]);
            return failed(worker, request, context, &Failure { exception, trail: vec![] }).await;
        }
    };
    info!(task_id = request.id(), "Task {}[{}] succeeded in {runtime}s", request.message.shown_name(), request.id());
    let event = worker
        .wants_event(request)
        .then(|| json!({"uuid": request.id(), "result": repr::value(&value), "runtime": runtime}));
    let part = canvas::part_of(worker, &request.message, State::Success, &value);
    if worker.stores_result(request) {
        writes.push(worker.result(&meta(worker, request, &State::Success, value, None, context.children())));
    }
    match part {
        None => worker.settle(request, writes),
        Some(part) => {
            writes.push(part);
            canvas::settle_part(worker, request, writes);
        }
    }
    match event {
        Some(event) => worker.task_event(request, "task-succeeded", event),
        None => worker.count(request, "task-succeeded"),
    }
}

pub(crate) async fn failed(worker: &Arc<Worker>, request: &Arc<Request>, context: &Context, failure: &Failure) {
    let traceback = traceback(worker, request, failure);
    failed_with(worker, request, context, &failure.exception, Some(traceback)).await;
}

async fn failed_with(
    worker: &Arc<Worker>,
    request: &Arc<Request>,
    context: &Context,
    exception: &TaskException,
    traceback: Option<String>,
) {
    warn!(
        task_id = request.id(),
        "Task {}[{}] raised: {}",
        request.message.shown_name(),
        request.id(),
        exception.repr()
    );
    trace_context::failed(|| exception.repr());
    let timed_out = exception.exc_type == "TimeLimitExceeded";
    let config = &worker.config;
    let by_setting = if timed_out { config.acks_on_timeout } else { config.acks_on_failure };
    let acks = request.task.options().acks_on_failure.or(by_setting).unwrap_or(config.acks_on_failure_or_timeout);
    if request.acks_late && !acks && timed_out {
        record_failure(worker, request, exception, traceback.clone(), context.children()).await;
        requeue(worker, request).await;
    } else {
        settle_failure(worker, request, exception, traceback.clone(), context.children()).await;
    }
    failed_event(worker, request, exception, traceback);
}

pub(crate) fn failed_event(worker: &Worker, request: &Request, exception: &TaskException, traceback: Option<String>) {
    let mut fields = json!({"uuid": request.id(), "exception": exception.repr()});
    if let Some(traceback) = traceback {
        fields["traceback"] = traceback.into();
    }
    worker.task_event(request, "task-failed", fields);
}

/// Stores a failure and acknowledges its message: at once, when nobody waits for the task.
async fn settle_failure(
    worker: &Arc<Worker>,
    request: &Arc<Request>,
    exception: &TaskException,
    traceback: Option<String>,
    children: Vec<Value>,
) {
    let message = &request.message;
    let embed = &message.embed;
    if embed.chord.is_some() || !embed.chain.is_empty() || !embed.errbacks.is_empty() {
        record_failure(worker, request, exception, traceback, children).await;
        return worker.acknowledge(request);
    }
    let mut writes = vec![];
    if worker.stores_errors(request) {
        writes.push(worker.result(&meta(worker, request, &State::Failure, to_value(&exception), traceback, children)));
    }
    worker.settle(request, writes);
}

/// Stores a failure and lets those know who wait for the task: its chord, the rest of its chain, its errbacks.
pub(crate) async fn record_failure(
    worker: &Arc<Worker>,
    request: &Request,
    exception: &TaskException,
    traceback: Option<String>,
    children: Vec<Value>,
) {
    let result = to_value(&exception);
    if worker.stores_errors(request) {
        let failure = meta(worker, request, &State::Failure, result.clone(), traceback.clone(), children);
        worker.store(&failure).await;
    }
    canvas::chord_part(worker, &request.message, State::Failure, &result).await;
    canvas::fail_chain(worker, request, exception, traceback.as_deref()).await;
    canvas::call_errbacks(worker, &request.message, &request.message.embed.errbacks, exception, traceback.as_deref())
        .await;
}

pub(crate) async fn rejected(
    worker: &Arc<Worker>,
    request: &Arc<Request>,
    context: &Context,
    reason: Value,
    requeue_it: bool,
) {
    if requeue_it && !request.is_settled() {
        requeue(worker, request).await;
        worker.task_event(request, "task-rejected", json!({"uuid": request.id(), "requeue": true}));
        return;
    }
    if requeue_it {
        // Acknowledged before it ran: there is nothing to give back.
        return;
    }
    let early = request.is_settled();
    let exception = TaskException::celery("Reject", vec![reason, false.into()]);
    settle_failure(worker, request, &exception, None, context.children()).await;
    failed_event(worker, request, &exception, None);
    if !early {
        worker.task_event(request, "task-rejected", json!({"uuid": request.id(), "requeue": false}));
    }
}

/// A request that is not to run: revoked, or too late.
pub(crate) async fn revoked(worker: &Arc<Worker>, request: &Arc<Request>) {
    let expired = !worker.state.is_revoked(request);
    let reason = if expired { "expired" } else { "revoked" };
    if expired {
        worker.state.revoke([request.id().to_owned()]);
    }
    info!(task_id = request.id(), "Discarding {reason} task: {}[{}]", request.message.shown_name(), request.id());
    let fields = json!({"uuid": request.id(), "terminated": false, "signum": null, "expired": expired});
    record_revoked(worker, request, reason, fields).await;
}

async fn terminated(worker: &Arc<Worker>, request: &Arc<Request>, signal: Value) {
    let fields = json!({"uuid": request.id(), "terminated": true, "signum": signal, "expired": false});
    record_revoked(worker, request, "terminated", fields).await;
}

async fn record_revoked(worker: &Arc<Worker>, request: &Arc<Request>, reason: &str, fields: Value) {
    worker.task_event(request, "task-revoked", fields);
    let exception = TaskException::celery("TaskRevokedError", vec![reason.into()]);
    let result = to_value(&exception);
    if worker.stores_errors(request) {
        worker.store(&meta(worker, request, &State::Revoked, result.clone(), None, vec![])).await;
    }
    canvas::chord_part(worker, &request.message, State::Revoked, &result).await;
    // Celery leaves the rest of the chain waiting for ever.
    canvas::fail_chain(worker, request, &exception, None).await;
    worker.acknowledge(request);
}

/// The traceback's text.
pub(crate) fn traceback(worker: &Worker, request: &Request, failure: &Failure) -> String {
    let mut text = String::from("Traceback (most recent call last):\n");
    text.push_str(&format!("  Task {}[{}], on {}\n", request.message.task, request.id(), worker.node));
    for line in &failure.trail {
        text.push_str(&format!("  {line}\n"));
    }
    text.push_str(&failure.exception.last_line());
    text.push('\n');
    text
}
