//! Workers: what they say of themselves when asked by remote control (celery inspect).

use std::collections::BTreeMap;
use std::time::Duration;

use poem::web::Data;
use poem_openapi::payload::Json;
use poem_openapi::types::Example;
use poem_openapi::{Object, OpenApi};
use serde_json::Value;

use crate::failures::{Answer, Look};
use crate::problem::Problem;
use crate::routes::Group;
use crate::routes::tasks::within;
use crate::state::State;

/// How long workers have to answer.
const ANSWER: Duration = Duration::from_secs(1);

#[derive(Clone, Default)]
pub(crate) struct Workers;

/// A worker that answers.
#[derive(Debug, Object)]
#[oai(rename = "Worker")]
pub(crate) struct WorkerView {
    /// Its node name, `name@host`.
    name: String,
    /// `online`: one that does not answer is not listed.
    state: String,
    /// How many tasks it runs at this moment.
    active: u64,
    /// How many tasks it has taken on since it started.
    processed: u64,
    /// How many tasks it can run at once.
    concurrency: u64,
    /// The queues that it consumes.
    queues: Vec<String>,
    /// How many messages it may hold at once.
    prefetch_count: u64,
    /// The process on its host.
    pid: Option<u64>,
    /// Seconds since it started.
    uptime: Option<u64>,
}

/// The workers that answer.
#[derive(Debug, Object)]
#[oai(example)]
pub(crate) struct WorkerList {
    /// The workers, by name.
    items: Vec<WorkerView>,
}

impl Example for WorkerList {
    fn example() -> Self {
        Self {
            items: vec![WorkerView {
                name: "celery@host".into(),
                state: "online".into(),
                active: 1,
                processed: 4711,
                concurrency: 8,
                queues: vec!["celery".into()],
                prefetch_count: 32,
                pid: Some(12),
                uptime: Some(3600),
            }],
        }
    }
}

#[OpenApi]
impl Workers {
    /// List workers
    ///
    /// Asks all workers, Rust's and Python's, by Celery's remote control, and lists those that answer within a second.
    #[oai(path = "/v1/workers", method = "get", operation_id = "listWorkers", tag = "Group::Workers")]
    async fn list(&self, state: Data<&State>) -> Answer<Json<WorkerList>, Look> {
        let ask = async |method| -> Result<BTreeMap<String, Value>, Problem> {
            Ok(state.client.inspect(method, Default::default(), None, ANSWER).await?)
        };
        let (stats, active, queues) =
            within(state.limits.request, async { tokio::try_join!(ask("stats"), ask("active"), ask("active_queues")) })
                .await?;
        let items = stats.into_iter().map(|(name, stats)| view(active.get(&name), queues.get(&name), name, &stats));
        Ok(Json(WorkerList { items: items.collect() }))
    }
}

pub(crate) fn view(active: Option<&Value>, queues: Option<&Value>, name: String, stats: &Value) -> WorkerView {
    let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    let queue = |queue: Value| queue["name"].as_str().map(str::to_owned);
    WorkerView {
        state: "online".into(),
        active: list(active).len() as u64,
        processed: stats["total"]
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(_, count)| count.as_u64())
            .fold(0, u64::saturating_add),
        concurrency: stats["pool"]["max-concurrency"].as_u64().unwrap_or(1),
        queues: list(queues).into_iter().filter_map(queue).collect(),
        prefetch_count: stats["prefetch_count"].as_u64().unwrap_or(0),
        pid: stats["pid"].as_u64(),
        uptime: stats["uptime"].as_f64().map(|seconds| seconds as u64),
        name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_python_worker_says_is_understood() {
        let stats = json!({
            "total": {"demo.add": 3, "demo.echo": 4}, "pid": 7, "uptime": 12.5, "prefetch_count": 16,
            "pool": {"max-concurrency": 4, "processes": [8, 9]},
        });
        let (active, queues) = (json!([{"id": "a"}]), json!([{"name": "celery"}, {"name": "other"}]));
        let worker = view(Some(&active), Some(&queues), "w@h".into(), &stats);
        assert_eq!((worker.active, worker.processed, worker.concurrency), (1, 7, 4));
        assert_eq!(worker.queues, ["celery", "other"]);
        assert_eq!((worker.pid, worker.uptime, worker.prefetch_count), (Some(7), Some(12), 16));
    }

    #[test]
    fn no_count_is_too_large() {
        let stats = json!({"total": {"a": u64::MAX, "b": 1}});
        assert_eq!(view(None, None, "w@h".into(), &stats).processed, u64::MAX);
    }

    #[test]
    fn a_worker_that_told_only_a_part_is_listed_all_the_same() {
        let worker = view(None, None, "w@h".into(), &json!({"error": "unknown"}));
        assert_eq!((worker.active, worker.processed, worker.concurrency), (0, 0, 1));
    }
}
