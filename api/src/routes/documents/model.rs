//! What operations on documents take and give.

use chrono::{DateTime, Utc};
use petiole_storage::{Document, DocumentState, OnDuplicate, Page};
use poem_openapi::payload::Json;
use poem_openapi::types::{Example, ToJSON};
use poem_openapi::{ApiResponse, Enum, Object};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::json::{JsonObject, Text};
use crate::language::Language;

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

impl CreatedResponse {
    /// The task of this document is on its way.
    pub(super) fn accepted(id: Uuid, task_id: String) -> Self {
        let accepted = Accepted { id, task_id, state: "queued".into() };
        Self::Accepted(Json(accepted), format!("/v1/documents/{id}"))
    }

    /// Nothing is to be done.
    pub(super) fn there(document: Document) -> Self {
        let location = format!("/v1/documents/{}", document.id);
        let view = DocumentView::from(document);
        let state = view.state.to_json_string().trim_matches('"').to_owned();
        Self::There(Json(Accepted { id: view.id, task_id: view.task_id, state }), location)
    }
}

impl From<Duplicates> for OnDuplicate {
    fn from(duplicates: Duplicates) -> Self {
        match duplicates {
            Duplicates::Store => Self::Store,
            Duplicates::Existing => Self::Existing,
            Duplicates::Refuse => Self::Refuse,
        }
    }
}

impl From<Page<Document>> for DocumentPage {
    fn from(page: Page<Document>) -> Self {
        Self {
            items: page.items.into_iter().map(Into::into).collect(),
            next_cursor: page.next.map(|cursor| cursor.encode()),
        }
    }
}
