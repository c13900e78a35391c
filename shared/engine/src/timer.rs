//! Tasks that wait for their eta (kombu.asynchronous.timer). A worker holds some of them itself; when they are too many the rest
//! waits on Redis, and any worker brings back what is due there.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use petiole_protocol::{TaskMessage, time};
use petiole_redis::RedisError;
use petiole_redis::waiting::{ToWait, Waiting};
use tokio::sync::Notify;
use tracing::{error, info, warn};

use crate::request::{Phase, Request};
use crate::worker::{Worker, until_done};

/// How many a worker holds when `WORKER_ETA_TASK_LIMIT` is not set.
const HELD: usize = 1_000;
/// How many are brought back at once.
const BATCH: usize = 500;
/// How often it is looked whether others have put something away: each brings back its own in time.
const LOOK: Duration = Duration::from_secs(15);
/// How many of those on Redis one reply to `inspect scheduled` shows, the next to be due.
const SHOWN: usize = 10_000;
/// How many are read at once.
const PAGE: usize = 500;

/// The time by Redis' clock, and what is known of those that wait there.
#[derive(Default)]
pub(crate) struct Timer {
    /// What is to be added to this host's clock, in microseconds.
    offset: AtomicI64,
    /// When one is due, in microseconds since the epoch: nothing earlier is known. 0: nothing is.
    next: AtomicU64,
    earlier: Notify,
}

impl Timer {
    /// The time. All workers take it from Redis: their hosts' clocks may differ.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        Utc::now() + TimeDelta::microseconds(self.offset.load(Ordering::Relaxed))
    }

    /// Redis said that it was `theirs` when this host's clock was between `asked` and `heard`.
    pub(crate) fn set(&self, theirs: DateTime<Utc>, asked: DateTime<Utc>, heard: DateTime<Utc>) {
        let offset = theirs - (asked + (heard - asked) / 2);
        self.offset.store(offset.num_microseconds().unwrap_or(0), Ordering::Relaxed);
    }

    /// One was put away.
    fn put_away(&self, eta: DateTime<Utc>) {
        let eta = u64::try_from(eta.timestamp_micros()).unwrap_or(1).max(1);
        let earlier = |next| (next == 0 || eta < next).then_some(eta);
        if self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, earlier).is_ok() {
            self.earlier.notify_one();
        }
    }
}

/// Does the worker hold so many that further ones wait on Redis?
pub(crate) fn is_full(worker: &Worker) -> bool {
    worker.qos.waiting() >= worker.config.eta_task_limit.unwrap_or(HELD)
}

/// Holds a request back until its eta, then hands it to the pool. A revoked one is settled at its time, as in Celery.
pub(crate) fn schedule(worker: &Arc<Worker>, request: Arc<Request>) {
    let Some(eta) = request.eta else { return };
    request.enter(Phase::Scheduled);
    worker.qos.begin_waiting();
    let worker = worker.clone();
    tokio::spawn(async move {
        loop {
            // The clock may be set meanwhile: look again at least every minute.
            let left = (eta - worker.timer.now()).to_std().unwrap_or_default();
            if left.is_zero() {
                break;
            }
            tokio::select! {
                () = tokio::time::sleep(left.min(Duration::from_secs(60))) => {}
                () = worker.shutdown.wait_warm() => {
                    worker.qos.end_waiting();
                    return;
                }
            }
        }
        worker.qos.end_waiting();
        if !worker.shutdown.begun() {
            request.enter(Phase::Reserved);
            crate::trace::submit(&worker, request, None);
        }
    });
}

/// Lets a request wait on Redis. It is this worker's until it is there.
pub(crate) fn put_away(worker: &Arc<Worker>, request: Arc<Request>, eta: DateTime<Utc>) {
    worker.state.hold(&request);
    request.enter(Phase::Scheduled);
    let of = worker.clone();
    worker.concluding.spawn(async move {
        let worker = of;
        let message = ToWait {
            delivery: &request.delivery,
            priority: request.message.properties.priority,
            task_id: request.id(),
            node: &worker.node,
            eta: time::epoch(eta),
        };
        let broker = worker.client.broker();
        let put = until_done("put a task away until its eta", || broker.put_waiting(&worker.owner, &message)).await;
        if let Err(error) = put {
            error!(%error, task_id = request.id(), "a task cannot wait on Redis: this worker holds it until its eta");
            return schedule(&worker, request);
        }
        worker.timer.put_away(eta);
        request.enter(Phase::Ended);
        // A shutdown may have given it back meanwhile.
        if request.settle() {
            worker.release(&request);
        }
        // It was not there yet when the others looked for it.
        if worker.state.is_revoked(&request) {
            revoke(&worker, &[request.id().to_owned()]).await;
        }
    });
}

