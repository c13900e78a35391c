//! `worker`: consumes Celery tasks, and sends periodic ones. Settings come from the environment, flags are those of
//! `celery worker` and `celery beat`.

use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use petiole_beat::cli::{BeatArgs, EmbeddedArgs};
use petiole_engine::cli::{self, WorkerArgs};
use petiole_worker::documents::extract;
use petiole_worker::{beat, services};

mod ping;

/// Tasks are many small allocations: this one takes half the time of the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A Celery worker in Rust.
#[derive(Parser)]
#[command(name = "worker", version, about, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    worker: WorkerArgs,
    #[command(flatten)]
    embedded: EmbeddedArgs,
    /// Ask the worker that runs under this name, by remote control, whether it answers, and exit: a health check.
    #[arg(long)]
    ping: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Start the beat periodic task scheduler, and no worker.
    Beat(BeatArgs),
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some(extract::COMMAND) {
        return extract::run(&arguments.next().unwrap_or_default());
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // What is wrong and where: a backtrace after it would hide it.
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let arguments = Cli::parse();
    if !arguments.ping {
        petiole_otel::start("petiole-worker")?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    let ended = runtime.block_on(work(arguments));
    petiole_otel::stop();
    // What was given up may be a thread that never ends.
    runtime.shutdown_background();
    ended
}

async fn work(arguments: Cli) -> anyhow::Result<()> {
    if let Some(Command::Beat(args)) = arguments.command {
        let mut logging = WorkerArgs::default();
        logging.loglevel.clone_from(&args.loglevel);
        let (settings, _) = cli::load(&logging)?;
        return beat::run(&args, &settings).await;
    }
    let (settings, config) = cli::load(&arguments.worker)?;
    if arguments.ping {
        return ping::ask(&settings, &config.node_name()).await;
    }
    if let Err(error) = petiole_ai::embedder_from(&settings.ai) {
        tracing::error!("documents cannot be embedded: {error}");
    }
    if let Err(error) = services::Language::from_settings(&settings.ai) {
        tracing::error!("questions cannot be answered: {error}");
    }
    services::configure(settings.clone());
    // The process of an isolated task runs that task alone.
    let beside = !petiole_engine::isolated::is_child() && arguments.embedded.wanted()?;
    let embedded = if beside { Some(beat::embedded(&settings).await?) } else { None };
    let ended = cli::run(petiole_worker::app()?, config, &settings).await;
    if let Some(embedded) = embedded {
        embedded.stop().await;
    }
    Ok(ended?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn no_two_flags_are_the_same() {
        Cli::command().debug_assert();
    }
}
