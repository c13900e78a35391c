//! Commands that only look (celery.worker.control: inspect_command).

use std::sync::Arc;

use petiole_protocol::{Map, repr, time};
use serde_json::{Value, json};

use super::{CELERY_VERSION, Refusal, required, texts};
use crate::request::Phase;
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
pub(super) fn scheduled(worker: &Worker) -> Value {
    let scheduled = worker.state.requests(|request| request.phase() == Phase::Scheduled);
    let row = |request: &Arc<crate::request::Request>| {
        let eta = request.eta.map(time::format);
        json!({"eta": eta, "priority": 6, "request": request.info(&worker.node, false)})
    };
    scheduled.iter().map(row).collect()
}

/// Where tasks stand that are asked for by their ids.
pub(super) fn query_task(worker: &Worker, arguments: &Map) -> Result<Value, Refusal> {
    let ids = texts(required(arguments, "ids", "query_task")?);
    let found = worker.state.requests(|request| ids.iter().any(|id| id == request.id()));
    let row = |request: &Arc<crate::request::Request>| {
        let state = match request.phase() {
            Phase::Active(_) => "active",
            Phase::Reserved => "reserved",
            Phase::Scheduled => "scheduled",
        };
        (request.id().to_owned(), json!([state, request.info(&worker.node, false)]))
    };
    Ok(Value::Object(found.iter().map(row).collect()))
}

/// The names of the tasks that are known, each with the attributes asked for.
pub(super) fn registered(worker: &Worker, arguments: &Map) -> Value {
    let items = match arguments.get("taskinfoitems") {
        Some(Value::Array(_)) => texts(&arguments["taskinfoitems"]),
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
                    "default_retry_delay" => json!(options.default_retry_delay.unwrap_or(180.0)),
                    "time_limit" => json!(worker.time_limits(task.as_ref()).hard?),
                    "soft_time_limit" => json!(worker.time_limits(task.as_ref()).soft?),
                    "queue" => json!(options.queue.as_ref()?),
                    "priority" => json!(options.priority?),
                    "expires" => json!(options.expires?),
                    "rate_limit" => json!(worker.rate_limits.get(name)?),
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
                worker.config.soft_time_limit.map_or(0.0, |limit| limit.as_secs_f64()),
                worker.config.time_limit.map_or(0.0, |limit| limit.as_secs_f64()),
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
    let (scheme, rest) = url.split_once("://").unwrap_or(("redis", url));
    let (address, path) = rest.split_once('/').unwrap_or((rest, "0"));
    let (login, host) = address.rsplit_once('@').unwrap_or(("", address));
    let (hostname, port) = host.rsplit_once(':').unwrap_or((host, "6379"));
    let user = login.split(':').next().filter(|user| !user.is_empty());
    json!({
        "hostname": hostname, "userid": user, "virtual_host": path.split('?').next().filter(|db| !db.is_empty()).unwrap_or("0"),
        "port": port.parse::<u16>().unwrap_or(6379), "insist": false, "ssl": scheme == "rediss", "transport": "redis",
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

/// Resident memory now.
pub(super) fn memsample() -> Value {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    match resident.and_then(|text| text.split_whitespace().next()).and_then(|number| number.parse::<f64>().ok()) {
        Some(kib) => format!("{:.2}MB", kib / 1024.0).into(),
        None => Value::Null,
    }
}

/// What the process uses, as the system tells it.
pub(super) fn memdump() -> Value {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let lines = status.lines().filter(|line| line.starts_with("Vm") || line.starts_with("Rss"));
    lines.collect::<Vec<_>>().join("\n").into()
}

/// The settings, by Celery's names. There are no secrets among them: URLs lose their passwords.
pub(super) fn conf(worker: &Worker) -> Value {
    let config = &worker.config;
    let seconds = |limit: Option<std::time::Duration>| limit.map(|limit| limit.as_secs_f64());
    json!({
        "broker_url": petiole_redis::redacted(worker.connector.url()),
        "result_backend": petiole_redis::redacted(worker.client.backend().url()),
        "broker_heartbeat": 0,
        "deprecated_settings": null,
        "include": [],
        "accept_content": config.accept_content,
        "task_default_queue": config.default_queue,
        "task_acks_late": config.acks_late,
        "task_acks_on_failure_or_timeout": config.acks_on_failure_or_timeout,
        "task_ignore_result": config.ignore_result,
        "task_store_errors_even_if_ignored": config.store_errors_even_if_ignored,
        "task_track_started": config.track_started,
        "task_time_limit": seconds(config.time_limit),
        "task_soft_time_limit": seconds(config.soft_time_limit),
        "result_expires": config.result_expires.as_secs(),
        "result_extended": config.result_extended,
        "worker_concurrency": worker.pool.limit(),
        "worker_prefetch_multiplier": config.prefetch_multiplier,
        "worker_send_task_events": config.send_task_events,
        "worker_pool_restarts": config.pool_restarts,
        "worker_hijack_root_logger": false,
        "worker_log_color": std::io::IsTerminal::is_terminal(&std::io::stderr()),
        "worker_soft_shutdown_timeout": config.soft_shutdown_timeout.as_secs_f64(),
        "broker_transport_options": {
            "visibility_timeout": config.visibility_timeout.as_secs(), "global_keyprefix": config.global_keyprefix,
        },
        "timezone": "UTC",
        "enable_utc": true,
    })
}

/// A few lines for a bug report.
pub(super) fn report(worker: &Worker) -> Value {
    let config = worker.config.clone();
    super::ok(format!(
        "\nsoftware -> petiole:{} celery protocol:{CELERY_VERSION}\nplatform -> system:{} arch:{}\n\
         settings -> transport:redis results:redis\n\nbroker_url: '{}'\ntask_acks_late: {}\nworker_concurrency: {}\n\
         worker_prefetch_multiplier: {}\n",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH,
        petiole_redis::redacted(worker.connector.url()),
        plain(&config.acks_late.into()),
        worker.pool.limit(),
        config.prefetch_multiplier,
    ))
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
