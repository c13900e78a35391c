//! The command `conf`: the settings, by Celery's names.

use petiole_protocol::Map;
use petiole_protocol::serializer::from_json;
use serde_json::{Value, json};

use crate::worker::Worker;

/// Every setting of Celery 5.7 with its default, as Celery's own reply to `conf` shows it. Made by `tests/e2e/parity.py`.
const DEFAULTS: &str = include_str!("conf_defaults.json");

/// The settings of this worker; with `with_defaults` all that Celery knows. There are no secrets among them: URLs lose
/// their passwords.
pub(super) fn conf(worker: &Worker, arguments: &Map) -> Value {
    let all = match arguments.get("with_defaults") {
        Some(Value::Bool(all)) => *all,
        Some(Value::String(text)) => matches!(text.to_lowercase().as_str(), "1" | "true" | "yes" | "on"),
        Some(Value::Number(number)) => number.as_f64() != Some(0.0),
        _ => false,
    };
    let mut table = if all { defaults() } else { Map::new() };
    if let Value::Object(own) = settings(worker) {
        table.extend(own);
    }
    Value::Object(table)
}

fn defaults() -> Map {
    match from_json(DEFAULTS.as_bytes()) {
        Ok(Value::Object(defaults)) => defaults,
        _ => Map::new(),
    }
}

/// The settings that this worker has.
pub(super) fn settings(worker: &Worker) -> Value {
    let config = &worker.config;
    let seconds = |limit: Option<std::time::Duration>| limit.map(|limit| limit.as_secs_f64());
    let compression = |compression: Option<petiole_client::Compression>| compression.map(|one| one.name());
    // In two parts: one would be too long for the macro.
    let mut all = json!({
        "broker_url": petiole_redis::redacted(worker.connector.url()),
        "broker_read_url": petiole_redis::redacted(worker.connector.url()),
        "broker_write_url": petiole_redis::redacted(worker.connector.url()),
        "result_backend": petiole_redis::redacted(worker.client.backend().url()),
        "broker_heartbeat": 0,
        "deprecated_settings": null,
        "include": [],
        "accept_content": config.accept_content,
        "task_serializer": config.task_serializer.name(),
        "task_compression": compression(config.task_compression),
        "result_serializer": config.result_format.serializer.name(),
        "result_compression": compression(config.result_format.compression),
        "task_send_sent_event": config.send_sent_event,
        "task_default_queue": config.default_queue,
        "task_default_rate_limit": config.default_rate_limit,
        "task_acks_late": config.acks_late,
        "task_acks_on_failure_or_timeout": config.acks_on_failure_or_timeout,
        "task_acks_on_failure": config.acks_on_failure,
        "task_acks_on_timeout": config.acks_on_timeout,
        "task_default_priority": config.default_priority,
        "result_failure_expires": seconds(config.failure_expires),
        "result_chord_expires": config.chord_expires.as_secs(),
        "task_ignore_result": config.ignore_result,
        "task_store_errors_even_if_ignored": config.store_errors_even_if_ignored,
        "task_reject_on_worker_lost": config.reject_on_worker_lost,
        "task_track_started": config.track_started,
        "task_time_limit": seconds(config.time_limit),
        "task_soft_time_limit": seconds(config.soft_time_limit),
        "result_expires": config.result_expires.as_secs(),
        "result_extended": config.result_extended,
    });
    let own = json!({
        "worker_concurrency": worker.pool.limit(),
        "worker_prefetch_multiplier": config.prefetch_multiplier,
        "worker_eta_task_limit": config.eta_task_limit,
        "worker_disable_prefetch": config.disable_prefetch,
        "worker_send_task_events": config.send_task_events,
        "worker_pool_restarts": config.pool_restarts,
        "worker_hijack_root_logger": false,
        "worker_log_color": std::io::IsTerminal::is_terminal(&std::io::stderr()),
        "worker_soft_shutdown_timeout": config.soft_shutdown_timeout.as_secs_f64(),
        "worker_enable_soft_shutdown_on_idle": config.soft_shutdown_on_idle,
        "worker_enable_remote_control": config.enable_remote_control,
        "worker_disable_rate_limits": config.disable_rate_limits,
        "worker_state_db": config.state_db,
        "broker_transport_options": {
            "visibility_timeout": config.visibility_timeout.as_secs(), "global_keyprefix": config.global_keyprefix,
        },
        "timezone": config.time_zone.name(),
        "enable_utc": config.enable_utc,
        "worker_deduplicate_successful_tasks": config.deduplicate,
        "worker_direct": config.direct,
        "task_inherit_parent_priority": config.inherit_parent_priority,
    });
    if let (Value::Object(all), Value::Object(own)) = (&mut all, own) {
        all.extend(own);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn celery_s_defaults_are_all_there() {
        let defaults = defaults();
        assert!(defaults.len() > 180, "{}", defaults.len());
        assert_eq!(defaults["worker_prefetch_multiplier"], 4);
        assert_eq!(defaults["result_backend_max_retries"].to_string(), "Infinity");
    }
}
