//! Canvas: which messages a chain, a group or a chord becomes (celery.canvas).
//!
//! Nothing is sent here: a [`Planner`] gives a [`Plan`], the steps to carry out in order. The same plan serves a caller
//! (no parent) and a worker (the running task is the parent).

mod freeze;
mod steps;

use chrono::{DateTime, Utc};
use petiole_protocol::compression::Compression;
use petiole_protocol::serializer::Serializer;
use petiole_protocol::signature::Canvas;
use petiole_protocol::{Chain, Map, Signature, TaskMessage, to_value};
use serde_json::{Value, json};

use crate::error::ClientError;
pub use freeze::Handle;
pub(crate) use freeze::freeze;

/// One thing to do, on the broker or the result backend.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Publish a message.
    Send {
        /// The message.
        message: Box<TaskMessage>,
        /// Its queue.
        queue: String,
    },
    /// Say how many parts a chord has, before its last one is sent.
    ChordSize {
        /// The chord's header.
        group_id: String,
        /// The number of parts.
        size: usize,
    },
    /// Save the structure of a nested header, to join its results.
    SaveGroup {
        /// The chord's header.
        group_id: String,
        /// Its result tuple.
        tuple: Value,
    },
}

/// What is to be done to apply a signature.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// What the caller waits for.
    pub handle: Handle,
}

/// What a known task declares for its calls.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SendDefaults {
    /// Its queue.
    pub queue: Option<String>,
    /// Its priority.
    pub priority: Option<i64>,
    /// Whether its results are ignored.
    pub ignore_result: Option<bool>,
    /// Seconds after which a call expires.
    pub expires: Option<f64>,
}

/// Who applies the signature.
#[derive(Clone)]
pub struct Planner<'a> {
    /// The queue of tasks that name none.
    pub default_queue: &'a str,
    /// The time from which countdowns run.
    pub now: DateTime<Utc>,
    /// The root of the running task's tree.
    pub root_id: Option<String>,
    /// The running task.
    pub parent_id: Option<String>,
    /// The priority of calls that say none, for tasks that declare none.
    pub priority: Option<i64>,
    /// What is declared for a task by its name.
    pub defaults: &'a (dyn Fn(&str) -> Option<SendDefaults> + Sync),
}

/// Options of the publishing itself: they say how, not what, and leave no trace in the message.
const PUBLISH_OPTIONS: [&str; 10] = [
    "retry",
    "retry_policy",
    "delivery_mode",
    "exchange",
    "exchange_type",
    "producer",
    "connection",
    "router",
    "add_to_parent",
    "chord_size",
];

