//! Conversations: what was asked and answered in them.

use chrono::{DateTime, Utc};
use petiole_storage::Turn;
use poem::web::Data;
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::types::Any;
use poem_openapi::{ApiResponse, Object, OpenApi};
use serde_json::Value;
use uuid::Uuid;

use crate::failures::{Answer, One};
use crate::problem::Problem;
use crate::routes::Group;
use crate::routes::default_limit;
use crate::state::State;

#[derive(Clone, Default)]
pub(crate) struct Conversations;

/// A question and its answer.
#[derive(Debug, Object)]
#[oai(rename = "Turn")]
pub(crate) struct TurnView {
    /// The task that answered.
    task_id: String,
    /// The question.
    question: String,
    /// The answer.
    answer: String,
    /// The passages it points to.
    citations: Any<Value>,
    /// What answered.
    model: String,
    /// When it was answered.
    created_at: DateTime<Utc>,
}

impl From<Turn> for TurnView {
    fn from(turn: Turn) -> Self {
        Self {
            task_id: turn.task_id,
            question: turn.question,
            answer: turn.answer,
            citations: Any(turn.citations),
            model: turn.model,
            created_at: turn.created_at,
        }
    }
}

/// The last turns of a conversation.
#[derive(Debug, Object)]
#[oai(rename = "Conversation")]
pub(crate) struct ConversationView {
    /// Its id.
    id: Uuid,
    /// The turns, oldest first.
    items: Vec<TurnView>,
}

#[derive(ApiResponse)]
pub(crate) enum Forgotten {
    /// Its questions and answers are gone.
    #[oai(status = 204)]
    Forgotten,
}

#[OpenApi]
impl Conversations {
    /// Read a conversation
    ///
    /// Its last questions and answers, oldest first. A conversation begins with the first answer to a question that names
    /// it.
    #[oai(path = "/v1/conversations/:id", method = "get", operation_id = "getConversation", tag = "Group::Answers")]
    async fn get(
        &self,
        state: Data<&State>,
        /// The conversation's id.
        id: Path<Uuid>,
        /// At most this many turns.
        #[oai(default = "default_limit", validator(minimum(value = "1"), maximum(value = "200")))]
        limit: Query<u64>,
    ) -> Answer<Json<ConversationView>, One> {
        let turns = state.storage.last_turns(id.0, u32::try_from(limit.0).unwrap_or(u32::MAX)).await?;
        if turns.is_empty() {
            return Err(unknown(id.0).into());
        }
        Ok(Json(ConversationView { id: id.0, items: turns.into_iter().map(Into::into).collect() }))
    }

    /// Forget a conversation
    ///
    /// Its questions and answers are deleted.
    #[oai(
        path = "/v1/conversations/:id",
        method = "delete",
        operation_id = "deleteConversation",
        tag = "Group::Answers"
    )]
    async fn delete(
        &self,
        state: Data<&State>,
        /// The conversation's id.
        id: Path<Uuid>,
    ) -> Answer<Forgotten, One> {
        if state.storage.delete_conversation(id.0).await? {
            Ok(Forgotten::Forgotten)
        } else {
            Err(unknown(id.0).into())
        }
    }
}

fn unknown(id: Uuid) -> Problem {
    Problem::not_found(format!("there is no conversation {id}"))
}
