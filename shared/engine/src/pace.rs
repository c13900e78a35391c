//! Which tasks are so quick that to hand them to another thread costs more than to run them.
//!
//! A task whose runs end at once, without waiting, runs where it was received, between two round trips to Redis. A task that
//! waits, or takes its time, is spawned. Each task is measured all the time, and starts as one that is spawned.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use crate::task::Task;

/// A build without optimizations is so many times slower: in it the same tasks are to be quick.
const SLOWER: u64 = if cfg!(debug_assertions) { 10 } else { 1 };
/// A run that ends within this costs less than its way to another thread.
const MOMENT: Duration = Duration::from_micros(25 * SLOWER);
/// A run that takes longer than this may have been held up by others, or not.
const LONG: Duration = Duration::from_micros(250 * SLOWER);
/// A run that takes longer than this has blocked its thread.
const BLOCKED: Duration = Duration::from_millis(5 * SLOWER);
/// So many quick runs make a quick task.
const PROVEN: i32 = 8;
/// More of them do not count.
const MOST: i32 = 16;
/// So much a long run counts against quick ones.
const SETBACK: i32 = 16;
/// So much a run counts that has blocked its thread.
const BLOCKED_SETBACK: i32 = 2_000;
/// For so long what was received runs at once; then Redis is to be spoken to again.
pub(crate) const TURN: Duration = Duration::from_millis(SLOWER);

/// How quick the runs of one task were of late.
#[derive(Debug, Default)]
pub(crate) struct Pace(AtomicI32);

impl Pace {
    /// A run began: so long its first step took, and whether that was all of it.
    pub(crate) fn record(&self, took: Duration, ended: bool) {
        let change = |quick: i32| match took {
            _ if took > BLOCKED => (quick.min(0) - BLOCKED_SETBACK).max(-10 * BLOCKED_SETBACK),
            _ if took > LONG => quick.min(MOST) - SETBACK,
            _ if ended && took <= MOMENT => (quick + 1).min(MOST),
            _ => (quick - 2).max(quick.min(0)),
        };
        // Counted by several threads at once, a run may be lost: it is a rule of thumb.
        self.0.store(change(self.0.load(Ordering::Relaxed)), Ordering::Relaxed);
    }

    /// Do its runs end at once?
    pub(crate) fn is_quick(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= PROVEN
    }
}

/// The paces of all tasks.
pub(crate) struct Paces(BTreeMap<String, Pace>);

impl Paces {
    /// Of tasks that have not run yet.
    pub(crate) fn new(tasks: &BTreeMap<String, Arc<dyn Task>>) -> Self {
        Self(tasks.keys().map(|name| (name.clone(), Pace::default())).collect())
    }

    /// Of a task.
    pub(crate) fn of(&self, task: &str) -> Option<&Pace> {
        self.0.get(task)
    }
}

/// The time between two round trips, in which quick tasks run.
pub(crate) struct Turn(Instant);

impl Turn {
    /// Begins now.
    pub(crate) fn begin() -> Self {
        Self(Instant::now())
    }

    /// Is it over?
    pub(crate) fn is_over(&self) -> bool {
        self.took() >= TURN
    }

    /// How long it has taken so far.
    pub(crate) fn took(&self) -> Duration {
        self.0.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(pace: &Pace, times: i32, micros: u64, ended: bool) -> bool {
        (0..times).for_each(|_| pace.record(Duration::from_micros(micros * SLOWER), ended));
        pace.is_quick()
    }

    #[test]
    fn a_task_is_quick_after_some_quick_runs() {
        let pace = Pace::default();
        assert!(!runs(&pace, PROVEN - 1, 10, true));
        assert!(runs(&pace, 100, 10, true));
        // One that was held up a little does not matter, several do.
        assert!(runs(&pace, 1, 100, true));
        assert!(!runs(&pace, 10, 100, true));
    }

    #[test]
    fn a_task_that_waits_is_never_quick() {
        assert!(!runs(&Pace::default(), 100, 10, false));
    }

    #[test]
    fn a_task_that_blocks_is_not_quick_for_long() {
        let pace = Pace::default();
        runs(&pace, 100, 10, true);
        assert!(!runs(&pace, 1, 300, true));
        assert!(runs(&pace, 30, 10, true));
        assert!(!runs(&pace, 1, 10_000, true) && !runs(&pace, 1_000, 10, true));
        assert!(runs(&pace, 2_000, 10, true));
    }
}
