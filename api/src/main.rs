//! The program `api`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use petiole_api::command::{Arguments, Command, keys};
use petiole_api::{app, state::State};
use petiole_settings::{Reader, Settings, telemetry};
use petiole_storage::Storage;
use poem::listener::{Listener, TcpListener};
use secrecy::ExposeSecret;
use tokio::signal::unix::{SignalKind, signal};

/// How long a migration may take, with the wait for PostgreSQL.
const MIGRATION: Duration = Duration::from_secs(600);

fn main() -> ExitCode {
    match work() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // What is wrong and where: a backtrace after it would hide it.
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn work() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let settings = Settings::load()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    if let Some(Command::Keys(command)) = arguments.command {
        return runtime.block_on(async {
            let storage = Storage::connect(settings.database_url.expose_secret(), 1).await?;
            println!("{}", keys(&storage, command).await?);
            Ok(())
        });
    }
    if arguments.migrate {
        telemetry::init(&settings.log);
        return runtime.block_on(migrate(&settings));
    }
    petiole_otel::start("petiole-api")?;
    telemetry::init(&settings.log);
    let ended = runtime.block_on(run(settings));
    petiole_otel::stop();
    ended
}

async fn migrate(settings: &Settings) -> anyhow::Result<()> {
    let state = State::new(settings, Reader::from_env()).await?;
    tokio::time::timeout(MIGRATION, app::prepare(&state)).await.context("PostgreSQL did not answer in time")??;
    Ok(())
}

async fn run(settings: Settings) -> anyhow::Result<()> {
    let api = &settings.api;
    let state = State::new(&settings, Reader::from_env()).await?;
    let acceptor = TcpListener::bind((api.host.clone(), api.port))
        .into_acceptor()
        .await
        .with_context(|| format!("API_HOST {} and API_PORT {}: cannot listen there", api.host, api.port))?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        tracing::info!("told to stop");
    };
    app::serve(acceptor, state, stop, api.shutdown_timeout).await
}
