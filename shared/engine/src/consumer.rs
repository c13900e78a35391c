//! Connection, fetching and receiving (celery.worker.consumer, celery.worker.strategy).

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use petiole_protocol::{DecodeError, Embed, Envelope, TaskException, TaskMessage};
use petiole_redis::RedisError;
use petiole_redis::consumer::{Consumer, Delivery};
use serde_json::json;
use tracing::{error, info, warn};

use crate::builtins::Unregistered;
use crate::request::{self, Request};
use crate::worker::{Worker, until_done};

/// The longest wait for a sign that something is in a queue: then it is looked at all the same.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Consumes until the worker shuts down, over all losses of connection.
pub(crate) async fn consume(worker: Arc<Worker>) {
    let mut pause = Duration::from_millis(50);
    while !worker.shutdown.begun() {
        match connected(&worker, &mut pause).await {
            Ok(()) => return,
            Err(error) => {
                warn!(%error, "consumer: connection to broker lost, trying again in {pause:?}");
                tokio::select! {
                    () = tokio::time::sleep(pause.mul_f64(0.5 + rand::random::<f64>())) => {}
                    () = worker.shutdown.wait_warm() => {}
                }
                pause = (pause * 2).min(Duration::from_secs(1));
            }
        }
    }
}

async fn connected(worker: &Arc<Worker>, pause: &mut Duration) -> Result<(), RedisError> {
    let mut consumer = Consumer::connect(&worker.connector, &worker.owner).await?;
    let mut bound: Vec<String> = Vec::new();
    worker.claims.keep_alive(crate::heartbeat::CLAIM).await?;
    restore_forgotten(worker).await?;
    info!("Connected to {}", petiole_redis::redacted(worker.connector.url()));
    while !worker.shutdown.begun() {
        let queues = worker.queues();
        for queue in &queues {
            if !bound.contains(queue) {
                worker.client.broker().bind_queue(queue).await?;
            }
        }
        bound.clone_from(&queues);
        let room = worker.qos.room();
        if room == 0 || queues.is_empty() {
            tokio::select! {
                () = worker.qos.changed() => {}
                () = worker.queues_changed() => {}
                () = worker.shutdown.wait_warm() => {}
            }
            continue;
        }
        let deliveries = consumer.fetch(&queues, room).await?;
        *pause = Duration::from_millis(50);
        if deliveries.is_empty() {
            tokio::select! {
                waited = consumer.wait(&queues, LONGEST_WAIT) => waited?,
                () = worker.queues_changed() => {}
                () = worker.shutdown.wait_warm() => {}
            }
        }
        for delivery in deliveries {
            worker.qos.hold();
            receive(worker, delivery).await;
        }
    }
    Ok(())
}

/// Messages that were fetched just when the connection broke are this worker's without its knowledge: they go back.
async fn restore_forgotten(worker: &Worker) -> Result<(), RedisError> {
    let forgotten = worker.claims.forgotten(&crate::heartbeat::held(worker)).await?;
    let restored = worker.claims.restore(&worker.owner, &forgotten).await?;
    if restored > 0 {
        info!("Restored {restored} message(s) that were fetched when the connection broke");
    }
    Ok(())
}

/// Takes one delivery: to the pool, to the timer, or away with it.
async fn receive(worker: &Arc<Worker>, delivery: Delivery) {
    let envelope = match Envelope::parse(delivery.text.as_bytes()) {
        Ok(envelope) => envelope,
        Err(error) => return discard(worker, &delivery, None, &error).await,
    };
    let message = match TaskMessage::decode(&envelope, &worker.config.accept_content) {
        Ok(message) => message,
        Err(error) => return discard(worker, &delivery, Some(&envelope), &error).await,
    };
    let times = match request::times(&message) {
        Ok(times) => times,
        Err(what) => return discard(worker, &delivery, Some(&envelope), &DecodeError::shape(what)).await,
    };
    let sequence = worker.state.next_sequence();
    let Some(task) = worker.tasks.get(&message.task).cloned() else {
        let unknown = Arc::new(Unregistered(message.task.clone()));
        let request = Request::new(message, delivery, unknown, times, true, sequence);
        return unregistered(worker, &request).await;
    };
    let acks_late = task.options().acks_late.unwrap_or(worker.config.acks_late);
    let request = Arc::new(Request::new(message, delivery, task, times, acks_late, sequence));
    if worker.state.is_revoked(&request) || request.is_expired(Utc::now()) {
        return crate::outcome::revoked(worker, &request).await;
    }
    worker.state.accept(&request);
    let message = &request.message;
    info!(task_id = request.id(), "Task {}[{}] received", message.shown_name(), request.id());
    worker.task_event(
        &request,
        "task-received",
        json!({
            "uuid": message.id, "name": message.shown_name(), "args": message.args_text(), "kwargs": message.kwargs_text(),
            "root_id": message.root_id, "parent_id": message.parent_id, "retries": message.retries,
            "eta": message.eta, "expires": message.expires,
        }),
    );
    match request.eta {
        Some(eta) if eta > Utc::now() => crate::timer::schedule(worker, request),
        _ => crate::trace::submit(worker, request),
    }
}

/// A task that nobody here knows: it fails, and with it what waits for it.
async fn unregistered(worker: &Arc<Worker>, request: &Request) {
    let name = &request.message.task;
    error!(task_id = request.id(), "Received unregistered task of type {name:?}: known tasks are {}", known(worker));
    let exception = TaskException::celery("NotRegistered", vec![name.as_str().into()]);
    crate::outcome::record_failure(worker, request, &exception, None, vec![]).await;
    worker.task_event(request, "task-failed", json!({"uuid": request.id(), "exception": exception.repr()}));
    worker.acknowledge(request).await;
}

fn known(worker: &Worker) -> String {
    worker.tasks.keys().filter(|name| !name.starts_with("celery.")).cloned().collect::<Vec<_>>().join(", ")
}

/// A message that cannot run. It goes with a word in the log; when its id can be read, whoever waits is told as well.
async fn discard(worker: &Arc<Worker>, delivery: &Delivery, envelope: Option<&Envelope>, why: &DecodeError) {
    let (task, id) = envelope.map(TaskMessage::peek).unwrap_or_default();
    let begin: String = delivery.text.chars().take(200).collect();
    error!(
        queue = delivery.queue,
        task,
        task_id = id,
        message = begin,
        "Rejected a message that cannot be read: {why}"
    );
    if let (Some(task), Some(id)) = (task, id) {
        let unknown = Arc::new(Unregistered(task.to_owned()));
        let message = TaskMessage {
            embed: Embed::default(),
            properties: envelope.map(|envelope| envelope.properties.clone()).unwrap_or_default(),
            ..TaskMessage::new(task, id, vec![], petiole_protocol::Map::new())
        };
        let request =
            Request::new(message, delivery.clone(), unknown, (None, None), true, worker.state.next_sequence());
        let name = if why.is_reject() { "ContentDisallowed" } else { "DecodeError" };
        let exception = TaskException::new("kombu.exceptions", name, vec![why.to_string().into()]);
        crate::outcome::record_failure(worker, &request, &exception, None, vec![]).await;
        worker.task_event(&request, "task-failed", json!({"uuid": id, "exception": exception.repr()}));
    }
    let tags = [delivery.tag.clone()];
    let broker = worker.client.broker();
    if let Err(error) = until_done("reject a message", || broker.ack(&worker.owner, &tags)).await {
        warn!(%error, "a message cannot be rejected");
    }
    worker.qos.release();
}
