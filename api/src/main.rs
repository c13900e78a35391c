//! The program `api`.

use anyhow::Context;
use petiole_api::{app, state::State};
use petiole_settings::{Settings, telemetry};
use poem::listener::{Listener, TcpListener};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> anyhow::Result<()> {
    let settings = Settings::load()?;
    telemetry::init(&settings.log);
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?.block_on(run(settings))
}

async fn run(settings: Settings) -> anyhow::Result<()> {
    let api = &settings.api;
    let state = State::new(&settings).await?;
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
