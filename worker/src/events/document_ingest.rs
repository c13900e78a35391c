//! `document.ingest`: the body of `POST /v1/documents` as an event's data.

use async_trait::async_trait;
use petiole_storage::{Event, NewDocument};
use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::registry::{EventHandler, HandlerError};
use crate::documents::{IngestReport, ingest};
use crate::services::Services;

/// What `document.ingest` takes.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DocumentData {
    /// The text; not empty.
    pub text: String,
    /// The title.
    #[serde(default)]
    pub title: Option<String>,
    /// What the owner wants to find with it.
    #[serde(default)]
    pub metadata: Option<Map<String, Value>>,
    /// The collection; `default` if there is none.
    #[serde(default)]
    pub collection: Option<String>,
    /// PostgreSQL's text-search configuration for the text's language; `english` if there is none.
    #[serde(default)]
    pub language: Option<String>,
}

/// Stores the document that the event brings, once, and brings it into the index.
#[derive(Clone, Copy, Debug)]
pub struct DocumentIngest;

#[async_trait]
impl EventHandler for DocumentIngest {
    const TYPE: &'static str = "document.ingest";
    type Data = DocumentData;
    type Output = IngestReport;

    async fn handle(
        &self,
        services: &Services,
        event: &Event,
        data: DocumentData,
    ) -> Result<IngestReport, HandlerError> {
        if data.text.trim().is_empty() {
            return Err(HandlerError::Data { kind: Self::TYPE, reason: "text: must not be empty".to_owned() });
        }
        services.declare_model().await?;
        let new = NewDocument {
            id: Uuid::now_v7(),
            title: data.title,
            collection: data.collection.unwrap_or_else(|| "default".to_owned()),
            metadata: data.metadata.unwrap_or_default(),
            language: data.language.unwrap_or_else(|| "english".to_owned()),
            media_type: "text/plain".to_owned(),
            content: data.text,
            file: None,
            task_id: event.task_id.clone(),
        };
        // No message: this very task does the document's work.
        let document = services.storage.create_document_for_event(event.id, new, None).await?;
        Ok(ingest(services, document.id).await?)
    }
}
