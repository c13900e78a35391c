//! Schedules: periodic tasks that are kept in the database and sent by beat.

use petiole_storage::{Cursor, NewSchedule, Schedule, ScheduleFilter, StorageError};
use poem::http::StatusCode;
use poem::web::Data;
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Object, OpenApi};
use uuid::Uuid;

use crate::body::Body;
use crate::etag::IfMatch;
use crate::failures::{Answer, List, NamedTask, One, Remove, ReplaceNamedTask};
use crate::problem::{FieldError, Problem, renamed};
use crate::routes::Group;
use crate::routes::default_limit;
use crate::routes::tasks::within;
use crate::schedules::{ScheduleChangeRequest, ScheduleRequest, ScheduleView, contradiction};
use crate::state::State;

#[derive(Clone, Default)]
pub(crate) struct Schedules;

#[derive(ApiResponse)]
pub(crate) enum CreatedSchedule {
    /// Stored; beat knows it within seconds.
    #[oai(status = 201)]
    Created(
        Json<ScheduleView>,
        /// Where it is.
        #[oai(header = "Location")]
        String,
    ),
}

#[derive(ApiResponse)]
pub(crate) enum DeletedSchedule {
    /// It is gone; beat knows it within seconds.
    #[oai(status = 204)]
    Deleted,
}

/// A page of schedules.
#[derive(Debug, Object)]
pub(crate) struct SchedulePage {
    /// The schedules, newest first.
    items: Vec<ScheduleView>,
    /// Where the next page begins; null on the last one.
    next_cursor: Option<String>,
}

#[OpenApi]
impl Schedules {
    /// Add a schedule
    ///
    /// From its making on, a beat (`worker beat`, `worker -B`, or `WORKER_BEAT=1`) sends the task whenever it is due. The
    /// task must be one that may be sent by `POST /v1/tasks`. What falls into a time in which no beat runs is made up for
    /// once.
    #[oai(path = "/v1/schedules", method = "post", operation_id = "createSchedule", tag = "Group::Schedules")]
    async fn create(&self, state: Data<&State>, body: Body<ScheduleRequest>) -> Answer<CreatedSchedule, NamedTask> {
        let new = body.0.into_new()?;
        within(state.limits.request, state.tasks.check(&new.task)).await?;
        let stored = state.storage.create_schedule(Uuid::now_v7(), new).await.map_err(refused)?;
        let location = format!("/v1/schedules/{}", stored.id);
        Ok(CreatedSchedule::Created(Json(ScheduleView::new(stored, &state.time_zone)), location))
    }

    /// Look at a schedule
    ///
    /// What it sends, when it last ran and when it is due next. Runs show within a second or two.
    #[oai(path = "/v1/schedules/:id", method = "get", operation_id = "getSchedule", tag = "Group::Schedules")]
    async fn get(
        &self,
        state: Data<&State>,
        /// The schedule's id.
        id: Path<Uuid>,
    ) -> Answer<Json<ScheduleView>, One> {
        Ok(Json(ScheduleView::new(state.storage.schedule(id.0).await?, &state.time_zone)))
    }

    /// List schedules
    ///
    /// Newest first, by pages: give `next_cursor` as `cursor` for the next one. Schedules of the application's code and
    /// settings are not among them.
    #[oai(path = "/v1/schedules", method = "get", operation_id = "listSchedules", tag = "Group::Schedules")]
    async fn list(
        &self,
        state: Data<&State>,
        /// At most this many.
        #[oai(default = "default_limit", validator(minimum(value = "1"), maximum(value = "200")))]
        limit: Query<u64>,
        /// Where the page begins: `next_cursor` of the page before.
        #[oai(validator(pattern = "^([A-Za-z0-9_-]{32})?$"))]
        cursor: Query<Option<String>>,
        /// Only schedules that are enabled, or only those that are not.
        enabled: Query<Option<bool>>,
        /// Only schedules of this task.
        #[oai(validator(pattern = r"^[^\x00]*$"))]
        task: Query<Option<String>>,
    ) -> Answer<Json<SchedulePage>, List> {
        let filter = ScheduleFilter { enabled: enabled.0, task: task.0 };
        let after = cursor.0.as_deref().filter(|cursor| !cursor.is_empty()).map(Cursor::decode).transpose()?;
        let page = state.storage.schedules(&filter, after, limit.0).await?;
        Ok(Json(SchedulePage {
            items: page.items.into_iter().map(|stored| ScheduleView::new(stored, &state.time_zone)).collect(),
            next_cursor: page.next.map(|cursor| cursor.encode()),
        }))
    }

