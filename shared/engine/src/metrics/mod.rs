//! What a worker tells Prometheus: tasks by state and name, how long they ran, what it holds, what waits for it. Counted only
//! where `WORKER_METRICS_ADDRESS` says that somebody may ask.

mod page;
mod serve;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

pub(crate) use serve::serve;

use crate::request::Request;
use crate::worker::Worker;

/// The bounds of the histogram of runtimes, in seconds: from a sum to a long document.
const BOUNDS: [f64; 15] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0];

type Float = Gauge<f64, AtomicU64>;
/// Names and values of labels.
type Labels<const N: usize> = [(&'static str, String); N];

/// The counters of a worker.
pub(crate) struct Figures {
    registry: Registry,
    tasks: Family<Labels<2>, Counter>,
    runtimes: Family<Labels<1>, Histogram, fn() -> Histogram>,
    begun: Instant,
    /// When Redis last took the sign that the worker lives, in milliseconds since it began.
    alive: AtomicU64,
}

impl Figures {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::default();
        let tasks = Family::default();
        registry.register("petiole_worker_tasks", "Tasks that came to a state, by name and state", tasks.clone());
        let runtimes: Family<_, _, fn() -> Histogram> = Family::new_with_constructor(|| Histogram::new(BOUNDS));
        let help = "How long tasks ran, however they ended, by name";
        registry.register_with_unit("petiole_worker_task_runtime", help, Unit::Seconds, runtimes.clone());
        let started = Float::default();
        started.set(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64());
        let help = "When the process started, seconds since 1970";
        registry.register_with_unit("process_start_time", help, Unit::Seconds, started);
        let build = Family::<Labels<1>, Gauge>::default();
        build.get_or_create(&[("version", env!("CARGO_PKG_VERSION").to_owned())]).set(1);
        registry.register("petiole_build", "The version that runs; always 1", build);
        Self { registry, tasks, runtimes, begun: Instant::now(), alive: AtomicU64::new(0) }
    }

    fn count(&self, task: String, state: &str) {
        self.tasks.get_or_create(&[("task", task), ("state", state.to_owned())]).inc();
    }

    fn ran(&self, task: String, seconds: f64) {
        self.runtimes.get_or_create(&[("task", task)]).observe(seconds);
    }

    /// Redis has taken the sign that the worker lives.
    pub(crate) fn is_alive(&self) {
        self.alive.store(u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How long ago that was.
    fn silence(&self) -> Duration {
        self.begun.elapsed().saturating_sub(Duration::from_millis(self.alive.load(Ordering::Relaxed)))
    }
}

impl Worker {
    /// Counts a request that came to a state; what tasks call their own events is no state.
    pub(crate) fn count(&self, request: &Request, event: &str) {
        let Some(figures) = &self.figures else { return };
        if let Some(
            state
            @ ("received" | "started" | "succeeded" | "failed" | "retried" | "rejected" | "revoked" | "cancelled"),
        ) = event.strip_prefix("task-")
        {
            figures.count(self.label(request), state);
        }
    }

    /// Counts a run.
    pub(crate) fn count_run(&self, request: &Request, seconds: f64) {
        if let Some(figures) = &self.figures {
            figures.ran(self.label(request), seconds);
        }
    }

    /// The task's name; names that anybody may invent are one, or the figures would grow without end.
    fn label(&self, request: &Request) -> String {
        let name = &request.message.task;
        if self.tasks.contains_key(name) { name.clone() } else { "unknown".to_owned() }
    }
}
