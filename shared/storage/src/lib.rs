//! PostgreSQL: what the application remembers.
//!
//! | module | holds |
//! |---|---|
//! | [`Storage`] | the pool, migrations, health |
//! | `events` | what was asked for, and what became of it |
//! | `event_steps` | the steps of events that are workflows |
//! | `documents`, `chunks`, `files` | texts, their passages and vectors; files whose text is not taken out yet |
//! | `collections` | the documents of one name together |
//! | `conversations` | what was asked and answered in a talk |
//! | `filter` | conditions on the metadata of documents |
//! | `search` | passages by meaning, by words, by both |
//! | `expected` | writes that only happen while a row is as it was seen |
//! | `outbox` | messages that must reach the broker, stored with the row that caused them |
//! | `jsonb` | JSON as PostgreSQL can keep it |
//! | `schedules` | periodic tasks, for whoever sends them |
//! | `idempotency` | keys by which a repeated request gets its first answer |
//! | `api_keys` | keys that the API has issued |
//! | `embedding_model` | which model made the vectors |
//!
//! Everything is reached through [`Storage`]; each file adds its own methods to it. The crate knows nothing of Celery:
//! to it, an outbox message is a queue's name, a priority and a text.

mod api_keys;
mod chunks;
mod collections;
mod conversations;
mod cursor;
mod documents;
mod embedding_model;
mod entity;
mod error;
mod event_steps;
mod events;
mod expected;
mod files;
mod filter;
mod idempotency;
mod jsonb;
mod migration;
mod outbox;
mod schedules;
mod search;
mod snippet;
mod storage;

pub use api_keys::{ApiKeyRow, NewApiKey};
pub use chunks::NewChunk;
pub use collections::Collection;
pub use conversations::{NewTurn, Turn};
pub use cursor::{Cursor, Page};
pub use documents::{
    CreatedDocument, Document, DocumentFilter, DocumentState, DocumentText, NewDocument, OnDuplicate, Replaced,
    content_hash,
};
pub use embedding_model::EmbeddingModel;
pub use error::{Result, StorageError};
pub use event_steps::{EventStep, StepState};
pub use events::{CreatedEvent, Event, EventFilter, EventState, NewEvent};
pub use expected::Expected;
pub use filter::{Filter, FilterError, MOST_VALUES, OPERATORS};
pub use idempotency::{IdempotencyKey, request_hash};
pub use outbox::{NewOutboxMessage, OutboxBacklog, OutboxListener, OutboxMessage, Relayed};
pub use schedules::{NewSchedule, Schedule, ScheduleFilter, ScheduleRun, ScheduleTimes};
pub use search::{Hit, SearchMode, SearchQuery};
pub use storage::{PoolUse, Storage};
