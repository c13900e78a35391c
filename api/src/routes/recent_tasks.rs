//! The list of recent tasks.

use chrono::{DateTime, Utc};
use poem::web::Data;
use poem_openapi::param::Query;
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};

use crate::failures::{Answer, Seen};
use crate::problem::Problem;
use crate::recent::{RecentFilter, RecentTask};
use crate::routes::Group;
use crate::routes::documents::default_limit;
use crate::state::State;

#[derive(Clone, Default)]
pub(crate) struct RecentTasks;

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

#[OpenApi]
impl RecentTasks {
    /// List recent tasks
    ///
    /// The last 10,000 tasks that this service has sent or that workers have told of by Celery's events (`-E`), since it
    /// started. Newest first, by pages: give `next_cursor` as `cursor` for the next one.
    #[oai(path = "/v1/tasks", method = "get", operation_id = "listTasks", tag = "Group::Tasks")]
    #[allow(clippy::too_many_arguments)]
    async fn list(
        &self,
        state: Data<&State>,
        /// At most this many.
        #[oai(default = "default_limit", validator(minimum(value = "1"), maximum(value = "200")))]
        limit: Query<u64>,
        /// Where the page begins: `next_cursor` of the page before.
        #[oai(validator(pattern = "^[0-9]{0,18}$"))]
        cursor: Query<Option<String>>,
        /// Only tasks of this name.
        name: Query<Option<String>>,
        /// Only tasks in this state.
        #[oai(name = "state")]
        in_state: Query<Option<String>>,
        /// Only tasks of this worker.
        worker: Query<Option<String>>,
    ) -> Answer<Json<RecentPage>, Seen> {
        let filter = RecentFilter { name: name.0, state: in_state.0, worker: worker.0 };
        let cursor = cursor.0.filter(|cursor| !cursor.is_empty());
        let before = cursor.map(|cursor| cursor.parse().map_err(|_| not_a_cursor())).transpose()?;
        let (items, next) = state.recent.page(&filter, before, usize::try_from(limit.0).unwrap_or(usize::MAX));
        Ok(Json(RecentPage {
            items: items.into_iter().map(Into::into).collect(),
            next_cursor: next.map(|place| place.to_string()),
        }))
    }
}

fn not_a_cursor() -> Problem {
    Problem::field("cursor", "is not a next_cursor of this list")
}
