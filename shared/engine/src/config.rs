//! The worker's settings, by Celery's names in upper case, also with the prefix `CELERY_` (celery.app.defaults).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use petiole_client::{ClientConfig, Routes};
use petiole_protocol::compression::Compression;
use petiole_protocol::serializer::{ACCEPTABLE, ResultFormat, Serializer};
use petiole_protocol::time_zone::Zone;
use petiole_settings::Reader;

/// What a worker is told by its environment; flags of the command line come on top.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// `WORKER_NAME`, `-n`: the node name, with `%h`, `%n`, `%d`.
    pub name: Option<String>,
    /// `WORKER_QUEUES`, `-Q`: the queues to consume; empty: the default queue.
    pub queues: Vec<String>,
    /// `TASK_ROUTES`: which queue a task goes to by its name.
    pub routes: Routes,
    /// `TASK_DEFAULT_QUEUE`.
    pub default_queue: String,
    /// `WORKER_CONCURRENCY`, `-c`: how many tasks run at once; 0: as many as there are cores.
    pub concurrency: usize,
    /// `WORKER_AUTOSCALE`, `--autoscale`: the most and the fewest slots, `max,min`.
    pub autoscale: Option<(usize, usize)>,
    /// `WORKER_POOL_RESTARTS`: is the command `pool_restart` answered?
    pub pool_restarts: bool,
    /// `WORKER_PREFETCH_MULTIPLIER`: 0 is without limit.
    pub prefetch_multiplier: usize,
    /// `WORKER_ETA_TASK_LIMIT`: how many tasks with an eta a worker holds at most; further ones wait on Redis. None: 1,000. Celery
    /// holds all of them, and with a limit fetches nothing more.
    pub eta_task_limit: Option<usize>,
    /// `WORKER_DISABLE_PREFETCH`, `--disable-prefetch`: fetch one message a slot beside what runs. Celery fetches none.
    pub disable_prefetch: bool,
    /// `WORKER_LOOKAHEAD`: how many messages are fetched at once at most, beyond the prefetch count, while all tasks end at
    /// once; 0: none. Petiole's own.
    pub lookahead: usize,
    /// `WORKER_SEND_TASK_EVENTS` (also `WORKER_SEND_EVENTS`), `-E`.
    pub send_task_events: bool,
    /// `TASK_ACKS_LATE`.
    pub acks_late: bool,
    /// `TASK_ACKS_CONFIRMED`: with early acknowledgement a task begins when Redis has confirmed it, instead of when it was
    /// sent. Petiole's own.
    pub acks_confirmed: bool,
    /// `TASK_MAX_REDELIVERIES`: a message that was begun so often again, and took its worker with it each time, becomes a
    /// dead letter. 0 is without limit. Petiole's own.
    pub max_redeliveries: u64,
    /// `TASK_ACKS_ON_FAILURE`; none: as the next but one says.
    pub acks_on_failure: Option<bool>,
    /// `TASK_ACKS_ON_TIMEOUT`; none: as the next one says.
    pub acks_on_timeout: Option<bool>,
    /// `TASK_ACKS_ON_FAILURE_OR_TIMEOUT`.
    pub acks_on_failure_or_timeout: bool,
    /// `TASK_REJECT_ON_WORKER_LOST`: an isolated task whose process is lost goes back to its queue, with late acks.
    pub reject_on_worker_lost: bool,
    /// `TASK_TRACK_STARTED`.
    pub track_started: bool,
    /// `TASK_IGNORE_RESULT`.
    pub ignore_result: bool,
    /// `TASK_STORE_ERRORS_EVEN_IF_IGNORED`.
    pub store_errors_even_if_ignored: bool,
    /// `TASK_TIME_LIMIT`, `--time-limit`.
    pub time_limit: Option<Duration>,
    /// `TASK_SOFT_TIME_LIMIT`, `--soft-time-limit`.
    pub soft_time_limit: Option<Duration>,
    /// `RESULT_EXPIRES`: zero is for ever.
    pub result_expires: Duration,
    /// `RESULT_FAILURE_EXPIRES`: of failures; none: as other results.
    pub failure_expires: Option<Duration>,
    /// `RESULT_CHORD_EXPIRES`: of the counts and parts of chords.
    pub chord_expires: Duration,
    /// `TIMEZONE`; without it UTC, or the system's with `ENABLE_UTC=0`. Times without an offset are of it.
    pub time_zone: Zone,
    /// `ENABLE_UTC`.
    pub enable_utc: bool,
    /// `WORKER_DIRECT`: also consume a queue of this worker's own, `<node name>.dq2`.
    pub direct: bool,
    /// `TASK_INHERIT_PARENT_PRIORITY`: what a task sends has the priority of its own message, unless it or the task it calls
    /// says otherwise.
    pub inherit_parent_priority: bool,
    /// `WORKER_DEDUPLICATE_SUCCESSFUL_TASKS`: a late acknowledged message that comes again does not run when its SUCCESS is
    /// stored.
    pub deduplicate: bool,
    /// `TASK_DEFAULT_PRIORITY`: of calls whose task declares none.
    pub default_priority: Option<i64>,
    /// `RESULT_EXTENDED`.
    pub result_extended: bool,
    /// `ACCEPT_CONTENT`: any of json, yaml, msgpack, pickle (plain data only), or their content types.
    pub accept_content: Vec<String>,
    /// `TASK_SERIALIZER`: how messages and replies are written.
    pub task_serializer: Serializer,
    /// `TASK_COMPRESSION`.
    pub task_compression: Option<Compression>,
    /// `RESULT_SERIALIZER` and `RESULT_COMPRESSION`.
    pub result_format: ResultFormat,
    /// `TASK_SEND_SENT_EVENT`.
    pub send_sent_event: bool,
    /// `VISIBILITY_TIMEOUT`, the transport option: after this an unacknowledged message is taken for forgotten.
    pub visibility_timeout: Duration,
    /// `WORKER_SOFT_SHUTDOWN_TIMEOUT`: how long a cold shutdown waits for running tasks.
    pub soft_shutdown_timeout: Duration,
    /// `BROKER_GLOBAL_KEYPREFIX`, the transport option.
    pub global_keyprefix: String,
    /// `WORKER_STATE_DB`, `--statedb`: a file for the revoked ids, which then survive a restart.
    pub state_db: Option<PathBuf>,
    /// `WORKER_ENABLE_REMOTE_CONTROL`.
    pub enable_remote_control: bool,
    /// `WORKER_DISABLE_RATE_LIMITS`.
    pub disable_rate_limits: bool,
    /// `TASK_DEFAULT_RATE_LIMIT`: of tasks that declare none.
    pub default_rate_limit: Option<String>,
    /// `WORKER_ENABLE_SOFT_SHUTDOWN_ON_IDLE`: does a soft shutdown wait also when nothing runs?
    pub soft_shutdown_on_idle: bool,
    /// `WORKER_HEARTBEAT_INTERVAL`, `--heartbeat-interval`: between the worker's heartbeats.
    pub heartbeat_interval: Duration,
    /// `WORKER_METRICS_ADDRESS`: where Prometheus may ask for figures; none: nowhere. Petiole's own.
    pub metrics_address: Option<SocketAddr>,
    /// `--pidfile`: a file for the process id.
    pub pidfile: Option<PathBuf>,
    /// `--purge`: empty the queues before the start.
    pub purge: bool,
    /// `--without-gossip`.
    pub without_gossip: bool,
    /// `--without-mingle`.
    pub without_mingle: bool,
    /// `--without-heartbeat`.
    pub without_heartbeat: bool,
}

