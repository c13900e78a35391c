//! Conversations: questions and their answers in a row, so that the next question may lean on them.

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, DbBackend, FromQueryResult, Statement};
use serde_json::Value;
use uuid::Uuid;

use crate::error::Result;
use crate::events::storable;
use crate::storage::{OPERATION, Storage, within};

/// A question and its answer.
#[derive(Clone, Debug, PartialEq, FromQueryResult)]
pub struct Turn {
    /// The task that answered.
    pub task_id: String,
    /// The question.
    pub question: String,
    /// The answer.
    pub answer: String,
    /// The passages it points to, as the task's result shows them.
    pub citations: Value,
    /// What answered.
    pub model: String,
    /// When it was answered.
    pub created_at: DateTime<Utc>,
}

/// A question and its answer, to be stored.
#[derive(Clone, Debug)]
pub struct NewTurn {
    /// The conversation they belong to.
    pub conversation_id: Uuid,
    /// The task that answered.
    pub task_id: String,
    /// The question.
    pub question: String,
    /// The answer.
    pub answer: String,
    /// The passages it points to.
    pub citations: Value,
    /// What answered.
    pub model: String,
}

impl Storage {
    /// Adds a turn to its conversation, which begins with its first turn. The turn of a task is stored once.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`](crate::StorageError::Unavailable).
    pub async fn add_turn(&self, turn: NewTurn) -> Result<()> {
        let sql = "INSERT INTO conversation_turns (conversation_id, task_id, question, answer, citations, model)
            VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (task_id) DO NOTHING";
        let values = [
            turn.conversation_id.into(),
            turn.task_id.into(),
            storable(&turn.question).into(),
            storable(&turn.answer).into(),
            turn.citations.into(),
            turn.model.into(),
        ];
        within(OPERATION, async {
            self.db.execute_raw(Statement::from_sql_and_values(DbBackend::Postgres, sql, values)).await?;
            Ok(())
        })
        .await
    }

    /// The last turns of a conversation, at most so many, the oldest of them first. A conversation that nobody began has
    /// none.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`](crate::StorageError::Unavailable).
    pub async fn last_turns(&self, conversation_id: Uuid, at_most: u32) -> Result<Vec<Turn>> {
        let sql = "SELECT task_id, question, answer, citations, model, created_at FROM conversation_turns
            WHERE conversation_id = $1 ORDER BY id DESC LIMIT $2";
        let values = [conversation_id.into(), i64::from(at_most).into()];
        within(OPERATION, async {
            let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
            let mut turns = Turn::find_by_statement(statement).all(&self.db).await?;
            turns.reverse();
            Ok(turns)
        })
        .await
    }

    /// Forgets a conversation. True: there was one.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`](crate::StorageError::Unavailable).
    pub async fn delete_conversation(&self, conversation_id: Uuid) -> Result<bool> {
        let sql = "DELETE FROM conversation_turns WHERE conversation_id = $1";
        within(OPERATION, async {
            let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, [conversation_id.into()]);
            Ok(self.db.execute_raw(statement).await?.rows_affected() > 0)
        })
        .await
    }
}
