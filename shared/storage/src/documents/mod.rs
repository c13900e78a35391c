//! Documents: texts that were handed in, and how far they are on their way into the index.
//!
//! | module | holds |
//! |---|---|
//! | `create` | a new one: with its task's message, once per key, once per content, once per event |
//! | `replace` | other content under an old id |
//! | `read` | one, its text, lists, deletion |
//! | `progress` | what its task notes on it |

mod create;
mod progress;
mod read;
mod replace;

use chrono::{DateTime, Utc};
use sea_orm::{DeriveActiveEnum, EnumIter, FromQueryResult};
use serde_json::Value;
use uuid::Uuid;

pub use create::{CreatedDocument, NewDocument, OnDuplicate, content_hash};
pub(crate) use progress::superseded;
pub use read::{DocumentFilter, DocumentText};
pub use replace::Replaced;

use crate::entity::document;
use crate::jsonb;

/// Where a document is between being accepted and being found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
pub enum DocumentState {
    /// Stored; its task waits.
    Queued,
    /// It is being cut and embedded.
    Processing,
    /// Its passages can be found.
    Ready,
    /// Given up; there is an error.
    Failed,
}

/// A stored document, without its text.
#[derive(Clone, Debug, PartialEq, FromQueryResult)]
pub struct Document {
    /// Its id (UUID v7).
    pub id: Uuid,
    /// Its title, if it has one.
    pub title: Option<String>,
    /// The collection it belongs to.
    pub collection: String,
    /// What its owner wrote on it: a JSON object.
    pub metadata: Value,
    /// PostgreSQL's text-search configuration for its language, such as `english`.
    pub language: String,
    /// What kind of text it is: `text/plain`, `text/markdown`.
    pub media_type: String,
    /// SHA-256 of its text, or of the file it came as, in hexadecimal.
    pub content_hash: String,
    /// How far it is.
    pub state: DocumentState,
    /// How many passages it has, once that is known.
    pub chunks: i32,
    /// How many of them are embedded.
    pub chunks_done: i32,
    /// Why it failed, once failed.
    pub error: Option<String>,
    /// The task that works on it.
    pub task_id: String,
    /// How often it was handed in.
    pub revision: i32,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

impl From<document::Model> for Document {
    fn from(row: document::Model) -> Self {
        Self {
            id: row.id,
            title: row.title,
            collection: row.collection,
            metadata: jsonb::sent(row.metadata),
            language: row.language,
            media_type: row.media_type,
            content_hash: row.content_hash,
            state: row.state,
            chunks: row.chunks,
            chunks_done: row.chunks_done,
            error: row.error,
            task_id: row.task_id,
            revision: row.revision,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

impl Document {
    /// A row that was read as it lies in the database.
    fn restored(self) -> Self {
        Self { metadata: jsonb::sent(self.metadata), ..self }
    }
}

/// Everything but the text, which may be long.
const LIGHT: [document::Column; 15] = {
    use document::Column as C;
    [
        C::Id,
        C::Title,
        C::Collection,
        C::Metadata,
        C::Language,
        C::MediaType,
        C::ContentHash,
        C::State,
        C::Chunks,
        C::ChunksDone,
        C::Error,
        C::TaskId,
        C::Revision,
        C::CreatedAt,
        C::UpdatedAt,
    ]
};
