//! The command line of a worker: the flags of `celery worker` by their names (celery.bin.worker). Flags beat environment.

mod pidfile;
mod without_effect;

use clap::Args;
use petiole_settings::{Reader, Role, Settings, SettingsError, telemetry};
use secrecy::ExposeSecret;

use crate::app::{App, EngineError};
use crate::config::WorkerConfig;
pub(crate) use pidfile::Pidfile;
use without_effect::WithoutEffect;

/// Reads the settings, lays the flags over them and starts logging: what the `main` of a worker begins with.
///
/// # Errors
/// Every setting that cannot be used.
pub fn load(args: &WorkerArgs) -> Result<(Settings, WorkerConfig), SettingsError> {
    let mut reader = Reader::from_env();
    let mut settings = Settings::read(&mut reader, Role::Worker);
    let mut config = WorkerConfig::read(&mut reader);
    reader.finish()?;
    if let Some(level) = args.level() {
        settings.log.filter = level;
    }
    telemetry::init(&settings.log);
    args.apply(&mut config);
    if !crate::isolated::is_child() {
        args.without_effect.say();
    }
    if let Some(path) = &args.pidfile {
        config.pidfile = Some(path.clone());
    }
    Ok((settings, config))
}

/// Runs a worker until it is told to stop: what the `main` of a worker ends with.
///
/// # Errors
/// As [`App::run`].
pub async fn run(app: App, config: WorkerConfig, settings: &Settings) -> Result<(), EngineError> {
    let pidfile = config.pidfile.as_deref().filter(|_| !crate::isolated::is_child());
    let _pidfile = pidfile.map(Pidfile::write).transpose()?;
    app.run(config, settings.broker_url.expose_secret(), settings.result_backend.expose_secret()).await
}

/// Flags of a worker.
#[derive(Debug, Clone, Default, Args)]
pub struct WorkerArgs {
    /// Set custom hostname (`w1@%h`; %h: host, %n: its name, %d: its domain).
    #[arg(short = 'n', long = "hostname")]
    pub hostname: Option<String>,
    /// Queues to consume, comma separated.
    #[arg(short = 'Q', long = "queues", value_delimiter = ',')]
    pub queues: Vec<String>,
    /// Queues not to consume, comma separated.
    #[arg(short = 'X', long = "exclude-queues", value_delimiter = ',')]
    pub exclude_queues: Vec<String>,
    /// Empty the queues before the start.
    #[arg(long = "purge", visible_alias = "discard")]
    pub purge: bool,
    /// Number of tasks that run at once, or `auto`: as many as there are cores.
    #[arg(short = 'c', long = "concurrency", value_parser = concurrency)]
    pub concurrency: Option<usize>,
    /// Most and fewest slots, as the work needs them: `max,min`.
    #[arg(long = "autoscale", value_parser = autoscale_range)]
    pub autoscale: Option<(usize, usize)>,
    /// Messages fetched ahead, per slot; 0: no limit.
    #[arg(long = "prefetch-multiplier")]
    pub prefetch_multiplier: Option<usize>,
    /// Fetch a message only when a slot is free for it.
    #[arg(long = "disable-prefetch")]
    pub disable_prefetch: bool,
    /// Send task-related events that can be captured by monitors.
    #[arg(short = 'E', long = "task-events", visible_alias = "events")]
    pub task_events: bool,
    /// Log level (DEBUG, INFO, WARNING, ERROR, CRITICAL).
    #[arg(short = 'l', long = "loglevel")]
    pub loglevel: Option<String>,
    /// Hard time limit for tasks, seconds.
    #[arg(long = "time-limit")]
    pub time_limit: Option<f64>,
    /// Soft time limit for tasks, seconds.
    #[arg(long = "soft-time-limit")]
    pub soft_time_limit: Option<f64>,
    /// Do not listen to other workers.
    #[arg(long = "without-gossip")]
    pub without_gossip: bool,
    /// Do not synchronise with other workers at start.
    #[arg(long = "without-mingle")]
    pub without_mingle: bool,
    /// Do not send heartbeats.
    #[arg(long = "without-heartbeat")]
    pub without_heartbeat: bool,
    /// Seconds between heartbeats.
    #[arg(long = "heartbeat-interval")]
    pub heartbeat_interval: Option<f64>,
    /// A file for revoked ids, which then survive a restart.
    #[arg(short = 'S', long = "statedb", value_name = "PATH")]
    pub statedb: Option<std::path::PathBuf>,
    /// A file for the process id, removed at the end.
    #[arg(long = "pidfile", value_name = "PATH")]
    pub pidfile: Option<std::path::PathBuf>,
    #[command(flatten)]
    pub(crate) without_effect: WithoutEffect,
}

fn concurrency(text: &str) -> Result<usize, String> {
    match text {
        "auto" => Ok(0),
        number => number.parse().map_err(|_| "must be a whole number, or auto".to_owned()),
    }
}

fn autoscale_range(text: &str) -> Result<(usize, usize), String> {
    crate::config::parse_autoscale(text).ok_or_else(|| format!("must be {}", crate::config::AUTOSCALE))
}

impl WorkerArgs {
    /// Lays the flags over the settings.
    pub fn apply(&self, config: &mut WorkerConfig) {
        let seconds = |limit: f64| std::time::Duration::try_from_secs_f64(limit).ok().filter(|limit| !limit.is_zero());
        if self.hostname.is_some() {
            config.name.clone_from(&self.hostname);
        }
        if !self.queues.is_empty() {
            config.queues.clone_from(&self.queues);
        }
        config.concurrency = self.concurrency.unwrap_or(config.concurrency);
        config.autoscale = self.autoscale.or(config.autoscale);
        config.prefetch_multiplier = self.prefetch_multiplier.unwrap_or(config.prefetch_multiplier);
        config.disable_prefetch |= self.disable_prefetch;
        config.send_task_events |= self.task_events;
        config.time_limit = self.time_limit.map_or(config.time_limit, seconds);
        config.soft_time_limit = self.soft_time_limit.map_or(config.soft_time_limit, seconds);
        config.without_gossip |= self.without_gossip;
        config.without_mingle |= self.without_mingle;
        config.without_heartbeat |= self.without_heartbeat;
        config.purge |= self.purge;
        config.queues.retain(|queue| !self.exclude_queues.contains(queue));
        config.heartbeat_interval = self.heartbeat_interval.and_then(seconds).unwrap_or(config.heartbeat_interval);
        config.state_db = self.statedb.clone().or(config.state_db.take());
    }

    /// The level as `tracing` names it.
    pub fn level(&self) -> Option<String> {
        let level = self.loglevel.as_ref()?.to_ascii_lowercase();
        Some(match level.as_str() {
            "warning" => "warn".into(),
            "critical" | "fatal" => "error".into(),
            _ => level,
        })
    }
}
