//! Files that documents came as, until their text is taken out.

use chrono::Utc;
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, Statement};
use uuid::Uuid;

use crate::documents::superseded;
use crate::error::Result;
use crate::events::storable;
use crate::storage::{BULK, Storage, within};

impl Storage {
    /// The file of a document whose text is not taken out yet; none: the text is there.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`].
    pub async fn document_file(&self, id: Uuid) -> Result<Option<Vec<u8>>> {
        let sql = "SELECT content FROM document_files WHERE document_id = $1";
        within(BULK, async {
            let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, [id.into()]);
            let row = self.db.query_one_raw(statement).await?;
            Ok(row.map(|row| row.try_get("", "content")).transpose()?)
        })
        .await
    }

    /// Stores the text of a revision's file, and drops the file.
    ///
    /// # Errors
    /// [`StorageError::NotFound`], [`StorageError::Conflict`] when there is a newer revision,
    /// [`StorageError::Unavailable`].
    pub async fn set_text(&self, id: Uuid, revision: i32, text: &str) -> Result<()> {
        within(BULK, async {
            let transaction = self.begin().await?;
            let sql = "UPDATE documents SET content = $2, updated_at = $3 WHERE id = $1 AND revision = $4";
            let values = [id.into(), storable(text).into(), Utc::now().into(), revision.into()];
            let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
            if transaction.execute_raw(statement).await?.rows_affected() == 0 {
                self.document(id).await?;
                return Err(superseded(id));
            }
            delete(&transaction, id).await?;
            transaction.commit().await?;
            Ok(())
        })
        .await
    }
}

pub(crate) async fn delete(db: &impl ConnectionTrait, document_id: Uuid) -> Result<()> {
    let sql = "DELETE FROM document_files WHERE document_id = $1";
    db.execute_raw(Statement::from_sql_and_values(DbBackend::Postgres, sql, [document_id.into()])).await?;
    Ok(())
}

pub(crate) async fn insert(transaction: &DatabaseTransaction, document_id: Uuid, file: Vec<u8>) -> Result<()> {
    let sql = "INSERT INTO document_files (document_id, content) VALUES ($1, $2)";
    let values = [document_id.into(), file.into()];
    transaction.execute_raw(Statement::from_sql_and_values(DbBackend::Postgres, sql, values)).await?;
    Ok(())
}
