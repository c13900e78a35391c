//! Events: what was asked for, and what became of it.

use chrono::{DateTime, Utc};
use sea_orm::prelude::Expr;
use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, DeriveActiveEnum, EntityTrait, EnumIter, ExprTrait, QueryFilter,
    QueryOrder, QuerySelect,
};
use serde_json::Value;
use uuid::Uuid;

use crate::cursor::{Cursor, Page};
use crate::entity::event;
use crate::error::{Result, StorageError};
use crate::idempotency::{self, IdempotencyKey};
use crate::jsonb;
use crate::outbox::{self, NewOutboxMessage};
use crate::storage::{OPERATION, Storage, within};

/// Where an event is between being accepted and being done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
pub enum EventState {
    /// Stored; its task waits.
    Queued,
    /// Its task runs.
    Running,
    /// Done; there is an output.
    Succeeded,
    /// Given up; there is an error.
    Failed,
}

/// A stored event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its id (UUID v7).
    pub id: Uuid,
    /// What kind of work it asks for, such as `document.ingest`.
    pub kind: String,
    /// What the work is to be done on.
    pub data: Value,
    /// How far it is.
    pub state: EventState,
    /// The task that does the work.
    pub task_id: String,
    /// What the work gave, once succeeded.
    pub output: Option<Value>,
    /// Why it failed, once failed.
    pub error: Option<String>,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

impl From<event::Model> for Event {
    fn from(row: event::Model) -> Self {
        Self {
            id: row.id,
            kind: row.kind,
            data: jsonb::sent(row.data),
            state: row.state,
            task_id: row.task_id,
            output: row.output.map(jsonb::sent),
            error: row.error,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// An event to be stored.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// Its id.
    pub id: Uuid,
    /// What kind of work it asks for.
    pub kind: String,
    /// What the work is to be done on.
    pub data: Value,
    /// The task that will do the work.
    pub task_id: String,
}

/// What came of [`Storage::create_event`].
#[derive(Clone, Debug, PartialEq)]
pub enum CreatedEvent {
    /// Stored, and its message with it.
    New,
    /// The same request was answered before, with this answer; nothing was stored.
    Replayed(Value),
}

/// Which events a list shows; everything that is set must hold.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// Only this kind.
    pub kind: Option<String>,
    /// Only this state.
    pub state: Option<EventState>,
}

impl Storage {
    /// Stores an event and the message of its task in one transaction: either both are there or neither is. With an
    /// idempotency key, `answer` is stored with the key.
    ///
    /// # Errors
    /// [`StorageError::Conflict`] when the key belongs to another request; [`StorageError::Invalid`] for data that
    /// PostgreSQL cannot hold; [`StorageError::Unavailable`].
    pub async fn create_event(
        &self,
        new: NewEvent,
        message: NewOutboxMessage,
        key: Option<(&IdempotencyKey, &Value)>,
    ) -> Result<CreatedEvent> {
        within(OPERATION, async {
            let transaction = self.begin().await?;
            if let Some((key, answer)) = key
                && let Some(first) = idempotency::take(&transaction, key, answer).await?
            {
                return Ok(CreatedEvent::Replayed(first));
            }
            let row = event::ActiveModel {
                id: Set(new.id),
                kind: Set(new.kind),
                data: Set(jsonb::stored(new.data)),
                state: Set(EventState::Queued),
                task_id: Set(new.task_id),
                ..Default::default()
            };
            event::Entity::insert(row).exec_without_returning(&transaction).await?;
            outbox::insert(&transaction, &message).await?;
            transaction.commit().await?;
            Ok(CreatedEvent::New)
        })
        .await
    }

    /// The event with this id.
    ///
    /// # Errors
    /// [`StorageError::NotFound`], [`StorageError::Unavailable`].
    pub async fn event(&self, id: Uuid) -> Result<Event> {
        within(OPERATION, async {
            let row = event::Entity::find_by_id(id).one(&self.db).await?;
            row.map(Event::from).ok_or_else(|| StorageError::not_found("event", id))
        })
        .await
    }