impl WorkerConfig {
    /// Reads the settings; problems are the reader's.
    pub fn read(reader: &mut Reader) -> Self {
        let names = |name: &str| [name.to_owned(), format!("CELERY_{name}")];
        macro_rules! with {
            ($method:ident, $name:literal $(, $argument:expr)*) => {{
                let names = names($name);
                reader.$method(&[&names[0], &names[1]] $(, $argument)*)
            }};
        }
        let limit = |limit: Duration| (!limit.is_zero()).then_some(limit);
        let autoscale = with!(text, "WORKER_AUTOSCALE").and_then(|(name, text)| {
            let range = parse_autoscale(&text);
            if range.is_none() {
                reader.problem(&name, Some(&text), AUTOSCALE);
            }
            range
        });
        let events = with!(boolean, "WORKER_SEND_EVENTS", false);
        let set = |reader: &mut Reader, name: &str| reader.text(&[name, &format!("CELERY_{name}")]).is_some();
        let sent = ClientConfig::read(reader, "", "");
        Self {
            name: with!(text, "WORKER_NAME").map(|(_, name)| name),
            queues: with!(list, "WORKER_QUEUES").unwrap_or_default(),
            routes: sent.routes,
            default_queue: sent.default_queue,
            concurrency: with!(number, "WORKER_CONCURRENCY", 0, 0..=100_000),
            autoscale,
            pool_restarts: with!(boolean, "WORKER_POOL_RESTARTS", false),
            prefetch_multiplier: with!(number, "WORKER_PREFETCH_MULTIPLIER", 4, 0..=1_000_000),
            eta_task_limit: set(reader, "WORKER_ETA_TASK_LIMIT")
                .then(|| with!(number, "WORKER_ETA_TASK_LIMIT", 0, 0..=1_000_000)),
            disable_prefetch: with!(boolean, "WORKER_DISABLE_PREFETCH", false),
            lookahead: with!(number, "WORKER_LOOKAHEAD", 32, 0..=200),
            send_task_events: with!(boolean, "WORKER_SEND_TASK_EVENTS", events),
            acks_late: with!(boolean, "TASK_ACKS_LATE", false),
            acks_confirmed: with!(boolean, "TASK_ACKS_CONFIRMED", false),
            max_redeliveries: with!(number, "TASK_MAX_REDELIVERIES", 3, 0..=1_000_000),
            acks_on_failure: set(reader, "TASK_ACKS_ON_FAILURE").then(|| with!(boolean, "TASK_ACKS_ON_FAILURE", true)),
            acks_on_timeout: set(reader, "TASK_ACKS_ON_TIMEOUT").then(|| with!(boolean, "TASK_ACKS_ON_TIMEOUT", true)),
            acks_on_failure_or_timeout: with!(boolean, "TASK_ACKS_ON_FAILURE_OR_TIMEOUT", true),
            reject_on_worker_lost: with!(boolean, "TASK_REJECT_ON_WORKER_LOST", false),
            track_started: with!(boolean, "TASK_TRACK_STARTED", false),
            ignore_result: with!(boolean, "TASK_IGNORE_RESULT", false),
            store_errors_even_if_ignored: with!(boolean, "TASK_STORE_ERRORS_EVEN_IF_IGNORED", false),
            time_limit: limit(with!(seconds, "TASK_TIME_LIMIT", Duration::ZERO)),
            soft_time_limit: limit(with!(seconds, "TASK_SOFT_TIME_LIMIT", Duration::ZERO)),
            result_expires: sent.result_expires,
            failure_expires: set(reader, "RESULT_FAILURE_EXPIRES")
                .then(|| with!(seconds, "RESULT_FAILURE_EXPIRES", Duration::ZERO)),
            chord_expires: sent.chord_expires,
            default_priority: set(reader, "TASK_DEFAULT_PRIORITY")
                .then(|| with!(number, "TASK_DEFAULT_PRIORITY", 0, 0..=255)),
            time_zone: petiole_settings::time_zone(reader),
            enable_utc: with!(boolean, "ENABLE_UTC", true),
            direct: with!(boolean, "WORKER_DIRECT", false),
            inherit_parent_priority: with!(boolean, "TASK_INHERIT_PARENT_PRIORITY", false),
            deduplicate: with!(boolean, "WORKER_DEDUPLICATE_SUCCESSFUL_TASKS", false),
            result_extended: with!(boolean, "RESULT_EXTENDED", false),
            accept_content: accepted(reader, &names("ACCEPT_CONTENT")),
            task_serializer: sent.serializer,
            task_compression: sent.compression,
            result_format: sent.result_format,
            send_sent_event: sent.send_sent_event,
            visibility_timeout: with!(seconds, "VISIBILITY_TIMEOUT", Duration::from_secs(3600))
                .max(Duration::from_secs(1)),
            soft_shutdown_timeout: with!(seconds, "WORKER_SOFT_SHUTDOWN_TIMEOUT", Duration::ZERO),
            global_keyprefix: sent.global_keyprefix,
            state_db: with!(text, "WORKER_STATE_DB").map(|(_, path)| path.into()),
            enable_remote_control: with!(boolean, "WORKER_ENABLE_REMOTE_CONTROL", true),
            disable_rate_limits: with!(boolean, "WORKER_DISABLE_RATE_LIMITS", false),
            default_rate_limit: with!(text, "TASK_DEFAULT_RATE_LIMIT").map(|(_, rate)| rate),
            soft_shutdown_on_idle: with!(boolean, "WORKER_ENABLE_SOFT_SHUTDOWN_ON_IDLE", false),
            heartbeat_interval: with!(seconds, "WORKER_HEARTBEAT_INTERVAL", Duration::from_secs(2))
                .max(Duration::from_millis(100)),
            metrics_address: with!(optional, "WORKER_METRICS_ADDRESS", "an address and a port, such as 0.0.0.0:9808"),
            pidfile: None,
            purge: false,
            without_gossip: false,
            without_mingle: false,
            without_heartbeat: false,
        }
    }

