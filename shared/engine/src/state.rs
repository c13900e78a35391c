//! What a worker has at hand: requests, revoked ids, totals (celery.worker.state).

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use petiole_protocol::Map;

use crate::request::{Phase, Request};

/// A lock that a panic elsewhere does not poison: what is behind it is never left half done.
pub(crate) type Locked<T> = Mutex<T>;

/// Locks.
pub(crate) fn lock<T>(locked: &Locked<T>) -> MutexGuard<'_, T> {
    locked.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many revoked ids are remembered (`REVOKES_MAX`).
const REVOKED_MAX: usize = 50_000;

/// The worker's books.
#[derive(Default)]
pub(crate) struct State {
    requests: Locked<HashMap<String, Arc<Request>>>,
    totals: Locked<HashMap<String, u64>>,
    revoked: Locked<Revoked>,
    revoked_stamps: Locked<Map>,
    processed: AtomicU64,
    sequence: AtomicU64,
}

#[derive(Default)]
struct Revoked {
    ids: HashSet<String>,
    order: VecDeque<String>,
}

impl State {
    /// The next number in the order of arrival.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.sequence.fetch_add(1, Ordering::Relaxed)
    }

    /// A request was accepted.
    pub(crate) fn accept(&self, request: &Arc<Request>) {
        *lock(&self.totals).entry(request.message.shown_name().to_owned()).or_default() += 1;
        self.processed.fetch_add(1, Ordering::Relaxed);
        lock(&self.requests).insert(request.delivery.tag.clone(), request.clone());
    }

    /// A request is over.
    pub(crate) fn forget(&self, request: &Request) {
        lock(&self.requests).remove(&request.delivery.tag);
    }

    /// The requests that pass, in the order of arrival.
    pub(crate) fn requests(&self, pass: impl Fn(&Request) -> bool) -> Vec<Arc<Request>> {
        let mut found: Vec<_> = lock(&self.requests).values().filter(|request| pass(request)).cloned().collect();
        found.sort_by_key(|request| request.sequence);
        found
    }

    /// How many tasks run.
    pub(crate) fn active(&self) -> usize {
        lock(&self.requests).values().filter(|request| matches!(request.phase(), Phase::Active(_))).count()
    }

    /// How many tasks were accepted since the start.
    pub(crate) fn processed(&self) -> u64 {
        self.processed.load(Ordering::Relaxed)
    }

    /// Accepted tasks by name.
    pub(crate) fn totals(&self) -> HashMap<String, u64> {
        lock(&self.totals).clone()
    }

    /// Remembers ids as revoked; the oldest go when there are too many.
    pub(crate) fn revoke(&self, ids: impl IntoIterator<Item = String>) {
        let mut revoked = lock(&self.revoked);
        for id in ids {
            if revoked.ids.insert(id.clone()) {
                revoked.order.push_back(id);
            }
        }
        while revoked.order.len() > REVOKED_MAX {
            if let Some(oldest) = revoked.order.pop_front() {
                revoked.ids.remove(&oldest);
            }
        }
    }

    /// The revoked ids, oldest first.
    pub(crate) fn revoked(&self) -> Vec<String> {
        lock(&self.revoked).order.iter().cloned().collect()
    }

    /// Remembers stamps whose tasks are revoked.
    pub(crate) fn revoke_stamps(&self, stamps: Map) {
        lock(&self.revoked_stamps).extend(stamps);
    }

    /// Is a request revoked, by its id or one of its stamps?
    pub(crate) fn is_revoked(&self, request: &Request) -> bool {
        lock(&self.revoked).ids.contains(request.id()) || stamped(&request.message.stamps, &lock(&self.revoked_stamps))
    }
}

/// Does one of the stamps equal, or contain, one of the wanted values?
pub(crate) fn stamped(stamps: &Map, wanted: &Map) -> bool {
    let list = |value: &serde_json::Value| match value {
        serde_json::Value::Array(items) => items.clone(),
        one => vec![one.clone()],
    };
    wanted.iter().any(|(name, values)| {
        stamps.get(name).is_some_and(|stamp| {
            let have = list(stamp);
            list(values).iter().any(|value| have.contains(value)) || stamp == values
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_revoked_ids_go_first() {
        let state = State::default();
        state.revoke((0..REVOKED_MAX + 2).map(|n| n.to_string()));
        let revoked = state.revoked();
        assert_eq!((revoked.len(), revoked[0].as_str()), (REVOKED_MAX, "2"));
    }
}
