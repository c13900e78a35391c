//! Collections: the documents of one name together. A collection is there while it has documents.

use chrono::{DateTime, Utc};
use sea_orm::{ColumnTrait, DbBackend, EntityTrait, FromQueryResult, QueryFilter, Statement};

use crate::entity::document;
use crate::error::{Result, StorageError};
use crate::storage::{BULK, Storage, within};

/// A collection, counted.
#[derive(Clone, Debug, PartialEq, FromQueryResult)]
pub struct Collection {
    /// Its name.
    pub name: String,
    /// How many documents it has.
    pub documents: i64,
    /// How many passages they have.
    pub chunks: i64,
    /// How many of the documents wait.
    pub queued: i64,
    /// How many are worked on.
    pub processing: i64,
    /// How many can be found.
    pub ready: i64,
    /// How many failed.
    pub failed: i64,
    /// When its oldest document was accepted.
    pub created_at: DateTime<Utc>,
    /// When one of its documents last changed.
    pub updated_at: DateTime<Utc>,
}

const COUNTED: &str = "SELECT collection AS name, count(*) AS documents, coalesce(sum(chunks), 0)::bigint AS chunks,
    count(*) FILTER (WHERE state = 'queued') AS queued, count(*) FILTER (WHERE state = 'processing') AS processing,
    count(*) FILTER (WHERE state = 'ready') AS ready, count(*) FILTER (WHERE state = 'failed') AS failed,
    min(created_at) AS created_at, max(updated_at) AS updated_at
    FROM documents";

impl Storage {
    /// At most `limit` collections by their names, from after the name `after`; and whether there are more.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`].
    pub async fn collections(&self, after: Option<&str>, limit: u64) -> Result<(Vec<Collection>, bool)> {
        let sql = format!(
            "{COUNTED} WHERE $1::text IS NULL OR collection > $1 GROUP BY collection ORDER BY collection LIMIT $2"
        );
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = i64::try_from(limit.saturating_add(1)).unwrap_or(i64::MAX);
        let after = after.map(|name| name.replace('\0', ""));
        within(BULK, async {
            let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, [after.into(), more.into()]);
            let mut found = Collection::find_by_statement(statement).all(&self.db).await?;
            let more = found.len() > limit;
            found.truncate(limit);
            Ok((found, more))
        })
        .await
    }

    /// The collection of this name.
    ///
    /// # Errors
    /// [`StorageError::NotFound`], [`StorageError::Unavailable`].
    pub async fn collection(&self, name: &str) -> Result<Collection> {
        let unknown = || StorageError::not_found("collection", name);
        if name.contains('\0') {
            return Err(unknown());
        }
        let sql = format!("{COUNTED} WHERE collection = $1 GROUP BY collection");
        within(BULK, async {
            let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, [name.into()]);
            Collection::find_by_statement(statement).one(&self.db).await?.ok_or_else(unknown)
        })
        .await
    }

    /// Deletes all documents of a collection with their passages and vectors. Gives how many.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when it has none; [`StorageError::Unavailable`].
    pub async fn delete_collection(&self, name: &str) -> Result<u64> {
        let unknown = || StorageError::not_found("collection", name);
        if name.contains('\0') {
            return Err(unknown());
        }
        within(BULK, async {
            let query = document::Entity::delete_many().filter(document::Column::Collection.eq(name));
            match query.exec(&self.db).await?.rows_affected {
                0 => Err(unknown()),
                deleted => Ok(deleted),
            }
        })
        .await
    }
}
