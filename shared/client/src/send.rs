//! One call of a task, and the message it becomes (celery.app.task: apply_async, celery.app.amqp: as_task_v2).

use std::sync::LazyLock;

use chrono::{DateTime, Duration, FixedOffset, SecondsFormat, Utc};
use petiole_protocol::compression::Compression;
use petiole_protocol::serializer::Serializer;
use petiole_protocol::{Embed, Map, Signature, TaskMessage, TimeLimits, time};
use serde_json::Value;
use uuid::Uuid;

use crate::error::ClientError;

/// `gen<pid>@<host>`: who sends.
pub static ORIGIN: LazyLock<String> =
    LazyLock::new(|| format!("gen{}@{}", std::process::id(), gethostname::gethostname().to_string_lossy()));

/// After when a task is no longer started.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Expires {
    /// Seconds from now.
    In(f64),
    /// At a time.
    At(DateTime<FixedOffset>),
}

/// One call of a task, with everything that `apply_async` takes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TaskSend {
    /// The task's name.
    pub name: String,
    /// Positional arguments.
    pub args: Vec<Value>,
    /// Keyword arguments.
    pub kwargs: Map,
    /// The id; made when missing.
    pub task_id: Option<String>,
    /// The queue; the default queue when missing.
    pub queue: Option<String>,
    /// 0 (first) to 9 (last).
    pub priority: Option<u8>,
    /// Seconds until it may start; not with `eta`.
    pub countdown: Option<f64>,
    /// When it may start; not with `countdown`.
    pub eta: Option<DateTime<FixedOffset>>,
    /// After when it is no longer started.
    pub expires: Option<Expires>,
    /// Hard limit, seconds.
    pub time_limit: Option<f64>,
    /// Soft limit, seconds.
    pub soft_time_limit: Option<f64>,
    /// Called with the result.
    pub link: Vec<Signature>,
    /// Called on failure.
    pub link_error: Vec<Signature>,
    /// Headers of the application's own.
    pub headers: Map,
    /// Store no result.
    pub ignore_result: Option<bool>,
    /// A name to show instead.
    pub shadow: Option<String>,
    /// The first task of the tree; itself when missing.
    pub root_id: Option<String>,
    /// The task that sends.
    pub parent_id: Option<String>,
    /// How the body is written; none: as the client's settings say.
    pub serializer: Option<Serializer>,
    /// How the body is compressed; none: as the client's settings say.
    pub compression: Option<Compression>,
}

impl TaskSend {
    /// A call without arguments.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// The message, its times counted from `now`.
    ///
    /// # Errors
    /// `countdown` together with `eta`, a soft limit above the hard one, a time that is out of range.
    pub fn message(&self, queue: &str, now: DateTime<Utc>) -> Result<TaskMessage, ClientError> {
        if self.countdown.is_some() && self.eta.is_some() {
            return Err(ClientError::invalid("countdown", "give countdown or eta, not both"));
        }
        if let (Some(soft), Some(hard)) = (self.soft_time_limit, self.time_limit)
            && soft > hard
        {
            return Err(ClientError::invalid(
                "soft_time_limit",
                format!("the soft limit ({soft} s) must not be above time_limit ({hard} s)"),
            ));
        }
        let id = self.task_id.clone().unwrap_or_else(|| Uuid::new_v4().to_string());
        let mut message = TaskMessage::new(&self.name, &id, self.args.clone(), self.kwargs.clone());
        message.eta = match (self.countdown, self.eta) {
            (Some(seconds), _) if seconds > 0.0 => Some(time::format(after(now, seconds, "countdown")?)),
            (_, Some(eta)) => Some(eta.to_rfc3339_opts(SecondsFormat::Micros, false)),
            _ => None,
        };
        if let Some(expires) = self.expires {
            let (text, at) = match expires {
                Expires::In(seconds) => {
                    let at = after(now, seconds, "expires")?;
                    (time::format(at), at)
                }
                Expires::At(at) => (at.to_rfc3339_opts(SecondsFormat::Micros, false), at.to_utc()),
            };
            message.expires = Some(text);
            let left = (at - now).num_milliseconds().max(0);
            message.properties.other.insert("expiration".into(), left.to_string().into());
        }
        message.timelimit = TimeLimits { hard: self.time_limit, soft: self.soft_time_limit };
        message.embed = Embed { callbacks: self.link.clone(), errbacks: self.link_error.clone(), ..Embed::default() };
        message.root_id = Some(self.root_id.clone().unwrap_or(id));
        message.parent_id = self.parent_id.clone();
        message.origin = Some(ORIGIN.clone());
        message.ignore_result = self.ignore_result;
        message.shadow = self.shadow.clone();
        message.custom = self.headers.clone();
        message.serializer = self.serializer;
        message.compression = self.compression;
        message.properties.routing_key = queue.to_owned();
        message.properties.priority = i64::from(self.priority.unwrap_or(0));
        Ok(message)
    }
}

/// A time some seconds after another.
pub(crate) fn after(now: DateTime<Utc>, seconds: f64, field: &'static str) -> Result<DateTime<Utc>, ClientError> {
    let far = || ClientError::invalid(field, format!("{seconds} seconds from now is out of range"));
    if !seconds.is_finite() || seconds.abs() > 1e11 {
        return Err(far());
    }
    now.checked_add_signed(Duration::microseconds((seconds * 1e6) as i64)).ok_or_else(far)
}
