//! A second word about results, for those who missed the first (celery.backends.redis: ResultConsumer).
//!
//! A client of Celery subscribes to a result and then asks whether it is there, on two connections. Redis may read the question
//! first; when the result comes just then, it was not there yet and is announced before anybody listens, and the client waits for
//! ever. The quicker a worker, the likelier. So a moment later it is looked whether somebody listens, and he is told again.

use std::sync::Arc;
use std::time::Duration;

use petiole_redis::settle::{Settlement, Write};
use tokio::sync::Notify;
use tracing::{debug, warn};

use crate::state::{Locked, lock};
use crate::worker::Worker;

/// How much later: what a client sent before its question has long been read then.
const LATER: Duration = Duration::from_millis(10);
/// After Redis could not be asked.
const PAUSE: Duration = Duration::from_secs(1);
/// So many are remembered while it is away.
const MOST: usize = 100_000;

/// Keys of results that were announced once.
#[derive(Default)]
pub(crate) struct Announcer {
    keys: Locked<Vec<String>>,
    some: Notify,
}

impl Announcer {
    /// These were settled.
    pub(crate) fn settled(&self, settlements: Vec<Settlement>) {
        let results =
            settlements.into_iter().flat_map(|settlement| settlement.writes).filter_map(|write| match write {
                Write::Result { key, last: true, .. } => Some(key),
                _ => None,
            });
        let mut keys = lock(&self.keys);
        let before = keys.len();
        keys.extend(results.take(MOST.saturating_sub(before)));
        if before == 0 && !keys.is_empty() {
            self.some.notify_one();
        }
    }

    /// Announces all of them again, where somebody listens. False: Redis was away, and they are to be announced later.
    pub(crate) async fn announce(&self, worker: &Worker) -> bool {
        let keys = std::mem::take(&mut *lock(&self.keys));
        match worker.client.backend().announce_again(&keys).await {
            Ok(0) => {}
            Ok(again) => debug!(again, "results were announced again to those who listened late"),
            Err(error) if error.is_unavailable() => {
                lock(&self.keys).splice(..0, keys);
                return false;
            }
            Err(error) => warn!(%error, "whether somebody waits for a result cannot be seen"),
        }
        true
    }
}

/// Announces again for as long as the worker runs.
pub(crate) async fn announce(worker: Arc<Worker>) {
    loop {
        worker.announcer.some.notified().await;
        tokio::time::sleep(LATER).await;
        while !worker.announcer.announce(&worker).await {
            tokio::time::sleep(PAUSE).await;
        }
    }
}
