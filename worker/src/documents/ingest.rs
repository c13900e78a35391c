//! Cut a document into passages, embed them, put them into the index.

use petiole_ai::{Chunk, Chunker, EmbedError, TextKind};
use petiole_storage::{DocumentState, DocumentText, NewChunk, Storage, StorageError};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::extract::{ExtractError, Format};
use crate::services::Services;

/// Passages that are embedded between two reports of progress.
const PASSAGES_PER_STEP: usize = 32;

/// So many newer revisions are taken up in one run; then the task is tried again.
const MOST_REVISIONS: usize = 10;

/// What became of a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IngestReport {
    /// The document.
    pub document_id: Uuid,
    /// How many passages it has in the index.
    pub chunks: usize,
}

/// Why a document is not in the index.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// It was deleted, or never there.
    #[error("there is no document {0}")]
    NotFound(Uuid),
    /// There is nothing in it to find.
    #[error("the document has no text")]
    Empty,
    /// The file it came as gives no text.
    #[error(transparent)]
    Extract(#[from] ExtractError),
    /// It came as a file of a kind that is not read here.
    #[error("files of the type {0} are not read here")]
    Format(String),
    /// No vectors could be made.
    #[error(transparent)]
    Embed(#[from] EmbedError),
    /// The database.
    #[error(transparent)]
    Storage(StorageError),
    /// The chunker broke off.
    #[error("the document could not be cut into passages: {0}")]
    Chunker(String),
}

impl IngestError {
    /// Whether the same call may succeed later without anybody changing anything. The document is then not marked as
    /// failed: the caller tries again, and calls [`give_up`] when it will not.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Embed(error) => error.is_transient(),
            Self::Storage(error) => matches!(error, StorageError::Unavailable(_) | StorageError::Conflict(_)),
            Self::Extract(error) => matches!(error, ExtractError::Process(_)),
            Self::NotFound(_) | Self::Empty | Self::Chunker(_) | Self::Format(_) => false,
        }
    }
}

/// Cuts the document into passages, embeds them and puts them into the index. It may run twice, also at the same time:
/// passages are replaced in one transaction, and a document that is ready is left alone. One that is handed in again
/// meanwhile is begun anew.
///
/// # Errors
/// [`IngestError`]. What cannot succeed later is written on the document as its reason for failure.
pub async fn ingest(services: &Services, document_id: Uuid) -> Result<IngestReport, IngestError> {
    let storage = &services.storage;
    let stored = |error| match error {
        StorageError::NotFound { .. } => IngestError::NotFound(document_id),
        error => IngestError::Storage(error),
    };
    let mut tries = MOST_REVISIONS;
    loop {
        let text = storage.document_text(document_id).await.map_err(stored)?;
        let revision = text.document.revision;
        let error = match work(services, text).await {
            Ok(report) => return Ok(report),
            Err(error) => error,
        };
        let now = storage.document(document_id).await.map_err(stored)?;
        if now.revision != revision && tries > 0 {
            tries -= 1;
            continue;
        }
        // A second run may have brought the document into the index meanwhile: that counts.
        if now.state == DocumentState::Ready && now.revision == revision {
            return Ok(report(document_id, now.chunks));
        }
        if !error.is_transient() {
            give_up(storage, document_id, &error.to_string()).await?;
        }
        return Err(error);
    }
}

/// Marks the document as failed for this reason. A document that was deleted meanwhile needs no mark.
///
/// # Errors
/// [`IngestError::Storage`].
pub async fn give_up(storage: &Storage, document_id: Uuid, reason: &str) -> Result<(), IngestError> {
    tracing::warn!(%document_id, reason, "document failed");
    match storage.mark_failed(document_id, reason).await {
        Ok(()) | Err(StorageError::NotFound { .. }) => Ok(()),
        Err(error) => Err(IngestError::Storage(error)),
    }
}

async fn work(services: &Services, text: DocumentText) -> Result<IngestReport, IngestError> {
    let (storage, embedder) = (&services.storage, services.embedder.as_ref());
    let document_id = text.document.id;
    let stored = |error| match error {
        StorageError::NotFound { .. } => IngestError::NotFound(document_id),
        error => IngestError::Storage(error),
    };
    if text.document.state == DocumentState::Ready {
        return Ok(report(document_id, text.document.chunks));
    }
    let revision = text.document.revision;
    storage.set_processing(document_id, revision).await.map_err(stored)?;
    let media_type = &text.document.media_type;
    let content = match storage.document_file(document_id).await.map_err(stored)? {
        Some(file) if media_type.starts_with("text/") && Format::of(media_type).is_none() => {
            let text = String::from_utf8(file);
            text.map_err(|_| ExtractError::File("it is not text in UTF-8".to_owned()))?
        }
        Some(file) => {
            let format = Format::of(media_type).ok_or_else(|| IngestError::Format(media_type.clone()))?;
            let content = services.extractor.extract(format, file).await?;
            storage.set_text(document_id, revision, &content).await.map_err(stored)?;
            content
        }
        None => text.content,
    };
    let chunks = cut(services.chunker.clone(), content, text_kind(media_type)).await?;
    if chunks.is_empty() {
        return Err(IngestError::Empty);
    }
    let count = chunks.len();
    storage.set_progress(document_id, revision, 0, count).await.map_err(stored)?;
    let mut passages = Vec::with_capacity(count);
    for step in chunks.chunks(PASSAGES_PER_STEP) {
        let texts: Vec<String> = step.iter().map(|chunk| chunk.text.clone()).collect();
        let vectors = embedder.embed(&texts).await?;
        passages.extend(step.iter().zip(texts).zip(vectors).map(|((chunk, text), embedding)| NewChunk {
            position: number(chunk.position),
            text,
            tokens: number(chunk.tokens),
            embedding,
        }));
        storage.set_progress(document_id, revision, passages.len(), count).await.map_err(stored)?;
    }
    storage.replace_chunks(document_id, revision, passages).await.map_err(stored)?;
    tracing::info!(%document_id, chunks = count, "document ingested");
    Ok(IngestReport { document_id, chunks: count })
}

/// Cutting computes; a long text would hold up everything else on its thread.
async fn cut(chunker: Chunker, text: String, kind: TextKind) -> Result<Vec<Chunk>, IngestError> {
    let cut = tokio::task::spawn_blocking(move || chunker.chunk(&text, kind));
    cut.await.map_err(|error| IngestError::Chunker(error.to_string()))
}

fn text_kind(media_type: &str) -> TextKind {
    match media_type.split(';').next().unwrap_or_default().trim() {
        "text/markdown" | "text/x-markdown" => TextKind::Markdown,
        _ => match Format::of(media_type) {
            // these become Markdown
            Some(Format::Html | Format::Docx) => TextKind::Markdown,
            Some(Format::Pdf) | None => TextKind::Plain,
        },
    }
}

fn number(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

fn report(document_id: Uuid, chunks: i32) -> IngestReport {
    IngestReport { document_id, chunks: usize::try_from(chunks).unwrap_or_default() }
}
