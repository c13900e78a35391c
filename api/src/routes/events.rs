//! Events: stored with the message of their task, followed, listed.

use chrono::{DateTime, Utc};
use petiole_storage::{
    CreatedEvent, Cursor, Event, EventFilter, EventState, EventStep, IdempotencyKey, NewEvent, StepState, request_hash,
};
use poem::web::Data;
use poem_openapi::param::{Header, Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::types::Any;
use poem_openapi::{Enum, Object, OpenApi};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::auth::Caller;
use crate::body::Body;
use crate::event_types::EventRequest;
use crate::failures::{Answer, CreateOnce, List, One};
use crate::outbox::outbox_message;
use crate::problem::Problem;
use crate::request_id::RequestId;
use crate::routes::Group;
use crate::routes::default_limit;
use crate::routes::documents::{Accepted, AcceptedResponse};
use crate::state::State;

/// The task that works on events.
const PROCESS: &str = "process_incoming_event";

#[derive(Clone, Default)]
pub(crate) struct Events;

/// Where an event is between being accepted and being done with.
#[derive(Clone, Copy, Debug, Enum)]
#[oai(rename_all = "lowercase")]
pub(crate) enum StateOfEvent {
    /// Its task waits.
    Queued,
    /// Its task runs.
    Running,
    /// Done; `output` says what it gave.
    Succeeded,
    /// Given up; `error` says why.
    Failed,
}

impl From<EventState> for StateOfEvent {
    fn from(state: EventState) -> Self {
        match state {
            EventState::Queued => Self::Queued,
            EventState::Running => Self::Running,
            EventState::Succeeded => Self::Succeeded,
            EventState::Failed => Self::Failed,
        }
    }
}

impl From<StateOfEvent> for EventState {
    fn from(state: StateOfEvent) -> Self {
        match state {
            StateOfEvent::Queued => Self::Queued,
            StateOfEvent::Running => Self::Running,
            StateOfEvent::Succeeded => Self::Succeeded,
            StateOfEvent::Failed => Self::Failed,
        }
    }
}

/// An event and what became of it.
#[derive(Debug, Object)]
#[oai(rename = "Event")]
pub(crate) struct EventView {
    /// Its id.
    id: Uuid,
    /// What happened.
    #[oai(rename = "type")]
    kind: String,
    /// The particulars.
    data: Any<Value>,
    /// How far it is.
    state: StateOfEvent,
    /// What the work gave, once succeeded.
    output: Option<Any<Value>>,
    /// Why it failed, once failed.
    error: Option<String>,
    /// The task that works on it.
    task_id: String,
    /// When it was accepted.
    created_at: DateTime<Utc>,
    /// When it last changed.
    updated_at: DateTime<Utc>,
}

impl From<Event> for EventView {
    fn from(event: Event) -> Self {
        Self {
            id: event.id,
            kind: event.kind,
            data: Any(event.data),
            state: event.state.into(),
            output: event.output.map(Any),
            error: event.error,
            task_id: event.task_id,
            created_at: event.created_at,
            updated_at: event.updated_at,
        }
    }
}

/// Where a step of a workflow is.
#[derive(Clone, Copy, Debug, Enum)]
#[oai(rename = "StepState", rename_all = "lowercase")]
pub(crate) enum StateOfStep {
    /// It waits for the steps before it.
    Pending,
    /// Its task runs, or is to run again.
    Running,
    /// Done; `output` says what it gave.
    Succeeded,
    /// Given up; `error` says why.
    Failed,
    /// The workflow went another way.
    Skipped,
}

/// A step of an event whose type is a workflow.
#[derive(Debug, Object)]
#[oai(rename = "EventStep")]
pub(crate) struct StepView {
    /// Its name.
    name: String,
    /// The Celery task that does it.
    task: String,
    /// How far it is.
    state: StateOfStep,
    /// The id of its task, once it began.
    task_id: Option<String>,
    /// What went in, once it began.
    input: Option<Any<Value>>,
    /// What came out, once succeeded.
    output: Option<Any<Value>>,
    /// Why it failed; before that, why it is tried again.
    error: Option<String>,
    /// How often it was begun.
    attempts: i32,
    /// When it was first begun.
    started_at: Option<DateTime<Utc>>,
    /// When it ended.
    finished_at: Option<DateTime<Utc>>,
}

impl From<EventStep> for StepView {
    fn from(step: EventStep) -> Self {
        Self {
            name: step.name,
            task: step.task,
            state: match step.state {
                StepState::Pending => StateOfStep::Pending,
                StepState::Running => StateOfStep::Running,
                StepState::Succeeded => StateOfStep::Succeeded,
                StepState::Failed => StateOfStep::Failed,
                StepState::Skipped => StateOfStep::Skipped,
            },
            task_id: step.task_id,
            input: step.input.map(Any),
            output: step.output.map(Any),
            error: step.error,
            attempts: step.attempts,
            started_at: step.started_at,
            finished_at: step.finished_at,
        }
    }
}

/// An event, what became of it, and the steps of its workflow.
#[derive(Debug, Object)]
pub(crate) struct EventWithSteps {
    /// The event.
    #[oai(flatten)]
    event: EventView,
    /// The steps, in the order of the plan; none when its type is no workflow.
    steps: Vec<StepView>,
}

/// A page of events.
#[derive(Debug, Object)]
pub(crate) struct EventPage {
    /// The events, newest first.
    items: Vec<EventView>,
    /// Where the next page begins; null on the last one.
    next_cursor: Option<String>,
}

#[OpenApi]
impl Events {
    /// Tell of an event
    ///
    /// Stores the event and the message of its task in one transaction, so that 202 means: it will be worked on, even if
    /// Redis is away now. With an `Idempotency-Key` the same request may be sent again for a day, and gets the same
    /// answer; another request with the same key is refused with 409.
    #[oai(path = "/v1/events", method = "post", operation_id = "createEvent", tag = "Group::Events")]
    async fn create(
        &self,
        state: Data<&State>,
        request_id: RequestId,
        caller: Caller,
        /// A text of your own by which this request is known if it must be sent again: 1 to 255 characters of ASCII.
        #[oai(name = "Idempotency-Key", validator(pattern = r"^[\x21-\x7e]([\x20-\x7e]{0,253}[\x21-\x7e])?$"))]
        key: Header<Option<String>>,
        body: Body<EventRequest>,
    ) -> Answer<AcceptedResponse, CreateOnce> {
        let Body(request) = body;
        request.check()?;
        let key = key.0.map(|key| idempotency_key(key, &caller, &request));
        let (id, task_id) = (Uuid::now_v7(), Uuid::new_v4().to_string());
        let message = outbox_message(&state, PROCESS, id, &task_id, &request_id)?;
        let answer = json!({"id": id, "task_id": task_id});
        let new = NewEvent { id, kind: request.kind, data: Value::Object(request.data), task_id: task_id.clone() };
        let created = state.storage.create_event(new, message, key.as_ref().map(|key| (key, &answer))).await?;
        let (id, task_id) = match created {
            CreatedEvent::New => (id, task_id),
            CreatedEvent::Replayed(first) => first_answer(&first)?,
        };
        let accepted = Accepted { id, task_id, state: "queued".into() };
        Ok(AcceptedResponse::Accepted(Json(accepted), format!("/v1/events/{id}")))
    }

    /// Follow an event
    ///
    /// Its state, and its output or its error at the end. When its type is a workflow, each step with what went in and what
    /// came out.
    #[oai(path = "/v1/events/:id", method = "get", operation_id = "getEvent", tag = "Group::Events")]
    async fn get(
        &self,
        state: Data<&State>,
        /// The event's id.
        id: Path<Uuid>,
    ) -> Answer<Json<EventWithSteps>, One> {
        let event = state.storage.event(id.0).await?.into();
        let steps = state.storage.event_steps(id.0).await?.into_iter().map(Into::into).collect();
        Ok(Json(EventWithSteps { event, steps }))
    }

    /// List events
    ///
    /// Newest first, by pages: give `next_cursor` as `cursor` for the next one.
    #[oai(path = "/v1/events", method = "get", operation_id = "listEvents", tag = "Group::Events")]
    async fn list(
        &self,
        state: Data<&State>,
        /// At most this many.
        #[oai(default = "default_limit", validator(minimum(value = "1"), maximum(value = "200")))]
        limit: Query<u64>,
        /// Where the page begins: `next_cursor` of the page before.
        #[oai(validator(pattern = "^([A-Za-z0-9_-]{32})?$"))]
        cursor: Query<Option<String>>,
        /// Only events of this type.
        #[oai(name = "type")]
        kind: Query<Option<String>>,
        /// Only events in this state.
        #[oai(name = "state")]
        in_state: Query<Option<StateOfEvent>>,
    ) -> Answer<Json<EventPage>, List> {
        let filter = EventFilter { kind: kind.0, state: in_state.0.map(Into::into) };
        let after = cursor.0.as_deref().filter(|cursor| !cursor.is_empty()).map(Cursor::decode).transpose()?;
        let page = state.storage.events(&filter, after, limit.0).await?;
        Ok(Json(EventPage {
            items: page.items.into_iter().map(Into::into).collect(),
            next_cursor: page.next.map(|cursor| cursor.encode()),
        }))
    }
}

fn idempotency_key(key: String, caller: &Caller, request: &EventRequest) -> IdempotencyKey {
    let request = json!({"type": request.kind, "data": request.data});
    IdempotencyKey { scope: format!("events {}", caller.id), key, request_hash: request_hash(&request) }
}

/// The answer that was given to a request the first time.
pub(crate) fn first_answer(answer: &Value) -> Result<(Uuid, String), Problem> {
    let id = answer["id"].as_str().and_then(|id| Uuid::parse_str(id).ok());
    match (id, answer["task_id"].as_str()) {
        (Some(id), Some(task_id)) => Ok((id, task_id.to_owned())),
        _ => Err(Problem::new(poem::http::StatusCode::CONFLICT, "this idempotency key was used for something else")),
    }
}
