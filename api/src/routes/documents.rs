//! Documents: handed in, followed, listed, deleted.

use chrono::{DateTime, Utc};
use petiole_client::TaskSend;
use petiole_storage::{Cursor, Document, DocumentFilter, DocumentState, NewDocument, NewOutboxMessage};
use poem::web::Data;
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::types::Example;
use poem_openapi::{ApiResponse, Enum, Object, OpenApi};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::failures::{Answer, Create, List, One};
use crate::json::{JsonObject, Text};
use crate::language::Language;
use crate::problem::Problem;
use crate::request_id::RequestId;
use crate::routes::Group;
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

impl DocumentRequest {
    pub(crate) fn into_new(self, id: Uuid, task_id: String, media_type: String, file: Option<Vec<u8>>) -> NewDocument {
        NewDocument {
            id,
            title: self.title,
            collection: self.collection,
            metadata: self.metadata.0,
            language: self.language.0,
            media_type,
            // the worker takes the text out of a file
            content: if file.is_some() { String::new() } else { self.text.0 },
            file,
            task_id,
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
    /// Its state: `queued`.
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
pub(crate) enum Deleted {
    /// It is gone, with its passages and vectors.
    #[oai(status = 204)]
    Deleted,
}

/// Where a document is on its way into the index.
#[derive(Clone, Copy, Debug, Enum)]
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
#[derive(Debug, Object)]
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
    /// How far it is.
    state: StateOfDocument,
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
    /// file in a form: text, Markdown, HTML, PDF or DOCX.
    #[oai(path = "/v1/documents", method = "post", operation_id = "createDocument", tag = "Group::Documents")]
    async fn create(
        &self,
        state: Data<&State>,
        request_id: RequestId,
        body: DocumentBody,
    ) -> Answer<AcceptedResponse, Create> {
        let DocumentBody { request, media_type, file } = body;
        let (id, task_id) = (Uuid::now_v7(), Uuid::new_v4().to_string());
        let message = outbox_message(&state, INGEST, id, &task_id, &request_id)?;
        let new = request.into_new(id, task_id.clone(), media_type, file);
        state.storage.create_document(new, message).await.map_err(|error| renamed(error, "data", "metadata"))?;
        let accepted = Accepted { id, task_id, state: "queued".into() };
        Ok(AcceptedResponse::Accepted(Json(accepted), format!("/v1/documents/{id}")))
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
    ) -> Answer<Json<DocumentPage>, List> {
        let filter = DocumentFilter { collection: collection.0, state: in_state.0.map(Into::into) };
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
