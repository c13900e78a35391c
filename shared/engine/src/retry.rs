//! A task that asked to be run again (celery.app.task: Task.retry, celery.app.trace: TraceInfo.handle_retry).

use std::sync::Arc;

use petiole_client::ClientError;
use petiole_protocol::{State, TaskException, time, to_value};
use petiole_redis::settle::Write;
use serde_json::{Value, json};
use tracing::info;

use crate::context::Context;
use crate::outcome::{failed, meta, rejected, traceback};
use crate::request::Request;
use crate::task::{Failure, Retry, RetryAt};
use crate::worker::Worker;

/// Celery's default of `max_retries`.
const MAX_RETRIES: u32 = 3;
/// Celery's default of `default_retry_delay`, seconds.
const RETRY_DELAY: f64 = 180.0;

/// Sends the message again and records RETRY, or fails the task when it has been tried often enough.
pub(crate) async fn retried(worker: &Arc<Worker>, request: &Arc<Request>, context: &Context, retry: Retry) {
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
