//! What the list of recent tasks shows.

use chrono::{DateTime, Utc};
use poem_openapi::Object;

use crate::problem::Problem;
use crate::recent::{RecentFilter, RecentTask};
use crate::state::State;

/// A task of late, as events tell of it.
#[derive(Debug, Object)]
#[oai(rename = "RecentTask")]
pub(crate) struct RecentView {
    /// Its id.
    task_id: String,
    /// Its name, when that is known.
    name: Option<String>,
    /// Its last known state.
    state: String,
    /// The queue it was sent to, when that is known.
    queue: Option<String>,
    /// The worker that took it.
    worker: Option<String>,
    /// The first task of the workflow it belongs to.
    root_id: Option<String>,
    /// The task that sent it.
    parent_id: Option<String>,
    /// When it was sent.
    sent_at: Option<DateTime<Utc>>,
    /// When a worker took it.
    received_at: Option<DateTime<Utc>>,
    /// When it began to run.
    started_at: Option<DateTime<Utc>>,
    /// When it ended.
    date_done: Option<DateTime<Utc>>,
    /// How long it ran, in seconds.
    runtime: Option<f64>,
    /// How often it was retried.
    retries: u64,
    /// Why it failed, or was retried.
    error: Option<String>,
}

impl From<RecentTask> for RecentView {
    fn from(task: RecentTask) -> Self {
        Self {
            task_id: task.task_id,
            name: task.name,
            state: task.state,
            queue: task.queue,
            worker: task.worker,
            root_id: task.root_id,
            parent_id: task.parent_id,
            sent_at: task.sent_at,
            received_at: task.received_at,
            started_at: task.started_at,
            date_done: task.date_done,
            runtime: task.runtime,
            retries: task.retries,
            error: task.error,
        }
    }
}

/// A page of recent tasks.
#[derive(Debug, Object)]
pub(crate) struct RecentPage {
    /// The tasks, those first that were heard of last.
    items: Vec<RecentView>,
    /// Where the next page begins; null on the last one.
    next_cursor: Option<String>,
}

/// A page of the list, by the cursor that came.
pub(crate) fn page(
    state: &State,
    filter: &RecentFilter,
    cursor: Option<&str>,
    limit: u64,
) -> Result<RecentPage, Problem> {
    let not_a_cursor = |_| Problem::field("cursor", "is not a next_cursor of this list");
    let cursor = cursor.filter(|cursor| !cursor.is_empty());
    let before = cursor.map(|cursor| cursor.parse().map_err(not_a_cursor)).transpose()?;
    let (items, next) = state.recent.page(filter, before, usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(RecentPage {
        items: items.into_iter().map(Into::into).collect(),
        next_cursor: next.map(|place| place.to_string()),
    })
}
