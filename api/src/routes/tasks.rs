//! Tasks: sent, followed, revoked.

use std::time::Duration;

use petiole_client::{Prepared, TaskMeta};
use poem::web::Data;
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::types::{Any, Example};
use poem_openapi::{ApiResponse, Object, OpenApi};
use serde_json::Value;

use crate::auth::Caller;
use crate::body::Body;
use crate::calls::TaskRequest;
use crate::failures::{Answer, One, Seen, SendTask};
use crate::problem::Problem;
use crate::recent::RecentFilter;
use crate::request_id::RequestId;
use crate::routes::default_limit;
use crate::routes::{Group, recent_tasks};
use crate::state::State;

/// The longest id of a task.
const LONGEST_ID: usize = 255;

#[derive(Clone, Default)]
pub(crate) struct Tasks;

/// A task that was sent.
#[derive(Clone, Debug, Object)]
#[oai(example)]
pub(crate) struct SentTask {
    /// Its id.
    task_id: String,
    /// Its state: `PENDING`.
    state: String,
}

impl SentTask {
    /// A task that waits.
    pub(crate) fn pending(task_id: String) -> Self {
        Self { task_id, state: "PENDING".into() }
    }
}

impl Example for SentTask {
    fn example() -> Self {
        Self { task_id: "5f0c2f0e-6f5b-4c59-a2f2-6f4f3b7c9d10".into(), state: "PENDING".into() }
    }
}

#[derive(ApiResponse)]
pub(crate) enum SentResponse {
    /// It waits for a worker.
    #[oai(status = 202)]
    Sent(
        Json<SentTask>,
        /// Where it is followed.
        #[oai(header = "Location")]
        String,
    ),
}

/// A task that is being revoked.
#[derive(Clone, Debug, Object)]
pub(crate) struct RevokedTask {
    /// Its id.
    task_id: String,
    /// Whether it is ended even if it runs already.
    terminate: bool,
}

#[derive(ApiResponse)]
pub(crate) enum RevokedResponse {
    /// All workers were told.
    #[oai(status = 202)]
    Revoked(Json<RevokedTask>),
}

/// Why a task failed.
#[derive(Clone, Debug, Object, PartialEq)]
pub(crate) struct TaskError {
    /// The exception's class.
    #[oai(rename = "type")]
    kind: String,
    /// What it said.
    message: String,
    /// Where it was raised.
    traceback: Option<String>,
}

/// A task and what became of it.
#[derive(Clone, Debug, Object, PartialEq)]
#[oai(rename = "Task")]
pub(crate) struct TaskView {
    /// Its id.
    pub(crate) task_id: String,
    /// Celery's state: `PENDING`, `RECEIVED`, `STARTED`, `RETRY`, `SUCCESS`, `FAILURE`, `REVOKED`, `REJECTED`, or one of
    /// the task's own such as `PROGRESS`.
    pub(crate) state: String,
    /// What it returned; before the end, what it reported.
    pub(crate) result: Option<Any<Value>>,
    /// Why it failed, when it did.
    error: Option<TaskError>,
    /// The task's name, when that is known.
    pub(crate) name: Option<String>,
    /// The worker that ran it.
    worker: Option<String>,
    /// When it ended.
    date_done: Option<String>,
}

#[OpenApi]
impl Tasks {
    /// Send a task
    ///
    /// Any task that is allowed (`ALLOWED_TASKS`; never Celery's own) and that some worker knows; while no worker runs, any
    /// that is allowed. The request's id is among the message's headers as `request_id`.
    #[oai(path = "/v1/tasks", method = "post", operation_id = "sendTask", tag = "Group::Tasks")]
    async fn send(
        &self,
        state: Data<&State>,
        request_id: RequestId,
        caller: Caller,
        body: Body<TaskRequest>,
    ) -> Answer<SentResponse, SendTask> {
        let Body(request) = body;
        for name in request.names() {
            caller.check_task(name)?;
            within(state.limits.request, state.tasks.check(name)).await?;
        }
        Problem::refuse(request.check(""))?;
        let task = request.into_send(&request_id);
        let prepared = state.client.prepare(task)?;
        within(state.limits.request, async { Ok(state.client.publish(&prepared).await?) }).await?;
        let Prepared { task_id, name, queue, .. } = prepared;
        state.recent.sent(&task_id, &name, &queue);
        let location = format!("/v1/tasks/{task_id}");
        Ok(SentResponse::Sent(Json(SentTask { task_id, state: "PENDING".into() }), location))
    }

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
    ) -> Answer<Json<recent_tasks::RecentPage>, Seen> {
        let filter = RecentFilter { name: name.0, state: in_state.0, worker: worker.0 };
        Ok(Json(recent_tasks::page(&state, &filter, cursor.0.as_deref(), limit.0)?))
    }

    /// Follow a task
    ///
    /// Its state and result. With `wait`, the answer comes when the task has ended, or after so many seconds.
    #[oai(path = "/v1/tasks/:id", method = "get", operation_id = "getTask", tag = "Group::Tasks")]
    async fn get(
        &self,
        state: Data<&State>,
        /// The task's id.
        id: Path<String>,
        /// Wait for the end, at most so many seconds.
        #[oai(default, validator(minimum(value = "0"), maximum(value = "60")))]
        wait: Query<f64>,
    ) -> Answer<Json<TaskView>, One> {
        let found = within(state.limits.request, find(&state, &id.0)).await?;
        // NaN passes both bounds
        if !wait.0.is_finite() {
            return Err(Problem::field("wait", "must be a number from 0 to 60").into());
        }
        if wait.0 == 0.0 || is_final(&found.state) {
            return Ok(Json(found));
        }
        let meta = tokio::select! {
            meta = state.client.wait(&id.0, Duration::from_secs_f64(wait.0)) => meta?,
            () = state.stopping.cancelled() => state.client.task_meta(&id.0).await?,
        };
        Ok(Json(meta.map_or(found.clone(), |meta| view(meta, found.name))))
    }

    /// Revoke a task
    ///
    /// Workers will not start it. With `terminate` it is ended even if it runs already. A task that has ended stays as it is.
    /// It can be read as before: its state becomes `REVOKED`. `DELETE /v1/tasks/{id}`, with `terminate` in its query, does the
    /// same.
    #[oai(path = "/v1/tasks/:id/revoke", method = "post", operation_id = "revokeTask", tag = "Group::Tasks")]
    async fn revoke(
        &self,
        state: Data<&State>,
        /// The task's id.
        id: Path<String>,
        /// End it even if it runs already.
        #[oai(default)]
        terminate: Query<bool>,
    ) -> Answer<RevokedResponse, One> {
        revoke(&state, id.0, terminate.0).await
    }

    /// Revoke a task
    ///
    /// The same as `POST /v1/tasks/{id}/revoke`.
    #[oai(path = "/v1/tasks/:id", method = "delete", operation_id = "deleteTask", tag = "Group::Tasks")]
    async fn delete(
        &self,
        state: Data<&State>,
        /// The task's id.
        id: Path<String>,
        /// End it even if it runs already.
        #[oai(default)]
        terminate: Query<bool>,
    ) -> Answer<RevokedResponse, One> {
        revoke(&state, id.0, terminate.0).await
    }
}

