//! Who runs when: a number of slots, and a line before them (celery.concurrency).

use std::collections::VecDeque;
use std::sync::Arc;

use crate::request::Request;
use crate::state::{Locked, lock};

/// The slots. Tasks are futures, so a slot is a number, not a process.
pub(crate) struct Pool(Locked<Slots>);

struct Slots {
    limit: usize,
    running: usize,
    line: VecDeque<Arc<Request>>,
}

impl Pool {
    /// A pool of so many slots.
    pub(crate) fn new(limit: usize) -> Self {
        Self(Locked::new(Slots { limit, running: 0, line: VecDeque::new() }))
    }

    /// The number of slots.
    pub(crate) fn limit(&self) -> usize {
        lock(&self.0).limit
    }

    /// Takes a slot for the request: it is to be started now. None: it waits in line.
    pub(crate) fn enter(&self, request: Arc<Request>) -> Option<Arc<Request>> {
        let mut slots = lock(&self.0);
        if slots.running < slots.limit {
            slots.running += 1;
            return Some(request);
        }
        slots.line.push_back(request);
        None
    }

    /// Gives a slot back, or passes it on to the next in line, who is to be started now.
    pub(crate) fn leave(&self) -> Option<Arc<Request>> {
        let mut slots = lock(&self.0);
        if slots.running <= slots.limit
            && let Some(next) = slots.line.pop_front()
        {
            return Some(next);
        }
        slots.running -= 1;
        None
    }

    /// Changes the number of slots. Gives those that are to be started now.
    pub(crate) fn resize(&self, limit: usize) -> Vec<Arc<Request>> {
        let mut slots = lock(&self.0);
        slots.limit = limit.max(1);
        let free = slots.limit.saturating_sub(slots.running).min(slots.line.len());
        slots.running += free;
        slots.line.drain(..free).collect()
    }

    /// How many run.
    pub(crate) fn running(&self) -> usize {
        lock(&self.0).running
    }

    /// How many more could start at once.
    pub(crate) fn free(&self) -> usize {
        let slots = lock(&self.0);
        slots.limit.saturating_sub(slots.running + slots.line.len())
    }

    /// How many wait in line.
    pub(crate) fn waiting(&self) -> usize {
        lock(&self.0).line.len()
    }

    /// Sends all away who wait in line.
    pub(crate) fn clear(&self) -> Vec<Arc<Request>> {
        lock(&self.0).line.drain(..).collect()
    }
}
