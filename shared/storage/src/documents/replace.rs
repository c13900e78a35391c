//! Other content under an old id.

use chrono::Utc;
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, QueryFilter, QuerySelect, Statement,
};
use serde_json::Value;

use super::create::{NewDocument, check_language, content_hash};
use super::{Document, DocumentState, LIGHT};
use crate::entity::document;
use crate::error::{Result, StorageError};
use crate::expected::{self, Expected};
use crate::files;
use crate::jsonb;
use crate::outbox::{self, NewOutboxMessage};
use crate::storage::{BULK, Storage, within};

/// What came of [`Storage::replace_document`].
#[derive(Clone, Debug, PartialEq)]
pub enum Replaced {
    /// Its new content is to be worked on.
    Anew,
    /// Its content was the same: only what is written on it changed, and this is the document now.
    Unchanged(Box<Document>),
}

impl Storage {
    /// Stores other content for a document, and the message of the task that works on it, in one transaction. Its passages
    /// stay in the index until the new ones replace them, all at once. Where content, language and kind are the same and
    /// the document is ready, only its title, metadata and collection change, and there is no message.
    ///
    /// # Errors
    /// As [`create_document`](Self::create_document); [`StorageError::NotFound`]; [`StorageError::Changed`] when it is not
    /// as `expected`.
    pub async fn replace_document(
        &self,
        new: NewDocument,
        message: NewOutboxMessage,
        expected: Option<Expected<'_, Document>>,
    ) -> Result<Replaced> {
        within(BULK, async {
            let transaction = self.begin().await?;
            check_language(&transaction, &new.language).await?;
            let hash = content_hash(&new);
            let query = document::Entity::find_by_id(new.id).select_only().columns(LIGHT).lock_exclusive();
            let Some(old) = query.into_model::<Document>().one(&transaction).await? else {
                return Err(StorageError::not_found("document", new.id));
            };
            let old = old.restored();
            expected::check(expected, &old, "document")?;
            let same = old.state == DocumentState::Ready
                && (old.content_hash.as_str(), old.language.as_str(), old.media_type.as_str())
                    == (hash.as_str(), new.language.as_str(), new.media_type.as_str());
            let mut change = document::ActiveModel {
                title: Set(new.title),
                collection: Set(new.collection.clone()),
                metadata: Set(jsonb::stored(Value::Object(new.metadata))),
                updated_at: Set(Utc::now()),
                ..Default::default()
            };
            if !same {
                change = document::ActiveModel {
                    language: Set(new.language),
                    media_type: Set(new.media_type),
                    content: Set(new.content),
                    content_hash: Set(hash),
                    state: Set(DocumentState::Queued),
                    chunks: Set(0),
                    chunks_done: Set(0),
                    error: Set(None),
                    task_id: Set(new.task_id),
                    revision: Set(old.revision.saturating_add(1)),
                    ..change
                };
            }
            let query = document::Entity::update_many().set(change).filter(document::Column::Id.eq(new.id));
            query.exec(&transaction).await?;
            if same {
                let sql = "UPDATE chunks SET collection = $2 WHERE document_id = $1 AND collection <> $2";
                let values = [new.id.into(), new.collection.into()];
                transaction.execute_raw(Statement::from_sql_and_values(DbBackend::Postgres, sql, values)).await?;
            } else {
                files::delete(&transaction, new.id).await?;
                if let Some(file) = new.file {
                    files::insert(&transaction, new.id, file).await?;
                }
                outbox::insert(&transaction, &message).await?;
            }
            transaction.commit().await?;
            if same { Ok(Replaced::Unchanged(Box::new(self.document(new.id).await?))) } else { Ok(Replaced::Anew) }
        })
        .await
    }
}
