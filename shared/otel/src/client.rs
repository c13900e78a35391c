//! The way to the collector: HTTP, from the thread that exports.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use tokio::runtime::Runtime;
use tracing::{info, warn};

/// A client with a runtime of its own: the thread that exports belongs to none, and the program's own may be gone already
/// when the last spans are sent.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    runtime: Runtime,
    /// The last try failed: one line in the log is enough.
    away: AtomicBool,
}

impl Client {
    /// # Errors
    /// No runtime, or no TLS.
    pub(crate) fn new() -> Result<Self, HttpError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // A redirect would lead the headers, and with them a key, elsewhere.
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
        Ok(Self { http, runtime, away: AtomicBool::new(false) })
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answer = self.http.execute(request.try_into()?).await?;
        let mut response = Response::builder().status(answer.status());
        if let Some(headers) = response.headers_mut() {
            *headers = answer.headers().clone();
        }
        Ok(response.body(answer.bytes().await?)?)
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let collector = request.uri().clone();
        // This is the exporting thread, which has no runtime and may wait.
        let answer = self.runtime.block_on(async {
            // The connection to a silent collector ends as well.
            tokio::time::timeout(std::time::Duration::from_secs(10), self.send(request)).await?
        });
        let why = match &answer {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(format!("it answers {}", response.status())),
            Err(error) => Some(error.to_string()),
        };
        match why {
            Some(why) if !self.away.swap(true, Ordering::Relaxed) => {
                warn!(host = collector.host(), why, "traces do not reach the collector; work goes on without them");
            }
            None if self.away.swap(false, Ordering::Relaxed) => {
                info!(host = collector.host(), "traces reach the collector again");
            }
            _ => {}
        }
        answer
    }
}
