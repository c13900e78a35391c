//! Commands that only look (celery.worker.control: inspect_command).

use std::sync::Arc;

use petiole_protocol::message::number;
use petiole_protocol::{Map, repr, time};
use serde_json::{Value, json};
use tracing::warn;

use super::arguments::type_error;
use super::{CELERY_VERSION, Refusal, required, texts};
use crate::request::{Phase, Request};
use crate::worker::Worker;

/// What runs.
pub(super) fn active(worker: &Worker, arguments: &Map) -> Value {
    let safe = arguments.get("safe").and_then(Value::as_bool).unwrap_or(false);
    let active = worker.state.requests(|request| matches!(request.phase(), Phase::Active(_)));
    active.iter().map(|request| request.info(&worker.node, safe)).collect()
}

/// What waits for a slot.
pub(super) fn reserved(worker: &Worker) -> Value {
    let reserved = worker.state.requests(|request| request.phase() == Phase::Reserved);
    reserved.iter().map(|request| request.info(&worker.node, false)).collect()
}

/// What waits for its eta.
pub(super) async fn scheduled(worker: &Worker) -> Value {
    let scheduled = worker.state.requests(|request| request.phase() == Phase::Scheduled);
    let row = |request: &Request| {
        let eta = request.eta.map(time::format);
        let mut row = json!({"eta": eta, "priority": 6, "request": null});
        // json! cannot take what may hold Python's constants (`NaN`), and neither can it below.
        row["request"] = request.info(&worker.node, false);
        row
    };
    let elsewhere = crate::timer::shown(worker).await.unwrap_or_else(|error| unseen(&error));
    scheduled.iter().map(|request| row(request)).chain(elsewhere.iter().map(row)).collect()
}

/// Without Redis what waits there is not shown.
fn unseen(error: &petiole_redis::RedisError) -> Vec<Request> {
    warn!(%error, "tasks that wait on Redis cannot be shown");
    vec![]
}

/// Where tasks stand that are asked for by their ids.
pub(super) async fn query_task(worker: &Worker, arguments: &Map) -> Result<Value, Refusal> {
    let ids = match required(arguments, "ids", "query_task")? {
        Value::Null => return Err(type_error("'NoneType' object is not iterable")),
        ids => texts(ids),
    };
    let found = worker.state.requests(|request| ids.iter().any(|id| id == request.id()));
    let row = |request: &Request| {
        let state = match request.phase() {
            Phase::Active(_) | Phase::Ended => "active",
            Phase::Reserved => "reserved",
            Phase::Scheduled => "scheduled",
        };
        (request.id().to_owned(), Value::Array(vec![state.into(), request.info(&worker.node, false)]))
    };
    let elsewhere = crate::timer::shown_of(worker, &ids).await.unwrap_or_else(|error| unseen(&error));
    Ok(Value::Object(elsewhere.iter().map(row).chain(found.iter().map(|request| row(request))).collect()))
}

/// The names of the tasks that are known, each with the attributes asked for.
pub(super) fn registered(worker: &Worker, arguments: &Map) -> Value {
    let items = match arguments.get("taskinfoitems") {
        Some(Value::Array(items)) if !items.is_empty() => texts(&arguments["taskinfoitems"]),
        // Python takes a text for the list of its letters.
        Some(Value::String(text)) if !text.is_empty() => text.chars().map(String::from).collect(),
        _ => ["exchange", "routing_key", "rate_limit"].map(str::to_owned).to_vec(),
    };
    let builtins = arguments.get("builtins").and_then(Value::as_bool).unwrap_or(false);
    let shown = worker.tasks.iter().filter(|(name, _)| builtins || !name.starts_with("celery."));
    let entry = |(name, task): (&String, &Arc<dyn crate::task::Task>)| {
        let options = task.options();
        let attributes: Vec<String> = items
            .iter()
            .filter_map(|item| {
                let value = match item.as_str() {
                    "acks_late" => json!(options.acks_late.unwrap_or(worker.config.acks_late)),
                    "ignore_result" => json!(options.ignore_result.unwrap_or(worker.config.ignore_result)),
                    "track_started" => json!(options.track_started.unwrap_or(worker.config.track_started)),
                    "max_retries" => json!(options.max_retries.unwrap_or(Some(3))),
                    "default_retry_delay" => number(options.default_retry_delay.unwrap_or(180.0)),
                    "time_limit" => number(worker.time_limits(task.as_ref()).hard?),
                    "soft_time_limit" => number(worker.time_limits(task.as_ref()).soft?),
                    "queue" => json!(options.queue.as_ref()?),
                    "priority" => json!(options.priority?),
                    "expires" => json!(options.expires?),
                    "rate_limit" => json!(worker.rate_limits.get(name).or(options.rate_limit.clone())?),
                    "name" => json!(name),
                    _ => return None,
                };
                (!value.is_null()).then(|| format!("{item}={}", plain(&value)))
            })
            .collect();
        if attributes.is_empty() { name.clone() } else { format!("{name} [{}]", attributes.join(" ")) }
    };
    shown.map(entry).collect()
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| repr::value(value), str::to_owned)
}