    /// How many tasks run at once.
    pub fn slots(&self) -> usize {
        match self.concurrency {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            n => n,
        }
    }

    /// How many messages are fetched ahead, per slot; 0: without limit.
    pub fn multiplier(&self) -> usize {
        if self.disable_prefetch { 1 } else { self.prefetch_multiplier }
    }

    /// The queues to consume.
    pub fn consumed_queues(&self) -> Vec<String> {
        let mut queues = if self.queues.is_empty() { vec![self.default_queue.clone()] } else { self.queues.clone() };
        if self.direct {
            queues.push(direct_queue(&self.node_name()));
        }
        queues
    }

    /// The node name: `celery@host`, or what `name` makes of it.
    pub fn node_name(&self) -> String {
        petiole_client::node_name(self.name.as_deref(), "celery")
    }
}

/// The queue of one worker's own (celery.utils.nodenames: worker_direct).
pub(crate) fn direct_queue(node: &str) -> String {
    format!("{node}.dq2")
}

/// The exchange to which such queues are bound, by their workers' names.
pub(crate) const DIRECT_EXCHANGE: &str = "C.dq2";

/// The content types that are accepted, by their names.
fn accepted(reader: &mut Reader, names: &[String; 2]) -> Vec<String> {
    let Some(listed) = reader.list(&[&names[0], &names[1]]) else { return vec!["json".into()] };
    for entry in &listed {
        if !ACCEPTABLE.iter().any(|(name, content_type)| name == entry || content_type == entry) {
            reader.problem(&names[0], Some(entry), "any of json, yaml, msgpack and pickle, separated by commas");
        }
    }
    listed
}