impl Planner<'_> {
    /// Plans a signature. `prefix` comes before its own arguments, `extra` over its own options.
    ///
    /// # Errors
    /// A signature that cannot be read, an empty chain, a time that is out of range.
    pub fn plan(&self, signature: Signature, prefix: &[Value], extra: Map) -> Result<Plan, ClientError> {
        let mut signature = signature;
        overlay(&mut signature.options, extra);
        let handle = freeze(&mut signature)?;
        let mut steps = Vec::new();
        self.apply(signature, prefix, &mut steps)?;
        Ok(Plan { steps, handle })
    }

    /// Plans the next step of a chain, which hands `rest` on.
    ///
    /// # Errors
    /// As [`Self::plan`].
    pub fn plan_next(&self, next: Signature, prefix: &[Value], rest: Chain) -> Result<Plan, ClientError> {
        if next.subtask_type.is_some() {
            return self.plan(next, prefix, Map::from_iter([("chain".to_owned(), rest.to_value())]));
        }
        let mut plan = self.plan(next, prefix, Map::new())?;
        for step in &mut plan.steps {
            if let Step::Send { message, .. } = step {
                message.embed.in_chain = true;
                message.embed.chain = rest.clone();
            }
        }
        Ok(plan)
    }

    fn apply(&self, signature: Signature, prefix: &[Value], out: &mut Vec<Step>) -> Result<(), ClientError> {
        match canvas(&signature)? {
            Canvas::Task => self.task(signature, prefix, out),
            Canvas::Chain(tasks) => self.chain(tasks, signature.options, prefix, out),
            Canvas::Group(tasks) => self.group(tasks, &signature.options, prefix, out),
            Canvas::Chord { header, header_options, body } => {
                self.chord(header, &header_options, *body, signature.options, prefix, out)
            }
        }
    }

    /// The first step is sent, the others travel in its `chain`, reversed.
    fn chain(
        &self,
        tasks: Vec<Signature>,
        mut options: Map,
        prefix: &[Value],
        out: &mut Vec<Step>,
    ) -> Result<(), ClientError> {
        let mut tasks = steps::prepare(tasks)?;
        let (link, link_error) = (options.remove("link"), options.remove("link_error"));
        if let Some(link) = link
            && let Some(last) = tasks.last_mut()
        {
            steps::extend_option(last, "link", &link);
        }
        if let Some(link_error) = link_error {
            tasks.iter_mut().for_each(|task| steps::extend_option(task, "link_error", &link_error));
        }
        // These are the last step's, which has them since it was frozen.
        for of_last in ["task_id", "group_id", "group_index", "chord"] {
            options.remove(of_last);
        }
        let outer = options.remove("chain").and_then(|outer| outer.as_array().cloned());
        let in_chain = outer.is_some();
        let mut chain = outer.unwrap_or_default();
        if tasks.is_empty() {
            return Err(ClientError::invalid("chain", "an empty chain cannot be sent"));
        }
        let first = tasks.remove(0);
        chain.extend(tasks.into_iter().rev().map(|task| to_value(&task)));
        let mut first = first;
        overlay(&mut first.options, options);
        if in_chain || !chain.is_empty() {
            first.options.insert("chain".into(), Value::Array(chain));
        }
        self.apply(first, prefix, out)
    }

    fn group(
        &self,
        tasks: Vec<Signature>,
        options: &Map,
        prefix: &[Value],
        out: &mut Vec<Step>,
    ) -> Result<(), ClientError> {
        let extra: Map = options
            .iter()
            .filter(|(name, _)| !matches!(name.as_str(), "task_id" | "group_id" | "group_index" | "chord"))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        for mut task in tasks {
            overlay(&mut task.options, extra.clone());
            self.apply(task, prefix, out)?;
        }
        Ok(())
    }

    fn chord(
        &self,
        mut header: Vec<Signature>,
        header_options: &Map,
        mut body: Signature,
        options: Map,
        prefix: &[Value],
        out: &mut Vec<Step>,
    ) -> Result<(), ClientError> {
        let group_id = header_options.get("task_id").and_then(Value::as_str).unwrap_or_default().to_owned();
        // What was said of the chord is meant for its body; when it starts, for its header.
        let mut of_header = Map::new();
        for (name, value) in options {
            match name.as_str() {
                "eta" | "countdown" | "parent_id" => {
                    of_header.insert(name, value);
                }
                "link" | "link_error" => steps::extend_option(&mut body, &name, &value),
                "task_id" | "group_id" | "group_index" | "chord" => {}
                _ => overlay(&mut body.options, Map::from_iter([(name, value)])),
            }
        }
        let Some(last) = header.len().checked_sub(1) else {
            return self.apply(body, &[json!([])], out);
        };
        let size = header.iter().map(steps::size).sum::<Result<usize, ClientError>>()?;
        let handles = header.iter_mut().map(freeze).collect::<Result<Vec<_>, _>>()?;
        if handles.iter().any(|handle| handle.children.is_some()) {
            let handle = Handle { id: group_id.clone(), parent: None, children: Some(handles) };
            out.push(Step::SaveGroup { group_id: group_id.clone(), tuple: handle.tuple() });
        }
        for (at, mut task) in header.into_iter().enumerate() {
            steps::attach_chord(&mut task, &body)?;
            overlay(&mut task.options, of_header.clone());
            if at == last {
                out.push(Step::ChordSize { group_id: group_id.clone(), size });
            }
            self.apply(task, prefix, out)?;
        }
        Ok(())
    }

    fn task(&self, signature: Signature, prefix: &[Value], out: &mut Vec<Step>) -> Result<(), ClientError> {
        let declared = (self.defaults)(&signature.task).unwrap_or_default();
        let Signature { task, args, kwargs, mut options, immutable, .. } = signature;
        let args = if immutable { args } else { prefix.iter().cloned().chain(args).collect() };
        let id = text(&mut options, "task_id").unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        let mut message = TaskMessage::new(task, &id, args, kwargs);
        message.root_id = text(&mut options, "root_id").or_else(|| self.root_id.clone()).or(Some(id));
        message.parent_id = text(&mut options, "parent_id").or_else(|| self.parent_id.clone());
        message.group = text(&mut options, "group_id");
        message.group_index = options.remove("group_index").and_then(|v| v.as_i64());
        message.shadow = text(&mut options, "shadow");
        message.retries = options.remove("retries").and_then(|v| v.as_u64()).unwrap_or(0) as u32;
        message.replaced_task_nesting =
            options.remove("replaced_task_nesting").and_then(|v| v.as_u64()).unwrap_or(0) as u32;
        message.origin = Some(crate::send::ORIGIN.clone());
        message.ignore_result = options.remove("ignore_result").and_then(|v| v.as_bool()).or(declared.ignore_result);
        message.timelimit.hard = options.remove("time_limit").and_then(|v| v.as_f64());
        message.timelimit.soft = options.remove("soft_time_limit").and_then(|v| v.as_f64());
        message.properties.reply_to = text(&mut options, "reply_to");
        message.properties.correlation_id = text(&mut options, "correlation_id");
        message.properties.priority =
            options.remove("priority").and_then(|v| v.as_i64()).or(declared.priority).or(self.priority).unwrap_or(0);
        message.serializer = match text(&mut options, "serializer") {
            // Pickles are not written here: the sender's own serializer has to do.
            None => None,
            Some(name) if name == "pickle" => None,
            Some(name) => Some(Serializer::from_name(&name).ok_or_else(|| {
                ClientError::invalid("serializer", format!("{name:?} is none of json, yaml, msgpack"))
            })?),
        };
        message.compression = match text(&mut options, "compression") {
            None => None,
            Some(name) => Some(
                Compression::from_name(&name)
                    .ok_or_else(|| ClientError::invalid("compression", format!("{name:?} is not known")))?,
            ),
        };
        if let Some(Value::Object(headers)) = options.remove("headers") {
            message.custom = headers;
        }
        self.times(&mut message, &mut options, declared.expires)?;
        self.follow_ups(&mut message, &mut options)?;
        stamps(&mut message, &mut options);
        let queue = text(&mut options, "queue")
            .or_else(|| text(&mut options, "routing_key"))
            .or(declared.queue)
            .unwrap_or_else(|| self.default_queue.to_owned());
        options.remove("routing_key");
        for option in PUBLISH_OPTIONS {
            options.remove(option);
        }
        message.properties.other.extend(options.into_iter().filter(|(_, value)| !value.is_null()));
        message.properties.routing_key = queue.clone();
        out.push(Step::Send { message: Box::new(message), queue });
        Ok(())
    }

    fn times(&self, message: &mut TaskMessage, options: &mut Map, declared: Option<f64>) -> Result<(), ClientError> {
        let countdown = options.remove("countdown").and_then(|v| v.as_f64()).filter(|seconds| *seconds > 0.0);
        message.eta = match (countdown, options.remove("eta")) {
            (Some(seconds), _) => {
                Some(petiole_protocol::time::format(crate::send::after(self.now, seconds, "countdown")?))
            }
            (None, eta) => eta.and_then(time_text),
        };
        let expires = match options.remove("expires").filter(|v| !v.is_null()) {
            Some(value) => Some(value),
            None => declared.map(|seconds| json!(seconds)),
        };
        let Some(expires) = expires else { return Ok(()) };
        let text = match expires.as_f64() {
            Some(seconds) => Some(petiole_protocol::time::format(crate::send::after(self.now, seconds, "expires")?)),
            None => time_text(expires),
        };
        if let Some(at) = text.as_deref().and_then(petiole_protocol::time::parse) {
            let left = (at - self.now).num_milliseconds().max(0);
            message.properties.other.insert("expiration".into(), left.to_string().into());
        }
        message.expires = text;
        Ok(())
    }

    fn follow_ups(&self, message: &mut TaskMessage, options: &mut Map) -> Result<(), ClientError> {
        let mut list = |name: &str| signatures(options.remove(name).unwrap_or(Value::Null));
        message.embed.callbacks = list("link")?;
        message.embed.errbacks = list("link_error")?;
        let chain = options.remove("chain").filter(|v| !v.is_null());
        message.embed.in_chain = chain.is_some();
        message.embed.chain = Chain::from_value(&chain.unwrap_or(Value::Null)).map_err(unreadable)?;
        message.embed.chord = match options.remove("chord") {
            None | Some(Value::Null) => None,
            Some(chord) => Some(Signature::from_value(chord).map_err(unreadable)?),
        };
        Ok(())
    }
}