    /// One page of at most `limit` events, newest first, after the place `after`.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`].
    pub async fn events(&self, filter: &EventFilter, after: Option<Cursor>, limit: u64) -> Result<Page<Event>> {
        use event::Column as C;
        // no event is of such a kind
        if filter.kind.as_deref().is_some_and(|kind| kind.contains('\0')) {
            return Ok(Page { items: vec![], next: None });
        }
        let mut condition = Condition::all();
        if let Some(kind) = &filter.kind {
            condition = condition.add(C::Kind.eq(kind));
        }
        if let Some(state) = filter.state {
            condition = condition.add(C::State.eq(state));
        }
        if let Some(after) = after {
            let place = Expr::tuple([Expr::value(after.created_at), Expr::value(after.id)]);
            condition = condition.add(Expr::tuple([Expr::col(C::CreatedAt), Expr::col(C::Id)]).lt(place));
        }
        let rows = within(OPERATION, async {
            let query = event::Entity::find().filter(condition).order_by_desc(C::CreatedAt).order_by_desc(C::Id);
            Ok(query.limit(limit + 1).all(&self.db).await?)
        })
        .await?;
        let events = rows.into_iter().map(Event::from).collect();
        Ok(Page::new(events, limit, |event: &Event| Cursor { created_at: event.created_at, id: event.id }))
    }

    /// The event's task begins. Gives whether there is anything to do: false when the event already succeeded or failed
    /// (its message was delivered twice).
    ///
    /// # Errors
    /// [`StorageError::NotFound`], [`StorageError::Unavailable`].
    pub async fn mark_running(&self, id: Uuid) -> Result<bool> {
        self.change_open_event(id, EventState::Running, None).await
    }

    /// The event is done; `output` is what its work gave.
    ///
    /// # Errors
    /// [`StorageError::NotFound`], [`StorageError::Invalid`] for an output PostgreSQL cannot hold,
    /// [`StorageError::Unavailable`].
    pub async fn succeed(&self, id: Uuid, output: Value) -> Result<()> {
        match self.change_event(id, Condition::all(), EventState::Succeeded, Some(output), None).await? {
            true => Ok(()),
            false => Err(StorageError::not_found("event", id)),
        }
    }

    /// The event failed for good; `error` says why, for its caller to read. Gives whether that is news: an event that has
    /// succeeded or failed already stays as it is, so that a late failure (of a second delivery, of a step beside others)
    /// covers nothing up.
    ///
    /// # Errors
    /// [`StorageError::NotFound`], [`StorageError::Unavailable`].
    pub async fn fail(&self, id: Uuid, error: &str) -> Result<bool> {
        self.change_open_event(id, EventState::Failed, Some(storable(error))).await
    }

    /// Changes an event that has not ended, in one statement, and gives whether it was such a one.
    async fn change_open_event(&self, id: Uuid, state: EventState, error: Option<String>) -> Result<bool> {
        let open = event::Column::State.is_in([EventState::Queued, EventState::Running]);
        let changed = self.change_event(id, Condition::all().add(open), state, None, error).await?;
        if !changed {
            self.event(id).await?;
        }
        Ok(changed)
    }

    async fn change_event(
        &self,
        id: Uuid,
        condition: Condition,
        state: EventState,
        output: Option<Value>,
        error: Option<String>,
    ) -> Result<bool> {
        let change = event::ActiveModel {
            state: Set(state),
            output: Set(output.map(jsonb::stored)),
            error: Set(error),
            updated_at: Set(Utc::now()),
            ..Default::default()
        };
        within(OPERATION, async {
            let query = event::Entity::update_many().set(change).filter(event::Column::Id.eq(id)).filter(condition);
            Ok(query.exec(&self.db).await?.rows_affected > 0)
        })
        .await
    }
}

/// PostgreSQL's text cannot hold U+0000; a reason for failure must be storable whatever it quotes.
pub(crate) fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
