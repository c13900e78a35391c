//! Prefetch: how many messages the worker may hold (kombu.transport.virtual: QoS, celery.worker.consumer).

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Above this a prefetch count is no limit.
const UNLIMITED: usize = 65_535;
/// At most this many messages come with one fetch.
const BATCH: usize = 200;

/// Counts held messages against what may be held.
#[derive(Debug, Default)]
pub(crate) struct Qos {
    limit: AtomicUsize,
    unlimited: AtomicBool,
    /// Messages that wait for their eta: each raises the limit by one.
    waiting: AtomicUsize,
    held: AtomicUsize,
    changed: Notify,
}

impl Qos {
    /// `limit` 0 is without limit.
    pub(crate) fn new(limit: usize) -> Self {
        let qos = Self::default();
        qos.unlimited.store(limit == 0 || limit > UNLIMITED, Ordering::Relaxed);
        qos.limit.store(limit, Ordering::Relaxed);
        qos
    }

    /// How many more messages may be fetched when `settled` of those that are held are settled with it.
    pub(crate) fn room(&self, settled: usize) -> usize {
        if self.unlimited.load(Ordering::Relaxed) {
            return BATCH;
        }
        let limit = self.limit.load(Ordering::Relaxed) + self.waiting.load(Ordering::Relaxed);
        (limit + settled).saturating_sub(self.held.load(Ordering::Relaxed)).min(BATCH)
    }

    /// The count that `inspect stats` tells: 0 is without limit.
    pub(crate) fn prefetch_count(&self) -> usize {
        if self.unlimited.load(Ordering::Relaxed) {
            return 0;
        }
        self.limit.load(Ordering::Relaxed) + self.waiting.load(Ordering::Relaxed)
    }

    /// Raises or lowers the limit; it stays at least 1.
    pub(crate) fn adjust(&self, by: isize) {
        let _ = self
            .limit
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |limit| Some(limit.saturating_add_signed(by).max(1)));
        self.changed.notify_one();
    }

    /// A message was fetched.
    pub(crate) fn hold(&self) {
        self.held.fetch_add(1, Ordering::Relaxed);
    }

    /// A message was settled.
    pub(crate) fn release(&self) {
        self.held.fetch_sub(1, Ordering::Relaxed);
        self.changed.notify_one();
    }

    /// How many messages are held.
    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// A message waits for its eta.
    pub(crate) fn begin_waiting(&self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.changed.notify_one();
    }

    /// Its time has come.
    pub(crate) fn end_waiting(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many messages wait for their eta.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Waits until there may be more room.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic() {
        let qos = Qos::new(8);
        assert_eq!(qos.room(0), 8);
        qos.hold();
        qos.begin_waiting();
        assert_eq!((qos.room(0), qos.prefetch_count()), (8, 9));
        qos.adjust(-100);
        assert_eq!(qos.prefetch_count(), 2);
        assert_eq!(Qos::new(0).prefetch_count(), 0);
        assert_eq!(Qos::new(0).room(0), BATCH);
    }
}