/// Figures of the worker.
pub(super) fn stats(worker: &Worker) -> Value {
    let slots = worker.pool.limit();
    let mut stats = json!({
        "total": worker.state.totals(),
        "pid": std::process::id(),
        "clock": worker.clock.value().to_string(),
        "uptime": worker.started.elapsed().as_secs(),
        "pool": {
            "implementation": "petiole_engine:Pool",
            "max-concurrency": slots,
            "processes": [std::process::id()],
            "max-tasks-per-child": "N/A",
            "put-guarded-by-semaphore": false,
            "timeouts": [
                number(worker.config.soft_time_limit.map_or(0.0, |limit| limit.as_secs_f64())),
                number(worker.config.time_limit.map_or(0.0, |limit| limit.as_secs_f64())),
            ],
            "running": worker.pool.running(),
        },
        "broker": broker(worker.connector.url()),
        "prefetch_count": worker.qos.prefetch_count(),
        "rusage": rusage(),
    });
    if let Some(autoscale) = &worker.autoscale {
        stats["autoscaler"] = autoscale.info(worker);
    }
    stats
}

/// The connection as kombu's `Connection.info()` tells it, without its password.
fn broker(url: &str) -> Value {
    // Of several Sentinels the first.
    let url = url.split(';').next().unwrap_or(url);
    let (scheme, rest) = url.split_once("://").unwrap_or(("redis", url));
    let (address, path) = rest.split_once('/').unwrap_or((rest, "0"));
    let (login, host) = address.rsplit_once('@').unwrap_or(("", address));
    let (hostname, port) = host.rsplit_once(':').unwrap_or((host, "6379"));
    let user = login.split(':').next().filter(|user| !user.is_empty());
    json!({
        "hostname": hostname, "userid": user, "virtual_host": path.split('?').next().filter(|db| !db.is_empty()).unwrap_or("0"),
        "port": port.parse::<u16>().unwrap_or(6379), "insist": false, "ssl": scheme == "rediss", "transport": if scheme == "sentinel" { scheme } else { "redis" },
        "connect_timeout": 4, "transport_options": {}, "login_method": null, "uri_prefix": null, "heartbeat": 120.0,
        "failover_strategy": "round-robin", "alternates": [], "credential_provider": null,
    })
}

/// All sixteen fields of getrusage(2), of which Linux keeps ten.
fn rusage() -> Value {
    // Read from /proc rather than by a call that would need unsafe code.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<f64> = stat
        .rsplit_once(") ")
        .map(|(_, rest)| rest.split_whitespace().map(|field| field.parse().unwrap_or(0.0)).collect())
        .unwrap_or_default();
    let field = |at: usize| fields.get(at).copied().unwrap_or(0.0);
    // Clock ticks are a hundredth of a second on every Linux that is in use.
    let (utime, stime) = (field(11) / 100.0, field(12) / 100.0);
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = |name: &str| {
        let text = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        text.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0)
    };
    json!({
        "utime": utime, "stime": stime, "maxrss": line("VmHWM:"), "ixrss": 0, "idrss": 0, "isrss": 0,
        "minflt": field(7) as u64, "majflt": field(9) as u64, "nswap": 0, "inblock": 0, "oublock": 0, "msgsnd": 0,
        "msgrcv": 0, "nsignals": 0, "nvcsw": line("voluntary_ctxt_switches:"), "nivcsw": line("nonvoluntary_ctxt_switches:"),
    })
}

/// What belongs in a bug report (celery.app.utils: bugreport).
pub(super) fn report(worker: &Worker) -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let mut text = format!(
        "\nsoftware -> celery:{CELERY_VERSION} (petiole {}) kombu:{CELERY_VERSION} rust:{}\n\
         platform -> system:{} arch:{}\n            kernel version:{} imp:Rust\n\
         loader   -> petiole_engine.App\nsettings -> transport:redis results:{}\n\n",
        env!("CARGO_PKG_VERSION"),
        env!("CARGO_PKG_RUST_VERSION"),
        read("/proc/sys/kernel/ostype"),
        std::env::consts::ARCH,
        read("/proc/sys/kernel/osrelease"),
        petiole_redis::redacted(worker.client.backend().url()),
    );
    if let Value::Object(settings) = super::conf::settings(worker) {
        settings.iter().for_each(|(name, value)| text.push_str(&format!("{name}: {}\n", repr::value(value))));
    }
    super::ok(text)
}

/// Another worker starts: revoked ids and clocks are exchanged.
pub(super) fn hello(worker: &Worker, arguments: &Map) -> Result<Value, Refusal> {
    let from = required(arguments, "from_node", "hello")?;
    if from.as_str() == Some(&worker.node) {
        return Ok(Value::Null);
    }
    worker.state.revoke(arguments.get("revoked").map(texts).unwrap_or_default());
    Ok(json!({"revoked": worker.state.revoked(), "clock": worker.clock.forward()}))
}
