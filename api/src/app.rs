//! All routes and what surrounds them, and serving until told to stop.

use std::future::Future;
use std::time::Duration;

use petiole_storage::{EmbeddingModel, StorageError};
use poem::listener::Acceptor;
use poem::middleware::AddData;
use poem::{Endpoint, EndpointExt, Response, Server};
use tokio_util::sync::CancellationToken;

use crate::auth::Auth;
use crate::cors::Cors;
use crate::etag::Tags;
use crate::limits::Limit;
use crate::metrics::Measure;
use crate::request_id::RequestIds;
use crate::routes::Operations;
use crate::spec::{self, Methods};
use crate::state::State;
use crate::{recent, relay, task_names};

/// The whole API as one endpoint.
pub fn routes(state: &State) -> impl Endpoint<Output = Response> + use<> {
    let (service, description) = spec::service(Operations::default(), state.keys.are());
    let methods = Methods::new(&description);
    spec::pages(&service, &description)
        .nest("/", service)
        .with(Tags)
        .with(Limit)
        .with(Auth(state.keys.clone()))
        .with(AddData::new(state.clone()))
        .with(RequestIds { methods: methods.clone() })
        .with(Cors::new(&state.cors_origins))
        .with(Measure { metrics: state.metrics.clone(), methods })
        .map_to_response()
}

/// Serves on `acceptor` until `stop` resolves, then lets requests under way end, at most for `grace`. The schema is
/// prepared and the outbox relayed meanwhile.
///
/// # Errors
/// The listener broke, or the database holds the vectors of another model.
pub async fn serve<A: Acceptor + 'static>(
    acceptor: A,
    state: State,
    stop: impl Future<Output = ()> + Send,
    grace: Duration,
) -> anyhow::Result<()> {
    let ended = CancellationToken::new();
    let (ready, has_schema) = tokio::sync::oneshot::channel();
    let relay = tokio::spawn({
        let (state, ended) = (state.clone(), ended.clone());
        async move {
            if has_schema.await.is_ok() {
                relay::run(state, ended).await;
            }
        }
    });
    let prepared = tokio::spawn(ended.clone().run_until_cancelled_owned({
        let state = state.clone();
        async move {
            prepare(&state).await?;
            // without a receiver the service is ending
            let _ = ready.send(());
            anyhow::Ok(())
        }
    }));
    let names = tokio::spawn(ended.clone().run_until_cancelled_owned({
        let tasks = state.tasks.clone();
        async move {
            loop {
                // Redis away: asked again next time
                let _ = tasks.refresh().await;
                tokio::time::sleep(task_names::REFRESH).await;
            }
        }
    }));
    let recent = tokio::spawn(ended.clone().run_until_cancelled_owned({
        let (client, recent) = (state.client.clone(), state.recent.clone());
        async move { recent::listen(&client, &recent).await }
    }));
    let server = Server::new_with_acceptor(acceptor);
    let failed = CancellationToken::new();
    let (broken, stopping) = (failed.clone(), state.stopping.clone());
    let signal = async move {
        tokio::select! { () = stop => {}, () = failed.cancelled() => {} }
        // who waits for a task gets what there is, streams end
        stopping.cancel();
    };
    let served = server.run_with_graceful_shutdown(routes(&state), signal, Some(grace));
    let watched = async {
        let result = match prepared.await {
            Ok(Some(result)) => result,
            _ => Ok(()),
        };
        if result.is_err() {
            broken.cancel();
        }
        result
    };
    // the server's end ends the preparation, a failed preparation ends the server
    let (served, prepared) = tokio::join!(
        async {
            let served = served.await;
            ended.cancel();
            served
        },
        watched
    );
    let _ = tokio::join!(relay, names, recent);
    state.storage.close().await;
    prepared?;
    Ok(served?)
}

/// Brings the schema up to date and declares the embedding model, as soon as PostgreSQL is there.
///
/// # Errors
/// A migration failed, or the database holds the vectors of another model.
pub async fn prepare(state: &State) -> anyhow::Result<()> {
    let mut pause = Duration::from_millis(200);
    loop {
        match prepare_once(state).await {
            Ok(()) => {
                tracing::info!("the database is ready");
                break;
            }
            Err(StorageError::Unavailable(reason)) => tracing::warn!(reason, "waiting for PostgreSQL"),
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(5));
    }
    Ok(())
}

async fn prepare_once(state: &State) -> Result<(), StorageError> {
    state.storage.migrate().await?;
    if let Ok(embedder) = state.embedder() {
        let model = EmbeddingModel { name: embedder.model().to_owned(), dimensions: embedder.dimensions() };
        state.storage.use_embedding_model(&model).await?;
    }
    Ok(())
}
