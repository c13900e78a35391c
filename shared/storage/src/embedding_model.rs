//! Which model made the vectors. Vectors of two models cannot be compared, so there is one at a time.

use std::fmt;

use sea_orm::{ConnectionTrait, DbBackend, Statement};

use crate::error::{Result, StorageError};
use crate::storage::{BULK, OPERATION, Storage, lock, within};

/// pgvector's HNSW index takes no longer vectors.
const MAX_DIMENSIONS: usize = 2_000;

/// An embedding model, as far as its vectors are concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmbeddingModel {
    /// Its name.
    pub name: String,
    /// The length of its vectors.
    pub dimensions: usize,
}

impl fmt::Display for EmbeddingModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the model {} ({} dimensions)", self.name, self.dimensions)
    }
}

impl Storage {
    /// Declares the model whose vectors will be stored and searched. The first one decides the column's size; later the
    /// same one is asked for, or nothing works. To be called after [`migrate`](Storage::migrate), by each program at start.
    ///
    /// # Errors
    /// [`StorageError::EmbeddingModel`] when the vectors in the database are another model's.
    pub async fn use_embedding_model(&self, model: &EmbeddingModel) -> Result<()> {
        if !(1..=MAX_DIMENSIONS).contains(&model.dimensions) {
            return Err(StorageError::invalid(
                "EMBEDDING_MODEL",
                format!("{model}: the index takes 1 to {MAX_DIMENSIONS} dimensions"),
            ));
        }
        if self.embedding_model().await?.as_ref() == Some(model) {
            return Ok(());
        }
        within(BULK, async {
            let transaction = self.begin().await?;
            lock(&transaction).await?;
            // another program may have come first while this one waited
            if let Some(stored) = stored_model(&transaction).await? {
                if stored == *model || has_chunks(&transaction).await? {
                    return same(stored, model);
                }
                // no vectors yet: nothing speaks against another model
                transaction
                    .execute_unprepared("ALTER TABLE chunks DROP COLUMN embedding; DELETE FROM embedding_model")
                    .await?;
            }
            let sql = "INSERT INTO embedding_model (name, dimensions) VALUES ($1, $2)";
            let dimensions = i32::try_from(model.dimensions).unwrap_or(i32::MAX);
            let values = [model.name.as_str().into(), dimensions.into()];
            transaction.execute_raw(Statement::from_sql_and_values(DbBackend::Postgres, sql, values)).await?;
            transaction
                .execute_unprepared(&format!(
                    "ALTER TABLE chunks ADD COLUMN embedding vector({dimensions}) NOT NULL;
                     CREATE INDEX chunks_embedding ON chunks USING hnsw (embedding vector_cosine_ops);"
                ))
                .await?;
            transaction.commit().await?;
            Ok(())
        })
        .await
    }

    /// The model whose vectors are stored; none before the first one was declared.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`].
    pub async fn embedding_model(&self) -> Result<Option<EmbeddingModel>> {
        within(OPERATION, stored_model(&self.db)).await
    }
}

async fn stored_model(db: &impl ConnectionTrait) -> Result<Option<EmbeddingModel>> {
    let statement = Statement::from_string(DbBackend::Postgres, "SELECT name, dimensions FROM embedding_model");
    let Some(row) = db.query_one_raw(statement).await? else {
        return Ok(None);
    };
    Ok(Some(EmbeddingModel {
        name: row.try_get("", "name")?,
        dimensions: usize::try_from(row.try_get::<i32>("", "dimensions")?).unwrap_or_default(),
    }))
}

async fn has_chunks(db: &impl ConnectionTrait) -> Result<bool> {
    let statement = Statement::from_string(DbBackend::Postgres, "SELECT 1 AS one FROM chunks LIMIT 1");
    Ok(db.query_one_raw(statement).await?.is_some())
}

fn same(stored: EmbeddingModel, configured: &EmbeddingModel) -> Result<()> {
    if stored == *configured {
        Ok(())
    } else {
        Err(StorageError::EmbeddingModel { stored, configured: configured.clone() })
    }
}
