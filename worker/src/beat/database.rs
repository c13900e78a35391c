//! Schedules that are kept in PostgreSQL.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, PoisonError};

use petiole_beat::{Entry, Ran, Schedule, ScheduleError, Source, SourceError, options};
use petiole_storage::{ScheduleRun, ScheduleTimes, Storage};
use tracing::error;
use uuid::Uuid;

/// Before the id in an entry's key: no name of the code's entries begins so.
const PREFIX: &str = "postgresql:";

/// The schedules of the database.
pub struct Database {
    storage: Storage,
    /// Schedules that cannot be used, and why, so that each is told once.
    told: Mutex<HashSet<(Uuid, String)>>,
}

impl Database {
    /// The schedules of this database.
    pub fn new(storage: Storage) -> Self {
        Self { storage, told: Mutex::default() }
    }

    /// The API checks what it stores; something may have been written by another hand.
    fn usable(&self, schedule: petiole_storage::Schedule) -> Option<Entry> {
        let (id, name) = (schedule.id, schedule.what.name.clone());
        match entry(schedule) {
            Ok(entry) => Some(entry),
            Err(reason) => {
                if self.told.lock().unwrap_or_else(PoisonError::into_inner).insert((id, reason.to_string())) {
                    error!(%id, "beat: the schedule {name:?} cannot be used: {reason}");
                }
                None
            }
        }
    }
}

fn entry(stored: petiole_storage::Schedule) -> Result<Entry, ScheduleError> {
    let what = stored.what;
    let schedule = match what.times {
        ScheduleTimes::Crontab { line, timezone } => Schedule::crontab(&line, timezone.as_deref())?,
        ScheduleTimes::Interval { seconds, relative } => Schedule::interval(seconds, relative)?,
    };
    let mut entry = Entry::new(what.name, schedule, what.task).args(what.args).kwargs(what.kwargs);
    options::apply(&what.options, &mut entry.task)
        .map_err(|(field, reason)| ScheduleError::Entry { field: format!("options.{field}"), reason })?;
    entry.key = format!("{PREFIX}{}", stored.id);
    entry.active_since = Some(stored.active_since);
    let last_run_at = stored.last_run_at.unwrap_or(stored.active_since);
    entry.ran = Some(Ran { last_run_at, total_run_count: stored.total_run_count, task_id: None });
    Ok(entry)
}

#[async_trait::async_trait]
impl Source for Database {
    fn name(&self) -> &str {
        "the database"
    }

    async fn entries(&self) -> Result<Vec<Entry>, SourceError> {
        let stored = self.storage.enabled_schedules().await?;
        Ok(stored.into_iter().filter_map(|schedule| self.usable(schedule)).collect())
    }

    async fn ran(&self, runs: &BTreeMap<String, Ran>) -> Result<(), SourceError> {
        let runs: Vec<ScheduleRun> = runs
            .iter()
            .filter(|(_, ran)| ran.total_run_count > 0)
            .filter_map(|(key, ran)| {
                Some(ScheduleRun {
                    id: key.strip_prefix(PREFIX)?.parse().ok()?,
                    last_run_at: ran.last_run_at,
                    total_run_count: ran.total_run_count,
                    task_id: ran.task_id.clone(),
                })
            })
            .collect();
        if !runs.is_empty() {
            self.storage.note_schedule_runs(&runs).await?;
        }
        Ok(())
    }
}
