//! Documents: handed in, followed, listed, deleted.

use chrono::{DateTime, Utc};
use petiole_client::TaskSend;
use petiole_storage::{
    CreatedDocument, Cursor, Document, DocumentFilter, DocumentState, IdempotencyKey, NewOutboxMessage, OnDuplicate,
    Replaced, content_hash, request_hash,
};
use poem::web::Data;
use poem_openapi::param::{Header, Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::types::{Example, ToJSON};
use poem_openapi::{ApiResponse, Enum, Object, OpenApi};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::auth::Caller;
use crate::failures::{Answer, CreateOnce, List, One, Replace};
use crate::json::{JsonObject, Text};
use crate::language::Language;
use crate::problem::Problem;
use crate::request_id::RequestId;
use crate::routes::Group;
use crate::routes::events::first_answer;
use crate::state::State;
use crate::upload::DocumentBody;

/// The task that cuts, embeds and stores a document.
const INGEST: &str = "documents.ingest";

#[derive(Clone, Default)]
pub(crate) struct Documents;

/// A document to be stored and indexed.
#[derive(Clone, Debug, Object)]
#[oai(example)]
pub(crate) struct DocumentRequest {
    /// The text.
    pub(crate) text: Text,
    /// A title, shown with what is found.
    #[oai(validator(max_length = 500, pattern = r"^[^\x00]*$"))]
    pub(crate) title: Option<String>,
    /// Fields of your own; a search can be narrowed by them.
    #[oai(default)]
    pub(crate) metadata: JsonObject,
    /// The collection it belongs to.
    #[oai(default = "default_collection", validator(min_length = 1, max_length = 200, pattern = r"^[^\x00]*$"))]
    pub(crate) collection: String,
    /// The language of the text, for keyword search: a text-search configuration of PostgreSQL, such as `english`,
    /// `german` or `simple`.
    #[oai(default)]
    pub(crate) language: Language,
}

pub(crate) fn default_collection() -> String {
    "default".into()
}

impl Example for DocumentRequest {
    fn example() -> Self {
        let Value::Object(metadata) = json!({"author": "Ada", "year": 1843}) else { unreachable!("an object") };
        Self {
            text: Text(
                "The Analytical Engine weaves algebraical patterns just as the Jacquard loom weaves flowers and leaves."
                    .into(),
            ),
            title: Some("Notes on the Analytical Engine".into()),
            metadata: JsonObject(metadata),
            collection: "history".into(),
            language: Language::default(),
        }
    }
}

/// What was accepted.
#[derive(Clone, Debug, Object)]
#[oai(example)]
pub(crate) struct Accepted {
    /// Its id.
    pub(crate) id: Uuid,
    /// The task that works on it.
    pub(crate) task_id: String,
    /// Its state: `queued`, unless it was there already.
    pub(crate) state: String,
}

impl Example for Accepted {
    fn example() -> Self {
        Self {
            id: Uuid::from_u128(0x0199_c1c4_6a5e_7c33_9a55_0242_ac12_0002),
            task_id: "5f0c2f0e-6f5b-4c59-a2f2-6f4f3b7c9d10".into(),
            state: "queued".into(),
        }
    }
}

#[derive(ApiResponse)]
pub(crate) enum AcceptedResponse {
    /// Stored; it will be worked on.
    #[oai(status = 202)]
    Accepted(
        Json<Accepted>,
        /// Where it is followed.
        #[oai(header = "Location")]
        String,
    ),
}

#[derive(ApiResponse)]
pub(crate) enum CreatedResponse {
    /// Stored; it will be worked on.
    #[oai(status = 202)]
    Accepted(
        Json<Accepted>,
        /// Where it is followed.
        #[oai(header = "Location")]
        String,
    ),
    /// Nothing is to be done: this document is there, with this content.
    #[oai(status = 200)]
    There(
        Json<Accepted>,
        /// Where it is.
        #[oai(header = "Location")]
        String,
    ),
}

/// What becomes of a document whose content its collection has already.
#[derive(Clone, Copy, Debug, Default, Enum, PartialEq)]
#[oai(rename_all = "lowercase")]
pub(crate) enum Duplicates {
    /// It is stored beside the other one.
    #[default]
    Store,
    /// It is not stored; the answer is 200 and names the other one.
    Existing,
    /// It is refused with 409.
    Refuse,
}

#[derive(ApiResponse)]
pub(crate) enum Deleted {
    /// It is gone, with its passages and vectors.
    #[oai(status = 204)]
    Deleted,
}

/// Where a document is on its way into the index.
#[derive(Clone, Copy, Debug, Enum, PartialEq)]
#[oai(rename_all = "lowercase")]
pub(crate) enum StateOfDocument {
    /// Its task waits.
    Queued,
    /// It is being cut and embedded.
    Processing,
    /// It can be found.
    Ready,
    /// It could not be indexed; `error` says why.
    Failed,
}

impl From<DocumentState> for StateOfDocument {
    fn from(state: DocumentState) -> Self {
        match state {
            DocumentState::Queued => Self::Queued,
            DocumentState::Processing => Self::Processing,
            DocumentState::Ready => Self::Ready,
            DocumentState::Failed => Self::Failed,
        }
    }
}

impl From<StateOfDocument> for DocumentState {
    fn from(state: StateOfDocument) -> Self {
        match state {
            StateOfDocument::Queued => Self::Queued,
            StateOfDocument::Processing => Self::Processing,
            StateOfDocument::Ready => Self::Ready,
            StateOfDocument::Failed => Self::Failed,
        }
    }
}

/// A document, without its text.
#[derive(Clone, Debug, Object, PartialEq)]
#[oai(rename = "Document")]
pub(crate) struct DocumentView {
    /// Its id.
    id: Uuid,
    /// Its title.
    title: Option<String>,
    /// The collection it belongs to.
    collection: String,
    /// Its owner's fields.
    metadata: JsonObject,
    /// The language of its text, for keyword search.
    language: String,
    /// What it came as.
    media_type: String,
    /// SHA-256 of its content, in hexadecimal.
    content_hash: String,
    /// How often it was handed in.
    revision: i32,
    /// How far it is.
    pub(crate) state: StateOfDocument,
    /// How many passages it has, once that is known.
    chunks: i32,
    /// How many of them are embedded.
    chunks_done: i32,
    /// Why it failed, when it did.
    error: Option<String>,
    /// The task that works on it.
    task_id: String,
    /// When it was accepted.
    created_at: DateTime<Utc>,
    /// When it last changed.
    updated_at: DateTime<Utc>,
}

impl From<Document> for DocumentView {
    fn from(document: Document) -> Self {
        let metadata = match document.metadata {
            Value::Object(map) => map,
            _ => Default::default(),
        };
        Self {
            id: document.id,
            title: document.title,
            collection: document.collection,
            metadata: JsonObject(metadata),
            language: document.language,
            media_type: document.media_type,
            content_hash: document.content_hash,
            revision: document.revision,
            state: document.state.into(),
            chunks: document.chunks,
            chunks_done: document.chunks_done,
            error: document.error,
            task_id: document.task_id,
            created_at: document.created_at,
            updated_at: document.updated_at,
        }
    }
}

/// A page of documents.
#[derive(Debug, Object)]
pub(crate) struct DocumentPage {
    /// The documents, newest first.
    items: Vec<DocumentView>,
    /// Where the next page begins; null on the last one.
    next_cursor: Option<String>,
}

#[OpenApi]
impl Documents {
    /// Hand in a document
    ///
    /// Stores the text and the message of its task in one transaction, so that 202 means: it will be worked on, even if
    /// Redis is away now. A worker then cuts it into passages, embeds and indexes them. The text comes as JSON, or as a
    /// file in a form: text, Markdown, HTML, PDF or DOCX. With an `Idempotency-Key` the same request may be sent again for
    /// a day, and gets the same answer.
    #[oai(path = "/v1/documents", method = "post", operation_id = "createDocument", tag = "Group::Documents")]
    async fn create(
        &self,
        state: Data<&State>,
        request_id: RequestId,
        caller: Caller,
        /// A text of your own by which this request is known if it must be sent again: 1 to 255 characters of ASCII.
        #[oai(name = "Idempotency-Key", validator(pattern = r"^[\x21-\x7e]([\x20-\x7e]{0,253}[\x21-\x7e])?$"))]
        key: Header<Option<String>>,
        /// What becomes of it when its collection has the same content already.
        #[oai(default)]
        on_duplicate: Query<Duplicates>,
        body: DocumentBody,
    ) -> Answer<CreatedResponse, CreateOnce> {
        let (id, task_id) = (Uuid::now_v7(), Uuid::new_v4().to_string());
        let message = outbox_message(&state, INGEST, id, &task_id, &request_id)?;
        let new = body.into_new(id, task_id.clone());
        let answer = json!({"id": id, "task_id": task_id});
        let key = key.0.map(|key| {
            let request =
                json!([new.title, new.collection, new.metadata, new.language, new.media_type, content_hash(&new)]);
            IdempotencyKey { scope: format!("documents {}", caller.id), key, request_hash: request_hash(&request) }
        });
        let on_duplicate = match on_duplicate.0 {
            Duplicates::Store => OnDuplicate::Store,
            Duplicates::Existing => OnDuplicate::Existing,
            Duplicates::Refuse => OnDuplicate::Refuse,
        };
        let key = key.as_ref().map(|key| (key, &answer));
        let created = state.storage.create_document(new, message, on_duplicate, key).await;
        let (id, task_id) = match created.map_err(|error| renamed(error, "data", "metadata"))? {
            CreatedDocument::New => (id, task_id),
            CreatedDocument::Replayed(first) => first_answer(&first)?,
            CreatedDocument::Existing(document) => return Ok(there(*document)),
        };
        let accepted = Accepted { id, task_id, state: "queued".into() };
        Ok(CreatedResponse::Accepted(Json(accepted), format!("/v1/documents/{id}")))
    }

    /// Hand in a document again
    ///
    /// The same as a new document, under its old id. Search finds its former passages until the new ones are there; then
    /// they are replaced all at once. When its content is the same, only its title, metadata and collection change, at
    /// once, and the answer is 200.
    #[oai(path = "/v1/documents/:id", method = "put", operation_id = "replaceDocument", tag = "Group::Documents")]
    async fn replace(
        &self,
        state: Data<&State>,
        request_id: RequestId,
        /// The document's id.
        id: Path<Uuid>,
        body: DocumentBody,
    ) -> Answer<CreatedResponse, Replace> {
        let task_id = Uuid::new_v4().to_string();
        let message = outbox_message(&state, INGEST, id.0, &task_id, &request_id)?;
        let new = body.into_new(id.0, task_id.clone());
        let replaced = state.storage.replace_document(new, message).await;
        match replaced.map_err(|error| renamed(error, "data", "metadata"))? {
            Replaced::Unchanged(document) => Ok(there(*document)),
            Replaced::Anew => {
                let accepted = Accepted { id: id.0, task_id, state: "queued".into() };
                Ok(CreatedResponse::Accepted(Json(accepted), format!("/v1/documents/{}", id.0)))
            }
        }
    }

    /// Follow a document
    ///
    /// Its state, and how many of its passages are done.
    #[oai(path = "/v1/documents/:id", method = "get", operation_id = "getDocument", tag = "Group::Documents")]
    async fn get(
        &self,
        state: Data<&State>,
        /// The document's id.
        id: Path<Uuid>,
    ) -> Answer<Json<DocumentView>, One> {
        Ok(Json(state.storage.document(id.0).await?.into()))
    }

    /// List documents
    ///
    /// Newest first, by pages: give `next_cursor` as `cursor` for the next one.
    #[oai(path = "/v1/documents", method = "get", operation_id = "listDocuments", tag = "Group::Documents")]
    async fn list(
        &self,
        state: Data<&State>,
        /// At most this many.
        #[oai(default = "default_limit", validator(minimum(value = "1"), maximum(value = "200")))]
        limit: Query<u64>,
        /// Where the page begins: `next_cursor` of the page before.
        #[oai(validator(pattern = "^([A-Za-z0-9_-]{32})?$"))]
        cursor: Query<Option<String>>,
        /// Only documents of this collection.
        collection: Query<Option<String>>,
        /// Only documents in this state.
        #[oai(name = "state")]
        in_state: Query<Option<StateOfDocument>>,
        /// Only documents of this content: its SHA-256 in hexadecimal.
        #[oai(validator(pattern = "^([0-9a-f]{64})?$"))]
        content_hash: Query<Option<String>>,
    ) -> Answer<Json<DocumentPage>, List> {
        let filter = DocumentFilter {
            collection: collection.0,
            state: in_state.0.map(Into::into),
            content_hash: content_hash.0.filter(|hash| !hash.is_empty()),
        };
        let after = cursor.0.as_deref().filter(|cursor| !cursor.is_empty()).map(Cursor::decode).transpose()?;
        let page = state.storage.documents(&filter, after, limit.0).await?;
        Ok(Json(DocumentPage {
            items: page.items.into_iter().map(Into::into).collect(),
            next_cursor: page.next.map(|cursor| cursor.encode()),
        }))
    }

    /// Delete a document
    ///
    /// Its passages and vectors go with it.
    #[oai(path = "/v1/documents/:id", method = "delete", operation_id = "deleteDocument", tag = "Group::Documents")]
    async fn delete(
        &self,
        state: Data<&State>,
        /// The document's id.
        id: Path<Uuid>,
    ) -> Answer<Deleted, One> {
        state.storage.delete_document(id.0).await?;
        Ok(Deleted::Deleted)
    }
}

/// The answer when nothing is to be done.
fn there(document: Document) -> CreatedResponse {
    let location = format!("/v1/documents/{}", document.id);
    let view = DocumentView::from(document);
    let state = view.state.to_json_string().trim_matches('"').to_owned();
    CreatedResponse::There(Json(Accepted { id: view.id, task_id: view.task_id, state }), location)
}

pub(crate) fn default_limit() -> u64 {
    50
}

/// The message that starts the task `name` on the row `id`, for the outbox.
pub(crate) fn outbox_message(
    state: &State,
    name: &str,
    id: Uuid,
    task_id: &str,
    request_id: &RequestId,
) -> Result<NewOutboxMessage, Problem> {
    let mut task = TaskSend::new(name);
    task.args = vec![json!(id)];
    task.task_id = Some(task_id.to_owned());
    task.headers.insert("request_id".into(), json!(request_id.0));
    let prepared = state.client.prepare(task)?;
    Ok(NewOutboxMessage {
        queue: prepared.queue.clone(),
        priority: prepared.priority,
        task_id: task_id.to_owned(),
        message: json!(prepared).to_string(),
    })
}

/// Storage speaks of the column; the client knows another name.
pub(crate) fn renamed(error: petiole_storage::StorageError, from: &str, to: &str) -> Problem {
    match error {
        petiole_storage::StorageError::Invalid { field, message } if field == from => Problem::field(to, message),
        other => other.into(),
    }
}
