//! The tasks about documents, events and answers: the doors to [`crate::documents`], [`crate::events`] and
//! [`crate::answers`].
//!
//! All acknowledge late and may run twice: what they do is tied to the document's or the event's id. What may pass (a
//! database that is away, a busy model server) is retried with growing pauses.

// The macro makes a struct of each function and does not pass the doc comment on.
#![allow(missing_docs)]

use std::sync::LazyLock;

use async_trait::async_trait;
use celery::prelude::*;
use petiole_engine::{Context, Fault, Task, TaskOptions, context, raise};
use petiole_protocol::TaskException;
use petiole_storage::{Storage, StorageError};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::answers::{self, Answer, AnswerRequest, Speaker};
use crate::documents::{self, IngestReport};
use crate::events::{self, Processed, Registry};
use crate::retry::{MAX_RETRIES, retry};
use crate::services;

static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::shipped);

/// Cuts a document into passages, embeds them, puts them into the index.
#[celery::task(
    name = "documents.ingest",
    acks_late = true,
    max_retries = 40,
    min_retry_delay = 1,
    max_retry_delay = 60,
    retry_for_unexpected = false
)]
pub async fn ingest_document(document_id: String) -> TaskResult<IngestReport> {
    let id = parse_id(&document_id)?;
    match ingest(id).await {
        Ok(report) => Ok(report),
        Err(failure) => Err(fail(failure, async move |storage, reason| {
            documents::give_up(storage, id, &reason).await.map_err(|error| error.to_string())
        })
        .await),
    }
}

/// Why a run did not succeed, and whether a later one may.
type Failure = (String, bool);

async fn ingest(id: Uuid) -> Result<IngestReport, Failure> {
    let services = services::shared().await.map_err(|error| (error.to_string(), false))?;
    services.declare_model().await.map_err(|error| (error.to_string(), may_pass(&error)))?;
    documents::ingest(&services, id).await.map_err(|error| (error.to_string(), error.is_transient()))
}

fn may_pass(error: &StorageError) -> bool {
    matches!(error, StorageError::Unavailable(_) | StorageError::Conflict(_))
}

/// Does the work of an event and stores its output: `process_incoming_event(event_id)`. The work of a workflow is done by the
/// tasks that take its place.
pub struct ProcessIncomingEvent;

#[async_trait]
impl Task for ProcessIncomingEvent {
    fn name(&self) -> &str {
        "process_incoming_event"
    }

    fn options(&self) -> TaskOptions {
        TaskOptions { acks_late: Some(true), max_retries: Some(Some(MAX_RETRIES)), ..TaskOptions::default() }
    }

    async fn run(&self, args: Vec<Value>, kwargs: Map<String, Value>, context: Context) -> Result<Value, Fault> {
        let event_id = match (&args[..], kwargs.get("event_id")) {
            ([id], None) if kwargs.is_empty() => id,
            ([], Some(id)) if kwargs.len() == 1 => id,
            _ => return Err(Fault::type_error("process_incoming_event takes one argument: event_id")),
        };
        let id = event_id.as_str().and_then(|id| Uuid::parse_str(id).ok());
        let Some(id) = id else {
            return Err(TaskException::builtin("ValueError", format!("{event_id} is no id: a UUID is wanted")).into());
        };
        match process(id).await {
            Ok(Processed::Done(output)) => Ok(output),
            Ok(Processed::Workflow(canvas)) => Err(context.replace(*canvas).await),
            Err((reason, true)) if !is_last_try() => Err(retry(context.message().retries, reason)),
            Err((reason, _)) => {
                record(&reason, async move |storage, reason| {
                    events::give_up(storage, id, &reason).await.map(|_| ()).map_err(|error| error.to_string())
                })
                .await;
                Err(TaskException::builtin("RuntimeError", reason).into())
            }
        }
    }
}

/// The event types, for the tasks that work on them.
pub(crate) fn registry() -> &'static Registry {
    &REGISTRY
}

async fn process(id: Uuid) -> Result<Processed, Failure> {
    let services = services::shared().await.map_err(|error| (error.to_string(), false))?;
    events::process_incoming_event(&services, &REGISTRY, id)
        .await
        .map_err(|error| (error.to_string(), error.is_transient()))
}

/// Answers a question from the documents. With `stream`, followers of the task hear the answer as it is made.
#[celery::task(
    name = "answers.generate",
    acks_late = true,
    max_retries = 5,
    min_retry_delay = 1,
    max_retry_delay = 10,
    retry_for_unexpected = false
)]
pub async fn generate_answer(
    question: String,
    top_k: Option<u32>,
    collection: Option<String>,
    filter: Option<Map<String, Value>>,
    conversation_id: Option<String>,
    stream: Option<bool>,
    rerank: Option<bool>,
) -> TaskResult<Answer> {
    let conversation_id = conversation_id.as_deref().map(parse_id).transpose()?;
    let request = AnswerRequest { question, top_k, collection, filter, conversation_id, rerank };
    request.check().map_err(|reason| raise(TaskException::builtin("ValueError", reason)))?;
    let Some(context) = context() else {
        return Err(raise(TaskException::builtin("RuntimeError", "answers.generate runs in a worker")));
    };
    let speaker = match (stream, services::backend()) {
        (Some(true), Ok(backend)) => Some(Speaker::start(backend, context.task_id().to_owned())),
        _ => None,
    };
    let answer = answer(&request, context.task_id(), speaker.as_ref()).await;
    if let Some(speaker) = speaker {
        speaker.finish().await;
    }
    answer.map_err(|(reason, may_pass)| match may_pass {
        true => TaskError::ExpectedError(reason),
        false => raise(TaskException::builtin("RuntimeError", reason)),
    })
}

async fn answer(request: &AnswerRequest, task_id: &str, speaker: Option<&Speaker>) -> Result<Answer, Failure> {
    let services = services::shared().await.map_err(|error| (error.to_string(), false))?;
    services.declare_model().await.map_err(|error| (error.to_string(), may_pass(&error)))?;
    answers::generate(&services, request, task_id, speaker)
        .await
        .map_err(|error| (error.to_string(), error.is_transient()))
}

fn parse_id(text: &str) -> Result<Uuid, TaskError> {
    Uuid::parse_str(text)
        .map_err(|_| raise(TaskException::builtin("ValueError", format!("{text:?} is no id: a UUID is wanted"))))
}

/// What may pass is tried again; what may not is recorded, and fails the task.
async fn fail<F, R>((reason, may_pass): Failure, give_up: F) -> TaskError
where
    F: FnOnce(&'static Storage, String) -> R,
    R: Future<Output = Result<(), String>>,
{
    if may_pass && !is_last_try() {
        return TaskError::ExpectedError(reason);
    }
    record(&reason, give_up).await;
    raise(TaskException::builtin("RuntimeError", reason))
}

/// Records a failure for good.
async fn record<F, R>(reason: &str, give_up: F)
where
    F: FnOnce(&'static Storage, String) -> R,
    R: Future<Output = Result<(), String>>,
{
    let recorded = match services::storage().await {
        Ok(storage) => give_up(storage, reason.to_owned()).await,
        Err(error) => Err(error.to_string()),
    };
    if let Err(error) = recorded {
        tracing::warn!(error, reason, "the failure cannot be recorded");
    }
}

fn is_last_try() -> bool {
    context().is_some_and(|context| context.message().retries >= MAX_RETRIES)
}
