//! Periodic tasks: kept here, sent by whoever reads them.

use chrono::{DateTime, Utc};
use sea_orm::prelude::Expr;
use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, DbErr, EntityTrait, ExprTrait, IntoActiveModel, QueryFilter, QueryOrder,
    QuerySelect, RuntimeErr, sqlx,
};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::cursor::{Cursor, Page};
use crate::entity::schedule;
use crate::error::{Result, StorageError};
use crate::expected::{self, Expected};
use crate::jsonb;
use crate::storage::{OPERATION, Storage, within};

/// When a task is due.
#[derive(Clone, Debug, PartialEq)]
pub enum ScheduleTimes {
    /// By a crontab's line, on the clock of a time zone.
    Crontab {
        /// The line.
        line: String,
        /// The time zone's name; none: the application's.
        timezone: Option<String>,
    },
    /// Every so many seconds.
    Interval {
        /// The seconds.
        seconds: f64,
        /// Rounded to the interval's unit on the clock?
        relative: bool,
    },
}

/// A schedule to be stored.
#[derive(Clone, Debug, PartialEq)]
pub struct NewSchedule {
    /// Its name; no two have the same.
    pub name: String,
    /// The task's name.
    pub task: String,
    /// Positional arguments.
    pub args: Vec<Value>,
    /// Keyword arguments.
    pub kwargs: Map<String, Value>,
    /// Options of the call.
    pub options: Map<String, Value>,
    /// When it is due.
    pub times: ScheduleTimes,
    /// Is it sent at all?
    pub enabled: bool,
}

/// A stored schedule.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// Its id (UUID v7).
    pub id: Uuid,
    /// What was stored.
    pub what: NewSchedule,
    /// Since when it counts: made, enabled, or given other times.
    pub active_since: DateTime<Utc>,
    /// When it last ran.
    pub last_run_at: Option<DateTime<Utc>>,
    /// How often it ran.
    pub total_run_count: u64,
    /// The last task's id.
    pub last_task_id: Option<String>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last changed; runs do not count.
    pub updated_at: DateTime<Utc>,
}

/// What became of a schedule, as its scheduler tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct ScheduleRun {
    /// The schedule.
    pub id: Uuid,
    /// When it last ran.
    pub last_run_at: DateTime<Utc>,
    /// How often it ran.
    pub total_run_count: u64,
    /// The last task's id.
    pub task_id: Option<String>,
}

/// Which schedules a list shows; everything that is set must hold.
#[derive(Clone, Debug, Default)]
pub struct ScheduleFilter {
    /// Only enabled or disabled ones.
    pub enabled: Option<bool>,
    /// Only of this task.
    pub task: Option<String>,
}

