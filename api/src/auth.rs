//! API keys: who may do what.

use std::sync::Arc;

use petiole_settings::{ApiKey, KeyScope};
use petiole_storage::Storage;
use poem::http::{Method, StatusCode, header};
use poem::{Endpoint, Middleware, Request};
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};

use crate::keys::{self, IssuedKeys};
use crate::problem::Problem;
use crate::spec::KeysAre;
use crate::task_names;

/// The keys that open the API: those of the settings, as hashes, and those that were issued. None in the settings:
/// everything is open.
#[derive(Clone)]
pub struct Keys {
    configured: Arc<[(Hash, KeyScope)]>,
    issued: Arc<IssuedKeys>,
}

type Hash = [u8; 32];

/// Whose request it is, and what that one may do.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    /// The id of an issued key, or the beginning of the hash of one of the settings; empty where no keys are asked for.
    pub id: String,
    /// Patterns of the tasks that may be sent, where the key has its own.
    pub allowed_tasks: Option<Vec<String>>,
    /// Requests a minute, where the key has its own limit.
    pub rate_limit: Option<u32>,
    /// Requests a day, where the key has its own limit.
    pub daily_quota: Option<u32>,
}

impl Caller {
    /// # Errors
    /// 403 when the key may not send this task.
    pub(crate) fn check_task(&self, name: &str) -> Result<(), Problem> {
        match &self.allowed_tasks {
            Some(patterns) if !patterns.iter().any(|pattern| task_names::matches(pattern, name)) => {
                Err(Problem::new(StatusCode::FORBIDDEN, format!("this key may not send the task {name}")))
            }
            _ => Ok(()),
        }
    }
}

impl<'a> poem::FromRequest<'a> for Caller {
    async fn from_request(request: &'a Request, _: &mut poem::RequestBody) -> poem::Result<Self> {
        Ok(request.extensions().get::<Self>().cloned().unwrap_or_default())
    }
}

impl Keys {
    /// These keys, whose texts are not kept, and those that `storage` holds.
    pub fn new(keys: &[ApiKey], storage: Storage) -> Self {
        let configured = keys.iter().map(|key| (hash(key.key.expose_secret()), key.scope)).collect();
        Self { configured, issued: Arc::new(IssuedKeys::new(storage)) }
    }

    pub(crate) fn are(&self) -> KeysAre {
        if self.configured.is_empty() { KeysAre::Ignored } else { KeysAre::Needed }
    }

    /// The issued ones.
    pub(crate) fn issued(&self) -> &IssuedKeys {
        &self.issued
    }

    /// Whose request this is, when it may be done.
    async fn admit(&self, request: &Request) -> Result<Caller, Problem> {
        if self.configured.is_empty() {
            return Ok(Caller::default());
        }
        let Some(given) = given_key(request) else {
            return Err(Problem::new(
                StatusCode::UNAUTHORIZED,
                "a key is needed: Authorization: Bearer KEY, or X-API-Key: KEY",
            ));
        };
        let (caller, scope) = match self.configured(given) {
            Some(known) => known,
            None => self.issued_to(given).await?,
        };
        let needed = needed(request);
        if opens(scope, needed) {
            return Ok(caller);
        }
        let detail = match needed {
            KeyScope::Admin => "this needs a key of the scope admin",
            _ => "this key may only read",
        };
        Err(Problem::new(StatusCode::FORBIDDEN, detail))
    }

    fn configured(&self, given: &str) -> Option<(Caller, KeyScope)> {
        let given = hash(given);
        // all keys are compared to the last byte: the time tells nothing
        let scope = self
            .configured
            .iter()
            .fold(None, |found, (key, scope)| if same(key, &given) { Some(*scope) } else { found })?;
        let id = given[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        Some((Caller { id, ..Caller::default() }, scope))
    }

    async fn issued_to(&self, given: &str) -> Result<(Caller, KeyScope), Problem> {
        let Some(row) = self.issued.find(given).await? else {
            return Err(Problem::new(StatusCode::UNAUTHORIZED, "this key is not known, or not valid any more"));
        };
        let caller = Caller {
            id: row.id.to_string(),
            allowed_tasks: row.allowed_tasks.clone(),
            rate_limit: row.rate_limit,
            daily_quota: row.daily_quota,
        };
        Ok((caller, keys::scope(&row.scope)))
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
    let path = request.uri().path();
    if path == "/v1/keys" || path.starts_with("/v1/keys/") {
        return KeyScope::Admin;
    }
    if reads || path == "/v1/search" { KeyScope::Read } else { KeyScope::Write }
}

fn opens(scope: KeyScope, needed: KeyScope) -> bool {
    match scope {
        KeyScope::All | KeyScope::Admin => true,
        KeyScope::Write => needed != KeyScope::Admin,
        KeyScope::Read => needed == KeyScope::Read,
    }
}

/// Whether a key is needed for this path, where keys are.
pub(crate) fn guarded(path: &str) -> bool {
    path == "/v1" || path.starts_with("/v1/") || path == "/metrics"
}

/// Lets through to `/v1` and the metrics only who may.
#[derive(Clone)]
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
            let caller = self.keys.admit(&request).await?;
            request.extensions_mut().insert(caller);
        }
        self.endpoint.call(request).await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    /// Nothing listens there: keys of the settings need no database.
    async fn keys() -> Keys {
        let key = |key: &str, scope| ApiKey { key: key.to_owned().into(), scope };
        let keys = [key("full", KeyScope::All), key("reader", KeyScope::Read), key("writer", KeyScope::Write)];
        Keys::new(&keys, Storage::connect("postgres://u:p@127.0.0.1:9/d", 1).await.unwrap())
    }

    async fn status(method: Method, path: &str, name: &str, value: &str) -> u16 {
        let request = Request::builder().method(method).uri(path.parse().unwrap()).header(name, value).finish();
        keys().await.admit(&request).await.map_or_else(|problem| problem.status().as_u16(), |_| 200)
    }

    #[tokio::test]
    async fn a_key_comes_in_either_header() {
        assert_eq!(status(Method::POST, "/v1/tasks", "authorization", "Bearer full").await, 200);
        assert_eq!(status(Method::POST, "/v1/tasks", "authorization", "bearer full").await, 200);
        assert_eq!(status(Method::POST, "/v1/tasks", "x-api-key", "full").await, 200);
        for (name, value) in [
            ("authorization", "Basic full"),
            ("authorization", "full"),
            ("x-api-key", "ful"),
            ("x-api-key", ""),
            ("a", "b"),
        ] {
            assert_eq!(status(Method::POST, "/v1/tasks", name, value).await, 401, "{name}: {value}");
        }
    }

    #[tokio::test]
    async fn a_reader_reads_and_searches() {
        assert_eq!(status(Method::GET, "/v1/events", "x-api-key", "reader").await, 200);
        assert_eq!(status(Method::POST, "/v1/search", "x-api-key", "reader").await, 200);
        assert_eq!(status(Method::POST, "/v1/events", "x-api-key", "reader").await, 403);
        assert_eq!(status(Method::DELETE, "/v1/documents/1", "x-api-key", "reader").await, 403);
        assert_eq!(status(Method::DELETE, "/v1/documents/1", "x-api-key", "writer").await, 200);
        assert_eq!(status(Method::GET, "/v1/keys", "x-api-key", "reader").await, 403);
        assert_eq!(status(Method::GET, "/v1/keys", "x-api-key", "writer").await, 403);
        assert_eq!(status(Method::GET, "/v1/keys", "x-api-key", "full").await, 200);
    }
}
