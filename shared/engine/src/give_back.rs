//! Messages that go back to their queues (celery.worker.request: Request.reject, kombu.transport.virtual: QoS.restore_unacked).

use std::sync::Arc;

use petiole_protocol::{State, TaskException, to_value};
use petiole_redis::broker::{GiveBack, Side};
use serde_json::json;
use tracing::warn;

use crate::outcome::meta;
use crate::request::Request;
use crate::worker::{Worker, until_done};

/// A run that a cold shutdown ended. A late acknowledged message goes back; an early one is gone, and says so.
pub(crate) async fn cancelled(worker: &Arc<Worker>, request: &Arc<Request>) {
    worker.task_event(request, "task-cancelled", json!({"uuid": request.id()}));
    if request.settle() {
        give_back_begun(worker, request, Side::Next).await;
    } else if worker.stores_result(request) {
        let exception = TaskException::celery("WorkerShutdown", vec!["the worker was shut down".into()]);
        let state = State::Failure;
        worker.store(&meta(worker, request, &state, to_value(&exception), None, vec![])).await;
    }
}

/// Gives a message back at the will of its task: last in line.
pub(crate) async fn requeue(worker: &Arc<Worker>, request: &Arc<Request>) {
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
