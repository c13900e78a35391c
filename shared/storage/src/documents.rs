//! Documents: texts that were handed in, and how far they are on their way into the index.

use chrono::{DateTime, Utc};
use sea_orm::prelude::Expr;
use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, ConnectionTrait, DatabaseTransaction, DbBackend, DeriveActiveEnum,
    EntityTrait, EnumIter, ExprTrait, FromQueryResult, QueryFilter, QueryOrder, QuerySelect, Statement,
    TransactionTrait,
};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::cursor::{Cursor, Page};
use crate::entity::document;
use crate::error::{Result, StorageError};
use crate::events::storable;
use crate::files;
use crate::idempotency::{self, IdempotencyKey, hex};
use crate::jsonb;
use crate::outbox::{self, NewOutboxMessage};
use crate::storage::{BULK, OPERATION, Storage, within};

/// Where a document is between being accepted and being found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
pub enum DocumentState {
    /// Stored; its task waits.
    Queued,
    /// It is being cut and embedded.
    Processing,
    /// Its passages can be found.
    Ready,
    /// Given up; there is an error.
    Failed,
}

/// A stored document, without its text.
#[derive(Clone, Debug, PartialEq, FromQueryResult)]
pub struct Document {
    /// Its id (UUID v7).
    pub id: Uuid,
    /// Its title, if it has one.
    pub title: Option<String>,
    /// The collection it belongs to.
    pub collection: String,
    /// What its owner wrote on it: a JSON object.
    pub metadata: Value,
    /// PostgreSQL's text-search configuration for its language, such as `english`.
    pub language: String,
    /// What kind of text it is: `text/plain`, `text/markdown`.
    pub media_type: String,
    /// SHA-256 of its text, or of the file it came as, in hexadecimal.
    pub content_hash: String,
    /// How far it is.
    pub state: DocumentState,
    /// How many passages it has, once that is known.
    pub chunks: i32,
    /// How many of them are embedded.
    pub chunks_done: i32,
    /// Why it failed, once failed.
    pub error: Option<String>,
    /// The task that works on it.
    pub task_id: String,
    /// How often it was handed in.
    pub revision: i32,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

impl From<document::Model> for Document {
    fn from(row: document::Model) -> Self {
        Self {
            id: row.id,
            title: row.title,
            collection: row.collection,
            metadata: jsonb::sent(row.metadata),
            language: row.language,
            media_type: row.media_type,
            content_hash: row.content_hash,
            state: row.state,
            chunks: row.chunks,
            chunks_done: row.chunks_done,
            error: row.error,
            task_id: row.task_id,
            revision: row.revision,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

impl Document {
    /// A row that was read as it lies in the database.
    fn restored(self) -> Self {
        Self { metadata: jsonb::sent(self.metadata), ..self }
    }
}

/// Everything but the text, which may be long.
const LIGHT: [document::Column; 15] = {
    use document::Column as C;
    [
        C::Id,
        C::Title,
        C::Collection,
        C::Metadata,
        C::Language,
        C::MediaType,
        C::ContentHash,
        C::State,
        C::Chunks,
        C::ChunksDone,
        C::Error,
        C::TaskId,
        C::Revision,
        C::CreatedAt,
        C::UpdatedAt,
    ]
};

/// A document with its text.
#[derive(Clone, Debug, PartialEq)]
pub struct DocumentText {
    /// The document.
    pub document: Document,
    /// Its text.
    pub content: String,
}

/// A document to be stored.
#[derive(Clone, Debug)]
pub struct NewDocument {
    /// Its id.
    pub id: Uuid,
    /// Its title, if any.
    pub title: Option<String>,
    /// The collection.
    pub collection: String,
    /// What its owner wrote on it.
    pub metadata: Map<String, Value>,
    /// PostgreSQL's text-search configuration for its language.
    pub language: String,
    /// What kind of text it is.
    pub media_type: String,
    /// The text; empty where a file holds it.
    pub content: String,
    /// The file that it comes as, its text not taken out yet.
    pub file: Option<Vec<u8>>,
    /// The task that will work on it.
    pub task_id: String,
}

/// Which documents a list shows; everything that is set must hold.
#[derive(Clone, Debug, Default)]
pub struct DocumentFilter {
    /// Only of this collection.
    pub collection: Option<String>,
    /// Only in this state.
    pub state: Option<DocumentState>,
    /// Only with this content: SHA-256 in hexadecimal.
    pub content_hash: Option<String>,
}

/// What becomes of a document whose content its collection has already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDuplicate {
    /// It is stored beside the other one.
    #[default]
    Store,
    /// It is not stored; the other one is given.
    Existing,
    /// It is refused.
    Refuse,
}

/// What came of [`Storage::create_document`].
#[derive(Clone, Debug, PartialEq)]
pub enum CreatedDocument {
    /// Stored, and its message with it.
    New,
    /// The collection had its content already, in this document; nothing was stored.
    Existing(Box<Document>),
    /// The same request was answered before, with this answer; nothing was stored.
    Replayed(Value),
}

/// What came of [`Storage::replace_document`].
#[derive(Clone, Debug, PartialEq)]
pub enum Replaced {
    /// Its new content is to be worked on.
    Anew,
    /// Its content was the same: only what is written on it changed, and this is the document now.
    Unchanged(Box<Document>),
}

impl Storage {
    /// Stores a document and the message of its task in one transaction: either both are there or neither is. With an
    /// idempotency key, `answer` is stored with the key.
    ///
    /// # Errors
    /// [`StorageError::Invalid`] for an unknown language or what PostgreSQL cannot hold; [`StorageError::Conflict`] for a
    /// key that belongs to another request, and for a duplicate that is to be refused; [`StorageError::Unavailable`].
    pub async fn create_document(
        &self,
        new: NewDocument,
        message: NewOutboxMessage,
        on_duplicate: OnDuplicate,
        key: Option<(&IdempotencyKey, &Value)>,
    ) -> Result<CreatedDocument> {
        // a file may be large
        within(BULK, async {
            let transaction = self.db.begin().await?;
            if let Some((key, answer)) = key
                && let Some(first) = idempotency::take(&transaction, key, answer).await?
            {
                return Ok(CreatedDocument::Replayed(first));
            }
            if on_duplicate != OnDuplicate::Store
                && let Some(twin) = twin(&transaction, &new).await?
            {
                return match on_duplicate {
                    OnDuplicate::Existing => Ok(CreatedDocument::Existing(Box::new(twin))),
                    _ => Err(StorageError::Conflict(format!(
                        "the collection {} has this content already: document {}",
                        twin.collection, twin.id
                    ))),
                };
            }
            insert(&transaction, new, None).await?;
            outbox::insert(&transaction, &message).await?;
            transaction.commit().await?;
            Ok(CreatedDocument::New)
        })
        .await
    }

    /// Stores other content for a document, and the message of the task that works on it, in one transaction. Its passages
    /// stay in the index until the new ones replace them, all at once. Where content, language and kind are the same and
    /// the document is ready, only its title, metadata and collection change, and there is no message.
    ///
    /// # Errors
    /// As [`create_document`](Self::create_document); [`StorageError::NotFound`].
    pub async fn replace_document(&self, new: NewDocument, message: NewOutboxMessage) -> Result<Replaced> {
        within(BULK, async {
            let transaction = self.db.begin().await?;
            check_language(&transaction, &new.language).await?;
            let hash = content_hash(&new);
            let query = document::Entity::find_by_id(new.id).select_only().columns(LIGHT).lock_exclusive();
            let Some(old) = query.into_model::<Document>().one(&transaction).await? else {
                return Err(StorageError::not_found("document", new.id));
            };
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

    /// Stores the document that an event asks for and, if given, the message of its task, in one transaction. One event
    /// makes one document: when it has one already, that is given back and nothing is stored.
    ///
    /// # Errors
    /// As [`create_document`](Self::create_document); [`StorageError::NotFound`] for an unknown event.
    pub async fn create_document_for_event(
        &self,
        event_id: Uuid,
        new: NewDocument,
        message: Option<NewOutboxMessage>,
    ) -> Result<Document> {
        within(OPERATION, async {
            let transaction = self.db.begin().await?;
            // the event's row is the lock between two deliveries of one task
            let sql = "SELECT id FROM events WHERE id = $1 FOR UPDATE";
            let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, [event_id.into()]);
            if transaction.query_one_raw(statement).await?.is_none() {
                return Err(StorageError::not_found("event", event_id));
            }
            let made =
                document::Entity::find().filter(document::Column::EventId.eq(event_id)).one(&transaction).await?;
            if let Some(made) = made {
                return Ok(made.into());
            }
            let id = new.id;
            insert(&transaction, new, Some(event_id)).await?;
            if let Some(message) = message {
                outbox::insert(&transaction, &message).await?;
            }
            transaction.commit().await?;
            self.document(id).await
        })
        .await
    }

    /// The document with this id.
    ///
    /// # Errors
    /// [`StorageError::NotFound`], [`StorageError::Unavailable`].
    pub async fn document(&self, id: Uuid) -> Result<Document> {
        within(OPERATION, async {
            let query = document::Entity::find_by_id(id).select_only().columns(LIGHT);
            let row = query.into_model::<Document>().one(&self.db).await?;
            row.map(Document::restored).ok_or_else(|| StorageError::not_found("document", id))
        })
        .await
    }

    /// The document with this id and its text.
    ///
    /// # Errors
    /// [`StorageError::NotFound`], [`StorageError::Unavailable`].
    pub async fn document_text(&self, id: Uuid) -> Result<DocumentText> {
        within(OPERATION, async {
            let row = document::Entity::find_by_id(id).one(&self.db).await?;
            let mut row = row.ok_or_else(|| StorageError::not_found("document", id))?;
            let content = std::mem::take(&mut row.content);
            Ok(DocumentText { document: row.into(), content })
        })
        .await
    }

    /// One page of at most `limit` documents, newest first, after the place `after`.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`].
    pub async fn documents(
        &self,
        filter: &DocumentFilter,
        after: Option<Cursor>,
        limit: u64,
    ) -> Result<Page<Document>> {
        use document::Column as C;
        // no collection has such a name
        if filter.collection.as_deref().is_some_and(|name| name.contains('\0')) {
            return Ok(Page { items: vec![], next: None });
        }
        let mut condition = Condition::all();
        if let Some(collection) = &filter.collection {
            condition = condition.add(C::Collection.eq(collection));
        }
        if let Some(state) = filter.state {
            condition = condition.add(C::State.eq(state));
        }
        if let Some(hash) = &filter.content_hash {
            condition = condition.add(C::ContentHash.eq(hash));
        }
        if let Some(after) = after {
            let place = Expr::tuple([Expr::value(after.created_at), Expr::value(after.id)]);
            condition = condition.add(Expr::tuple([Expr::col(C::CreatedAt), Expr::col(C::Id)]).lt(place));
        }
        let rows = within(OPERATION, async {
            let query = document::Entity::find()
                .select_only()
                .columns(LIGHT)
                .filter(condition)
                .order_by_desc(C::CreatedAt)
                .order_by_desc(C::Id);
            Ok(query.limit(limit + 1).into_model::<Document>().all(&self.db).await?)
        })
        .await?;
        let rows = rows.into_iter().map(Document::restored).collect();
        Ok(Page::new(rows, limit, |document| Cursor { created_at: document.created_at, id: document.id }))
    }

    /// Deletes a document with its passages and vectors.
    ///
    /// # Errors
    /// [`StorageError::NotFound`], [`StorageError::Unavailable`].
    pub async fn delete_document(&self, id: Uuid) -> Result<()> {
        within(OPERATION, async {
            match document::Entity::delete_by_id(id).exec(&self.db).await?.rows_affected {
                0 => Err(StorageError::not_found("document", id)),
                _ => Ok(()),
            }
        })
        .await
    }

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

/// SHA-256 of the content, in hexadecimal.
pub fn content_hash(new: &NewDocument) -> String {
    hex(&Sha256::digest(new.file.as_deref().unwrap_or(new.content.as_bytes())))
}

/// The document of the same collection that has the same content, the oldest one. Until the transaction ends, no other one
/// with this content is looked for.
async fn twin(transaction: &DatabaseTransaction, new: &NewDocument) -> Result<Option<Document>> {
    use document::Column as C;
    let hash = content_hash(new);
    let sql = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))";
    let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, [hash.as_str().into()]);
    transaction.query_one_raw(statement).await?;
    let query = document::Entity::find()
        .select_only()
        .columns(LIGHT)
        .filter(C::ContentHash.eq(hash))
        .filter(C::Collection.eq(&new.collection))
        .filter(C::State.ne(DocumentState::Failed))
        .order_by_asc(C::CreatedAt)
        .order_by_asc(C::Id);
    Ok(query.into_model::<Document>().one(transaction).await?.map(Document::restored))
}

async fn insert(transaction: &DatabaseTransaction, new: NewDocument, event_id: Option<Uuid>) -> Result<()> {
    check_language(transaction, &new.language).await?;
    let hash = content_hash(&new);
    let (id, file) = (new.id, new.file);
    let row = document::ActiveModel {
        id: Set(new.id),
        title: Set(new.title),
        collection: Set(new.collection),
        metadata: Set(jsonb::stored(Value::Object(new.metadata))),
        language: Set(new.language),
        media_type: Set(new.media_type),
        content_hash: Set(hash),
        content: Set(new.content),
        state: Set(DocumentState::Queued),
        task_id: Set(new.task_id),
        event_id: Set(event_id),
        ..Default::default()
    };
    document::Entity::insert(row).exec_without_returning(transaction).await?;
    if let Some(file) = file {
        files::insert(transaction, id, file).await?;
    }
    Ok(())
}

/// Only names of configurations: as a `regconfig`, PostgreSQL would take a number, too.
async fn check_language(transaction: &DatabaseTransaction, language: &str) -> Result<()> {
    let sql =
        "SELECT string_agg(cfgname, ', ' ORDER BY cfgname) AS names, coalesce(bool_or(cfgname = $1), false) AS known
        FROM pg_ts_config WHERE pg_ts_config_is_visible(oid)";
    let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, [language.into()]);
    let Some(row) = transaction.query_one_raw(statement).await? else {
        return Ok(());
    };
    if row.try_get::<bool>("", "known")? {
        return Ok(());
    }
    let names: String = row.try_get("", "names")?;
    Err(StorageError::invalid("language", format!("{language:?} is not one of {names}")))
}