    /// Replace a schedule
    ///
    /// What is missing in the request becomes what it is in a new one. Runs stay counted. What was due before a change of
    /// the times is not made up for. With the `ETag` of a read in `If-Match` this happens only while the schedule is as it
    /// was read (runs change it, too); else the answer is 412.
    #[oai(path = "/v1/schedules/:id", method = "put", operation_id = "replaceSchedule", tag = "Group::Schedules")]
    async fn replace(
        &self,
        state: Data<&State>,
        if_match: IfMatch,
        /// The schedule's id.
        id: Path<Uuid>,
        body: Body<ScheduleRequest>,
    ) -> Answer<Json<ScheduleView>, ReplaceNamedTask> {
        let new = body.0.into_new()?;
        known(&state, &new.task).await?;
        change(&state, id.0, &if_match, |_| Ok(new)).await
    }

    /// Change a schedule
    ///
    /// Only what is in the request: `{"enabled": false}` lets it rest. What is due while it rests is not made up for. With
    /// `If-Match` as for `PUT`.
    #[oai(path = "/v1/schedules/:id", method = "patch", operation_id = "changeSchedule", tag = "Group::Schedules")]
    async fn change(
        &self,
        state: Data<&State>,
        if_match: IfMatch,
        /// The schedule's id.
        id: Path<Uuid>,
        body: Body<ScheduleChangeRequest>,
    ) -> Answer<Json<ScheduleView>, ReplaceNamedTask> {
        let Body(request) = body;
        if let Some(task) = &request.task {
            known(&state, task).await?;
        }
        change(&state, id.0, &if_match, |what| request.change(what)).await
    }

    /// Delete a schedule
    ///
    /// Tasks that were sent already stay. With `If-Match` as for `PUT`.
    #[oai(path = "/v1/schedules/:id", method = "delete", operation_id = "deleteSchedule", tag = "Group::Schedules")]
    async fn delete(
        &self,
        state: Data<&State>,
        if_match: IfMatch,
        /// The schedule's id.
        id: Path<Uuid>,
    ) -> Answer<DeletedSchedule, Remove> {
        state.storage.delete_schedule(id.0, Some(&expected(&state, &if_match))).await?;
        Ok(DeletedSchedule::Deleted)
    }
}

/// Whether the task may be sent and is known. Here 404 would speak of the schedule: an unknown task is 409.
async fn known(state: &State, task: &str) -> Result<(), Problem> {
    match within(state.limits.request, state.tasks.check(task)).await {
        Err(problem) if problem.status() == StatusCode::NOT_FOUND => {
            Err(contradiction("task", "is known to no worker"))
        }
        other => other,
    }
}

/// Whether a schedule is as `If-Match` says.
fn expected(state: &State, if_match: &IfMatch) -> impl Fn(&Schedule) -> bool + Send + Sync {
    let time_zone = state.time_zone.clone();
    move |now| if_match.allows(&ScheduleView::new(now.clone(), &time_zone))
}

async fn change(
    state: &State,
    id: Uuid,
    if_match: &IfMatch,
    change: impl FnOnce(NewSchedule) -> Result<NewSchedule, Problem>,
) -> Answer<Json<ScheduleView>, ReplaceNamedTask> {
    let expected = expected(state, if_match);
    let change = |what| change(what).map_err(ChangeError::Refused);
    let changed = state.storage.change_schedule(id, Some(&expected), change).await;
    match changed {
        Ok(stored) => Ok(Json(ScheduleView::new(stored, &state.time_zone))),
        Err(ChangeError::Storage(error)) => Err(refused(error).into()),
        Err(ChangeError::Refused(problem)) => Err(problem.into()),
    }
}

/// Why a change was not made.
enum ChangeError {
    Storage(StorageError),
    Refused(Problem),
}

impl From<StorageError> for ChangeError {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

/// A name that is taken names its field; numbers that PostgreSQL cannot hold are in the arguments.
fn refused(error: StorageError) -> Problem {
    match error {
        StorageError::Conflict(detail) => {
            let errors = vec![FieldError::new("name", "is taken")];
            Problem::new(StatusCode::CONFLICT, detail).with_errors(errors)
        }
        error => renamed(error, "data", "args"),
    }
}
