//! The worker says that it lives: to monitors, and to other workers who would take its messages over
//! (celery.worker.heartbeat).

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tracing::{info, warn};

use crate::request::Request;
use crate::state::lock;
use crate::worker::Worker;

/// How long a silent worker's claims hold.
pub(crate) const CLAIM: Duration = Duration::from_secs(15);
/// How often claims are renewed, and the dead looked for.
const ROUND: Duration = Duration::from_secs(6);
/// For so long after a connection was lost Redis may still put a message where it waited for one.
const STILL: Duration = Duration::from_secs(30);
/// Silence of all workers for so many rounds is Redis' own.
const SILENT_ROUNDS: f64 = 1.5;

/// The fields of `worker-online`, `-heartbeat` and `-offline`.
pub(crate) fn fields(worker: &Worker) -> Value {
    json!({
        "freq": worker.config.heartbeat_interval.as_secs_f64(),
        "active": worker.state.active(),
        "processed": worker.state.processed(),
        "loadavg": load_average(),
        "sw_ident": "py-celery",
        "sw_ver": crate::control::CELERY_VERSION,
        "sw_sys": "Linux",
    })
}

fn load_average() -> [f64; 3] {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let mut numbers = text.split_whitespace().filter_map(|word| word.parse().ok());
    std::array::from_fn(|_| numbers.next().unwrap_or(0.0))
}

/// Sends heartbeats until the worker is gone.
pub(crate) async fn beat(worker: Arc<Worker>) {
    let mut ticks = tokio::time::interval(worker.config.heartbeat_interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        worker.events.emit("worker-heartbeat", fields(&worker));
    }
}

/// A short visibility timeout needs short rounds: what is held must never look forgotten.
fn round(worker: &Worker) -> Duration {
    ROUND.min(worker.config.visibility_timeout / 4)
}

/// Says that this worker lives, and takes the time from Redis. Gives the workers that do not; what this one has lost when it
/// was taken for dead, it gives up.
pub(crate) async fn keep_alive(worker: &Worker) -> Result<Vec<String>, petiole_redis::RedisError> {
    let (asked, begun) = (Utc::now(), Instant::now());
    let alive = worker.claims.keep_alive(CLAIM, round(worker).mul_f64(SILENT_ROUNDS)).await?;
    if alive.lapsed {
        worker.lapses.fetch_add(1, Ordering::Release);
    }
    *lock(&worker.said_alive) = Some(begun);
    if let Some(figures) = &worker.figures {
        figures.is_alive();
    }
    if let Some(now) = DateTime::from_timestamp_micros(alive.now) {
        worker.timer.set(now, asked, Utc::now());
    }
    if alive.lapsed {
        give_up_lost(worker).await?;
    }
    Ok(alive.dead)
}

/// Does this worker's claim hold for a good while yet?
pub(crate) fn is_claim_fresh(worker: &Worker) -> bool {
    lock(&worker.said_alive).is_some_and(|at| at.elapsed() < CLAIM * 2 / 3)
}

/// What came for a connection that was lost goes back also when it came afterwards; a place into which nothing can come any more
/// is struck off.
async fn restore_given_up(worker: &Worker) -> Result<usize, petiole_redis::RedisError> {
    let given_up = lock(&worker.given_up).clone();
    if given_up.is_empty() {
        return Ok(0);
    }
    let tags: Vec<String> = given_up.iter().map(|(tag, _)| tag.clone()).collect();
    let restored = worker.claims.restore(&worker.owner, &tags).await?;
    let old: Vec<String> = given_up.into_iter().filter(|(_, at)| at.elapsed() > STILL).map(|(tag, _)| tag).collect();
    worker.claims.strike(&worker.owner, &old, None).await?;
    lock(&worker.given_up).retain(|(tag, _)| !old.contains(tag));
    Ok(restored)
}

/// Keeps the claims of this worker, and gives back the messages of those who are dead.
pub(crate) async fn keep_claims(worker: Arc<Worker>) {
    let visibility = worker.config.visibility_timeout;
    let mut ticks = tokio::time::interval(round(&worker));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut renewed, mut scanned) = (tokio::time::Instant::now(), None::<tokio::time::Instant>);
    loop {
        ticks.tick().await;
        let claims = &worker.claims;
        let round = async {
            let dead = keep_alive(&worker).await?;
            claims.record(&held(&worker).into_iter().collect::<Vec<_>>()).await?;
            if renewed.elapsed() >= (visibility / 4).min(Duration::from_secs(60)) {
                claims.renew(&held(&worker).into_iter().collect::<Vec<_>>()).await?;
                renewed = tokio::time::Instant::now();
            }
            let mut restored = claims.restore_dead(&dead).await? + restore_given_up(&worker).await?;
            // kombu scans every 100 s; never rarer than a quarter of the timeout.
            if scanned.is_none_or(|at| at.elapsed() >= (visibility / 4).min(Duration::from_secs(100))) {
                restored += claims.restore_visible(visibility).await?;
                scanned = Some(tokio::time::Instant::now());
            }
            Ok::<usize, petiole_redis::RedisError>(restored)
        };
        match round.await {
            Ok(0) => {}
            Ok(restored) => info!("Restored {restored} unacknowledged message(s) of workers that are gone"),
            Err(error) => warn!(%error, "claims could not be renewed; trying again in the next round"),
        }
    }
}

/// This worker was silent for so long that others may have taken its messages: those it gives up, also where they run.
async fn give_up_lost(worker: &Worker) -> Result<(), petiole_redis::RedisError> {
    let lost: HashSet<String> =
        worker.claims.lost(&held(worker).into_iter().collect::<Vec<_>>()).await?.into_iter().collect();
    for request in worker.state.requests(|request| request.is_held() && lost.contains(&request.delivery.tag)) {
        // One that is being settled just now has been taken off the books by that.
        if request.withdraw() {
            warn!(task_id = request.id(), "another worker has taken {} over", request.message.task);
            request.enter(crate::request::Phase::Ended);
            worker.release(&request);
        } else if !request.is_settled() {
            request.cancel(crate::request::Cancel::Lost);
        }
    }
    Ok(())
}

/// The tags of the messages at hand.
pub(crate) fn held(worker: &Worker) -> HashSet<String> {
    let held = worker.state.requests(Request::is_held);
    held.iter().map(|request| request.delivery.tag.clone()).collect()
}
