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
use petiole_client::ClientError;
use petiole_protocol::{State, TaskException, TaskMeta, repr, time, to_value};
use petiole_redis::broker::{GiveBack, Side};
use petiole_redis::dead::DeadLetter;
use petiole_redis::settle::Write;
use petiole_settings::trace_context;
use serde_json::{Value, json};
use tracing::{error, info, warn};

use crate::canvas;
use crate::context::Context;
use crate::request::{Cancel, Request};
use crate::task::{Failure, Fault, Retry, RetryAt};
use crate::trace::Ended;
use crate::worker::{Worker, until_done};

/// Celery's default of `max_retries`.
const MAX_RETRIES: u32 = 3;
/// Celery's default of `default_retry_delay`, seconds.
const RETRY_DELAY: f64 = 180.0;

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

async fn failed(worker: &Arc<Worker>, request: &Arc<Request>, context: &Context, failure: &Failure) {
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

fn failed_event(worker: &Worker, request: &Request, exception: &TaskException, traceback: Option<String>) {
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

async fn retried(worker: &Arc<Worker>, request: &Arc<Request>, context: &Context, retry: Retry) {
    let options = request.task.options();
    let limit = retry.max_retries.or(options.max_retries).unwrap_or(Some(MAX_RETRIES));
    let message = &request.message;
    if limit.is_some_and(|limit| message.retries >= limit) {
        let failure = retry.exception.unwrap_or_else(|| {
            let text = format!(
                "Can't retry {}[{}] args:{} kwargs:{}",
                message.task,
                message.id,
                message.args_text(),
                message.kwargs_text()
            );
            Failure { exception: TaskException::celery("MaxRetriesExceededError", vec![text.into()]), trail: vec![] }
        });
        return failed(worker, request, context, &failure).await;
    }
    let delay = match retry.when {
        Some(RetryAt::At(eta)) => (eta - worker.timer.now()).num_milliseconds().max(0) as f64 / 1000.0,
        Some(RetryAt::In(seconds)) => seconds.max(0.0),
        None => options.default_retry_delay.unwrap_or(RETRY_DELAY),
    };
    let mut writes = match again(worker, request, &retry, delay) {
        Ok(writes) => writes,
        // Celery: what cannot be published again is rejected.
        Err(error) => return rejected(worker, request, context, error.to_string().into(), false).await,
    };
    context.add_child(petiole_protocol::result::task_tuple(request.id(), None));
    let told = match &retry.exception {
        Some(failure) => format!("Retry in {delay}s: {}", failure.exception.repr()),
        None => format!("Retry in {delay}s"),
    };
    info!(task_id = request.id(), "Task {}[{}] retry: {told}", message.shown_name(), message.id);
    let retry_line = Failure {
        exception: TaskException::celery("Retry", vec![told.into()]),
        trail: retry.exception.iter().map(|failure| failure.exception.last_line()).collect(),
    };
    let traceback = traceback(worker, request, &retry_line);
    let cause = retry.exception.map(|failure| failure.exception);
    if worker.stores_result(request) {
        let result = cause.as_ref().map_or(Value::Null, to_value);
        let retry = meta(worker, request, &State::Retry, result, Some(traceback.clone()), context.children());
        writes.push(worker.result(&retry));
    }
    worker.settle(request, writes);
    let exception = cause.map_or("None".to_owned(), |cause| cause.repr());
    worker.task_event(
        request,
        "task-retried",
        json!({"uuid": request.id(), "exception": exception, "traceback": traceback}),
    );
}

/// The message of a retry: the same, but for its count, its eta, and its parent when it had none.
fn again(worker: &Worker, request: &Request, retry: &Retry, delay: f64) -> Result<Vec<Write>, ClientError> {
    let mut again = request.message.clone();
    again.retries += 1;
    again.redelivered = false;
    again.eta = if delay > 0.0 {
        let delay = chrono::Duration::try_milliseconds((delay * 1000.0) as i64);
        let eta = delay.and_then(|delay| worker.timer.now().checked_add_signed(delay));
        let eta = eta.ok_or_else(|| ClientError::invalid("countdown", "out of range"))?;
        Some(time::format(eta))
    } else {
        None
    };
    again.parent_id.get_or_insert_with(|| request.id().to_owned());
    if let Some(args) = &retry.args {
        again.args.clone_from(args);
        again.argsrepr = None;
    }
    if let Some(kwargs) = &retry.kwargs {
        again.kwargs.clone_from(kwargs);
        again.kwargsrepr = None;
    }
    again.properties.routing_key = request.delivery.queue.clone();
    again.properties.exchange = String::new();
    if let Some(origin) = &again.origin {
        again.properties.other.insert("origin".into(), origin.as_str().into());
    }
    let plan = petiole_client::Plan {
        handle: petiole_client::Handle { id: again.id.clone(), parent: None, children: None },
        steps: vec![petiole_client::Step::Send { message: Box::new(again), queue: request.delivery.queue.clone() }],
    };
    Ok(worker.client.writes(plan))
}

async fn rejected(worker: &Arc<Worker>, request: &Arc<Request>, context: &Context, reason: Value, requeue_it: bool) {
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

/// Settles a message that comes again when its SUCCESS is stored (`worker_deduplicate_successful_tasks`): it has run to its end,
/// and only its acknowledgement was lost. What follows from it is sent, if the result does not tell that it was.
pub(crate) async fn has_succeeded_before(worker: &Arc<Worker>, request: &Arc<Request>) -> bool {
    let backend = worker.client.backend();
    let meta = match until_done("look for the result of a redelivered task", || backend.get(request.id())).await {
        Ok(Some(meta)) if meta.state() == State::Success => {
            let name = request.message.shown_name();
            info!(task_id = request.id(), "Task {name}[{}] Task already completed successfully.", request.id());
            meta
        }
        Ok(_) => return false,
        Err(error) => {
            warn!(task_id = request.id(), %error, "the result of a redelivered task cannot be read: it runs");
            return false;
        }
    };
    let mut writes = vec![];
    if meta.children.as_ref().is_none_or(Vec::is_empty) {
        let context = Context::new(worker.clone(), request.clone());
        writes = canvas::follow_ups(worker, request, &context, &meta.result).unwrap_or_else(|error| {
            error!(task_id = request.id(), %error, "what follows from the task cannot be sent");
            vec![dead_letter(worker, request, format!("what follows from it cannot be sent: {error}"), 0)]
        });
    }
    match canvas::part_of(worker, &request.message, State::Success, &meta.result) {
        None => worker.settle(request, writes),
        Some(part) => {
            writes.push(part);
            canvas::settle_part(worker, request, writes);
        }
    }
    true
}

/// A late acknowledged message that comes again has taken its worker with it, or its worker lost the connection. After too
/// many times it does not run any more: it becomes a dead letter, and who waits for it is told. The worker's other messages
/// are not counted, for they were not begun.
pub(crate) async fn has_killed_workers(worker: &Arc<Worker>, request: &Arc<Request>) -> bool {
    let limit = worker.config.max_redeliveries;
    if limit == 0 {
        return false;
    }
    let broker = worker.client.broker();
    let times = match until_done("count a redelivery", || broker.begun_again(&request.delivery.tag)).await {
        Ok(times) => times,
        Err(error) => {
            warn!(task_id = request.id(), %error, "the redelivery cannot be counted");
            return false;
        }
    };
    request.count_as_redelivered();
    if times <= limit {
        return false;
    }
    let reason = format!("Worker exited prematurely {times} times while it ran this task");
    error!(task_id = request.id(), "Task {}[{}] is a dead letter: {reason}", request.message.task, request.id());
    let exception = TaskException::billiard("WorkerLostError", vec![reason.as_str().into()]);
    record_failure(worker, request, &exception, None, vec![]).await;
    worker.settle(request, vec![dead_letter(worker, request, reason, times)]);
    failed_event(worker, request, &exception, None);
    true
}

/// Puts a message that will not run among the dead letters.
pub(crate) fn dead_letter(worker: &Worker, request: &Request, reason: String, redeliveries: u64) -> Write {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let now = Utc::now();
    DeadLetter {
        id: request.delivery.tag.clone(),
        task: text(&request.message.task),
        task_id: text(request.id()),
        queue: request.delivery.queue.clone(),
        reason,
        redeliveries,
        worker: worker.node.clone(),
        time: time::format(now),
        message: request.delivery.text.clone(),
    }
    .write(worker.client.broker().keys(), time::epoch(now))
}

/// A run that a cold shutdown ended. A late acknowledged message goes back; an early one is gone, and says so.
async fn cancelled(worker: &Arc<Worker>, request: &Arc<Request>) {
    worker.task_event(request, "task-cancelled", json!({"uuid": request.id()}));
    if request.settle() {
        give_back_begun(worker, request, Side::Next).await;
    } else if worker.stores_result(request) {
        let exception = TaskException::celery("WorkerShutdown", vec!["the worker was shut down".into()]);
        let state = State::Failure;
        worker.store(&meta(worker, request, &state, to_value(&exception), None, vec![])).await;
    }
}

async fn requeue(worker: &Arc<Worker>, request: &Arc<Request>) {
    if request.settle() {
        give_back_begun(worker, request, Side::Last).await;
    }
}

/// Gives back a message whose run has ended by the worker's or the task's own will: it does not count as one that took its
/// worker with it.
async fn give_back_begun(worker: &Worker, request: &Arc<Request>, side: Side) {
    if request.is_counted_as_redelivered()
        && let Err(error) = worker.client.broker().forget_begun(&request.delivery.tag).await
    {
        warn!(task_id = request.id(), %error, "this run counts as one that took its worker with it");
    }
    give_back(worker, std::slice::from_ref(request), side).await;
}

/// Gives messages back to their queues, which the caller has taken on to settle. For [`Side::Next`] they will come in the
/// order given.
pub(crate) async fn give_back(worker: &Worker, requests: &[Arc<Request>], side: Side) {
    let mut back: Vec<GiveBack> = requests
        .iter()
        .map(|request| GiveBack {
            tag: request.delivery.tag.clone(),
            queue: request.delivery.queue.clone(),
            text: request.delivery.text.clone(),
        })
        .collect();
    if side == Side::Next {
        back.reverse();
    }
    let broker = worker.client.broker();
    let given = until_done("give messages back", || broker.give_back(&worker.owner, side, &back)).await;
    if let Err(error) = given {
        warn!(%error, "messages cannot be given back");
    }
    requests.iter().for_each(|request| worker.release(request));
}

/// The traceback's text.
fn traceback(worker: &Worker, request: &Request, failure: &Failure) -> String {
    let mut text = String::from("Traceback (most recent call last):\n");
    text.push_str(&format!("  Task {}[{}], on {}\n", request.message.task, request.id(), worker.node));
    for line in &failure.trail {
        text.push_str(&format!("  {line}\n"));
    }
    text.push_str(&failure.exception.last_line());
    text.push('\n');
    text
}
