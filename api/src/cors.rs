//! Pages of other origins that may use the API from a browser (Fetch standard, CORS), by `API_CORS_ORIGINS`.

use std::sync::Arc;

use poem::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use poem::{Endpoint, Middleware, Request, Response};

/// Methods that such a page may use.
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
/// Headers that it may send.
const SENT: &str = "Authorization, X-API-Key, Content-Type, Accept, Idempotency-Key, If-Match, If-None-Match, Last-Event-ID, X-Request-Id";
/// Headers that it may read.
const READ: &str = "Location, ETag, Retry-After, X-Request-Id, RateLimit-Policy, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset";
/// A browser remembers the permission for so many seconds.
const REMEMBERED: &str = "600";

/// The origins.
#[derive(Clone, Debug)]
pub(crate) struct Cors(Arc<[String]>);

impl Cors {
    pub(crate) fn new(origins: &[String]) -> Self {
        Self(origins.into())
    }
}

impl<E: Endpoint<Output = Response>> Middleware<E> for Cors {
    type Output = Crossed<E>;

    fn transform(&self, endpoint: E) -> Self::Output {
        Crossed { endpoint, origins: self.0.clone() }
    }
}

/// An endpoint that tells browsers which pages may use it.
pub(crate) struct Crossed<E> {
    endpoint: E,
    origins: Arc<[String]>,
}

impl<E> Crossed<E> {
    /// The value of `Access-Control-Allow-Origin` for a request, when its origin is one of ours.
    fn allowed(&self, request: &Request) -> Option<HeaderValue> {
        let origin = request.headers().get(header::ORIGIN)?;
        if self.origins.iter().any(|known| known == "*") {
            return Some(HeaderValue::from_static("*"));
        }
        self.origins.iter().any(|known| known.as_bytes() == origin.as_bytes()).then(|| origin.clone())
    }
}

impl<E: Endpoint<Output = Response>> Endpoint for Crossed<E> {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        if self.origins.is_empty() {
            return self.endpoint.call(request).await;
        }
        let allowed = self.allowed(&request);
        let asks = request.method() == Method::OPTIONS
            && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        let mut response = match (asks, &allowed) {
            // the browser asks before the page's own request, and sends no key with it
            (true, Some(_)) => {
                let mut response = Response::builder().status(StatusCode::NO_CONTENT).finish();
                let headers = response.headers_mut();
                headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
                headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(SENT));
                headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(REMEMBERED));
                response
            }
            _ => self.endpoint.call(request).await?,
        };
        permit(response.headers_mut(), allowed);
        Ok(response)
    }
}

fn permit(headers: &mut HeaderMap, allowed: Option<HeaderValue>) {
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = allowed {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(READ));
    }
}
