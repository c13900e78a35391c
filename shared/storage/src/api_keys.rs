//! Keys that the API has issued: what each opens, and a salted hash of it. The key itself is nowhere.

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, DbBackend, FromQueryResult, Statement};
use serde_json::Value;
use uuid::Uuid;

use crate::error::{Result, StorageError};
use crate::storage::{OPERATION, Storage, within};

/// A list shows at most so many keys.
const MOST: i64 = 1000;

/// A key to be stored.
#[derive(Clone, Debug)]
pub struct NewApiKey {
    /// Its id, which is a part of the key.
    pub id: Uuid,
    /// Whose it is, or what for.
    pub name: String,
    /// What the hash is keyed with.
    pub salt: Vec<u8>,
    /// The hash of the secret part.
    pub hash: Vec<u8>,
    /// `all`, `read`, `write` or `admin`.
    pub scope: String,
    /// Patterns of the tasks that it may send; none: those of the settings.
    pub allowed_tasks: Option<Vec<String>>,
    /// Requests a minute; none: the settings'.
    pub rate_limit: Option<u32>,
    /// Requests a day; none: the settings'.
    pub daily_quota: Option<u32>,
    /// When it ends.
    pub expires_at: Option<DateTime<Utc>>,
}

/// A stored key.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiKeyRow {
    /// Its id.
    pub id: Uuid,
    /// Whose it is, or what for.
    pub name: String,
    /// What the hash is keyed with.
    pub salt: Vec<u8>,
    /// The hash of the secret part.
    pub hash: Vec<u8>,
    /// `all`, `read`, `write` or `admin`.
    pub scope: String,
    /// Patterns of the tasks that it may send.
    pub allowed_tasks: Option<Vec<String>>,
    /// Requests a minute.
    pub rate_limit: Option<u32>,
    /// Requests a day.
    pub daily_quota: Option<u32>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it ends.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was last used, to the minute or so.
    pub last_used_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
}

impl ApiKeyRow {
    /// Whether it opens anything at this time.
    pub fn is_valid(&self, now: DateTime<Utc>) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| now < end)
    }
}

#[derive(FromQueryResult)]
struct Row {
    id: Uuid,
    name: String,
    salt: Vec<u8>,
    hash: Vec<u8>,
    scope: String,
    allowed_tasks: Option<Value>,
    rate_limit: Option<i32>,
    daily_quota: Option<i32>,
    created_at: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
    last_used_at: Option<DateTime<Utc>>,
    revoked_at: Option<DateTime<Utc>>,
}

impl From<Row> for ApiKeyRow {
    fn from(row: Row) -> Self {
        let patterns = |value: Value| match value {
            Value::Array(items) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            _ => vec![],
        };
        let count = |count: Option<i32>| count.and_then(|count| u32::try_from(count).ok());
        Self {
            id: row.id,
            name: row.name,
            salt: row.salt,
            hash: row.hash,
            scope: row.scope,
            allowed_tasks: row.allowed_tasks.map(patterns),
            rate_limit: count(row.rate_limit),
            daily_quota: count(row.daily_quota),
            created_at: row.created_at,
            expires_at: row.expires_at,
            last_used_at: row.last_used_at,
            revoked_at: row.revoked_at,
        }
    }
}

impl Storage {
    /// Stores a key.
    ///
    /// # Errors
    /// [`StorageError::Invalid`] for a name that PostgreSQL cannot hold; [`StorageError::Unavailable`].
    pub async fn create_api_key(&self, new: NewApiKey) -> Result<ApiKeyRow> {
        let sql = "INSERT INTO api_keys
                (id, name, salt, hash, scope, allowed_tasks, rate_limit, daily_quota, expires_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING *";
        let count = |count: Option<u32>| count.map(|count| i32::try_from(count).unwrap_or(i32::MAX));
        let values: [sea_orm::Value; 9] = [
            new.id.into(),
            new.name.into(),
            new.salt.into(),
            new.hash.into(),
            new.scope.into(),
            new.allowed_tasks.map(Value::from).into(),
            count(new.rate_limit).into(),
            count(new.daily_quota).into(),
            new.expires_at.into(),
        ];
        let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
        within(OPERATION, async {
            let row = Row::find_by_statement(statement).one(&self.db).await?;
            row.map(Into::into).ok_or_else(|| StorageError::Conflict("the key was not stored".into()))
        })
        .await
    }

    /// The key of this id, if there is one.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`].
    pub async fn api_key(&self, id: Uuid) -> Result<Option<ApiKeyRow>> {
        let sql = "SELECT * FROM api_keys WHERE id = $1";
        let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, [id.into()]);
        within(OPERATION, async { Ok(Row::find_by_statement(statement).one(&self.db).await?.map(Into::into)) }).await
    }

    /// The keys, newest first; revoked ones too.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`].
    pub async fn api_keys(&self) -> Result<Vec<ApiKeyRow>> {
        let sql = "SELECT * FROM api_keys ORDER BY created_at DESC, id DESC LIMIT $1";
        let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, [MOST.into()]);
        within(OPERATION, async {
            let rows = Row::find_by_statement(statement).all(&self.db).await?;
            Ok(rows.into_iter().map(Into::into).collect())
        })
        .await
    }

    /// Revokes a key for good. Twice changes nothing.
    ///
    /// # Errors
    /// [`StorageError::NotFound`], [`StorageError::Unavailable`].
    pub async fn revoke_api_key(&self, id: Uuid) -> Result<()> {
        let sql = "UPDATE api_keys SET revoked_at = coalesce(revoked_at, now()) WHERE id = $1";
        match self.change_api_key(sql, id).await? {
            0 => Err(StorageError::not_found("key", id)),
            _ => Ok(()),
        }
    }

    /// Notes that a key was used just now.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`].
    pub async fn touch_api_key(&self, id: Uuid) -> Result<()> {
        self.change_api_key("UPDATE api_keys SET last_used_at = now() WHERE id = $1", id).await.map(|_| ())
    }

    async fn change_api_key(&self, sql: &str, id: Uuid) -> Result<u64> {
        let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, [id.into()]);
        within(OPERATION, async { Ok(self.db.execute_raw(statement).await?.rows_affected()) }).await
    }
}
