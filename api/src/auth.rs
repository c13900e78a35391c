//! API keys: who may do what.

use petiole_settings::{ApiKey, KeyScope};
use poem::http::{Method, StatusCode, header};
use poem::{Endpoint, Middleware, Request};
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};

use crate::problem::Problem;
use crate::spec::KeysAre;

/// The keys that open the API, as hashes; none: everything is open.
#[derive(Clone, Debug, Default)]
pub struct Keys(Vec<(Hash, KeyScope)>);

type Hash = [u8; 32];

/// Whose request it is: the beginning of the hash of its key, or nothing where no keys are asked for.
#[derive(Clone, Debug, Default)]
pub struct Caller(pub String);

impl<'a> poem::FromRequest<'a> for Caller {
    async fn from_request(request: &'a Request, _: &mut poem::RequestBody) -> poem::Result<Self> {
        Ok(request.extensions().get::<Self>().cloned().unwrap_or_default())
    }
}

impl Keys {
    /// These keys. The texts are not kept.
    pub fn new(keys: &[ApiKey]) -> Self {
        Self(keys.iter().map(|key| (hash(key.key.expose_secret()), key.scope)).collect())
    }

    pub(crate) fn are(&self) -> KeysAre {
        if self.0.is_empty() { KeysAre::Ignored } else { KeysAre::Needed }
    }

    /// Whose request this is, when it may be done.
    fn admit(&self, request: &Request) -> Result<Caller, Problem> {
        if self.0.is_empty() {
            return Ok(Caller::default());
        }
        let Some(given) = given_key(request) else {
            return Err(Problem::new(
                StatusCode::UNAUTHORIZED,
                "a key is needed: Authorization: Bearer KEY, or X-API-Key: KEY",
            ));
        };
        let given = hash(given);
        // all keys are compared to the last byte: the time tells nothing
        let scope =
            self.0.iter().fold(None, |found, (key, scope)| if same(key, &given) { Some(*scope) } else { found });
        let Some(scope) = scope else {
            return Err(Problem::new(StatusCode::UNAUTHORIZED, "this key is not known"));
        };
        if opens(scope, needed(request)) {
            Ok(Caller(given[..8].iter().map(|byte| format!("{byte:02x}")).collect()))
        } else {
            Err(Problem::new(StatusCode::FORBIDDEN, "this key may only read"))
        }
    }
}

fn hash(key: &str) -> Hash {
    Sha256::digest(key).into()
}

/// Compares without stopping at the first difference.
fn same(a: &Hash, b: &Hash) -> bool {
    std::hint::black_box(a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b))) == 0
}

fn given_key(request: &Request) -> Option<&str> {
    let text = |name| request.headers().get(name).and_then(|value: &poem::http::HeaderValue| value.to_str().ok());
    if let Some((scheme, key)) = text(header::AUTHORIZATION.as_str()).and_then(|value| value.split_once(' '))
        && scheme.eq_ignore_ascii_case("bearer")
    {
        return Some(key.trim());
    }
    text("x-api-key")
}

/// Reading covers whatever changes nothing: GET, and searching.
fn needed(request: &Request) -> KeyScope {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if reads || request.uri().path() == "/v1/search" { KeyScope::Read } else { KeyScope::Write }
}

fn opens(scope: KeyScope, needed: KeyScope) -> bool {
    match scope {
        KeyScope::All | KeyScope::Admin | KeyScope::Write => true,
        KeyScope::Read => needed == KeyScope::Read,
    }
}

/// Whether a key is needed for this path, where keys are.
pub(crate) fn guarded(path: &str) -> bool {
    path == "/v1" || path.starts_with("/v1/") || path == "/metrics"
}

/// Lets through to `/v1` and the metrics only who may.
#[derive(Clone, Debug)]
pub struct Auth(pub Keys);

impl<E: Endpoint> Middleware<E> for Auth {
    type Output = Guarded<E>;

    fn transform(&self, endpoint: E) -> Self::Output {
        Guarded { endpoint, keys: self.0.clone() }
    }
}

/// An endpoint behind keys.
pub struct Guarded<E> {
    endpoint: E,
    keys: Keys,
}

impl<E: Endpoint> Endpoint for Guarded<E> {
    type Output = E::Output;

    async fn call(&self, mut request: Request) -> poem::Result<Self::Output> {
        if guarded(request.uri().path()) {
            let caller = self.keys.admit(&request)?;
            request.extensions_mut().insert(caller);
        }
        self.endpoint.call(request).await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn keys() -> Keys {
        let key = |key: &str, scope| ApiKey { key: key.to_owned().into(), scope };
        Keys::new(&[key("full", KeyScope::All), key("reader", KeyScope::Read), key("writer", KeyScope::Write)])
    }

    fn status(method: Method, path: &str, name: &str, value: &str) -> u16 {
        let request = Request::builder().method(method).uri(path.parse().unwrap()).header(name, value).finish();
        keys().admit(&request).map_or_else(|problem| problem.status().as_u16(), |_| 200)
    }

    #[test]
    fn a_key_comes_in_either_header() {
        assert_eq!(status(Method::POST, "/v1/tasks", "authorization", "Bearer full"), 200);
        assert_eq!(status(Method::POST, "/v1/tasks", "authorization", "bearer full"), 200);
        assert_eq!(status(Method::POST, "/v1/tasks", "x-api-key", "full"), 200);
        for (name, value) in [
            ("authorization", "Basic full"),
            ("authorization", "full"),
            ("x-api-key", "ful"),
            ("x-api-key", ""),
            ("a", "b"),
        ] {
            assert_eq!(status(Method::POST, "/v1/tasks", name, value), 401, "{name}: {value}");
        }
    }

    #[test]
    fn a_reader_reads_and_searches() {
        assert_eq!(status(Method::GET, "/v1/events", "x-api-key", "reader"), 200);
        assert_eq!(status(Method::POST, "/v1/search", "x-api-key", "reader"), 200);
        assert_eq!(status(Method::POST, "/v1/events", "x-api-key", "reader"), 403);
        assert_eq!(status(Method::DELETE, "/v1/documents/1", "x-api-key", "reader"), 403);
        assert_eq!(status(Method::DELETE, "/v1/documents/1", "x-api-key", "writer"), 200);
    }
}
