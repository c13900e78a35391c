//! What monitors see (celery.events.dispatcher). Task events travel in batches, worker events at once, in their order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::Utc;
use petiole_protocol::event::{EXCHANGE, Event, Sender};
use petiole_protocol::{Envelope, time};
use petiole_redis::Broker;
use serde::Serialize;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::clock::Clock;
use crate::worker::until_done;

/// So many events wait for Redis; what comes on top is dropped.
const BUFFER: usize = 10_000;
/// So many events travel together.
const BATCH: usize = 100;
/// So many go in one round trip.
const AT_ONCE: usize = 10 * BATCH;
/// So long tasks wait for events at a time, when these come faster than they go.
const CATCH_UP: Duration = Duration::from_millis(100);
/// So long task events wait for others; Celery lets them wait a second.
const GATHER: Duration = Duration::from_millis(10);

/// Where events are put in.
#[derive(Clone)]
pub(crate) struct Events {
    queue: mpsc::Sender<Item>,
    tasks: Arc<AtomicBool>,
    sender: Arc<Sender>,
    clock: Arc<Clock>,
}

enum Item {
    Event(Event),
    Flush(tokio::sync::oneshot::Sender<()>),
}

impl Events {
    /// Starts sending. `tasks`: task events too, from the beginning.
    pub(crate) fn start(broker: Broker, node: &str, clock: Arc<Clock>, tasks: bool) -> Self {
        let (queue, items) = mpsc::channel(BUFFER);
        let sender = Arc::new(Sender { hostname: node.to_owned(), pid: std::process::id() });
        tokio::spawn(send(broker, sender.clone(), items));
        Self { queue, tasks: Arc::new(AtomicBool::new(tasks)), sender, clock }
    }

    /// Sends an event, if its group is switched on.
    pub(crate) fn emit(&self, kind: &str, fields: impl Serialize) {
        if kind.starts_with("task-") && !self.tasks.load(Ordering::Relaxed) {
            return;
        }
        let event = self.sender.event(kind, time::epoch(Utc::now()), self.clock.forward(), &fields);
        // A full buffer means that Redis is away for long: events are for watching, tasks go on.
        let _ = self.queue.try_send(Item::Event(event));
    }

    /// Are task events on?
    pub(crate) fn tasks_enabled(&self) -> bool {
        self.tasks.load(Ordering::Relaxed)
    }

    /// Switches task events. False: nothing changed. Unlike Celery's, a worker started with `-E` obeys as well.
    pub(crate) fn switch_tasks(&self, on: bool) -> bool {
        self.tasks.swap(on, Ordering::Relaxed) != on
    }

    /// Waits a little when so many events wait for Redis that some might be dropped.
    pub(crate) async fn keep_up(&self) {
        if self.queue.capacity() < BUFFER / 2 {
            self.flush(CATCH_UP).await;
        }
    }

    /// Waits until all events so far were sent.
    pub(crate) async fn flush(&self, at_most: Duration) {
        let (done, sent) = tokio::sync::oneshot::channel();
        if self.queue.try_send(Item::Flush(done)).is_ok() {
            let _ = tokio::time::timeout(at_most, sent).await;
        }
    }
}

async fn send(broker: Broker, sender: Arc<Sender>, mut items: mpsc::Receiver<Item>) {
    let mut batch = Vec::with_capacity(BATCH);
    while items.recv_many(&mut batch, AT_ONCE).await > 0 {
        if batch.len() < BATCH && batch.iter().all(Item::may_wait) {
            tokio::time::sleep(GATHER).await;
            while batch.len() < BATCH {
                let Ok(item) = items.try_recv() else { break };
                batch.push(item);
            }
        }
        let (mut envelopes, mut tasks, mut told) = (vec![], vec![], vec![]);
        let envelope = |events: &[Event]| sender.envelope(events, Uuid::new_v4().to_string());
        for item in batch.drain(..) {
            let waits = item.may_wait();
            if (!waits && !tasks.is_empty()) || tasks.len() == BATCH {
                envelopes.push(envelope(&std::mem::take(&mut tasks)));
            }
            match item {
                Item::Event(event) if waits => tasks.push(event),
                Item::Event(event) => envelopes.push(envelope(&[event])),
                Item::Flush(done) => told.push(done),
            }
        }
        if !tasks.is_empty() {
            envelopes.push(envelope(&tasks));
        }
        publish(&broker, &envelopes).await;
        for done in told {
            // Who has gone does not need to know.
            let _ = done.send(());
        }
    }
}

impl Item {
    fn may_wait(&self) -> bool {
        matches!(self, Self::Event(event) if event.kind.starts_with("task-"))
    }
}

async fn publish(broker: &Broker, envelopes: &[(String, Envelope)]) {
    if envelopes.is_empty() {
        return;
    }
    if let Err(error) = until_done("send events", || broker.broadcast_all(EXCHANGE, envelopes)).await {
        tracing::warn!(%error, "events cannot be sent");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use std::pin::pin;

    use futures::poll;
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn who_makes_events_faster_than_they_go_waits_and_not_for_ever() {
        let (queue, mut items) = mpsc::channel(BUFFER);
        let sender = Arc::new(Sender { hostname: "w@host".into(), pid: 1 });
        let tasks = Arc::new(AtomicBool::new(true));
        let events = Events { queue, tasks, sender, clock: Arc::default() };
        (0..BUFFER / 2).for_each(|_| events.emit("task-received", json!({})));
        assert!(poll!(pin!(events.keep_up())).is_ready());
        events.emit("task-received", json!({}));
        let mut keeps_up = pin!(events.keep_up());
        assert!(poll!(keeps_up.as_mut()).is_pending());
        while let Some(item) = items.recv().await {
            if let Item::Flush(done) = item {
                done.send(()).unwrap();
                break;
            }
        }
        assert!(poll!(keeps_up).is_ready());
        // Nobody sends them.
        (1..BUFFER).for_each(|_| events.emit("task-received", json!({})));
        events.keep_up().await;
    }
}
