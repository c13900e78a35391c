//! What the service tells Prometheus: traffic, errors, latency, saturation (the four golden signals), and the backlog of
//! queues and outbox. Counted while requests pass; what lies elsewhere is looked up when it is asked for.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use petiole_settings::resident_memory;
use poem::http::Method;
use poem::{Endpoint, Middleware, Request, Response};
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::spec::Methods;
use crate::state::State;

/// How long each look elsewhere may take; what does not answer is left out.
const LOOK: Duration = Duration::from_secs(2);
/// The bounds of the latency histogram, in seconds: from a quick read to the longest `wait`.
const BOUNDS: [f64; 14] = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// The status under which a request is counted that was cut off before its answer.
const GONE: u16 = 499;

type Float = Gauge<f64, AtomicU64>;

/// Names and values of labels.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Labels<const N: usize>([(&'static str, String); N]);

impl<const N: usize> EncodeLabelSet for Labels<N> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> std::fmt::Result {
        self.0.iter().map(|(name, value)| (*name, value.as_str())).collect::<Vec<_>>().encode(encoder)
    }
}

/// The counters of this process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    requests: Family<Labels<3>, Counter>,
    durations: Family<Labels<2>, Histogram, fn() -> Histogram>,
    in_flight: Gauge,
    published: Counter,
    failed: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let requests = Family::default();
        registry.register(
            "http_requests",
            "Requests that were answered, by route, method and status",
            requests.clone(),
        );
        let durations: Family<_, _, fn() -> Histogram> = Family::new_with_constructor(|| Histogram::new(BOUNDS));
        let help = "Time until the answer began, by route and method";
        registry.register_with_unit("http_request_duration", help, Unit::Seconds, durations.clone());
        let in_flight = Gauge::default();
        registry.register("http_requests_in_flight", "Requests that wait for their answer", in_flight.clone());
        let (published, failed) = (Counter::default(), Counter::default());
        registry.register("petiole_outbox_published", "Messages that went from the outbox to Redis", published.clone());
        let help = "Rounds of the outbox relay that could not publish or read";
        registry.register("petiole_outbox_failures", help, failed.clone());
        let started = Float::default();
        started.set(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64());
        let help = "When the process started, seconds since 1970";
        registry.register_with_unit("process_start_time", help, Unit::Seconds, started);
        let build = Family::<Labels<1>, Gauge>::default();
        build.get_or_create(&Labels([("version", env!("CARGO_PKG_VERSION").into())])).set(1);
        registry.register("petiole_build", "The version that runs; always 1", build);
        Self { registry: Arc::new(registry), requests, durations, in_flight, published, failed }
    }
}

impl Metrics {
    /// Counts a round of the relay that published so many messages.
    pub(crate) fn relayed(&self, published: usize) {
        self.published.inc_by(published as u64);
    }

    /// Counts a round of the relay that failed.
    pub(crate) fn relay_failed(&self) {
        self.failed.inc();
    }

    /// Everything as OpenMetrics text, with what PostgreSQL and Redis hold at this moment.
    pub(crate) async fn text(&self, state: &State) -> String {
        let now = look(state).await;
        let mut text = String::new();
        // writing to a String cannot fail
        let _ = encode_registry(&mut text, &self.registry);
        let _ = encode_registry(&mut text, &now);
        let _ = encode_eof(&mut text);
        text
    }
}

