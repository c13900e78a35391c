//! The tasks of late, as Celery's events tell of them and as this service sent them (celery.events.state: State). In memory
//! and bounded: a look at what goes on, no archive.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use petiole_client::{Client, Map};
use serde_json::Value;

/// As many tasks are remembered as Celery's own monitors do (`max_tasks_in_memory`).
const MOST: usize = 10_000;
/// Pause before listening again after the connection broke.
const PAUSE: Duration = Duration::from_secs(2);
/// Longer names and messages are cut.
const LONGEST: usize = 1000;

/// A task of late.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RecentTask {
    pub(crate) task_id: String,
    pub(crate) name: Option<String>,
    pub(crate) state: String,
    pub(crate) queue: Option<String>,
    pub(crate) worker: Option<String>,
    pub(crate) root_id: Option<String>,
    pub(crate) parent_id: Option<String>,
    pub(crate) sent_at: Option<DateTime<Utc>>,
    pub(crate) received_at: Option<DateTime<Utc>>,
    pub(crate) started_at: Option<DateTime<Utc>>,
    pub(crate) date_done: Option<DateTime<Utc>>,
    /// Seconds.
    pub(crate) runtime: Option<f64>,
    pub(crate) retries: u64,
    pub(crate) error: Option<String>,
    /// When the newest event was sent, seconds since 1970.
    told: f64,
}

/// Which tasks a page shows.
#[derive(Clone, Debug, Default)]
pub(crate) struct RecentFilter {
    pub(crate) name: Option<String>,
    pub(crate) state: Option<String>,
    pub(crate) worker: Option<String>,
}

/// All that is remembered, by the order in which it was first heard of.
pub(crate) struct Recent(Mutex<Inner>);

struct Inner {
    next: u64,
    places: HashMap<String, u64>,
    tasks: BTreeMap<u64, RecentTask>,
}

impl Default for Recent {
    fn default() -> Self {
        // places go on from one start of the service to the next
        let next = u64::try_from(Utc::now().timestamp_micros()).unwrap_or_default();
        Self(Mutex::new(Inner { next, places: HashMap::new(), tasks: BTreeMap::new() }))
    }
}

impl Recent {
    /// Notes a task that this service sent.
    pub(crate) fn sent(&self, task_id: &str, name: &str, queue: &str) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let task = inner.task(task_id);
        task.sent_at.get_or_insert_with(Utc::now);
        task.name.get_or_insert_with(|| name.to_owned());
        task.queue.get_or_insert_with(|| queue.to_owned());
    }

    /// Takes an event in.
    pub(crate) fn event(&self, event: &Map) {
        let text = |name: &str| event.get(name).and_then(Value::as_str).map(cut);
        let (Some(kind), Some(id)) = (text("type"), text("uuid").filter(|id| !id.is_empty())) else { return };
        let state = match kind.as_str() {
            "task-sent" => "PENDING",
            "task-received" => "RECEIVED",
            "task-started" => "STARTED",
            "task-succeeded" => "SUCCESS",
            "task-failed" => "FAILURE",
            "task-retried" => "RETRY",
            "task-revoked" => "REVOKED",
            "task-rejected" => "REJECTED",
            // reports of the task's own kinds say nothing of its state
            _ => return,
        };
        let timestamp = event.get("timestamp").and_then(Value::as_f64).unwrap_or_default();
        let at = DateTime::from_timestamp_micros((timestamp * 1e6) as i64);
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let task = inner.task(&id);
        match state {
            "PENDING" => task.sent_at = task.sent_at.or(at),
            "RECEIVED" => task.received_at = at,
            "STARTED" => task.started_at = at,
            "RETRY" => task.retries += 1,
            _ => task.date_done = at,
        }
        if state != "PENDING" {
            task.worker = text("hostname").or(task.worker.take());
        }
        task.name = text("name").or(task.name.take());
        task.queue = text("queue").or(task.queue.take());
        task.root_id = text("root_id").or(task.root_id.take());
        task.parent_id = text("parent_id").or(task.parent_id.take());
        task.runtime = event.get("runtime").and_then(Value::as_f64).or(task.runtime);
        task.error = text("exception").or(task.error.take());
        // events of two processes may come in another order than they were sent
        if timestamp >= task.told && state != "PENDING" {
            task.told = timestamp;
            task.state = state.to_owned();
        }
    }

    /// At most `limit` tasks, newest first, from before the place `before`; and the place of the last one when there are more.
    pub(crate) fn page(
        &self,
        filter: &RecentFilter,
        before: Option<u64>,
        limit: usize,
    ) -> (Vec<RecentTask>, Option<u64>) {
        let fits =
            |wanted: &Option<String>, is: Option<&str>| wanted.as_deref().is_none_or(|wanted| Some(wanted) == is);
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = inner.tasks.range(..before.unwrap_or(u64::MAX)).rev().filter(|(_, task)| {
            fits(&filter.name, task.name.as_deref())
                && fits(&filter.state, Some(&task.state))
                && fits(&filter.worker, task.worker.as_deref())
        });
        let page: Vec<_> = found.by_ref().take(limit).map(|(place, task)| (*place, task.clone())).collect();
        let last = page.last().map(|(place, _)| *place).filter(|_| found.next().is_some());
        (page.into_iter().map(|(_, task)| task).collect(), last)
    }
}

