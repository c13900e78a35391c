//! Which event types there are, and what handles each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use petiole_ai::EmbedError;
use petiole_ai::prompts::PromptError;
use petiole_ai::structured::StructuredError;
use petiole_storage::{Event, StorageError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{DocumentIngest, QuestionAnswer, TextClassify, TextExtract, TextSummarize};
use crate::answers::AnswerError;
use crate::documents::IngestError;
use crate::services::Services;
use crate::workflows::digest::TextDigest;
use crate::workflows::{Plan, Workflow};

/// The work of one event type. To add a type: implement this, and add one line to [`Registry::shipped`]. Work of several
/// steps is a [`Workflow`].
///
/// A handler may be called twice for one event (a worker that dies after its work, before it could say so): what it
/// stores has to be tied to the event's id.
#[async_trait]
pub trait EventHandler: Send + Sync + 'static {
    /// The event's type, such as `document.ingest`.
    const TYPE: &'static str;
    /// What the event's `data` must hold.
    type Data: DeserializeOwned + Send;
    /// What becomes the event's `output`.
    type Output: Serialize;

    /// Does the work.
    async fn handle(&self, services: &Services, event: &Event, data: Self::Data) -> Result<Self::Output, HandlerError>;
}

/// Why an event's work was not done.
#[derive(Debug, thiserror::Error)]
pub enum HandlerError {
    /// The event's data are not what its type needs.
    #[error("the data of {kind} cannot be used: {reason}")]
    Data {
        /// The event's type.
        kind: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The document could not be brought into the index.
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// The database.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The question could not be answered.
    #[error(transparent)]
    Answer(#[from] AnswerError),
    /// The text could not be embedded.
    #[error(transparent)]
    Embed(#[from] EmbedError),
    /// The language model does not give what is needed.
    #[error(transparent)]
    Structured(#[from] StructuredError),
    /// A prompt of `PROMPTS_DIR`.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// The output cannot be stored.
    #[error("the output is no JSON: {0}")]
    Output(String),
}

impl HandlerError {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Ingest(error) => error.is_transient(),
            Self::Storage(error) => matches!(error, StorageError::Unavailable(_) | StorageError::Conflict(_)),
            Self::Embed(error) | Self::Answer(AnswerError::Embed(error)) => error.is_transient(),
            // nobody waits for an event as for an answer: a busy server is asked again later
            Self::Answer(AnswerError::Language(error)) | Self::Structured(StructuredError::Language(error)) => {
                error.is_transient()
            }
            Self::Answer(error) => error.is_transient(),
            Self::Data { .. } | Self::Structured(_) | Self::Prompt(_) | Self::Output(_) => false,
        }
    }
}

/// The event types that this worker knows.
#[derive(Clone, Default)]
pub struct Registry {
    handlers: BTreeMap<&'static str, Arc<dyn Erased>>,
    workflows: BTreeMap<&'static str, Plan>,
}

impl Registry {
    /// The types that ship with the worker.
    pub fn shipped() -> Self {
        Self::default()
            .with(DocumentIngest)
            .with(QuestionAnswer)
            .with(TextSummarize)
            .with(TextClassify)
            .with(TextExtract)
            .with_workflow(&TextDigest)
    }

    /// Adds a type; a later handler of the same type replaces an earlier one.
    #[must_use]
    pub fn with<H: EventHandler>(mut self, handler: H) -> Self {
        self.handlers.insert(H::TYPE, Arc::new(handler));
        self
    }

    /// Adds a type that is a workflow.
    ///
    /// # Panics
    /// Two steps of it have one name.
    #[must_use]
    pub fn with_workflow<W: Workflow>(mut self, workflow: &W) -> Self {
        self.workflows.insert(W::TYPE, Plan::new(W::TYPE, workflow.flow().node));
        self
    }

    /// The names of the types, sorted.
    pub fn types(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.handlers.keys().chain(self.workflows.keys()).copied().collect::<BTreeSet<_>>().into_iter()
    }

    pub(crate) fn workflows(&self) -> &BTreeMap<&'static str, Plan> {
        &self.workflows
    }

    pub(super) fn handler(&self, kind: &str) -> Option<&Arc<dyn Erased>> {
        self.handlers.get(kind)
    }
}

/// A handler without its types, so that many can stand in one table.
#[async_trait]
pub(super) trait Erased: Send + Sync {
    async fn handle(&self, services: &Services, event: &Event) -> Result<Value, HandlerError>;
}

#[async_trait]
impl<H: EventHandler> Erased for H {
    async fn handle(&self, services: &Services, event: &Event) -> Result<Value, HandlerError> {
        let data = serde_json::from_value(event.data.clone())
            .map_err(|error| HandlerError::Data { kind: H::TYPE, reason: error.to_string() })?;
        let output = EventHandler::handle(self, services, event, data).await?;
        serde_json::to_value(output).map_err(|error| HandlerError::Output(error.to_string()))
    }
}