impl From<schedule::Model> for Schedule {
    fn from(row: schedule::Model) -> Self {
        let object = |value| if let Value::Object(map) = jsonb::sent(value) { map } else { Map::new() };
        let times = match (row.crontab, row.every_seconds) {
            (Some(line), _) => ScheduleTimes::Crontab { line, timezone: row.timezone },
            (None, seconds) => ScheduleTimes::Interval { seconds: seconds.unwrap_or_default(), relative: row.relative },
        };
        Self {
            id: row.id,
            what: NewSchedule {
                name: row.name,
                task: row.task,
                args: if let Value::Array(args) = jsonb::sent(row.args) { args } else { vec![] },
                kwargs: object(row.kwargs),
                options: object(row.options),
                times,
                enabled: row.enabled,
            },
            active_since: row.active_since,
            last_run_at: row.last_run_at,
            total_run_count: u64::try_from(row.total_run_count).unwrap_or(0),
            last_task_id: row.last_task_id,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// Lays what is to be stored over a row.
fn fill(row: &mut schedule::ActiveModel, what: NewSchedule) {
    row.name = Set(what.name);
    row.task = Set(what.task);
    row.args = Set(jsonb::stored(Value::Array(what.args)));
    row.kwargs = Set(jsonb::stored(Value::Object(what.kwargs)));
    row.options = Set(jsonb::stored(Value::Object(what.options)));
    row.enabled = Set(what.enabled);
    let (crontab, timezone, every_seconds, relative) = match what.times {
        ScheduleTimes::Crontab { line, timezone } => (Some(line), timezone, None, false),
        ScheduleTimes::Interval { seconds, relative } => (None, None, Some(seconds), relative),
    };
    row.crontab = Set(crontab);
    row.timezone = Set(timezone);
    row.every_seconds = Set(every_seconds);
    row.relative = Set(relative);
}

/// A name that is taken is the client's to mend.
fn named(error: DbErr, name: &str) -> StorageError {
    let (DbErr::Exec(RuntimeErr::SqlxError(cause)) | DbErr::Query(RuntimeErr::SqlxError(cause))) = &error else {
        return error.into();
    };
    match cause.as_ref() {
        sqlx::Error::Database(cause) if cause.constraint() == Some("schedules_name") => {
            StorageError::Conflict(format!("there is a schedule named {name:?} already"))
        }
        _ => error.into(),
    }
}

impl Storage {
    /// Stores a schedule.
    ///
    /// # Errors
    /// [`StorageError::Conflict`] when the name is taken; [`StorageError::Invalid`] for what PostgreSQL cannot hold;
    /// [`StorageError::Unavailable`].
    pub async fn create_schedule(&self, id: Uuid, new: NewSchedule) -> Result<Schedule> {
        let name = new.name.clone();
        within(OPERATION, async {
            let mut row = schedule::ActiveModel { id: Set(id), ..Default::default() };
            fill(&mut row, new);
            let stored = schedule::Entity::insert(row).exec_with_returning(&self.db).await;
            stored.map(Schedule::from).map_err(|error| named(error, &name))
        })
        .await
    }

    /// The schedule with this id.
    ///
    /// # Errors
    /// [`StorageError::NotFound`], [`StorageError::Unavailable`].
    pub async fn schedule(&self, id: Uuid) -> Result<Schedule> {
        within(OPERATION, async {
            let row = schedule::Entity::find_by_id(id).one(&self.db).await?;
            row.map(Schedule::from).ok_or_else(|| StorageError::not_found("schedule", id))
        })
        .await
    }

    /// One page of at most `limit` schedules, newest first, after the place `after`.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`].
    pub async fn schedules(
        &self,
        filter: &ScheduleFilter,
        after: Option<Cursor>,
        limit: u64,
    ) -> Result<Page<Schedule>> {
        use schedule::Column as C;
        let mut condition = Condition::all();
        if let Some(enabled) = filter.enabled {
            condition = condition.add(C::Enabled.eq(enabled));
        }
        if let Some(task) = &filter.task {
            condition = condition.add(C::Task.eq(task));
        }
        if let Some(after) = after {
            let place = Expr::tuple([Expr::value(after.created_at), Expr::value(after.id)]);
            condition = condition.add(Expr::tuple([Expr::col(C::CreatedAt), Expr::col(C::Id)]).lt(place));
        }
        let rows = within(OPERATION, async {
            let query = schedule::Entity::find().filter(condition).order_by_desc(C::CreatedAt).order_by_desc(C::Id);
            Ok(query.limit(limit + 1).all(&self.db).await?)
        })
        .await?;
        let schedules = rows.into_iter().map(Schedule::from).collect();
        Ok(Page::new(schedules, limit, |one: &Schedule| Cursor { created_at: one.created_at, id: one.id }))
    }

    /// All schedules that are enabled, by their names.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`].
    pub async fn enabled_schedules(&self) -> Result<Vec<Schedule>> {
        within(OPERATION, async {
            let query = schedule::Entity::find().filter(schedule::Column::Enabled.eq(true));
            let rows = query.order_by_asc(schedule::Column::Name).all(&self.db).await?;
            Ok(rows.into_iter().map(Schedule::from).collect())
        })
        .await
    }

    /// Changes a schedule, if it is as `expected`: `change` gets it as it is and gives it as it shall be. What was due before a change of its times,
    /// or while it was disabled, is not made up for.
    ///
    /// # Errors
    /// [`StorageError::NotFound`], [`StorageError::Changed`], what `change` gives, and as [`Storage::create_schedule`].
    pub async fn change_schedule<E: From<StorageError>>(
        &self,
        id: Uuid,
        expected: Option<Expected<'_, Schedule>>,
        change: impl FnOnce(NewSchedule) -> std::result::Result<NewSchedule, E>,
    ) -> std::result::Result<Schedule, E> {
        let begun = within(OPERATION, async {
            let transaction = self.begin().await?;
            let row = schedule::Entity::find_by_id(id).lock_exclusive().one(&transaction).await?;
            Ok((transaction, row.ok_or_else(|| StorageError::not_found("schedule", id))?))
        });
        let (transaction, row) = begun.await?;
        let before = Schedule::from(row.clone());
        expected::check(expected, &before, "schedule")?;
        let after = change(before.what.clone())?;
        let name = after.name.clone();
        let mut row = row.into_active_model();
        let now = Utc::now();
        if after.times != before.what.times || (after.enabled && !before.what.enabled) {
            row.active_since = Set(now);
        }
        row.updated_at = Set(now);
        fill(&mut row, after);
        let changed = within(OPERATION, async {
            let changed = schedule::Entity::update(row).exec(&transaction).await;
            let changed = changed.map_err(|error| named(error, &name))?;
            transaction.commit().await?;
            Ok(Schedule::from(changed))
        });
        Ok(changed.await?)
    }

    /// Deletes a schedule.
    ///
    /// # Errors
    /// [`StorageError::NotFound`], [`StorageError::Unavailable`]; [`StorageError::Changed`] when it is not as `expected`.
    pub async fn delete_schedule(&self, id: Uuid, expected: Option<Expected<'_, Schedule>>) -> Result<()> {
        within(OPERATION, async {
            let transaction = self.begin().await?;
            let Some(row) = schedule::Entity::find_by_id(id).lock_exclusive().one(&transaction).await? else {
                return Err(StorageError::not_found("schedule", id));
            };
            expected::check(expected, &Schedule::from(row), "schedule")?;
            schedule::Entity::delete_by_id(id).exec(&transaction).await?;
            transaction.commit().await?;
            Ok(())
        })
        .await
    }

    /// Notes runs. What is not there any more is left out.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`].
    pub async fn note_schedule_runs(&self, runs: &[ScheduleRun]) -> Result<()> {
        use schedule::Column as C;
        within(OPERATION, async {
            let transaction = self.begin().await?;
            for run in runs {
                let count = i64::try_from(run.total_run_count).unwrap_or(i64::MAX);
                let row = schedule::ActiveModel {
                    last_run_at: Set(Some(run.last_run_at)),
                    total_run_count: Set(count),
                    last_task_id: Set(run.task_id.clone()),
                    ..Default::default()
                };
                schedule::Entity::update_many().set(row).filter(C::Id.eq(run.id)).exec(&transaction).await?;
            }
            transaction.commit().await?;
            Ok(())
        })
        .await
    }
}
