//! Chunks: the passages of a document and their vectors.

use sea_orm::prelude::PgVector;
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, Statement, Value};
use uuid::Uuid;

use crate::documents::superseded;
use crate::error::Result;
use crate::storage::{BULK, Storage, within};

/// Rows of one INSERT; PostgreSQL takes 65,535 parameters.
const ROWS: usize = 500;

/// A passage to be stored.
#[derive(Clone, Debug)]
pub struct NewChunk {
    /// Its place in the document, from 0.
    pub position: i32,
    /// Its text.
    pub text: String,
    /// How many tokens of the embedding model it has.
    pub tokens: i32,
    /// Its vector, as long as the model's dimensions.
    pub embedding: Vec<f32>,
}

impl Storage {
    /// Replaces all passages of a document by those of a revision, in one transaction: a search sees the old ones or the
    /// new ones. The document is ready then.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when the document was deleted meanwhile; [`StorageError::Conflict`] when there is a newer
    /// revision; [`StorageError::Invalid`] for a vector of the wrong length; [`StorageError::Unavailable`].
    pub async fn replace_chunks(&self, document_id: Uuid, revision: i32, chunks: Vec<NewChunk>) -> Result<()> {
        within(BULK, async {
            let transaction = self.begin().await?;
            // locks the document: a second delivery of the same task waits for its turn, a delete comes after
            let sql = "UPDATE documents
                SET chunks = $2, chunks_done = $2, state = 'ready', error = NULL, updated_at = clock_timestamp()
                WHERE id = $1 AND revision = $3 RETURNING collection, language";
            let count = i32::try_from(chunks.len()).unwrap_or(i32::MAX);
            let values = [document_id.into(), count.into(), revision.into()];
            let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
            let Some(document) = transaction.query_one_raw(statement).await? else {
                self.document(document_id).await?;
                return Err(superseded(document_id));
            };
            let (collection, language) = (document.try_get("", "collection")?, document.try_get("", "language")?);
            let sql = "DELETE FROM chunks WHERE document_id = $1";
            transaction
                .execute_raw(Statement::from_sql_and_values(DbBackend::Postgres, sql, [document_id.into()]))
                .await?;
            let mut chunks = chunks.into_iter();
            loop {
                let rows: Vec<_> = chunks.by_ref().take(ROWS).collect();
                if rows.is_empty() {
                    break;
                }
                insert(&transaction, document_id, &collection, &language, rows).await?;
            }
            transaction.commit().await?;
            Ok(())
        })
        .await
    }
}

async fn insert(
    transaction: &DatabaseTransaction,
    document_id: Uuid,
    collection: &String,
    language: &String,
    rows: Vec<NewChunk>,
) -> Result<()> {
    let mut sql =
        "INSERT INTO chunks (document_id, collection, language, id, position, text, tokens, embedding) VALUES "
            .to_owned();
    let mut values: Vec<Value> = vec![document_id.into(), collection.into(), language.into()];
    for row in rows {
        let n = values.len();
        if n > 3 {
            sql.push_str(", ");
        }
        sql.push_str(&format!(
            "($1, $2, $3::text::regconfig, ${}, ${}, ${}, ${}, ${})",
            n + 1,
            n + 2,
            n + 3,
            n + 4,
            n + 5
        ));
        values.push(Uuid::now_v7().into());
        values.push(row.position.into());
        values.push(row.text.into());
        values.push(row.tokens.into());
        values.push(PgVector::from(row.embedding).into());
    }
    transaction.execute_raw(Statement::from_sql_and_values(DbBackend::Postgres, sql, values)).await?;
    Ok(())
}