async fn revoke(state: &State, id: String, terminate: bool) -> Answer<RevokedResponse, One> {
    within(state.limits.request, find(state, &id)).await?;
    within(state.limits.request, async { Ok(state.client.revoke(std::slice::from_ref(&id), terminate, None).await?) })
        .await?;
    Ok(RevokedResponse::Revoked(Json(RevokedTask { task_id: id, terminate })))
}

/// The task as it is now.
///
/// # Errors
/// 404 for an id that nobody sent and that has no result.
pub(crate) async fn find(state: &State, id: &str) -> Result<TaskView, Problem> {
    let unknown = || Problem::not_found(format!("there is no task {id}"));
    if id.is_empty() || id.len() > LONGEST_ID || id.contains('\0') {
        return Err(Problem::not_found("there is no such task"));
    }
    let (mut meta, mut name) = heard_of(state, id).await?;
    // What waits in the outbox was accepted, too; what left it since Redis was asked is there by now.
    if meta.is_none() && name.is_none() && !state.storage.outbox_has_task(id).await? {
        (meta, name) = heard_of(state, id).await?;
        if meta.is_none() && name.is_none() {
            return Err(unknown());
        }
    }
    if let Some(meta) = meta {
        return Ok(view(meta, name));
    }
    Ok(TaskView {
        task_id: id.to_owned(),
        state: "PENDING".into(),
        result: None,
        error: None,
        name,
        worker: None,
        date_done: None,
    })
}

/// What Redis knows of a task: its result, the name it was sent by.
async fn heard_of(state: &State, id: &str) -> Result<(Option<TaskMeta>, Option<String>), Problem> {
    let (meta, sent) = tokio::try_join!(state.client.task_meta(id), state.client.sent(id))?;
    Ok((meta, sent.map(|sent| sent.name)))
}

/// A stored result as the contract shows it. `name` stands in where the result does not tell it.
pub(crate) fn view(meta: TaskMeta, name: Option<String>) -> TaskView {
    let error = meta.exception().map(|exception| TaskError {
        kind: exception.exc_type.clone(),
        message: exception.message(),
        traceback: meta.traceback.clone(),
    });
    TaskView {
        task_id: meta.task_id,
        state: meta.status,
        result: if error.is_some() { None } else { Some(Any(meta.result)) },
        error,
        name: meta.name.or(name),
        worker: meta.worker,
        date_done: meta.date_done,
    }
}

/// Whether nothing comes after this state.
pub(crate) fn is_final(state: &str) -> bool {
    matches!(state, "SUCCESS" | "FAILURE" | "REVOKED" | "REJECTED" | "IGNORED")
}

/// Bounds what needs Redis.
pub(crate) async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    let late = || Problem::unavailable("Redis did not answer in time; try again soon");
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(late()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn a_failure_shows_its_exception_and_no_result() {
        let meta: TaskMeta = serde_json::from_value(json!({
            "status": "FAILURE", "result": {"exc_type": "ValueError", "exc_message": ["boom"], "exc_module": "builtins"},
            "traceback": "Traceback …", "date_done": "2030-01-01T00:00:00+00:00", "task_id": "x",
        }))
        .unwrap();
        let view = view(meta, Some("demo.fail".into()));
        let error = view.error.unwrap();
        assert_eq!((error.kind.as_str(), error.message.as_str()), ("ValueError", "boom"));
        assert_eq!((view.result, view.name.as_deref()), (None, Some("demo.fail")));
        assert_eq!(error.traceback.as_deref(), Some("Traceback …"));
    }

    #[test]
    fn a_result_keeps_its_digits() {
        let text = r#"{"status": "SUCCESS", "result": 1000000000000000000000000000007, "task_id": "x"}"#;
        let view = view(serde_json::from_str(text).unwrap(), None);
        assert_eq!(view.result.unwrap().0.to_string(), "1000000000000000000000000000007");
    }
}
