//! One event, from its task's start to its outcome.

use petiole_client::Signature;
use petiole_storage::{Event, EventState, Storage, StorageError};
use serde_json::Value;
use uuid::Uuid;

use super::registry::{HandlerError, Registry};
use crate::services::Services;
use crate::workflows::Begun;

/// Why an event has no output.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// There is no such event.
    #[error("there is no event {0}")]
    NotFound(Uuid),
    /// It failed for good, and says so itself: now, or in an earlier delivery.
    #[error("{0}")]
    Failed(String),
    /// It may succeed later; it still counts as running. Try again, or call [`give_up`].
    #[error("{0}")]
    Transient(HandlerError),
    /// The outcome could not be stored.
    #[error(transparent)]
    Storage(StorageError),
}

impl EventError {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Transient(_) => true,
            Self::Storage(error) => matches!(error, StorageError::Unavailable(_) | StorageError::Conflict(_)),
            Self::NotFound(_) | Self::Failed(_) => false,
        }
    }
}

/// What came of an event's work.
#[derive(Debug)]
pub enum Processed {
    /// It is done; this is its output.
    Done(Value),
    /// It is a workflow: this canvas does the work, in the place of the task that was to do it.
    Workflow(Box<Signature>),
}

/// Does the work of an event and stores its output, or the reason why there is none. An event that is done is not run
/// again: its stored outcome is given back.
///
/// # Errors
/// [`EventError`].
pub async fn process_incoming_event(
    services: &Services,
    registry: &Registry,
    event_id: Uuid,
) -> Result<Processed, EventError> {
    let storage = &services.storage;
    let stored = |error| match error {
        StorageError::NotFound { .. } => EventError::NotFound(event_id),
        error => EventError::Storage(error),
    };
    let begins = storage.mark_running(event_id).await.map_err(stored)?;
    let event = storage.event(event_id).await.map_err(stored)?;
    if !begins {
        tracing::info!(%event_id, "event is done already");
        return match event.state {
            EventState::Failed => Err(EventError::Failed(event.error.unwrap_or_default())),
            _ => Ok(Processed::Done(event.output.unwrap_or(Value::Null))),
        };
    }
    if let Some(plan) = registry.workflows().get(event.kind.as_str()) {
        let Begun { steps, signature } = plan.begin(event_id, &event.data);
        storage.plan_event_steps(event_id, &steps).await.map_err(stored)?;
        return Ok(Processed::Workflow(Box::new(signature)));
    }
    let Some(handler) = registry.handler(&event.kind) else {
        let known: Vec<_> = registry.types().collect();
        let reason = format!("unknown event type {:?}; known types are: {}", event.kind, known.join(", "));
        return fail(storage, event_id, reason).await;
    };
    match handler.handle(services, &event).await {
        Ok(output) => {
            storage.succeed(event_id, output.clone()).await.map_err(stored)?;
            tracing::info!(%event_id, kind = event.kind, "event succeeded");
            Ok(Processed::Done(output))
        }
        Err(error) if error.is_transient() => Err(EventError::Transient(error)),
        Err(error) => fail(storage, event_id, error.to_string()).await,
    }
}

/// Marks the event as failed for this reason, for the caller that will not try again, unless it has ended meanwhile. Gives
/// whether it had not.
///
/// # Errors
/// [`EventError::NotFound`], [`EventError::Storage`].
pub async fn give_up(storage: &Storage, event_id: Uuid, reason: &str) -> Result<bool, EventError> {
    let is_news = storage.fail(event_id, reason).await.map_err(|error| match error {
        StorageError::NotFound { .. } => EventError::NotFound(event_id),
        error => EventError::Storage(error),
    })?;
    if is_news {
        tracing::warn!(%event_id, reason, "event failed");
    }
    Ok(is_news)
}

async fn fail(storage: &Storage, event_id: Uuid, reason: String) -> Result<Processed, EventError> {
    // Delivered twice, and the other one succeeded meanwhile: that counts.
    if !give_up(storage, event_id, &reason).await?
        && let Ok(Event { state: EventState::Succeeded, output, .. }) = storage.event(event_id).await
    {
        return Ok(Processed::Done(output.unwrap_or(Value::Null)));
    }
    Err(EventError::Failed(reason))
}
