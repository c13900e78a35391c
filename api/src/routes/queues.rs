//! Queues: what waits, and what is being worked on.

use std::collections::BTreeMap;

use petiole_client::queues::Queue;
use poem::web::Data;
use poem_openapi::payload::Json;
use poem_openapi::types::Example;
use poem_openapi::{Object, OpenApi};

use crate::failures::{Answer, Look};
use crate::routes::Group;
use crate::routes::tasks::within;
use crate::state::State;

#[derive(Clone, Default)]
pub(crate) struct Queues;

/// A queue at this moment.
#[derive(Debug, Object)]
#[oai(rename = "Queue")]
pub(crate) struct QueueView {
    /// Its name.
    name: String,
    /// How many messages wait.
    length: u64,
    /// How many messages workers have taken and not acknowledged: running, prefetched, or waiting for their time.
    unacked: u64,
    /// How many messages wait by priority. Celery keeps four lists: 0 holds the priorities 0 to 2 and is served first,
    /// 3 holds 3 to 5, 6 holds 6 to 8.
    priorities: BTreeMap<String, u64>,
}

impl From<Queue> for QueueView {
    fn from(queue: Queue) -> Self {
        Self {
            length: queue.length(),
            unacked: queue.unacked,
            priorities: queue.priorities.iter().map(|(step, length)| (step.to_string(), *length)).collect(),
            name: queue.name,
        }
    }
}

/// All queues.
#[derive(Debug, Object)]
#[oai(example)]
pub(crate) struct QueueList {
    /// The queues, by name.
    items: Vec<QueueView>,
}

impl Example for QueueList {
    fn example() -> Self {
        let priorities = [(0, 3), (3, 1), (6, 0), (9, 0)];
        Self { items: vec![Queue { name: "celery".into(), priorities, unacked: 2 }.into()] }
    }
}

#[OpenApi]
impl Queues {
    /// List queues
    ///
    /// Every queue that a worker consumes or that a message was ever sent to, with what waits in it. A queue of another
    /// Celery producer shows within some seconds.
    #[oai(path = "/v1/queues", method = "get", operation_id = "listQueues", tag = "Group::Workers")]
    async fn list(&self, state: Data<&State>) -> Answer<Json<QueueList>, Look> {
        let queues = within(state.limits.request, async { Ok(state.queues.list().await?) }).await?;
        Ok(Json(QueueList { items: queues.into_iter().map(Into::into).collect() }))
    }
}