/// Stamps stand among the options by their names; in a message they have headers of their own.
fn stamps(message: &mut TaskMessage, options: &mut Map) {
    let Some(Value::Array(names)) = options.remove("stamped_headers") else { return };
    let names: Vec<String> = names.into_iter().filter_map(|name| name.as_str().map(str::to_owned)).collect();
    for name in &names {
        if let Some(value) = options.remove(name) {
            message.stamps.insert(name.clone(), value);
        }
    }
    message.stamped_headers = Some(names);
}

/// Lays options over others: null says nothing, and an own group or own stamps stay.
pub(crate) fn overlay(options: &mut Map, extra: Map) {
    for (name, value) in extra {
        let own = matches!(name.as_str(), "group_id" | "stamped_headers") && options.contains_key(&name);
        if !value.is_null() && !own {
            options.insert(name, value);
        }
    }
}

pub(crate) fn canvas(signature: &Signature) -> Result<Canvas, ClientError> {
    signature.canvas().map_err(unreadable)
}

fn signatures(value: Value) -> Result<Vec<Signature>, ClientError> {
    petiole_protocol::signature::signatures(&value).map_err(unreadable)
}

pub(crate) fn unreadable(error: serde_json::Error) -> ClientError {
    ClientError::invalid("signature", format!("cannot be read: {error}"))
}

fn text(options: &mut Map, name: &str) -> Option<String> {
    match options.remove(name) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}

/// A time as text: ISO 8601, or kombu's tagged datetime.
fn time_text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Object(mut tagged) => tagged.remove("__value__").and_then(|v| v.as_str().map(str::to_owned)),
        _ => None,
    }
}
