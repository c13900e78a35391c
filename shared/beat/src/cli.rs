//! The command line of a beat: the flags of `celery beat` by their names (celery.bin.beat, celery.apps.beat).

use std::time::Duration;

use chrono::Local;
use clap::Args;
use petiole_settings::{Reader, SettingsError};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::config::BeatConfig;
use crate::interval::humanize_seconds;
use crate::service::Beat;

/// How long the end of an embedded beat is waited for.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// Beat's settings.
///
/// # Errors
/// Every setting that cannot be used.
pub fn config() -> Result<BeatConfig, SettingsError> {
    let mut reader = Reader::from_env();
    let config = BeatConfig::read(&mut reader);
    reader.finish().map(|()| config)
}

/// Flags of `beat`.
#[derive(Debug, Clone, Default, Args)]
pub struct BeatArgs {
    #[command(flatten)]
    schedule: ScheduleArgs,
    /// Taken for compatibility: there is one scheduler, for schedules from code, settings and database alike.
    #[arg(short = 'S', long = "scheduler", value_name = "CLASS", value_parser = scheduler)]
    scheduler: Option<String>,
    /// Max seconds to sleep between schedule iterations.
    #[arg(long = "max-interval", value_parser = clap::value_parser!(u64).range(1..))]
    pub max_interval: Option<u64>,
    /// Answer `celery inspect ping`, so that beat can be health-checked.
    #[arg(long = "enable-remote-control", overrides_with = "no_remote_control")]
    remote_control: bool,
    /// Do not answer `celery inspect ping`.
    #[arg(long = "no-enable-remote-control")]
    no_remote_control: bool,
    /// Node name to answer remote control commands on. Defaults to celerybeat@%h.
    #[arg(short = 'n', long = "hostname")]
    hostname: Option<String>,
    /// Log level (DEBUG, INFO, WARNING, ERROR, CRITICAL).
    #[arg(short = 'l', long = "loglevel")]
    pub loglevel: Option<String>,
}

/// Flags of a beat that runs inside of a worker.
#[derive(Debug, Clone, Default, Args)]
pub struct EmbeddedArgs {
    /// Also run the beat periodic task scheduler.
    #[arg(short = 'B', long = "beat")]
    pub beat: bool,
    #[command(flatten)]
    schedule: ScheduleArgs,
    /// Taken for compatibility: there is one scheduler.
    #[arg(long = "scheduler", value_name = "CLASS", value_parser = scheduler)]
    scheduler: Option<String>,
}

/// A beat that runs beside a worker.
pub struct Embedded {
    stop: oneshot::Sender<()>,
    run: JoinHandle<()>,
}

impl Embedded {
    /// Starts it. It ends by the signals that end a worker, too: no new tasks while the worker finishes its own.
    ///
    /// # Errors
    /// Signals cannot be listened to.
    pub fn start(beat: Beat) -> std::io::Result<Self> {
        let signalled = signalled()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let run = tokio::spawn(beat.run(async move {
            tokio::select! {
                () = signalled => {}
                _ = stopped => {}
            }
        }));
        Ok(Self { stop, run })
    }

    /// Ends it, once the worker is gone.
    pub async fn stop(self) {
        // It may have ended by a signal before.
        let _ = self.stop.send(());
        let _ = tokio::time::timeout(LAST_WORDS, self.run).await;
    }
}

/// Ends with the first TERM, INT or QUIT.
///
/// # Errors
/// Signals cannot be listened to.
pub fn signalled() -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let mut quit = signal(SignalKind::quit())?;
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
            _ = quit.recv() => {}
        }
    })
}

/// Where Celery's beat keeps its state.
#[derive(Debug, Clone, Default, Args)]
struct ScheduleArgs {
    /// Taken for compatibility: the last runs are kept on the broker, not in a file.
    #[arg(short = 's', long = "schedule", visible_alias = "schedule-filename", value_name = "FILE")]
    schedule: Option<String>,
}

/// Schedulers by whose name ours may be called: those it stands in for.
fn scheduler(text: &str) -> Result<String, String> {
    const KNOWN: [&str; 4] = ["PersistentScheduler", "DatabaseScheduler", "django", "petiole"];
    match KNOWN.iter().any(|known| text.ends_with(known)) {
        true => Ok(text.to_owned()),
        false => Err("there is one scheduler, which keeps schedules of code, settings and database".to_owned()),
    }
}

impl BeatArgs {
    /// Lays the flags over the settings.
    pub fn apply(&self, config: &mut BeatConfig) {
        config.max_interval = self.max_interval.map_or(config.max_interval, Duration::from_secs);
        config.remote_control = (config.remote_control || self.remote_control) && !self.no_remote_control;
        config.node = self.hostname.clone().or(config.node.take());
    }

    /// Says what starts, as Celery's beat does.
    pub fn banner(&self, config: &BeatConfig, broker_url: &str) {
        let seconds = config.max_interval.as_secs_f64();
        info!(
            "\npetiole beat {} is starting.\n__    -    ... __   -        _\nLocalTime -> {}\nConfiguration ->\n    . broker -> {}\
             \n    . scheduler -> petiole\n    . state -> {}{}* on the broker\n    . timezone -> {}\
             \n    . maxinterval -> {} ({seconds}s)\n",
            env!("CARGO_PKG_VERSION"),
            Local::now().format("%Y-%m-%d %H:%M:%S"),
            petiole_redis::redacted(broker_url),
            config.sending.global_keyprefix,
            config.key_prefix,
            config.time_zone,
            humanize_seconds(seconds),
        );
        self.schedule.warn();
    }
}

impl EmbeddedArgs {
    /// Is a beat asked for, by `-B` or by `WORKER_BEAT`? Says which flags have no effect.
    ///
    /// # Errors
    /// `WORKER_BEAT` holds neither yes nor no.
    pub fn wanted(&self) -> Result<bool, SettingsError> {
        let mut reader = Reader::from_env();
        let wanted = reader.boolean(&["WORKER_BEAT"], false) || self.beat;
        reader.finish()?;
        if wanted {
            self.schedule.warn();
        }
        Ok(wanted)
    }
}

impl ScheduleArgs {
    fn warn(&self) {
        if let Some(file) = &self.schedule {
            warn!("beat: {file} is not used: the last runs are kept on the broker");
        }
    }
}
