//! Calls of tasks as requests bring them, and what they become: messages and signatures.

use chrono::{DateTime, FixedOffset, SecondsFormat};
use petiole_client::{Expires, Signature, TaskSend};
use poem_openapi::Object;
use poem_openapi::types::{Any, Example};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::json::{JsonObject, SecondsOrTime};
use crate::problem::FieldError;
use crate::request_id::RequestId;

/// Names in a message's headers that belong to Celery (protocol 2).
const CELERYS_HEADERS: &[&str] = &[
    "lang",
    "task",
    "id",
    "root_id",
    "parent_id",
    "group",
    "group_index",
    "meth",
    "shadow",
    "eta",
    "expires",
    "retries",
    "timelimit",
    "argsrepr",
    "kwargsrepr",
    "origin",
    "ignore_result",
    "replaced_task_nesting",
    "stamps",
    "stamped_headers",
    "delivery_info",
    "reply_to",
    "correlation_id",
    "hostname",
    "is_eager",
    "compression",
];
/// A task to be called when another one has ended.
#[derive(Clone, Debug, Object)]
pub(crate) struct LinkStep {
    /// The task's name.
    #[oai(validator(min_length = 1, max_length = 255))]
    pub(crate) task: String,
    /// Positional arguments; the result of the task before comes first, unless `immutable`.
    #[oai(default)]
    pub(crate) args: Vec<Any<Value>>,
    /// Keyword arguments.
    #[oai(default)]
    pub(crate) kwargs: JsonObject,
    /// The queue it goes to.
    #[oai(validator(min_length = 1, max_length = 200))]
    pub(crate) queue: Option<String>,
    /// Take only the arguments given here.
    #[oai(default)]
    pub(crate) immutable: bool,
}

/// A task to be sent.
#[derive(Clone, Debug, Object)]
#[oai(example)]
pub(crate) struct TaskRequest {
    /// The task's name.
    #[oai(validator(min_length = 1, max_length = 255))]
    pub(crate) task: String,
    /// Positional arguments.
    #[oai(default)]
    pub(crate) args: Vec<Any<Value>>,
    /// Keyword arguments.
    #[oai(default)]
    pub(crate) kwargs: JsonObject,
    /// The queue it goes to; the default queue when missing.
    #[oai(validator(min_length = 1, max_length = 200))]
    pub(crate) queue: Option<String>,
    /// 0 to 9; 0 is served first.
    #[oai(validator(minimum(value = "0"), maximum(value = "9")))]
    pub(crate) priority: Option<u8>,
    /// Seconds until it may start; not together with `eta`.
    #[oai(validator(minimum(value = "0"), maximum(value = "315360000")))]
    pub(crate) countdown: Option<f64>,
    /// When it may start; not together with `countdown`.
    pub(crate) eta: Option<DateTime<FixedOffset>>,
    /// After when it is not started any more: seconds from now, or a time.
    pub(crate) expires: Option<SecondsOrTime>,
    /// An id of your own; made when missing.
    pub(crate) task_id: Option<Uuid>,
    /// Seconds after which it is ended.
    #[oai(validator(minimum(value = "0"), maximum(value = "315360000")))]
    pub(crate) time_limit: Option<f64>,
    /// Seconds after which it is asked to end.
    #[oai(validator(minimum(value = "0"), maximum(value = "315360000")))]
    pub(crate) soft_time_limit: Option<f64>,
    /// Tasks that are called with its result.
    #[oai(default, validator(max_items = 100))]
    pub(crate) link: Vec<LinkStep>,
    /// Tasks that are called when it failed.
    #[oai(default, validator(max_items = 100))]
    pub(crate) link_error: Vec<LinkStep>,
    /// Headers of your own in the message.
    #[oai(default)]
    pub(crate) headers: JsonObject,
}

impl Example for TaskRequest {
    fn example() -> Self {
        Self {
            args: vec![Any(json!(2)), Any(json!(3))],
            priority: Some(3),
            expires: Some(SecondsOrTime::Seconds(3600.0)),
            time_limit: Some(60.0),
            ..Self::named("demo.add")
        }
    }
}

impl TaskRequest {
    /// A call without arguments and options.
    pub(crate) fn named(name: &str) -> Self {
        Self {
            task: name.into(),
            args: vec![],
            kwargs: JsonObject::default(),
            queue: None,
            priority: None,
            countdown: None,
            eta: None,
            expires: None,
            task_id: None,
            time_limit: None,
            soft_time_limit: None,
            link: vec![],
            link_error: vec![],
            headers: JsonObject::default(),
        }
    }

