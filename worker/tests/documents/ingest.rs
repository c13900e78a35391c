//! A document becomes passages that can be found.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use petiole_ai::{EmbedError, Embedder};
use petiole_storage::{DocumentState, Storage};
use petiole_worker::documents::{IngestError, give_up, ingest};
use petiole_worker::services::Services;
use uuid::Uuid;

use crate::database::{world, world_with};

const TEXT: &str = "The ferry lands at nine in the morning and leaves again at dusk, unless fog closes the harbour; \
    whoever wants to cross buys a ticket on the quay and keeps it until the other side is reached.\n\n\
    Porridge with honey is served in the kitchen from seven on. Those who cannot stand milk tell the cook the evening \
    before, and a separate pot of oats is put on the stove for them.\n\n\
    The old lens in the tower turns by clockwork and weights, and it must never be touched with bare fingers, since \
    grease from the skin dulls the glass within a season.";

async fn run(services: &Services, id: Uuid) -> Result<usize, IngestError> {
    let done = ingest(services, id).await;
    done.map(|report| {
        assert_eq!(report.document_id, id);
        report.chunks
    })
}

#[tokio::test]
async fn a_document_is_found_by_its_meaning() {
    let world = world().await;
    let id = world.document(TEXT, "text/plain").await;
    let chunks = run(&world.services, id).await.unwrap();
    assert!(chunks >= 2);
    let document = world.storage().document(id).await.unwrap();
    assert_eq!(document.state, DocumentState::Ready);
    assert_eq!((document.chunks, document.chunks_done), (chunks as i32, chunks as i32));
    assert_eq!(document.error, None);
    assert!(world.found("breakfast for people with lactose intolerance").await[0].contains("Porridge"));
}

#[tokio::test]
async fn twice_and_at_the_same_time_gives_each_passage_once() {
    let world = world().await;
    let id = world.document(TEXT, "text/plain").await;
    let runs = (0..4).map(|_| {
        let services = world.services.clone();
        tokio::spawn(async move { run(&services, id).await })
    });
    let mut chunks = Vec::new();
    for run in runs.collect::<Vec<_>>() {
        chunks.push(run.await.unwrap().unwrap());
    }
    chunks.push(run(&world.services, id).await.unwrap());
    assert!(chunks.iter().all(|count| *count == chunks[0]), "{chunks:?}");
    assert_eq!(world.found("anything").await.len(), chunks[0]);
    assert_eq!(world.storage().document(id).await.unwrap().state, DocumentState::Ready);
}

#[tokio::test]
async fn markdown_is_cut_at_its_headings() {
    let world = world().await;
    // As plain text, the second heading would fill up the chunk of the short paragraph before it.
    let sentence = "A sentence about the weather at sea and the ships on it. ";
    let text = format!("# One\n\n{}\n\n# Two\n\n{}\n", sentence.repeat(3), sentence.repeat(10));
    let id = world.document(&text, "text/markdown; charset=utf-8").await;
    run(&world.services, id).await.unwrap();
    let found = world.found("weather").await;
    assert!(found.iter().any(|text| text.starts_with("# Two")), "{found:?}");
    assert!(!found.iter().any(|text| text.ends_with("# Two")), "{found:?}");
}

#[tokio::test]
async fn a_document_without_text_fails_with_its_reason() {
    let world = world().await;
    let id = world.document(" \n\t ", "text/plain").await;
    let error = run(&world.services, id).await.unwrap_err();
    assert!(matches!(error, IngestError::Empty) && !error.is_transient());
    let document = world.storage().document(id).await.unwrap();
    assert_eq!(document.state, DocumentState::Failed);
    assert_eq!(document.error.as_deref(), Some("the document has no text"));
}

#[tokio::test]
async fn a_document_that_is_not_there_is_an_error_that_stays() {
    let world = world().await;
    let error = run(&world.services, Uuid::now_v7()).await.unwrap_err();
    assert!(matches!(error, IngestError::NotFound(_)) && !error.is_transient(), "{error}");
}

/// The real model, which fails at the call with this number, and lets `watch` look at every call.
struct Faulty {
    real: Arc<dyn Embedder>,
    calls: AtomicUsize,
    fails_at: usize,
    error: fn() -> EmbedError,
    storage: std::sync::OnceLock<(Storage, Uuid)>,
    seen: std::sync::Mutex<Vec<(DocumentState, i32, i32)>>,
}

#[async_trait]
impl Embedder for Faulty {
    fn model(&self) -> &str {
        self.real.model()
    }

    fn dimensions(&self) -> usize {
        self.real.dimensions()
    }

    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, EmbedError> {
        if let Some((storage, id)) = self.storage.get() {
            let document = storage.document(*id).await.unwrap();
            self.seen.lock().unwrap().push((document.state, document.chunks_done, document.chunks));
        }
        if self.calls.fetch_add(1, Ordering::SeqCst) == self.fails_at {
            return Err((self.error)());
        }
        self.real.embed(texts).await
    }
}

fn unreachable() -> EmbedError {
    EmbedError::Unreachable("nobody there".into())
}

fn refused() -> EmbedError {
    EmbedError::Refused { status: 401, message: "wrong key".into(), retry_after: None }
}

#[tokio::test]
async fn progress_is_seen_and_a_passing_fault_leaves_the_document_in_work() {
    let real = world().await;
    let faulty = Arc::new(Faulty {
        real: real.services.embedder.clone(),
        calls: AtomicUsize::new(0),
        fails_at: 1,
        error: unreachable,
        storage: std::sync::OnceLock::new(),
        seen: std::sync::Mutex::default(),
    });
    let world = world_with(faulty.clone(), real.services.chunker.clone()).await;
    // Short paragraphs of their own: enough for two steps.
    let text: String =
        (0..200).map(|n| format!("Paragraph {n} tells of ship number {n} and of its crew.\n\n")).collect();
    let id = world.document(&text, "text/plain").await;
    faulty.storage.set((world.storage().clone(), id)).ok().unwrap();

    let error = run(&world.services, id).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    let document = world.storage().document(id).await.unwrap();
    assert_eq!((document.state, document.chunks_done), (DocumentState::Processing, 32));
    let seen = faulty.seen.lock().unwrap().clone();
    assert_eq!(
        seen,
        [(DocumentState::Processing, 0, document.chunks), (DocumentState::Processing, 32, document.chunks)]
    );

    give_up(world.storage(), id, &error.to_string()).await.unwrap();
    let document = world.storage().document(id).await.unwrap();
    assert_eq!(document.state, DocumentState::Failed);
    assert!(document.error.unwrap().contains("nobody there"));

    let chunks = run(&world.services, id).await.unwrap();
    let document = world.storage().document(id).await.unwrap();
    assert_eq!((document.state, document.error), (DocumentState::Ready, None));
    assert_eq!(document.chunks as usize, chunks);
}

#[tokio::test]
async fn a_lasting_fault_is_written_on_the_document() {
    let real = world().await;
    let faulty = Faulty {
        real: real.services.embedder.clone(),
        calls: AtomicUsize::new(0),
        fails_at: 0,
        error: refused,
        storage: std::sync::OnceLock::new(),
        seen: std::sync::Mutex::default(),
    };
    let world = world_with(Arc::new(faulty), real.services.chunker.clone()).await;
    let id = world.document(TEXT, "text/plain").await;
    run(&world.services, id).await.unwrap_err();
    let document = world.storage().document(id).await.unwrap();
    assert_eq!(document.state, DocumentState::Failed);
    assert!(document.error.unwrap().contains("wrong key"));
}
