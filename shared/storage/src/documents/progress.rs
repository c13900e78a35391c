//! What the task of a document notes on it.

use chrono::Utc;
use sea_orm::{ActiveValue::Set, ColumnTrait, Condition, EntityTrait, QueryFilter};
use uuid::Uuid;

use super::DocumentState;
use crate::entity::document;
use crate::error::{Result, StorageError};
use crate::events::storable;
use crate::files;
use crate::storage::{OPERATION, Storage, within};

impl Storage {
    /// Work on a revision of the document begins (again): nothing of it is done yet. What the document had in the index
    /// stays until it is replaced.
    ///
    /// # Errors
    /// [`StorageError::NotFound`], [`StorageError::Conflict`] when there is a newer revision,
    /// [`StorageError::Unavailable`].
    pub async fn set_processing(&self, id: Uuid, revision: i32) -> Result<()> {
        let change = document::ActiveModel {
            state: Set(DocumentState::Processing),
            chunks: Set(0),
            chunks_done: Set(0),
            error: Set(None),
            ..Default::default()
        };
        self.change_revision(id, revision, change).await
    }

    /// Of the revision's `chunks` passages, `done` are embedded.
    ///
    /// # Errors
    /// As [`set_processing`](Self::set_processing).
    pub async fn set_progress(&self, id: Uuid, revision: i32, done: usize, chunks: usize) -> Result<()> {
        let number = |n: usize| Set(i32::try_from(n).unwrap_or(i32::MAX));
        let change = document::ActiveModel { chunks: number(chunks), chunks_done: number(done), ..Default::default() };
        self.change_revision(id, revision, change).await
    }

    /// The document failed for good; `reason` says why, for its owner to read. One that is ready stays so.
    ///
    /// # Errors
    /// [`StorageError::NotFound`], [`StorageError::Unavailable`].
    pub async fn mark_failed(&self, id: Uuid, reason: &str) -> Result<()> {
        let change = document::ActiveModel {
            state: Set(DocumentState::Failed),
            error: Set(Some(storable(reason))),
            ..Default::default()
        };
        let not_ready = Condition::all().add(document::Column::State.ne(DocumentState::Ready));
        if !self.change_document(id, not_ready, change).await? {
            self.document(id).await?;
            return Ok(());
        }
        // a file that gave no text serves nobody
        within(OPERATION, files::delete(&self.db, id)).await
    }

    async fn change_revision(&self, id: Uuid, revision: i32, change: document::ActiveModel) -> Result<()> {
        let this = Condition::all().add(document::Column::Revision.eq(revision));
        if self.change_document(id, this, change).await? {
            return Ok(());
        }
        self.document(id).await?;
        Err(superseded(id))
    }

    async fn change_document(&self, id: Uuid, condition: Condition, mut change: document::ActiveModel) -> Result<bool> {
        change.updated_at = Set(Utc::now());
        within(OPERATION, async {
            let query =
                document::Entity::update_many().set(change).filter(document::Column::Id.eq(id)).filter(condition);
            Ok(query.exec(&self.db).await?.rows_affected > 0)
        })
        .await
    }
}

/// The document was handed in again while an older revision was worked on.
pub(crate) fn superseded(id: Uuid) -> StorageError {
    StorageError::Conflict(format!("document {id} was handed in again meanwhile"))
}
