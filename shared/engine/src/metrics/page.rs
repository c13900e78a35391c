//! The figures of this moment, as a text of OpenMetrics.

use std::sync::atomic::AtomicI64;
use std::time::Duration;

use petiole_settings::resident_memory;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::{Figures, Float, Labels};
use crate::request::Phase;
use crate::worker::Worker;

/// How long Redis may take to tell of the queues; without an answer they are left out.
const LOOK: Duration = Duration::from_secs(2);

/// The content type of the text.
pub(super) const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All figures.
pub(super) async fn text(worker: &Worker, figures: &Figures) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = encode_registry(&mut text, &figures.registry);
    let _ = encode_registry(&mut text, &now(worker, figures).await);
    let _ = encode_eof(&mut text);
    text
}

async fn now(worker: &Worker, figures: &Figures) -> Registry {
    let mut registry = Registry::default();
    let mut gauge = |name: &str, help: &str, value: usize| {
        let gauge = Gauge::<i64, AtomicI64>::default();
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        registry.register(name, help, gauge);
    };
    let scheduled = worker.state.requests(|request| request.phase() == Phase::Scheduled).len();
    gauge("petiole_worker_slots", "How many tasks may run at once", worker.pool.limit());
    gauge("petiole_worker_tasks_active", "Tasks that run", worker.pool.running());
    gauge("petiole_worker_tasks_reserved", "Tasks that wait here for a slot", worker.pool.waiting());
    gauge("petiole_worker_tasks_scheduled", "Tasks that wait here for their eta", scheduled);
    gauge("petiole_worker_prefetched", "Messages that this worker holds", worker.qos.held());
    let help = "How many messages this worker may hold; 0 is without limit";
    gauge("petiole_worker_prefetch_count", help, worker.qos.prefetch_count());
    let connected = worker.settling.is_connected();
    gauge("petiole_worker_redis_connected", "Whether the worker is connected to Redis", usize::from(connected));
    let silence = Float::default();
    silence.set(figures.silence().as_secs_f64());
    let help = "How long ago Redis last took this worker's sign of life";
    registry.register_with_unit("petiole_worker_heartbeat_age", help, Unit::Seconds, silence);
    let queues = worker.queues();
    if let Ok(Ok(lengths)) = tokio::time::timeout(LOOK, worker.client.broker().lengths(&queues)).await {
        let waiting = Family::<Labels<1>, Gauge>::default();
        for (queue, lengths) in queues.into_iter().zip(lengths) {
            let length = lengths.iter().sum::<u64>();
            waiting.get_or_create(&[("queue", queue)]).set(i64::try_from(length).unwrap_or(i64::MAX));
        }
        registry.register("petiole_worker_queue_length", "Messages that wait in the queues of this worker", waiting);
    }
    if let Some(bytes) = resident_memory() {
        let memory = Gauge::<i64, AtomicI64>::default();
        memory.set(bytes);
        registry.register_with_unit("process_resident_memory", "Memory in use", Unit::Bytes, memory);
    }
    registry
}
