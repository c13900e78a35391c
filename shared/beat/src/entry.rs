//! What is to be sent when (celery.beat: ScheduleEntry, the setting `beat_schedule`).

use chrono::{DateTime, Utc};
use petiole_client::{Map, TaskSend};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::crontab::Crontab;
use crate::interval::Interval;
use crate::options;
use crate::schedule::{Schedule, ScheduleError, time_zone};

/// One periodic task.
///
/// ```
/// # use petiole_beat::Entry;
/// # use serde_json::json;
/// let add = Entry::every("add-every-30-seconds", 30.0, "demo.add")?.args([json!(1), json!(2)]).queue("slow");
/// let tidy = Entry::crontab("tidy-at-four", "0 4 * * *", "demo.echo")?.args([json!("tidy")]).expires(3600.0);
/// # Ok::<(), petiole_beat::ScheduleError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Entry {
    /// Under which its last run is remembered: its name, unless another is given.
    pub key: String,
    /// Its name, for logs.
    pub name: String,
    /// When it is due.
    pub schedule: Schedule,
    /// What is sent.
    pub task: TaskSend,
    /// What is due before this time is not sent: when it was made, enabled or changed.
    pub active_since: Option<DateTime<Utc>>,
    /// What is known of its runs where nothing else remembers them.
    pub ran: Option<Ran>,
}

/// Entries are the same when what can be edited is the same; runs do not count.
impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        let editable = |entry: &Self| (entry.key.clone(), entry.name.clone(), entry.active_since);
        editable(self) == editable(other) && self.schedule == other.schedule && self.task == other.task
    }
}

/// How often and when something ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ran {
    /// When it last ran, or was first seen.
    pub last_run_at: DateTime<Utc>,
    /// How often it ran.
    pub total_run_count: u64,
    /// The last task's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<String>,
}

impl Ran {
    /// One run more.
    pub(crate) fn again(&self, last_run_at: DateTime<Utc>, task_id: String) -> Self {
        Self { last_run_at, total_run_count: self.total_run_count.saturating_add(1), task_id: Some(task_id) }
    }
}

impl Entry {
    /// A task without arguments and options.
    pub fn new(name: impl Into<String>, schedule: Schedule, task: impl Into<String>) -> Self {
        let name = name.into();
        Self { key: name.clone(), name, schedule, task: TaskSend::new(task), active_since: None, ran: None }
    }

    /// A task every so many seconds.
    ///
    /// # Errors
    /// As [`Interval::new`].
    pub fn every(name: &str, seconds: f64, task: &str) -> Result<Self, ScheduleError> {
        Ok(Self::new(name, Schedule::Interval(Interval::new(seconds, false)?), task))
    }

    /// A task by a crontab's line, on the application's clock (`TIMEZONE`).
    ///
    /// # Errors
    /// As [`Crontab::from_line`].
    pub fn crontab(name: &str, line: &str, task: &str) -> Result<Self, ScheduleError> {
        Ok(Self::new(name, Schedule::Crontab(Crontab::from_line(line)?, None), task))
    }

