//! The worker's own port: `GET /metrics` for Prometheus, `GET /health` for whoever watches the process.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use super::page;
use crate::app::EngineError;
use crate::worker::Worker;

/// So many are answered at once; others wait.
const CONNECTIONS: usize = 16;
/// How long a client may take, from its coming to its going.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a client may take to say what it wants.
const HEADERS: Duration = Duration::from_secs(5);

/// Listens, and answers from then on.
///
/// # Errors
/// The address cannot be listened at.
pub(crate) async fn serve(
    worker: Arc<Worker>,
    address: SocketAddr,
) -> Result<tokio::task::JoinHandle<()>, EngineError> {
    let listener = TcpListener::bind(address).await.map_err(|error| EngineError::Metrics { address, source: error })?;
    Ok(tokio::spawn(accept(worker, listener)))
}

async fn accept(worker: Arc<Worker>, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // It is never closed.
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "the port of the figures takes no connection, trying again");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        let worker = worker.clone();
        tokio::spawn(async move {
            let _place = place;
            let service = service_fn(|request| answer(&worker, request));
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADERS)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            match tokio::time::timeout(PATIENCE, connection).await {
                Ok(Ok(())) | Err(_) => {}
                Ok(Err(error)) => debug!(%error, "a reader of the figures went away"),
            }
        });
    }
}

async fn answer(worker: &Worker, request: Request<Incoming>) -> Result<Response<String>, Infallible> {
    let with = |status: StatusCode, kind: &'static str, text: String| {
        let mut response = Response::new(text);
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
        response
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refusal = with(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "GET or HEAD\n".into());
        refusal.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
        return Ok(refusal);
    }
    Ok(match (request.uri().path(), &worker.figures) {
        ("/metrics", Some(figures)) => with(StatusCode::OK, page::OPEN_METRICS, page::text(worker, figures).await),
        ("/health", _) => with(StatusCode::OK, "text/plain", "ok\n".into()),
        _ => with(StatusCode::NOT_FOUND, "text/plain", "there are /metrics and /health\n".into()),
    })
}
