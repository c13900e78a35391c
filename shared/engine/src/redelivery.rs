//! What is asked of a message that comes again before it may run: has it succeeded, has it taken workers with it
//! (celery.app.trace: `worker_deduplicate_successful_tasks`; Celery runs poison for ever).

use std::sync::Arc;

use chrono::Utc;
use petiole_protocol::{State, TaskException, time};
use petiole_redis::dead::DeadLetter;
use petiole_redis::settle::Write;
use tracing::{error, info, warn};

use crate::canvas;
use crate::context::Context;
use crate::outcome::{failed_event, record_failure};
use crate::request::Request;
use crate::worker::{Worker, until_done};

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