/// Takes revoked tasks that wait on Redis, and ends them as if they had just been fetched.
pub(crate) async fn revoke(worker: &Arc<Worker>, ids: &[String]) {
    for id in ids {
        match worker.client.broker().take_waiting(&worker.owner, id).await {
            Ok(None) => {}
            Ok(Some(delivery)) => {
                worker.qos.hold();
                crate::strategy::receive(worker, delivery, None);
            }
            // Revoked it stays: it is not run when its time comes.
            Err(error) => warn!(%error, task_id = id, "it cannot be seen whether the revoked task waits on Redis"),
        }
    }
}

/// Brings back what is due on Redis, whoever put it there, until the worker is gone.
pub(crate) async fn bring_back(worker: Arc<Worker>) {
    loop {
        let pause = match worker.client.broker().return_due(BATCH).await {
            Ok(due) => {
                if due.returned > 0 {
                    info!("{} task(s) whose time has come are back in their queues", due.returned);
                }
                let next = due.next.map(|next| worker.timer.now() + next);
                let next = next.and_then(|next| u64::try_from(next.timestamp_micros()).ok()).unwrap_or(0);
                worker.timer.next.store(next, Ordering::Relaxed);
                if due.returned == BATCH { Duration::ZERO } else { due.next.unwrap_or(LOOK).min(LOOK) }
            }
            Err(error) => {
                warn!(%error, "it cannot be seen whether tasks are due, trying again");
                Duration::from_secs(1)
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause.max(Duration::from_millis(1))) => {}
            () = worker.timer.earlier.notified() => {}
        }
    }
}

/// Those on Redis that this worker shows: what it has put away itself; the first of all workers shows what others have who are
/// gone.
pub(crate) async fn shown(worker: &Worker) -> Result<Vec<Request>, RedisError> {
    let broker = worker.client.broker();
    let mut shown = Vec::new();
    if broker.waiting_count().await? == 0 {
        return Ok(shown);
    }
    let mine = Mine::of(worker).await?;
    for first in (0..SHOWN).step_by(PAGE) {
        let page = broker.waiting(first, PAGE).await?;
        let last = page.len() < PAGE;
        shown.extend(
            page.into_iter().filter(|waiting| mine.has(waiting)).filter_map(|waiting| request(worker, waiting)),
        );
        if last {
            break;
        }
    }
    Ok(shown)
}

/// The same, by their ids.
pub(crate) async fn shown_of(worker: &Worker, ids: &[String]) -> Result<Vec<Request>, RedisError> {
    let found = worker.client.broker().waiting_of(ids).await?;
    if found.is_empty() {
        return Ok(vec![]);
    }
    let mine = Mine::of(worker).await?;
    Ok(found.into_iter().filter(|waiting| mine.has(waiting)).filter_map(|waiting| request(worker, waiting)).collect())
}

/// Which of the tasks that wait on Redis a worker shows.
struct Mine {
    node: String,
    living: HashSet<String>,
    first: bool,
}

impl Mine {
    async fn of(worker: &Worker) -> Result<Self, RedisError> {
        let owners = worker.client.broker().living_owners().await?;
        let node = |owner: &String| owner.rsplit_once(':').map_or_else(|| owner.clone(), |(node, _)| node.to_owned());
        Ok(Self {
            node: worker.node.clone(),
            first: owners.first().is_some_and(|owner| *owner == worker.owner),
            living: owners.iter().map(node).collect(),
        })
    }

    fn has(&self, waiting: &Waiting) -> bool {
        waiting.node == self.node || (self.first && !self.living.contains(&waiting.node))
    }
}

/// A message that waits as a request that can be shown.
fn request(worker: &Worker, waiting: Waiting) -> Option<Request> {
    let message = TaskMessage::read(&waiting.text, &worker.config.accept_content).ok()?;
    let times = crate::request::times(&message, &worker.config.time_zone).ok()?;
    let task = worker.tasks.get(&message.task)?.clone();
    let delivery = petiole_redis::consumer::Delivery { queue: waiting.queue, ..Default::default() };
    let request = Request::new(message, delivery, task, times, false, 0);
    request.enter(Phase::Scheduled);
    Some(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_redis_s() {
        let timer = Timer::default();
        let asked = Utc::now();
        timer.set(asked + TimeDelta::minutes(5), asked, asked);
        let ahead = timer.now() - Utc::now();
        assert!(ahead > TimeDelta::seconds(299) && ahead < TimeDelta::seconds(301), "{ahead}");
    }
}
