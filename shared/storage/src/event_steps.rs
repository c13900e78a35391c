//! The steps of events whose type is a workflow: how far each is, what went in, what came out.

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, DbBackend, DeriveActiveEnum, EnumIter, FromQueryResult, Statement, Value as Parameter};
use serde_json::Value;
use uuid::Uuid;

use crate::error::{Result, StorageError};
use crate::events::storable;
use crate::jsonb;
use crate::storage::{OPERATION, Storage, within};

/// Where a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
pub enum StepState {
    /// It waits for the steps before it.
    Pending,
    /// Its task runs, or is to run again.
    Running,
    /// Done; there is an output.
    Succeeded,
    /// Given up; there is an error.
    Failed,
    /// The workflow went another way.
    Skipped,
}

/// A step of an event.
#[derive(Clone, Debug, PartialEq, FromQueryResult)]
pub struct EventStep {
    /// Its name, which no other step of the event has.
    pub name: String,
    /// The task that does it.
    pub task: String,
    /// How far it is.
    pub state: StepState,
    /// The id of its task, once it began.
    pub task_id: Option<String>,
    /// What went in, once it began.
    pub input: Option<Value>,
    /// What came out, once succeeded.
    pub output: Option<Value>,
    /// Why it failed, once failed; before that, why it is tried again.
    pub error: Option<String>,
    /// How often it was begun.
    pub attempts: i32,
    /// When it was first begun.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
}

impl Storage {
    /// Notes the steps that an event will take, by their names and tasks, in order. Those that are noted already stay.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`].
    pub async fn plan_event_steps(&self, event_id: Uuid, steps: &[(String, String)]) -> Result<()> {
        let mut sql = "INSERT INTO event_steps (event_id, position, name, task) VALUES ".to_owned();
        let mut values: Vec<Parameter> = vec![event_id.into()];
        for (position, (name, task)) in steps.iter().enumerate() {
            let n = values.len();
            let comma = if position == 0 { "" } else { ", " };
            sql.push_str(&format!("{comma}($1, ${}, ${}, ${})", n + 1, n + 2, n + 3));
            values.push(i32::try_from(position).unwrap_or(i32::MAX).into());
            values.push(name.as_str().into());
            values.push(task.as_str().into());
        }
        if steps.is_empty() {
            return Ok(());
        }
        sql.push_str(" ON CONFLICT (event_id, name) DO NOTHING");
        within(OPERATION, async {
            self.db.execute_raw(Statement::from_sql_and_values(DbBackend::Postgres, sql, values)).await?;
            Ok(())
        })
        .await
    }

    /// A step begins, or begins again. Gives its output when it has one: then there is nothing to do.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] for a step that was not planned; [`StorageError::Unavailable`].
    pub async fn begin_event_step(
        &self,
        event_id: Uuid,
        name: &str,
        task_id: &str,
        input: Value,
    ) -> Result<Option<Value>> {
        let sql = "UPDATE event_steps SET
                state = CASE state WHEN 'succeeded' THEN state ELSE 'running' END,
                attempts = attempts + CASE state WHEN 'succeeded' THEN 0 ELSE 1 END,
                task_id = CASE state WHEN 'succeeded' THEN task_id ELSE $3 END,
                input = CASE state WHEN 'succeeded' THEN input ELSE $4 END,
                finished_at = CASE state WHEN 'succeeded' THEN finished_at END,
                started_at = coalesce(started_at, clock_timestamp())
            WHERE event_id = $1 AND name = $2 RETURNING state = 'succeeded' AS done, output";
        let values: [Parameter; 4] = [event_id.into(), name.into(), task_id.into(), jsonb::stored(input).into()];
        within(OPERATION, async {
            let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
            let Some(row) = self.db.query_one_raw(statement).await? else {
                return Err(StorageError::not_found("step", name));
            };
            let output = row.try_get::<Option<Value>>("", "output")?.map(jsonb::sent);
            Ok(row.try_get::<bool>("", "done")?.then(|| output.unwrap_or(Value::Null)))
        })
        .await
    }

    /// A step is done.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`].
    pub async fn end_event_step(&self, event_id: Uuid, name: &str, output: Value) -> Result<()> {
        let sql =
            "UPDATE event_steps SET state = 'succeeded', output = $3, error = NULL, finished_at = clock_timestamp()
            WHERE event_id = $1 AND name = $2 AND state <> 'succeeded'";
        self.change(sql, vec![event_id.into(), name.into(), jsonb::stored(output).into()]).await
    }

    /// A step failed: for good, or to be tried again.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`].
    pub async fn fail_event_step(&self, event_id: Uuid, name: &str, error: &str, for_good: bool) -> Result<()> {
        let sql = "UPDATE event_steps SET error = $3,
                state = CASE WHEN $4 THEN 'failed' ELSE state END,
                finished_at = CASE WHEN $4 THEN clock_timestamp() END
            WHERE event_id = $1 AND name = $2 AND state <> 'succeeded'";
        self.change(sql, vec![event_id.into(), name.into(), storable(error).into(), for_good.into()]).await
    }

    /// Steps that the workflow will not take.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`].
    pub async fn skip_event_steps(&self, event_id: Uuid, names: &[String]) -> Result<()> {
        let sql = "UPDATE event_steps SET state = 'skipped'
            WHERE event_id = $1 AND name = ANY($2) AND state = 'pending'";
        self.change(sql, vec![event_id.into(), names.to_vec().into()]).await
    }

    /// The steps of an event, in the order of its plan; none when its type is no workflow.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`].
    pub async fn event_steps(&self, event_id: Uuid) -> Result<Vec<EventStep>> {
        let sql = "SELECT name, task, state, task_id, input, output, error, attempts, started_at, finished_at
            FROM event_steps WHERE event_id = $1 ORDER BY position";
        within(OPERATION, async {
            let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, [event_id.into()]);
            let mut steps = EventStep::find_by_statement(statement).all(&self.db).await?;
            for step in &mut steps {
                step.input = step.input.take().map(jsonb::sent);
                step.output = step.output.take().map(jsonb::sent);
            }
            Ok(steps)
        })
        .await
    }

    async fn change(&self, sql: &str, values: Vec<Parameter>) -> Result<()> {
        within(OPERATION, async {
            self.db.execute_raw(Statement::from_sql_and_values(DbBackend::Postgres, sql, values)).await?;
            Ok(())
        })
        .await
    }
}
