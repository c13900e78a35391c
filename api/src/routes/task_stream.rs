//! A task's states as a stream of server-sent events.

use std::time::Duration;

use futures::stream::{self, BoxStream};
use petiole_client::TaskMeta;
use poem::web::Data;
use poem::web::sse::Event;
use poem_openapi::OpenApi;
use poem_openapi::param::Path;
use poem_openapi::payload::EventStream;
use poem_openapi::types::ToJSON;

use crate::failures::{Answer, One};
use crate::routes::Group;
use crate::routes::tasks::{TaskView, find, is_final, view};
use crate::state::State;

/// How often the stored state is looked at while the task has not ended.
const LOOK: Duration = Duration::from_millis(150);
/// A comment is sent this often, so that nobody in between takes the stream for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// A stream never lasts longer.
const LONGEST: Duration = Duration::from_secs(3600);

#[derive(Clone, Default)]
pub(crate) struct TaskStream;

/// The states that Celery itself gives; others are the task's own reports.
const CELERYS: &[&str] =
    &["PENDING", "RECEIVED", "STARTED", "RETRY", "SUCCESS", "FAILURE", "REVOKED", "REJECTED", "IGNORED"];

#[OpenApi]
impl TaskStream {
    /// Stream a task
    ///
    /// Server-sent events: `state` with the task whenever its state changes, until it has ended, and `progress` with what
    /// the task reported in between.
    #[oai(path = "/v1/tasks/:id/events", method = "get", operation_id = "streamTask", tag = "Group::Tasks")]
    async fn stream(
        &self,
        state: Data<&State>,
        /// The task's id.
        id: Path<String>,
    ) -> Answer<EventStream<BoxStream<'static, TaskView>>, One> {
        let first = find(&state, &id.0).await?;
        let follow = Follow {
            state: state.clone(),
            next: Some(first),
            last: None,
            until: tokio::time::Instant::now() + LONGEST,
        };
        let views: BoxStream<'static, TaskView> = Box::pin(stream::unfold(follow, Follow::step));
        // a report is a progress event, everything else is the task
        let events = EventStream::new(views).keep_alive(KEEP_ALIVE).to_event(|view: TaskView| {
            if CELERYS.contains(&view.state.as_str()) {
                Event::message(view.to_json_string()).event_type("state")
            } else {
                let report = view.result.map(|result| result.0).unwrap_or_default();
                Event::message(report.to_string()).event_type("progress")
            }
        });
        Ok(events)
    }
}

struct Follow {
    state: State,
    next: Option<TaskView>,
    last: Option<TaskView>,
    until: tokio::time::Instant,
}

impl Follow {
    async fn step(mut self) -> Option<(TaskView, Self)> {
        if let Some(first) = self.next.take() {
            self.last = Some(first.clone());
            return Some((first, self));
        }
        let last = self.last.clone()?;
        if is_final(&last.state) {
            return None;
        }
        while tokio::time::Instant::now() < self.until && !self.state.stopping.is_cancelled() {
            // comes back at once when the task ends, and with what is stored after a while
            let meta: Option<TaskMeta> = match self.state.client.wait(&last.task_id, LOOK).await {
                Ok(meta) => meta,
                Err(error) => {
                    tracing::warn!(%error, "a stream of a task waits for Redis");
                    tokio::time::sleep(LOOK * 4).await;
                    continue;
                }
            };
            let Some(now) = meta.map(|meta| view(meta, last.name.clone())) else { continue };
            if now != last {
                self.last = Some(now.clone());
                return Some((now, self));
            }
        }
        None
    }
}
