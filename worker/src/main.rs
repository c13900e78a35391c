//! `worker`: consumes Celery tasks. Settings come from the environment, flags are those of `celery worker`.

use clap::Parser;
use petiole_engine::WorkerConfig;
use petiole_engine::cli::WorkerArgs;
use petiole_settings::{Reader, Role, Settings, telemetry};
use petiole_worker::services;
use secrecy::ExposeSecret;

/// A Celery worker in Rust.
#[derive(Parser)]
#[command(name = "worker", version, about)]
struct Cli {
    #[command(flatten)]
    worker: WorkerArgs,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let mut reader = Reader::from_env();
    let mut settings = Settings::read(&mut reader, Role::Worker);
    let mut config = WorkerConfig::read(&mut reader);
    reader.finish()?;
    if let Some(level) = cli.worker.level() {
        settings.log.filter = level;
    }
    telemetry::init(&settings.log);
    cli.worker.apply(&mut config);
    if let Err(error) = petiole_ai::embedder_from(&settings.ai) {
        tracing::error!("documents cannot be embedded: {error}");
    }
    let (broker_url, result_backend) = (settings.broker_url.clone(), settings.result_backend.clone());
    services::configure(settings);
    let app = petiole_worker::app()?;
    app.run(config, broker_url.expose_secret(), result_backend.expose_secret()).await?;
    Ok(())
}