impl Inner {
    /// The task of this id, a new one if need be; then the oldest one may have to go.
    fn task(&mut self, id: &str) -> &mut RecentTask {
        let next = &mut self.next;
        let place = *self.places.entry(id.to_owned()).or_insert_with(|| {
            *next += 1;
            *next
        });
        if self.places.len() > MOST
            && let Some((_, oldest)) = self.tasks.pop_first()
        {
            self.places.remove(&oldest.task_id);
        }
        self.tasks.entry(place).or_insert_with(|| RecentTask {
            task_id: id.to_owned(),
            state: "PENDING".into(),
            ..RecentTask::default()
        })
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Listens to events until the future is dropped.
pub(crate) async fn listen(client: &Client, recent: &Recent) {
    loop {
        if let Ok(mut events) = client.task_events().await {
            while let Some(batch) = events.next().await {
                batch.iter().for_each(|event| recent.event(event));
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use serde_json::json;

    fn tell(recent: &Recent, event: Value) {
        recent.event(event.as_object().unwrap());
    }

    fn all(recent: &Recent, filter: &RecentFilter) -> Vec<(String, String)> {
        let (page, _) = recent.page(filter, None, 100);
        page.into_iter().map(|task| (task.task_id, task.state)).collect()
    }

    #[test]
    fn a_task_is_told_by_its_events_in_whatever_order_they_come() {
        let recent = Recent::default();
        recent.sent("a", "demo.add", "celery");
        tell(
            &recent,
            json!({"type": "task-succeeded", "uuid": "a", "timestamp": 103.5, "hostname": "w@h", "runtime": 0.5}),
        );
        tell(
            &recent,
            json!({"type": "task-received", "uuid": "a", "timestamp": 102.0, "name": "demo.add", "hostname": "w@h", "root_id": "r"}),
        );
        tell(&recent, json!({"type": "task-started", "uuid": "a", "timestamp": 103.0, "hostname": "w@h"}));
        let (page, more) = recent.page(&RecentFilter::default(), None, 10);
        let task = &page[0];
        assert_eq!(
            (task.state.as_str(), task.queue.as_deref(), task.worker.as_deref()),
            ("SUCCESS", Some("celery"), Some("w@h"))
        );
        assert_eq!((task.runtime, task.root_id.as_deref(), more), (Some(0.5), Some("r"), None));
        assert_eq!(task.date_done.unwrap().timestamp_millis(), 103_500);
        assert_eq!(task.started_at.unwrap().timestamp(), 103);
    }

    #[test]
    fn a_task_that_is_retried_goes_on() {
        let recent = Recent::default();
        for (kind, at) in [("received", 1.0), ("started", 2.0), ("retried", 3.0), ("received", 4.0)] {
            tell(&recent, json!({"type": format!("task-{kind}"), "uuid": "a", "timestamp": at}));
        }
        let (page, _) = recent.page(&RecentFilter::default(), None, 10);
        assert_eq!((page[0].state.as_str(), page[0].retries), ("RECEIVED", 1));
    }

    #[test]
    fn pages_are_newest_first_and_miss_nothing_while_tasks_come() {
        let recent = Recent::default();
        for n in 0..7 {
            recent.sent(&n.to_string(), if n % 2 == 0 { "even" } else { "odd" }, "celery");
        }
        let (first, next) = recent.page(&RecentFilter::default(), None, 3);
        recent.sent("new", "even", "celery");
        let (second, next) = recent.page(&RecentFilter::default(), next, 3);
        let (third, end) = recent.page(&RecentFilter::default(), next, 3);
        let ids: Vec<_> = first.iter().chain(&second).chain(&third).map(|task| task.task_id.as_str()).collect();
        assert_eq!((ids, end), (vec!["6", "5", "4", "3", "2", "1", "0"], None));
        let odd = RecentFilter { name: Some("odd".into()), ..RecentFilter::default() };
        assert_eq!(all(&recent, &odd).len(), 3);
        let done = RecentFilter { state: Some("SUCCESS".into()), ..RecentFilter::default() };
        assert!(all(&recent, &done).is_empty());
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many() {
        let recent = Recent::default();
        for n in 0..MOST + 5 {
            recent.sent(&n.to_string(), "demo.add", "celery");
        }
        let inner = recent.0.lock().unwrap();
        assert_eq!((inner.tasks.len(), inner.places.len()), (MOST, MOST));
        assert!(!inner.places.contains_key("0") && inner.places.contains_key(&(MOST + 4).to_string()));
    }

    #[test]
    fn odd_events_are_passed_over() {
        let recent = Recent::default();
        for event in [
            json!({}),
            json!({"type": "task-received"}),
            json!({"type": "task-x", "uuid": "a"}),
            json!({"type": 5, "uuid": {}}),
        ] {
            tell(&recent, event);
        }
        assert!(all(&recent, &RecentFilter::default()).is_empty());
        tell(&recent, json!({"type": "task-received", "uuid": "a", "timestamp": "never", "name": "n".repeat(5000)}));
        let (page, _) = recent.page(&RecentFilter::default(), None, 1);
        assert_eq!(page[0].name.as_ref().unwrap().chars().count(), LONGEST + 1);
    }
}
