//! A document's way into the index as a stream of server-sent events.

use std::time::Duration;

use futures::stream::{self, BoxStream};
use petiole_storage::StorageError;
use poem::web::Data;
use poem::web::sse::Event;
use poem_openapi::OpenApi;
use poem_openapi::param::Path;
use poem_openapi::payload::EventStream;
use poem_openapi::types::ToJSON;
use tokio::time::Instant;
use uuid::Uuid;

use crate::failures::{Answer, One};
use crate::routes::Group;
use crate::routes::documents::{DocumentView, StateOfDocument};
use crate::state::State;

/// How often the document is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// The same while the database is away.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// A comment is sent this often, so that nobody in between takes the stream for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// A stream never lasts longer.
const LONGEST: Duration = Duration::from_secs(3600);

#[derive(Clone, Default)]
pub(crate) struct DocumentStream;

#[OpenApi]
impl DocumentStream {
    /// Stream a document
    ///
    /// Server-sent events with the document: `state` whenever its state changes, until it is ready or failed, and
    /// `progress` whenever more of its passages are done. The stream of a document that is deleted ends.
    #[oai(path = "/v1/documents/:id/events", method = "get", operation_id = "streamDocument", tag = "Group::Documents")]
    async fn stream(
        &self,
        state: Data<&State>,
        /// The document's id.
        id: Path<Uuid>,
    ) -> Answer<EventStream<BoxStream<'static, DocumentView>>, One> {
        let first: DocumentView = state.storage.document(id.0).await?.into();
        let follow =
            Follow { state: state.clone(), id: id.0, next: Some(first), last: None, until: Instant::now() + LONGEST };
        let views: BoxStream<'static, DocumentView> = Box::pin(stream::unfold(follow, Follow::step));
        let mut told = None;
        let events = EventStream::new(views).keep_alive(KEEP_ALIVE).to_event(move |view: DocumentView| {
            let kind = if told == Some(view.state) { "progress" } else { "state" };
            told = Some(view.state);
            Event::message(view.to_json_string()).event_type(kind)
        });
        Ok(events)
    }
}

struct Follow {
    state: State,
    id: Uuid,
    next: Option<DocumentView>,
    last: Option<DocumentView>,
    until: Instant,
}

impl Follow {
    async fn step(mut self) -> Option<(DocumentView, Self)> {
        if let Some(first) = self.next.take() {
            self.last = Some(first.clone());
            return Some((first, self));
        }
        let last = self.last.clone()?;
        if matches!(last.state, StateOfDocument::Ready | StateOfDocument::Failed) {
            return None;
        }
        let mut pause = LOOK;
        while Instant::now() < self.until {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.state.stopping.cancelled() => return None,
            }
            match self.state.storage.document(self.id).await {
                Ok(document) => {
                    pause = LOOK;
                    let now = DocumentView::from(document);
                    if now != last {
                        self.last = Some(now.clone());
                        return Some((now, self));
                    }
                }
                Err(StorageError::NotFound { .. }) => return None,
                Err(error) => {
                    tracing::warn!(%error, "a stream of a document waits for the database");
                    pause = LOOK_AGAIN;
                }
            }
        }
        None
    }
}
