//! One id a request: taken from the client or made, returned, logged, and passed on into the task's headers. Also the
//! place where every error gets its form and every request its line in the log.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures::FutureExt;
use petiole_settings::trace_context::{self, Part};
use poem::http::{HeaderValue, Method, StatusCode, header};
use poem::{Endpoint, IntoResponse, Middleware, Request, Response};
use tracing::field::Empty;
use tracing::{Instrument, Span};
use uuid::Uuid;

use crate::limits::LimitHeaders;
use crate::problem::Problem;
use crate::spec::Methods;

/// The header that carries it.
pub const HEADER: &str = "x-request-id";
/// Longer ids are not taken over.
const LONGEST: usize = 128;
/// Bodies up to this size are read in any case.
const SMALL: usize = 64 << 10;
/// How long a client may take to send such a body.
const PATIENCE: Duration = Duration::from_secs(30);

/// The id of the request, in its extensions.
#[derive(Clone, Debug)]
pub struct RequestId(pub String);

impl RequestId {
    fn of(request: &Request) -> Self {
        let given = request.headers().get(HEADER).and_then(|value| value.to_str().ok());
        // only what can stand in a log line, a header and a message as it is
        let plain = |text: &&str| {
            !text.is_empty()
                && text.len() <= LONGEST
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:/+=".contains(&b))
        };
        Self(given.filter(plain).map_or_else(|| Uuid::now_v7().to_string(), str::to_owned))
    }
}

impl<'a> poem::FromRequest<'a> for RequestId {
    async fn from_request(request: &'a Request, _: &mut poem::RequestBody) -> poem::Result<Self> {
        Ok(request.extensions().get::<Self>().cloned().unwrap_or_else(|| Self::of(request)))
    }
}

/// A small body is read before anything is decided: a request that is refused unread would cost the client its connection,
/// and with it perhaps the answer.
async fn buffered(mut request: Request) -> Request {
    let length =
        request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| (1..=SMALL).contains(&length)) {
        let read = tokio::time::timeout(PATIENCE, request.take_body().into_bytes_limit(SMALL)).await;
        // what did not arrive is missing in the body, which then is no JSON
        request.set_body(read.ok().and_then(Result::ok).unwrap_or_default());
    }
    request
}

/// What keeps a browser from doing more with an answer than it is for. Pages say themselves what they load.
fn secure(response: &mut Response) {
    let page = response.content_type().is_some_and(|kind| kind.starts_with("text/html"));
    let headers = response.headers_mut();
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if !page {
        let nothing = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
        headers.insert(header::CONTENT_SECURITY_POLICY, nothing);
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

/// Asked every few seconds by whatever watches.
fn is_watching(path: &str) -> bool {
    matches!(path, "/health" | "/ready")
}

/// What the log lines and the trace of a request have in common.
fn span_of(id: &RequestId, method: &Method, path: &str) -> Span {
    macro_rules! span {
        ($level:ident) => {
            tracing::$level!(
                "request",
                request_id = %id.0,
                %method,
                path,
                trace_id = Empty,
                otel.name = Empty,
                otel.kind = Empty,
            )
        };
    }
    if is_watching(path) { span!(debug_span) } else { span!(info_span) }
}

/// Gives requests their id, errors their form, and the log its lines.
pub struct RequestIds {
    pub(crate) methods: Methods,
}

impl<E: Endpoint> Middleware<E> for RequestIds {
    type Output = WithRequestId<E>;

    fn transform(&self, endpoint: E) -> Self::Output {
        WithRequestId { endpoint, methods: self.methods.clone() }
    }
}

/// An endpoint whose answers carry the request's id.
pub struct WithRequestId<E> {
    endpoint: E,
    methods: Methods,
}

impl<E: Endpoint> Endpoint for WithRequestId<E> {
    type Output = Response;

    async fn call(&self, mut request: Request) -> poem::Result<Response> {
        let id = RequestId::of(&request);
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        request.extensions_mut().insert(id.clone());
        let span = span_of(&id, &method, &path);
        let name = || format!("{method} {}", self.methods.route(&path).unwrap_or("unmatched"));
        trace_context::begin(&span, Part::Server, name, |name| {
            request.headers().get(name)?.to_str().ok().map(str::to_owned)
        });
        let begun = Instant::now();
        async {
            let request = buffered(request).await;
            let answer = AssertUnwindSafe(self.endpoint.call(request)).catch_unwind().await;
            let mut limits = None;
            let problem = match answer {
                Ok(Ok(response)) => Err(response.into_response()),
                Ok(Err(error)) => {
                    limits = error.data::<LimitHeaders>().cloned();
                    Ok(Problem::from_error(&error))
                }
                Err(_) => {
                    tracing::error!("a handler panicked");
                    Ok(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "something went wrong here; the logs know more"))
                }
            };
            let mut response = match problem {
                Err(response) => response,
                Ok(problem) if problem.status() == StatusCode::METHOD_NOT_ALLOWED => {
                    problem.with_allow(self.methods.of(&path)).response(&id.0)
                }
                Ok(problem) => problem.response(&id.0),
            };
            if let Ok(value) = HeaderValue::from_str(&id.0) {
                response.headers_mut().insert(HEADER, value);
            }
            if let Some(LimitHeaders(headers)) = limits {
                response.headers_mut().extend(headers);
            }
            secure(&mut response);
            let (status, took) = (response.status().as_u16(), begun.elapsed());
            trace_context::attribute("http.response.status_code", status);
            if response.status().is_server_error() {
                trace_context::failed(|| response.status().to_string());
            }
            match path.as_str() {
                path if is_watching(path) => tracing::debug!(status, ?took, "answered"),
                _ => tracing::info!(status, ?took, "answered"),
            }
            Ok(response)
        }
        .instrument(span)
        .await
    }
}