    /// With these arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = Value>) -> Self {
        self.task.args = args.into_iter().collect();
        self
    }

    /// With these keyword arguments.
    #[must_use]
    pub fn kwargs(mut self, kwargs: Map) -> Self {
        self.task.kwargs = kwargs;
        self
    }

    /// To this queue.
    #[must_use]
    pub fn queue(mut self, queue: &str) -> Self {
        self.task.queue = Some(queue.to_owned());
        self
    }

    /// With this priority: 0 is served first.
    #[must_use]
    pub fn priority(mut self, priority: u8) -> Self {
        self.task.priority = Some(priority);
        self
    }

    /// Not started any more after so many seconds.
    #[must_use]
    pub fn expires(mut self, seconds: f64) -> Self {
        self.task.expires = Some(petiole_client::Expires::In(seconds));
        self
    }

    /// With a change of anything else that can be said of a call.
    #[must_use]
    pub fn options(mut self, change: impl FnOnce(&mut TaskSend)) -> Self {
        change(&mut self.task);
        self
    }

    /// Reads a map of names to entries, in the form of Celery's `beat_schedule`:
    /// `{"add": {"task": "demo.add", "schedule": 30.0, "args": [1, 2], "options": {"queue": "slow"}}}`.
    /// The schedule is a number of seconds, a crontab's line, or the fields of `crontab(…)` as an object.
    ///
    /// # Errors
    /// [`ScheduleError::Entry`] with the path of the field.
    pub fn read_all(map: &Map) -> Result<Vec<Self>, ScheduleError> {
        map.iter().map(|(name, entry)| Self::from_json(name, entry)).collect()
    }

    fn from_json(name: &str, entry: &Value) -> Result<Self, ScheduleError> {
        const KNOWN: [&str; 7] = ["task", "schedule", "args", "kwargs", "options", "relative", "timezone"];
        let wrong = |field: &str, reason: String| ScheduleError::Entry { field: format!("{name}.{field}"), reason };
        let Value::Object(entry) = entry else {
            return Err(ScheduleError::Entry { field: name.to_owned(), reason: "must be an object".to_owned() });
        };
        if let Some(other) = entry.keys().find(|key| !KNOWN.contains(&key.as_str())) {
            return Err(wrong(other, format!("is not known; known are {}", KNOWN.join(", "))));
        }
        let text = |field: &str| match entry.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if !text.is_empty() => Ok(Some(text.clone())),
            Some(other) => Err(wrong(field, format!("must be a text, is {other}"))),
        };
        let task = text("task")?.ok_or_else(|| wrong("task", "is missing".to_owned()))?;
        let relative = match entry.get("relative") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(relative)) => *relative,
            Some(other) => return Err(wrong("relative", format!("must be true or false, is {other}"))),
        };
        let schedule = entry.get("schedule").ok_or_else(|| wrong("schedule", "is missing".to_owned()))?;
        let mut schedule =
            Schedule::from_json(schedule, relative).map_err(|error| wrong("schedule", error.to_string()))?;
        if let Some(zone) = text("timezone")? {
            let zone = time_zone(&zone).map_err(|error| wrong("timezone", error.to_string()))?;
            match &mut schedule {
                Schedule::Crontab(_, own) => *own = Some(zone),
                Schedule::Interval(_) => return Err(wrong("timezone", "is for crontabs only".to_owned())),
            }
        }
        let mut made = Self::new(name, schedule, task);
        match entry.get("args") {
            None | Some(Value::Null) => {}
            Some(Value::Array(args)) => made.task.args.clone_from(args),
            Some(other) => return Err(wrong("args", format!("must be a list, is {other}"))),
        }
        match entry.get("kwargs") {
            None | Some(Value::Null) => {}
            Some(Value::Object(kwargs)) => made.task.kwargs.clone_from(kwargs),
            Some(other) => return Err(wrong("kwargs", format!("must be an object, is {other}"))),
        }
        match entry.get("options") {
            None | Some(Value::Null) => {}
            Some(Value::Object(map)) => options::apply(map, &mut made.task)
                .map_err(|(field, reason)| wrong(&format!("options.{field}"), reason))?,
            Some(other) => return Err(wrong("options", format!("must be an object, is {other}"))),
        }
        Ok(made)
    }

    /// The id of the task that is sent for the time `since`: always the same, so that nothing is taken for two.
    pub(crate) fn task_id(&self, since: DateTime<Utc>) -> String {
        let tick = format!("petiole:beat:{}@{}", self.key, since.timestamp_micros());
        Uuid::new_v5(&Uuid::NAMESPACE_OID, tick.as_bytes()).to_string()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use petiole_client::Expires;
    use serde_json::json;

    fn read(value: Value) -> Result<Vec<Entry>, ScheduleError> {
        Entry::read_all(value.as_object().unwrap())
    }

    #[test]
    fn celery_s_form() {
        let entries = read(json!({
            "add": {"task": "demo.add", "schedule": 30, "args": [1, 2], "kwargs": {"z": 3},
                    "options": {"queue": "slow", "priority": 5, "expires": 60, "headers": {"mine": 1}}},
            "line": {"task": "t", "schedule": "0 4 * * mon", "timezone": "Europe/Berlin"},
            "fields": {"task": "t", "schedule": {"minute": 0, "hour": [1, 2], "day_of_week": "mon-fri"}},
            "hourly": {"task": "t", "schedule": 3600.0, "relative": true},
        }))
        .unwrap();
        assert_eq!(entries[0].schedule.to_string(), "<freq: 30.00 seconds>");
        assert_eq!(entries[0].task.queue.as_deref(), Some("slow"));
        assert_eq!((entries[0].task.priority, entries[0].task.expires), (Some(5), Some(Expires::In(60.0))));
        assert_eq!(entries[0].task.headers["mine"], 1);
        assert_eq!(entries[1].schedule.to_string(), "<crontab: 0 4 * * mon (m/h/dM/MY/d)>");
        assert!(matches!(&entries[1].schedule, Schedule::Crontab(_, Some(zone)) if zone.name() == "Europe/Berlin"));
        assert_eq!(entries[2].schedule.to_string(), "<crontab: 0 1,2 * * mon-fri (m/h/dM/MY/d)>");
        assert!(matches!(&entries[3].schedule, Schedule::Interval(every) if every.is_relative()));
    }

    #[test]
    fn errors_name_the_field() {
        for (entry, expected) in [
            (json!({"schedule": 1}), "x.task: is missing"),
            (json!({"task": "t"}), "x.schedule: is missing"),
            (json!({"task": "t", "schedule": 0}), "x.schedule: interval must be a number of seconds"),
            (json!({"task": "t", "schedule": "* * *"}), "x.schedule: crontab must be five fields"),
            (json!({"task": "t", "schedule": {"minute": "x"}}), "x.schedule: minute \"x\""),
            (json!({"task": "t", "schedule": {"event": "sunset"}}), "x.schedule: solar schedules are not supported"),
            (json!({"task": "t", "schedule": 1, "timezone": "UTC"}), "x.timezone: is for crontabs only"),
            (json!({"task": "t", "schedule": "* * * * *", "timezone": "Mars"}), "x.timezone: timezone \"Mars\""),
            (json!({"task": "t", "schedule": 1, "args": 1}), "x.args: must be a list"),
            (json!({"task": "t", "schedule": 1, "options": {"priority": 11}}), "x.options.priority: must be"),
            (json!({"task": "t", "schedule": 1, "options": {"exchange": "e"}}), "x.options.exchange: is not known"),
            (json!({"task": "t", "schedule": 1, "enable": true}), "x.enable: is not known"),
            (json!(1), "x: must be an object"),
        ] {
            let error = read(json!({"x": entry})).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
