//! Keys: made, listed, revoked, by who may administer.

use chrono::{DateTime, Utc};
use petiole_storage::ApiKeyRow;
use poem::web::Data;
use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use poem_openapi::types::Example;
use poem_openapi::{ApiResponse, Enum, Object, OpenApi};
use uuid::Uuid;

use crate::body::Body;
use crate::failures::{Answer, Create, Look, One};
use crate::json::Text;
use crate::keys::{KeyRequest, issue};
use crate::routes::Group;
use crate::state::State;

#[derive(Clone, Default)]
pub(crate) struct KeysApi;

/// What a key opens.
#[derive(Clone, Copy, Debug, Enum)]
#[oai(rename_all = "lowercase")]
pub(crate) enum Scope {
    /// Everything.
    All,
    /// Reading and searching.
    Read,
    /// Reading, creating and deleting; no keys.
    Write,
    /// Everything, keys too.
    Admin,
}

impl Scope {
    fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }

    fn of(name: &str) -> Self {
        match name {
            "all" => Self::All,
            "write" => Self::Write,
            "admin" => Self::Admin,
            _ => Self::Read,
        }
    }
}

/// A key to be made.
#[derive(Clone, Debug, Object)]
#[oai(example)]
pub(crate) struct NewKeyRequest {
    /// Whose it is, or what for.
    #[oai(validator(max_length = 200))]
    name: Text,
    /// What it opens.
    scope: Scope,
    /// Patterns, with `*`, of the tasks that it may send; all that the service allows when missing.
    #[oai(validator(max_items = 100))]
    allowed_tasks: Option<Vec<String>>,
    /// Requests a minute; the service's own limit when missing.
    #[oai(validator(minimum(value = "1"), maximum(value = "1000000000")))]
    rate_limit: Option<u32>,
    /// Requests a day; the service's own quota when missing.
    #[oai(validator(minimum(value = "1"), maximum(value = "1000000000")))]
    daily_quota: Option<u32>,
    /// When it ends; never when missing.
    expires_at: Option<DateTime<Utc>>,
}

impl Example for NewKeyRequest {
    fn example() -> Self {
        Self {
            name: Text("nightly import".into()),
            scope: Scope::Write,
            allowed_tasks: Some(vec!["documents.*".into()]),
            rate_limit: Some(600),
            daily_quota: None,
            expires_at: None,
        }
    }
}

/// A key, without the key.
#[derive(Clone, Debug, Object)]
#[oai(rename = "Key")]
pub(crate) struct KeyView {
    /// Its id, the part of it after `petiole_`.
    id: Uuid,
    /// Whose it is, or what for.
    name: String,
    /// What it opens.
    scope: Scope,
    /// Patterns of the tasks that it may send.
    allowed_tasks: Option<Vec<String>>,
    /// Requests a minute.
    rate_limit: Option<u32>,
    /// Requests a day.
    daily_quota: Option<u32>,
    /// When it was made.
    created_at: DateTime<Utc>,
    /// When it ends.
    expires_at: Option<DateTime<Utc>>,
    /// When it was last used, to the minute or so.
    last_used_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    revoked_at: Option<DateTime<Utc>>,
}

impl From<ApiKeyRow> for KeyView {
    fn from(row: ApiKeyRow) -> Self {
        Self {
            id: row.id,
            scope: Scope::of(&row.scope),
            name: row.name,
            allowed_tasks: row.allowed_tasks,
            rate_limit: row.rate_limit,
            daily_quota: row.daily_quota,
            created_at: row.created_at,
            expires_at: row.expires_at,
            last_used_at: row.last_used_at,
            revoked_at: row.revoked_at,
        }
    }
}

/// A key that was made.
#[derive(Clone, Debug, Object)]
pub(crate) struct IssuedKey {
    /// What the client sends. Shown this once: only its hash is kept.
    key: String,
    /// What it opens.
    details: KeyView,
}

/// All keys.
#[derive(Clone, Debug, Object)]
pub(crate) struct KeyList {
    /// The keys that were issued, newest first, revoked ones too; those of `API_KEYS` are not among them.
    items: Vec<KeyView>,
}

#[derive(ApiResponse)]
pub(crate) enum IssuedResponse {
    /// It opens from now on.
    #[oai(status = 201)]
    Issued(Json<IssuedKey>),
}

#[derive(ApiResponse)]
pub(crate) enum RevokedKey {
    /// It opens nothing any more; on other replicas of the service within five seconds.
    #[oai(status = 204)]
    Revoked,
}

#[OpenApi]
impl KeysApi {
    /// Make a key
    ///
    /// Needs the scope `admin`. The key is in the answer and nowhere else: only a salted hash of it is stored. In
    /// development, where no keys are asked for, it opens nothing that is not open.
    #[oai(path = "/v1/keys", method = "post", operation_id = "createKey", tag = "Group::Keys")]
    async fn create(&self, state: Data<&State>, body: Body<NewKeyRequest>) -> Answer<IssuedResponse, Create> {
        let Body(request) = body;
        let request = KeyRequest {
            name: request.name.0,
            scope: request.scope.name().into(),
            allowed_tasks: request.allowed_tasks,
            rate_limit: request.rate_limit,
            daily_quota: request.daily_quota,
            expires_at: request.expires_at,
        };
        let issued = issue(&state.storage, request).await?;
        tracing::info!(key_id = %issued.row.id, scope = issued.row.scope, "a key was made");
        Ok(IssuedResponse::Issued(Json(IssuedKey { key: issued.key, details: issued.row.into() })))
    }

    /// List keys
    ///
    /// Needs the scope `admin`.
    #[oai(path = "/v1/keys", method = "get", operation_id = "listKeys", tag = "Group::Keys")]
    async fn list(&self, state: Data<&State>) -> Answer<Json<KeyList>, Look> {
        let rows = state.storage.api_keys().await?;
        Ok(Json(KeyList { items: rows.into_iter().map(Into::into).collect() }))
    }

    /// Revoke a key
    ///
    /// Needs the scope `admin`. It stays in the list.
    #[oai(path = "/v1/keys/:id", method = "delete", operation_id = "revokeKey", tag = "Group::Keys")]
    async fn revoke(
        &self,
        state: Data<&State>,
        /// The key's id.
        id: Path<Uuid>,
    ) -> Answer<RevokedKey, One> {
        state.storage.revoke_api_key(id.0).await?;
        state.keys.issued().forget(id.0);
        tracing::info!(key_id = %id.0, "a key was revoked");
        Ok(RevokedKey::Revoked)
    }
}
