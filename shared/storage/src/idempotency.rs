//! Idempotency keys: a request that is sent again gets the answer of the first time.

use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, Statement};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::error::{Result, StorageError};
use crate::storage::{OPERATION, Storage, within};

/// How long a key is remembered.
const KEEP: Duration = Duration::from_secs(24 * 3600);

/// A client's key and the request that came with it.
#[derive(Clone, Debug)]
pub struct IdempotencyKey {
    /// What the key is for: keys of different kinds of requests, or of different callers, never meet.
    pub scope: String,
    /// The client's text.
    pub key: String,
    /// [`request_hash`] of the request.
    pub request_hash: String,
}

/// A hash of a JSON document that does not depend on the order of its keys or on white space.
pub fn request_hash(request: &Value) -> String {
    let mut text = String::new();
    canonical(request, &mut text);
    hex(&Sha256::digest(text))
}

fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<_> = map.keys().collect();
            keys.sort();
            out.push('{');
            for key in keys {
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                canonical(&map[key], out);
                out.push(',');
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for item in items {
                canonical(item, out);
                out.push(',');
            }
            out.push(']');
        }
        other => out.push_str(&other.to_string()),
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Takes the key for this request and its answer. Gives the stored answer when the same request was answered before.
///
/// A second request with the key waits here until the first one's transaction has ended, so of many at once one wins.
pub(crate) async fn take(
    transaction: &DatabaseTransaction,
    key: &IdempotencyKey,
    answer: &Value,
) -> Result<Option<Value>> {
    let sql = "INSERT INTO idempotency_keys (scope, key, request_hash, answer) VALUES ($1, $2, $3, $4)
        ON CONFLICT (scope, key) DO UPDATE
        SET request_hash = excluded.request_hash, answer = excluded.answer, created_at = now()
        WHERE idempotency_keys.created_at < now() - make_interval(secs => $5)";
    let values = [
        key.scope.as_str().into(),
        key.key.as_str().into(),
        key.request_hash.as_str().into(),
        answer.clone().into(),
        KEEP.as_secs_f64().into(),
    ];
    let taken = transaction.execute_raw(Statement::from_sql_and_values(DbBackend::Postgres, sql, values)).await?;
    if taken.rows_affected() > 0 {
        return Ok(None);
    }
    let sql = "SELECT request_hash, answer FROM idempotency_keys WHERE scope = $1 AND key = $2";
    let values = [key.scope.as_str().into(), key.key.as_str().into()];
    let row = transaction
        .query_one_raw(Statement::from_sql_and_values(DbBackend::Postgres, sql, values))
        .await?
        .ok_or_else(|| StorageError::Conflict("the idempotency key was removed meanwhile".into()))?;
    if row.try_get::<String>("", "request_hash")? == key.request_hash {
        Ok(Some(row.try_get("", "answer")?))
    } else {
        Err(StorageError::Conflict("this idempotency key was used for another request".into()))
    }
}

/// Takes the key again, whose `first` answer is void. False when another request was faster: its answer counts.
pub(crate) async fn renew(
    transaction: &DatabaseTransaction,
    key: &IdempotencyKey,
    first: &Value,
    answer: &Value,
) -> Result<bool> {
    let sql =
        "UPDATE idempotency_keys SET answer = $4, created_at = now() WHERE scope = $1 AND key = $2 AND answer = $3";
    let values = [key.scope.as_str().into(), key.key.as_str().into(), first.clone().into(), answer.clone().into()];
    let renewed = transaction.execute_raw(Statement::from_sql_and_values(DbBackend::Postgres, sql, values)).await?;
    Ok(renewed.rows_affected() > 0)
}

impl Storage {
    /// Forgets keys older than a day. Gives how many.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`].
    pub async fn purge_idempotency_keys(&self) -> Result<u64> {
        let sql = "DELETE FROM idempotency_keys WHERE created_at < now() - make_interval(secs => $1)";
        let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, [KEEP.as_secs_f64().into()]);
        within(OPERATION, async { Ok(self.db.execute_raw(statement).await?.rows_affected()) }).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_order_of_keys_does_not_matter_but_values_do() {
        let hash = request_hash(&json!({"type": "a", "data": {"x": [1, 2], "y": null}}));
        assert_eq!(hash, request_hash(&json!({"data": {"y": null, "x": [1, 2]}, "type": "a"})));
        assert_ne!(hash, request_hash(&json!({"data": {"y": null, "x": [2, 1]}, "type": "a"})));
        assert_ne!(request_hash(&json!(["1"])), request_hash(&json!([1])));
        assert_ne!(request_hash(&json!(["a,b"])), request_hash(&json!(["a", "b"])));
    }
}
