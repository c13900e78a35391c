//! What becomes of a message that was fetched (celery.worker.strategy).

use std::borrow::Cow;
use std::sync::Arc;

use petiole_protocol::{DecodeError, Embed, Envelope, TaskException, TaskMessage};
use petiole_redis::consumer::Delivery;
use serde::Serialize;
use serde_json::json;
use tracing::{error, info};

use crate::builtins::Unregistered;
use crate::pace::Turn;
use crate::request::{self, Phase, Request};
use crate::worker::Worker;

/// Takes one delivery: to the pool, to the timer, or away with it. What takes more than a moment goes on beside: this is the
/// task that settles. True: it has run already.
pub(crate) fn receive(worker: &Arc<Worker>, mut delivery: Delivery, turn: Option<&Turn>) -> bool {
    let read = match delivery.message.take() {
        Some(message) => Ok(*message),
        None => TaskMessage::read(&delivery.text, &worker.config.accept_content),
    };
    let message = match read {
        Ok(message) => message,
        Err(error) => {
            discard(worker, delivery, &error);
            return false;
        }
    };
    let times = match request::times(&message, &worker.config.time_zone) {
        Ok(times) => times,
        Err(what) => {
            discard(worker, delivery, &DecodeError::shape(what));
            return false;
        }
    };
    let sequence = worker.state.next_sequence();
    let Some(task) = worker.tasks.get(&message.task).cloned() else {
        unregistered(worker, message, delivery, sequence);
        return false;
    };
    let acks_late = task.options().acks_late.unwrap_or(worker.config.acks_late);
    let request = Arc::new(Request::new(message, delivery, task, times, acks_late, sequence));
    let now = worker.timer.now();
    if worker.state.is_revoked(&request) || request.is_expired(now) {
        conclude(worker, request, |worker, request| async move {
            crate::outcome::revoked(&worker, &request).await;
        });
        return false;
    }
    let eta = request.eta.filter(|eta| *eta > now);
    let elsewhere = eta.filter(|_| crate::timer::is_full(worker));
    let message = &request.message;
    if elsewhere.is_none() {
        worker.state.accept(&request);
        info!(task_id = request.id(), "Task {}[{}] received", message.shown_name(), request.id());
    }
    if worker.wants_event(&request) {
        worker.task_event(&request, "task-received", Received::of(message));
    } else {
        worker.count(&request, "task-received");
    }
    match (elsewhere, eta) {
        (Some(eta), _) => crate::timer::put_away(worker, request, eta),
        (None, Some(_)) => crate::timer::schedule(worker, request),
        (None, None) => {
            crate::trace::submit(worker, request.clone(), turn);
            return request.phase() == Phase::Ended;
        }
    }
    false
}

/// The fields of `task-received`.
#[derive(Serialize)]
struct Received<'a> {
    uuid: &'a str,
    name: &'a str,
    args: Cow<'a, str>,
    kwargs: Cow<'a, str>,
    root_id: Option<&'a str>,
    parent_id: Option<&'a str>,
    retries: u32,
    eta: Option<&'a str>,
    expires: Option<&'a str>,
}

impl<'a> Received<'a> {
    fn of(message: &'a TaskMessage) -> Self {
        let shown = |given: &'a Option<String>, make: fn(&TaskMessage) -> String| match given {
            Some(text) => Cow::Borrowed(text.as_str()),
            None => Cow::Owned(make(message)),
        };
        Self {
            uuid: &message.id,
            name: message.shown_name(),
            args: shown(&message.argsrepr, TaskMessage::args_text),
            kwargs: shown(&message.kwargsrepr, TaskMessage::kwargs_text),
            root_id: message.root_id.as_deref(),
            parent_id: message.parent_id.as_deref(),
            retries: message.retries,
            eta: message.eta.as_deref(),
            expires: message.expires.as_deref(),
        }
    }
}

/// Ends a request that does not run, while other messages are received.
fn conclude<F: Future<Output = ()> + Send + 'static>(
    worker: &Arc<Worker>,
    request: Arc<Request>,
    end: impl FnOnce(Arc<Worker>, Arc<Request>) -> F,
) {
    worker.state.hold(&request);
    let ending = end(worker.clone(), request.clone());
    let of = worker.clone();
    worker.concluding.spawn(async move {
        ending.await;
        of.ended(&request);
    });
}

/// A task that nobody here knows: it fails, and with it what waits for it.
fn unregistered(worker: &Arc<Worker>, message: TaskMessage, delivery: Delivery, sequence: u64) {
    let name = message.task.clone();
    error!(task_id = message.id, "Received unregistered task of type {name:?}: known tasks are {}", known(worker));
    let unknown = Arc::new(Unregistered(name.clone()));
    let request = Arc::new(Request::new(message, delivery, unknown, (None, None), true, sequence));
    conclude(worker, request, |worker, request| async move {
        let exception = TaskException::celery("NotRegistered", vec![name.into()]);
        crate::outcome::record_failure(&worker, &request, &exception, None, vec![]).await;
        worker.task_event(&request, "task-failed", json!({"uuid": request.id(), "exception": exception.repr()}));
        worker.acknowledge(&request);
    });
}

fn known(worker: &Worker) -> String {
    worker.tasks.keys().filter(|name| !name.starts_with("celery.")).cloned().collect::<Vec<_>>().join(", ")
}

/// A message that cannot run. It goes with a word in the log; when its id can be read, whoever waits is told as well.
fn discard(worker: &Arc<Worker>, delivery: Delivery, why: &DecodeError) {
    let envelope = Envelope::parse(delivery.text.as_bytes()).ok();
    let (task, id) = envelope.as_ref().map(TaskMessage::peek).unwrap_or_default();
    let begin: String = delivery.text.chars().take(200).collect();
    error!(
        queue = delivery.queue,
        task,
        task_id = id,
        message = begin,
        "Rejected a message that cannot be read: {why}"
    );
    let exception = match (task, id) {
        (Some(_), Some(_)) => {
            let name = if why.is_reject() { "ContentDisallowed" } else { "DecodeError" };
            Some(TaskException::new("kombu.exceptions", name, vec![why.to_string().into()]))
        }
        _ => None,
    };
    let reason = format!("cannot be read: {why}");
    let unknown = Arc::new(Unregistered(task.unwrap_or_default().to_owned()));
    let message = TaskMessage {
        embed: Embed::default(),
        properties: envelope.as_ref().map(|envelope| envelope.properties.clone()).unwrap_or_default(),
        ..TaskMessage::new(task.unwrap_or_default(), id.unwrap_or_default(), vec![], petiole_protocol::Map::new())
    };
    let request = Arc::new(Request::new(message, delivery, unknown, (None, None), true, worker.state.next_sequence()));
    conclude(worker, request, |worker, request| async move {
        if let Some(exception) = exception {
            crate::outcome::record_failure(&worker, &request, &exception, None, vec![]).await;
            worker.task_event(&request, "task-failed", json!({"uuid": request.id(), "exception": exception.repr()}));
        }
        worker.settle(&request, vec![crate::redelivery::dead_letter(&worker, &request, reason, 0)]);
    });
}