    /// What is wrong that the schema cannot say; `path` stands before the fields' names.
    pub(crate) fn check(&self, path: &str) -> Vec<FieldError> {
        let field = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        let mut errors = Vec::new();
        if self.countdown.is_some() && self.eta.is_some() {
            errors.push(FieldError::new(field("countdown"), "must not be given together with eta"));
        }
        let celerys = self.headers.0.keys().filter(|name| CELERYS_HEADERS.contains(&name.as_str()));
        errors.extend(celerys.map(|name| FieldError::new(field(&format!("headers.{name}")), "belongs to Celery")));
        errors
    }

    /// The soft time limit, where it has an effect: one above the hard limit never comes.
    fn soft_limit(&self) -> Option<f64> {
        self.soft_time_limit.filter(|soft| self.time_limit.is_none_or(|hard| *soft <= hard))
    }

    /// The names of all tasks that this call can lead to.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let links = self.link.iter().chain(&self.link_error).map(|step| step.task.as_str());
        std::iter::once(self.task.as_str()).chain(links)
    }

    /// The call, on its way to the client's `send`.
    pub(crate) fn into_send(self, request_id: &RequestId) -> TaskSend {
        let (headers, soft_time_limit) = (self.headers_with(request_id), self.soft_limit());
        TaskSend {
            args: self.args.into_iter().map(|any| any.0).collect(),
            kwargs: self.kwargs.0,
            task_id: self.task_id.map(|id| id.to_string()),
            queue: self.queue,
            priority: self.priority,
            countdown: self.countdown,
            eta: self.eta,
            expires: self.expires.map(|expires| match expires {
                SecondsOrTime::Seconds(seconds) => Expires::In(seconds),
                SecondsOrTime::Time(time) => Expires::At(time),
            }),
            time_limit: self.time_limit,
            soft_time_limit,
            link: self.link.into_iter().map(LinkStep::into_signature).collect(),
            link_error: self.link_error.into_iter().map(LinkStep::into_signature).collect(),
            headers,
            ..TaskSend::new(self.task)
        }
    }

    /// The call as a part of a workflow: whoever sends it later, a Python worker too, finds its options by Celery's names.
    pub(crate) fn into_signature(self, request_id: &RequestId) -> Signature {
        let time = |time: DateTime<FixedOffset>| json!(time.to_rfc3339_opts(SecondsFormat::Micros, false));
        let links = |steps: Vec<LinkStep>| {
            (!steps.is_empty()).then(|| steps.into_iter().map(|step| json!(step.into_signature())).collect::<Value>())
        };
        let headers = Value::Object(self.headers_with(request_id));
        let soft_time_limit = self.soft_limit();
        let mut signature = Signature::new(self.task, self.args.into_iter().map(|any| any.0).collect());
        signature.kwargs = self.kwargs.0;
        let options = [
            ("task_id", self.task_id.map(|id| json!(id))),
            ("queue", self.queue.map(Value::from)),
            ("priority", self.priority.map(Value::from)),
            ("countdown", self.countdown.map(Value::from)),
            ("eta", self.eta.map(time)),
            (
                "expires",
                self.expires.map(|expires| match expires {
                    SecondsOrTime::Seconds(seconds) => json!(seconds),
                    SecondsOrTime::Time(at) => time(at),
                }),
            ),
            ("time_limit", self.time_limit.map(Value::from)),
            ("soft_time_limit", soft_time_limit.map(Value::from)),
            ("link", links(self.link)),
            ("link_error", links(self.link_error)),
            ("headers", Some(headers)),
        ];
        let given = options.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        signature.options.extend(given);
        signature
    }

    fn headers_with(&self, request_id: &RequestId) -> petiole_client::Map {
        let mut headers = self.headers.0.clone();
        headers.insert("request_id".into(), json!(request_id.0));
        headers
    }
}

impl LinkStep {
    fn into_signature(self) -> Signature {
        let mut signature = Signature::new(self.task, self.args.into_iter().map(|any| any.0).collect());
        signature.kwargs = self.kwargs.0;
        signature.immutable = self.immutable;
        match self.queue {
            Some(queue) => signature.set("queue", queue),
            None => signature,
        }
    }
}
