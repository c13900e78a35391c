//! The number of slots follows the work (celery.worker.autoscale): up at once, down after half a minute of less.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::state::{Locked, lock};
use crate::worker::Worker;

/// How long a pool stays as large as it is without need.
const KEEP: Duration = Duration::from_secs(30);

/// The range of an autoscaled pool.
pub(crate) struct Autoscale(Locked<Range>);

struct Range {
    max: usize,
    min: usize,
    grown: Instant,
}

impl Autoscale {
    /// A range, least first.
    pub(crate) fn new(min: usize, max: usize) -> Self {
        Self(Locked::new(Range { max, min, grown: Instant::now() }))
    }

    /// Largest and smallest number of slots.
    pub(crate) fn range(&self) -> (usize, usize) {
        let range = lock(&self.0);
        (range.max, range.min)
    }

    /// What `inspect stats` tells.
    pub(crate) fn info(&self, worker: &Worker) -> Value {
        let (max, min) = self.range();
        json!({"max": max, "min": min, "current": worker.pool.limit(), "qty": worker.pool.running() + worker.pool.waiting()})
    }

    /// Changes the range; the pool follows at once.
    pub(crate) fn set(
        &self,
        worker: &Arc<Worker>,
        max: Option<usize>,
        min: Option<usize>,
    ) -> Result<(usize, usize), String> {
        let (max, min, before) = {
            let mut range = lock(&self.0);
            let max_wanted = max.unwrap_or(range.max).max(1);
            let min_wanted = min.unwrap_or(range.min).max(1);
            if max_wanted < min_wanted {
                return Err(format!("ValueError('autoscale needs max >= min, not max={max_wanted} min={min_wanted}')"));
            }
            let before = range.max;
            (range.max, range.min) = (max_wanted, min_wanted);
            (max_wanted, min_wanted, before)
        };
        let multiplier = worker.config.multiplier() as isize;
        worker.qos.adjust((max as isize - before as isize) * multiplier);
        let ready = worker.pool.resize(worker.pool.limit().clamp(min, max));
        crate::trace::start_all(worker, ready);
        Ok((max, min))
    }

    /// Somebody waits in line: more slots, as far as the range goes.
    pub(crate) fn grow(&self, worker: &Arc<Worker>) {
        let wanted = worker.pool.running() + worker.pool.waiting();
        let limit = {
            let mut range = lock(&self.0);
            let limit = wanted.clamp(range.min, range.max);
            if limit <= worker.pool.limit() {
                return;
            }
            range.grown = Instant::now();
            limit
        };
        let ready = worker.pool.resize(limit);
        crate::trace::start_all(worker, ready);
    }

    /// Fewer slots, when fewer were enough for long.
    fn shrink(&self, worker: &Worker) {
        let range = lock(&self.0);
        let needed = (worker.pool.running() + worker.pool.waiting()).clamp(range.min, range.max);
        if needed < worker.pool.limit() && range.grown.elapsed() >= KEEP {
            worker.pool.resize(needed);
        }
    }
}

/// Looks every second whether fewer slots would do.
pub(crate) async fn watch(worker: Arc<Worker>) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Some(autoscale) = &worker.autoscale {
            autoscale.shrink(&worker);
        }
    }
}
