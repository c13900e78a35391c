//! `worker`: consumes Celery tasks. Settings come from the environment, flags are those of `celery worker`.

use clap::Parser;
use petiole_engine::cli::{self, WorkerArgs};
use petiole_worker::services;

/// Tasks are many small allocations: this one takes half the time of the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A Celery worker in Rust.
#[derive(Parser)]
#[command(name = "worker", version, about)]
struct Cli {
    #[command(flatten)]
    worker: WorkerArgs,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (settings, config) = cli::load(&Cli::parse().worker)?;
    if let Err(error) = petiole_ai::embedder_from(&settings.ai) {
        tracing::error!("documents cannot be embedded: {error}");
    }
    services::configure(settings.clone());
    cli::run(petiole_worker::app()?, config, &settings).await?;
    Ok(())
}