/// What lies elsewhere.
async fn look(state: &State) -> Registry {
    let (queues, backlog) = tokio::join!(
        tokio::time::timeout(LOOK, state.queues.list()),
        tokio::time::timeout(LOOK, state.storage.outbox_backlog())
    );
    let (queues, backlog) = (queues.ok().and_then(Result::ok), backlog.ok().and_then(Result::ok));
    let mut registry = Registry::default();
    let up = Family::<Labels<1>, Gauge>::default();
    for (name, is_up) in [("redis", queues.is_some()), ("postgresql", backlog.is_some())] {
        up.get_or_create(&Labels([("dependency", name.into())])).set(i64::from(is_up));
    }
    registry.register("petiole_dependency_up", "Whether it answers", up);
    if let Some(queues) = queues {
        let (lengths, unacked) = (Family::<Labels<2>, Gauge>::default(), Family::<Labels<1>, Gauge>::default());
        for queue in queues {
            for (step, length) in queue.priorities {
                let labels = Labels([("queue", queue.name.clone()), ("priority", step.to_string())]);
                lengths.get_or_create(&labels).set(i64::try_from(length).unwrap_or(i64::MAX));
            }
            let held = i64::try_from(queue.unacked).unwrap_or(i64::MAX);
            unacked.get_or_create(&Labels([("queue", queue.name)])).set(held);
        }
        registry.register("petiole_queue_length", "Messages that wait, by queue and priority step", lengths);
        registry.register("petiole_queue_unacked", "Messages that workers hold, by queue", unacked);
    }
    if let Some(backlog) = backlog {
        let (waiting, oldest) = (Gauge::<i64>::default(), Float::default());
        waiting.set(backlog.messages);
        oldest.set(backlog.oldest.as_secs_f64());
        registry.register("petiole_outbox_messages", "Messages that wait to be published", waiting);
        let help = "Age of the oldest message that waits to be published";
        registry.register_with_unit("petiole_outbox_oldest", help, Unit::Seconds, oldest);
    }
    let pool = state.storage.pool();
    let connections = Family::<Labels<1>, Gauge>::default();
    for (name, count) in [("used", pool.used), ("idle", pool.idle), ("limit", pool.limit)] {
        connections.get_or_create(&Labels([("state", name.into())])).set(i64::from(count));
    }
    registry.register("petiole_database_connections", "Connections to PostgreSQL", connections);
    if let Some(bytes) = resident_memory() {
        let memory = Gauge::<i64>::default();
        memory.set(bytes);
        registry.register_with_unit("process_resident_memory", "Memory in use", Unit::Bytes, memory);
    }
    registry
}

/// Counts every request. Goes outside of what gives errors their form.
pub(crate) struct Measure {
    pub(crate) metrics: Metrics,
    pub(crate) methods: Methods,
}

impl<E: Endpoint<Output = Response>> Middleware<E> for Measure {
    type Output = Measured<E>;

    fn transform(&self, endpoint: E) -> Self::Output {
        Measured { endpoint, metrics: self.metrics.clone(), methods: self.methods.clone() }
    }
}

/// An endpoint whose requests are counted.
pub struct Measured<E> {
    endpoint: E,
    metrics: Metrics,
    methods: Methods,
}

impl<E: Endpoint<Output = Response>> Endpoint for Measured<E> {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        let route = self.methods.route(request.uri().path()).unwrap_or("unmatched").to_owned();
        let mut flight = Flight::begin(&self.metrics, method(request.method()), route);
        let answer = self.endpoint.call(request).await;
        flight.status = match &answer {
            Ok(response) => response.status().as_u16(),
            Err(error) => error.status().as_u16(),
        };
        answer
    }
}

/// A request under way; counted when it ends, however that may be.
struct Flight<'a> {
    metrics: &'a Metrics,
    method: &'static str,
    route: String,
    begun: Instant,
    status: u16,
}

impl<'a> Flight<'a> {
    fn begin(metrics: &'a Metrics, method: &'static str, route: String) -> Self {
        metrics.in_flight.inc();
        Self { metrics, method, route, begun: Instant::now(), status: GONE }
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let metrics = self.metrics;
        metrics.in_flight.dec();
        let route = ("route", std::mem::take(&mut self.route));
        let method = ("method", self.method.to_owned());
        metrics
            .durations
            .get_or_create(&Labels([route.clone(), method.clone()]))
            .observe(self.begun.elapsed().as_secs_f64());
        metrics.requests.get_or_create(&Labels([route, method, ("status", self.status.to_string())])).inc();
    }
}

/// Clients may invent methods; labels may not grow by that.
fn method(method: &Method) -> &'static str {
    const KNOWN: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or("other")
}
