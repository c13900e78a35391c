//! Documents: handed in, followed, listed, deleted.

mod model;

use petiole_storage::{
    CreatedDocument, Cursor, Document, DocumentFilter, IdempotencyKey, Replaced, content_hash, request_hash,
};
use poem::web::Data;
use poem_openapi::OpenApi;
use poem_openapi::param::{Header, Path, Query};
use poem_openapi::payload::Json;
use serde_json::json;
use uuid::Uuid;

pub(crate) use self::model::{Accepted, AcceptedResponse, DocumentRequest, DocumentView, StateOfDocument};
use self::model::{CreatedResponse, Deleted, DocumentPage, Duplicates};
use crate::auth::Caller;
use crate::etag::IfMatch;
use crate::failures::{Answer, CreateOnce, List, One, Remove, Replace};
use crate::outbox::outbox_message;
use crate::problem::renamed;
use crate::request_id::RequestId;
use crate::routes::events::first_answer;
use crate::routes::{Group, default_limit};
use crate::state::State;
use crate::upload::DocumentBody;

/// The task that cuts, embeds and stores a document.
const INGEST: &str = "documents.ingest";

#[derive(Clone, Default)]
pub(crate) struct Documents;

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
        let key = key.as_ref().map(|key| (key, &answer));
        let created = state.storage.create_document(new, message, on_duplicate.0.into(), key).await;
        let (id, task_id) = match created.map_err(|error| renamed(error, "data", "metadata"))? {
            CreatedDocument::New => (id, task_id),
            CreatedDocument::Replayed(first) => first_answer(&first)?,
            CreatedDocument::Existing(document) => return Ok(CreatedResponse::there(*document)),
        };
        Ok(CreatedResponse::accepted(id, task_id))
    }

    /// Hand in a document again
    ///
    /// The same as a new document, under its old id. Search finds its former passages until the new ones are there; then
    /// they are replaced all at once. When its content is the same, only its title, metadata and collection change, at
    /// once, and the answer is 200. With the `ETag` of a read in `If-Match` this happens only while the document is as it
    /// was read; else the answer is 412.
    #[oai(path = "/v1/documents/:id", method = "put", operation_id = "replaceDocument", tag = "Group::Documents")]
    async fn replace(
        &self,
        state: Data<&State>,
        request_id: RequestId,
        if_match: IfMatch,
        /// The document's id.
        id: Path<Uuid>,
        body: DocumentBody,
    ) -> Answer<CreatedResponse, Replace> {
        let task_id = Uuid::new_v4().to_string();
        let message = outbox_message(&state, INGEST, id.0, &task_id, &request_id)?;
        let new = body.into_new(id.0, task_id.clone());
        let expected = |now: &Document| if_match.allows(&DocumentView::from(now.clone()));
        let replaced = state.storage.replace_document(new, message, Some(&expected)).await;
        Ok(match replaced.map_err(|error| renamed(error, "data", "metadata"))? {
            Replaced::Unchanged(document) => CreatedResponse::there(*document),
            Replaced::Anew => CreatedResponse::accepted(id.0, task_id),
        })
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
        Ok(Json(state.storage.documents(&filter, after, limit.0).await?.into()))
    }

    /// Delete a document
    ///
    /// Its passages and vectors go with it. With the `ETag` of a read in `If-Match` this happens only while the document is
    /// as it was read; else the answer is 412.
    #[oai(path = "/v1/documents/:id", method = "delete", operation_id = "deleteDocument", tag = "Group::Documents")]
    async fn delete(
        &self,
        state: Data<&State>,
        if_match: IfMatch,
        /// The document's id.
        id: Path<Uuid>,
    ) -> Answer<Deleted, Remove> {
        let expected = |now: &Document| if_match.allows(&DocumentView::from(now.clone()));
        state.storage.delete_document(id.0, Some(&expected)).await?;
        Ok(Deleted::Deleted)
    }
}
