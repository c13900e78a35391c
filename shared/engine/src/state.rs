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
/// For how long, in seconds (`REVOKE_EXPIRES`).
const REVOKED_EXPIRES: f64 = 10_800.0;

/// The worker's books.
#[derive(Default)]
pub(crate) struct State {
    /// By the order of arrival: a message may come again, or a copy of it, before the one before it is forgotten.
    requests: Locked<HashMap<u64, Arc<Request>>>,
    totals: Locked<HashMap<String, u64>>,
    revoked: Locked<Revoked>,
    revoked_stamps: Locked<Map>,
    revocations: AtomicU64,
    processed: AtomicU64,
    sequence: AtomicU64,
}

#[derive(Default)]
struct Revoked {
    ids: HashSet<String>,
    /// With the time, in seconds since the epoch.
    order: VecDeque<(String, f64)>,
}

impl Revoked {
    fn purge(&mut self, now: f64) {
        let old = |(_, at): &(String, f64)| now - at > REVOKED_EXPIRES;
        while self.order.len() > REVOKED_MAX || self.order.front().is_some_and(old) {
            if let Some((oldest, _)) = self.order.pop_front() {
                self.ids.remove(&oldest);
            }
        }
    }
}

impl State {
    /// The next number in the order of arrival.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.sequence.fetch_add(1, Ordering::Relaxed)
    }

    /// A request was accepted.
    pub(crate) fn accept(&self, request: &Arc<Request>) {
        let name = request.message.shown_name();
        let mut totals = lock(&self.totals);
        match totals.get_mut(name) {
            Some(total) => *total += 1,
            None => drop(totals.insert(name.to_owned(), 1)),
        }
        drop(totals);
        self.processed.fetch_add(1, Ordering::Relaxed);
        lock(&self.requests).insert(request.sequence, request.clone());
    }

    /// A request that will not run is this worker's until it is settled.
    pub(crate) fn hold(&self, request: &Arc<Request>) {
        request.enter(Phase::Ended);
        lock(&self.requests).insert(request.sequence, request.clone());
    }

    /// A request is over.
    pub(crate) fn forget(&self, request: &Request) {
        lock(&self.requests).remove(&request.sequence);
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

    /// Remembers ids as revoked; the oldest go when there are too many, or when they are old.
    pub(crate) fn revoke(&self, ids: impl IntoIterator<Item = String>) {
        let now = petiole_protocol::time::epoch(chrono::Utc::now());
        self.revoke_at(ids.into_iter().map(|id| (id, now)));
    }

    /// The same, revoked at other times, oldest first.
    pub(crate) fn revoke_at(&self, ids: impl IntoIterator<Item = (String, f64)>) {
        let mut revoked = lock(&self.revoked);
        for (id, at) in ids {
            if revoked.ids.insert(id.clone()) {
                revoked.order.push_back((id, at));
            }
        }
        revoked.purge(petiole_protocol::time::epoch(chrono::Utc::now()));
        self.revocations.fetch_add(1, Ordering::Relaxed);
    }

    /// The revoked ids, oldest first.
    pub(crate) fn revoked(&self) -> Vec<String> {
        self.revoked_at().into_iter().map(|(id, _)| id).collect()
    }

    /// The same with their times, in seconds since the epoch.
    pub(crate) fn revoked_at(&self) -> Vec<(String, f64)> {
        let mut revoked = lock(&self.revoked);
        revoked.purge(petiole_protocol::time::epoch(chrono::Utc::now()));
        revoked.order.iter().cloned().collect()
    }

    /// The revoked stamps.
    pub(crate) fn revoked_stamps(&self) -> Map {
        lock(&self.revoked_stamps).clone()
    }

    /// Grows with every revocation: tells whether there was one.
    pub(crate) fn revocations(&self) -> u64 {
        self.revocations.load(Ordering::Relaxed)
    }

    /// Remembers stamps whose tasks are revoked.
    pub(crate) fn revoke_stamps(&self, stamps: Map) {
        if stamps.is_empty() {
            return;
        }
        // What was revoked under the same name before stays revoked.
        let mut known = lock(&self.revoked_stamps);
        for (name, values) in stamps {
            let mut all = listed(known.get(&name).unwrap_or(&serde_json::Value::Null));
            all.extend(listed(&values).into_iter().filter(|value| !all.contains(value)).collect::<Vec<_>>());
            known.insert(name, serde_json::Value::Array(all));
        }
        self.revocations.fetch_add(1, Ordering::Relaxed);
    }

    /// Is a request revoked, by its id or one of its stamps?
    pub(crate) fn is_revoked(&self, request: &Request) -> bool {
        lock(&self.revoked).ids.contains(request.id()) || stamped(&request.message.stamps, &lock(&self.revoked_stamps))
    }
}

/// One value, or the values of a list.
pub(crate) fn listed(value: &serde_json::Value) -> Vec<serde_json::Value> {
    match value {
        serde_json::Value::Null => vec![],
        serde_json::Value::Array(items) => items.clone(),
        one => vec![one.clone()],
    }
}

/// Does one of the stamps equal, or contain, one of the wanted values?
pub(crate) fn stamped(stamps: &Map, wanted: &Map) -> bool {
    wanted.iter().any(|(name, values)| {
        stamps.get(name).is_some_and(|stamp| {
            let have = listed(stamp);
            listed(values).iter().any(|value| have.contains(value)) || stamp == values
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::tests::arrived;

    #[test]
    fn a_message_that_came_again_stays_when_the_one_before_it_is_forgotten() {
        let state = State::default();
        let (before, again) = (Arc::new(arrived(1)), Arc::new(arrived(2)));
        state.accept(&before);
        state.accept(&again);
        assert_eq!(state.requests(|_| true).len(), 2);
        state.forget(&before);
        assert!(matches!(state.requests(|_| true).as_slice(), [left] if Arc::ptr_eq(left, &again)));
    }

    #[test]
    fn the_oldest_revoked_ids_go_first() {
        let state = State::default();
        state.revoke((0..REVOKED_MAX + 2).map(|n| n.to_string()));
        let revoked = state.revoked();
        assert_eq!((revoked.len(), revoked[0].as_str()), (REVOKED_MAX, "2"));
    }

    #[test]
    fn old_revocations_are_forgotten_and_stamps_add_up() {
        let state = State::default();
        state.revoke_at([("old".to_owned(), 1.0)]);
        state.revoke(["new".to_owned()]);
        assert_eq!(state.revoked(), ["new"]);
        for stamp in ["a", "b", "a"] {
            state.revoke_stamps(Map::from_iter([("tenant".to_owned(), stamp.into())]));
        }
        assert_eq!(state.revoked_stamps()["tenant"], serde_json::json!(["a", "b"]));
    }
}