/// What an autoscale range looks like.
pub(crate) const AUTOSCALE: &str = "two numbers, max,min, with max at least min and min at least 1 (or max alone)";

/// Reads `max,min` or `max`.
pub(crate) fn parse_autoscale(text: &str) -> Option<(usize, usize)> {
    let (max, min) = match text.split_once(',') {
        Some((max, min)) => (max.trim().parse().ok()?, min.trim().parse::<usize>().ok()?.max(1)),
        None => (text.trim().parse().ok()?, 1),
    };
    (max >= min).then_some((max, min))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn celery_s_names_and_defaults() {
        let mut reader =
            Reader::from_map([("CELERY_TASK_ACKS_LATE", "1"), ("WORKER_CONCURRENCY", "7"), ("WORKER_NAME", "w1")]);
        let config = WorkerConfig::read(&mut reader);
        reader.finish().unwrap();
        assert!(config.acks_late && !config.track_started);
        assert_eq!((config.slots(), config.prefetch_multiplier), (7, 4));
        assert_eq!(config.consumed_queues(), ["celery"]);
        assert!(config.node_name().starts_with("w1@"));
        let direct = WorkerConfig { direct: true, ..config };
        assert_eq!(direct.consumed_queues(), ["celery".to_owned(), format!("{}.dq2", direct.node_name())]);
    }

    #[test]
    fn what_is_not_set_falls_back_to_the_wider_setting() {
        let read = |settings: &[(&str, &str)]| WorkerConfig::read(&mut Reader::from_map(settings.iter().copied()));
        let plain = read(&[("RESULT_EXPIRES", "60")]);
        assert_eq!((plain.acks_on_timeout, plain.failure_expires, plain.default_priority), (None, None, None));
        assert_eq!(plain.chord_expires, Duration::from_secs(60));
        let narrow = read(&[
            ("TASK_ACKS_ON_TIMEOUT", "0"),
            ("CELERY_TASK_ACKS_ON_FAILURE", "1"),
            ("RESULT_FAILURE_EXPIRES", "5"),
            ("RESULT_CHORD_EXPIRES", "7"),
            ("TASK_DEFAULT_PRIORITY", "3"),
            ("WORKER_ETA_TASK_LIMIT", "20"),
        ]);
        assert_eq!((plain.eta_task_limit, narrow.eta_task_limit), (None, Some(20)));
        assert_eq!((narrow.acks_on_timeout, narrow.acks_on_failure), (Some(false), Some(true)));
        assert_eq!(narrow.failure_expires, Some(Duration::from_secs(5)));
        assert_eq!((narrow.chord_expires, narrow.default_priority), (Duration::from_secs(7), Some(3)));
    }

    #[test]
    fn autoscale_ranges() {
        assert_eq!((parse_autoscale("10,3"), parse_autoscale("4")), (Some((10, 3)), Some((4, 1))));
        assert_eq!((parse_autoscale("3,10"), parse_autoscale("many")), (None, None));
    }

    #[test]
    fn a_bad_value_names_its_variable() {
        let mut reader = Reader::from_map([("WORKER_CONCURRENCY", "many")]);
        WorkerConfig::read(&mut reader);
        assert!(reader.finish().unwrap_err().to_string().contains("WORKER_CONCURRENCY"));
    }
}
