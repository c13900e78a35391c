//! New documents.

use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, DbBackend, EntityTrait, QueryFilter,
    QueryOrder, QuerySelect, Statement,
};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{Document, DocumentState, LIGHT};
use crate::entity::document;
use crate::error::{Result, StorageError};
use crate::files;
use crate::idempotency::{self, IdempotencyKey, hex};
use crate::jsonb;
use crate::outbox::{self, NewOutboxMessage};
use crate::storage::{BULK, OPERATION, Storage, within};

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

impl Storage {
    /// Stores a document and the message of its task in one transaction: either both are there or neither is. With an
    /// idempotency key, `answer` is stored with the key. A key whose document was deleted since is as good as new.
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
            let transaction = self.begin().await?;
            if let Some((key, answer)) = key
                && let Some(first) = replayed(&transaction, key, answer).await?
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
            let transaction = self.begin().await?;
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
}

/// SHA-256 of the content, in hexadecimal.
pub fn content_hash(new: &NewDocument) -> String {
    hex(&Sha256::digest(new.file.as_deref().unwrap_or(new.content.as_bytes())))
}

/// The answer that this request got before, if its document is still there; else the key is this request's.
async fn replayed(transaction: &DatabaseTransaction, key: &IdempotencyKey, answer: &Value) -> Result<Option<Value>> {
    while let Some(first) = idempotency::take(transaction, key, answer).await? {
        let id = first["id"].as_str().and_then(|id| Uuid::parse_str(id).ok()).unwrap_or_default();
        let query = document::Entity::find_by_id(id).select_only().column(document::Column::Id);
        if query.into_tuple::<Uuid>().one(transaction).await?.is_some() {
            return Ok(Some(first));
        }
        if idempotency::renew(transaction, key, &first, answer).await? {
            break;
        }
    }
    Ok(None)
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
pub(super) async fn check_language(transaction: &DatabaseTransaction, language: &str) -> Result<()> {
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
