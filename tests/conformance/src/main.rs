//! `conformance-worker`: the worker's own command line, with the fixture tasks of Celery's integration suite.
//!
//! | module | the tasks |
//! |---|---|
//! | `arguments` | Python's calling conventions and its `+` |
//! | `plain` | functions of their arguments |
//! | `request` | that look at their own request |
//! | `effects` | that leave marks in Redis |
//! | `failures` | that fail, reject, retry |
//! | `replacing` | that put others in their place, or send them |
//! | `signatures` | that give or take signatures as values |

mod arguments;
mod effects;
mod failures;
mod plain;
mod replacing;
mod request;
mod signatures;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use petiole_beat::Beat;
use petiole_beat::cli::{BeatArgs, Embedded, EmbeddedArgs, config as beat_config, signalled};
use petiole_engine::cli::{self, WorkerArgs};
use petiole_engine::{App, AppBuilder};
use secrecy::ExposeSecret;

/// Tasks are many small allocations: this one takes half the time of the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A worker with the fixture tasks of Celery's integration suite.
#[derive(Parser)]
#[command(name = "conformance-worker", version, about, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    worker: WorkerArgs,
    #[command(flatten)]
    embedded: EmbeddedArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Start the beat periodic task scheduler, and no worker.
    Beat(BeatArgs),
}

/// The names of most tasks begin with this.
pub(crate) fn name(task: &str) -> String {
    format!("t.integration.tasks.{task}")
}

#[tokio::main]
async fn main() -> ExitCode {
    match work().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // What is wrong and where: a backtrace after it would hide it.
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn work() -> anyhow::Result<()> {
    let arguments = Cli::parse();
    if let Some(Command::Beat(args)) = arguments.command {
        let mut logging = WorkerArgs::default();
        logging.loglevel.clone_from(&args.loglevel);
        let (settings, _) = cli::load(&logging)?;
        let mut config = beat_config()?;
        args.apply(&mut config);
        args.banner(&config, settings.broker_url.expose_secret());
        Beat::new(config, settings.broker_url.expose_secret())?.run(signalled()?).await;
        return Ok(());
    }
    let (settings, config) = cli::load(&arguments.worker)?;
    let embedded = match arguments.embedded.wanted()? {
        true => Some(Embedded::start(Beat::new(beat_config()?, settings.broker_url.expose_secret())?)?),
        false => None,
    };
    let steps: [fn(AppBuilder) -> AppBuilder; 6] =
        [plain::add_to, request::add_to, effects::add_to, failures::add_to, replacing::add_to, signatures::add_to];
    let app = steps.into_iter().fold(App::builder(), |app, add| add(app)).build()?;
    let ended = cli::run(app, config, &settings).await;
    if let Some(embedded) = embedded {
        embedded.stop().await;
    }
    Ok(ended?)
}
