//! Task messages: protocol 2, and protocol 1 read as 2 (celery.app.amqp, celery.worker.strategy, celery.worker.request).

use serde::Serialize;
use serde_json::{Value, json};

use crate::Map;
use crate::chain::Chain;
use crate::compression::{self, Compression};
use crate::envelope::{Envelope, Properties, kind, text};
use crate::repr;
use crate::serializer::{self, DecodeError, Serializer};
use crate::signature::{Signature, signatures};

/// A task message, taken apart.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TaskMessage {
    /// The task's name.
    pub task: String,
    /// The task's id: any text, usually a uuid4.
    pub id: String,
    /// Positional arguments.
    pub args: Vec<Value>,
    /// Keyword arguments.
    pub kwargs: Map,
    /// What is to follow the task.
    pub embed: Embed,
    /// A name to show instead of `task`.
    pub shadow: Option<String>,
    /// Earliest start, as the sender wrote it.
    pub eta: Option<String>,
    /// Not started after this time, as the sender wrote it.
    pub expires: Option<String>,
    /// The group or chord header this is a member of.
    pub group: Option<String>,
    /// The place in the group.
    pub group_index: Option<i64>,
    /// Retries so far.
    pub retries: u32,
    /// Time limits of this call.
    pub timelimit: TimeLimits,
    /// The first task of the tree.
    pub root_id: Option<String>,
    /// The task that sent this one.
    pub parent_id: Option<String>,
    /// The arguments to show; made from the values when missing.
    pub argsrepr: Option<String>,
    /// The keyword arguments to show; made from the values when missing.
    pub kwargsrepr: Option<String>,
    /// `gen<pid>@<host>` of the sender.
    pub origin: Option<String>,
    /// None: the worker's own setting for the task applies.
    pub ignore_result: Option<bool>,
    /// How often the task was replaced.
    pub replaced_task_nesting: u32,
    /// The names of the stamps.
    pub stamped_headers: Option<Vec<String>>,
    /// The stamps.
    pub stamps: Map,
    /// Headers that Celery does not know: the application's own.
    pub custom: Map,
    /// True after requeue or restore.
    pub redelivered: bool,
    /// The properties of the envelope.
    pub properties: Properties,
    /// How the body is to be written; none: as the sender's settings say (`task_serializer`). Not read from a message.
    pub serializer: Option<Serializer>,
    /// How the body is to be compressed; none: as the sender's settings say (`task_compression`). Not read from a message.
    pub compression: Option<Compression>,
}

/// Limits in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct TimeLimits {
    /// After this the task is ended from outside.
    pub hard: Option<f64>,
    /// After this the task is told.
    pub soft: Option<f64>,
}

/// What is to follow a task.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Embed {
    /// Called with the result, on success.
    pub callbacks: Vec<Signature>,
    /// Called on failure.
    pub errbacks: Vec<Signature>,
    /// The rest of the chain.
    pub chain: Chain,
    /// True when a `chain` list was there, even an empty one.
    pub in_chain: bool,
    /// The body of the chord that this task is a part of.
    pub chord: Option<Signature>,
}

impl TimeLimits {
    fn parse(value: Option<Value>) -> Self {
        let number =
            |at: usize| value.as_ref().and_then(|v| v.get(at)).and_then(Value::as_f64).filter(|seconds| *seconds > 0.0);
        Self { hard: number(0), soft: number(1) }
    }

    fn to_value(self) -> Value {
        json!([self.hard.map(number), self.soft.map(number)])
    }
}

/// A number of seconds without a needless fraction: 60, not 60.0.
pub fn number(seconds: f64) -> Value {
    if seconds.fract() == 0.0 && seconds.abs() < 9e15 { json!(seconds as i64) } else { json!(seconds) }
}

impl Embed {
    pub(crate) fn parse(value: Value) -> Result<Self, DecodeError> {
        let Value::Object(mut map) = value else { return Ok(Self::default()) };
        let list = |value: Option<Value>| -> Result<Vec<Signature>, DecodeError> {
            Ok(signatures(&value.unwrap_or(Value::Null))?)
        };
        let chain = map.remove("chain").filter(|v| !v.is_null());
        Ok(Self {
            callbacks: list(map.remove("callbacks"))?,
            errbacks: list(map.remove("errbacks"))?,
            in_chain: chain.is_some(),
            chain: Chain::from_value(&chain.unwrap_or(Value::Null))?,
            chord: match map.remove("chord") {
                None | Some(Value::Null) => None,
                Some(chord) => Some(Signature::from_value(chord)?),
            },
        })
    }
}

/// What is to follow a task, as it is written, up to the chain.
#[derive(Serialize)]
struct Following<'a> {
    callbacks: Option<&'a [Signature]>,
    errbacks: Option<&'a [Signature]>,
}

impl TaskMessage {
    /// A message for a task, with nothing but its name, id and arguments.
    pub fn new(task: impl Into<String>, id: impl Into<String>, args: Vec<Value>, kwargs: Map) -> Self {
        Self { task: task.into(), id: id.into(), args, kwargs, ..Self::default() }
    }

    /// The task's name and id, when the headers tell them: known even when the body cannot be read.
    pub fn peek(envelope: &Envelope) -> (Option<&str>, Option<&str>) {
        let text = |name: &str| envelope.headers.get(name).and_then(Value::as_str);
        (text("task"), text("id"))
    }

    /// Reads a task message of protocol 2, 1 or the hybrid of both.
    ///
    /// # Errors
    /// A content type that is not in `accept`, a body that cannot be decoded, or a form that is no task.
    pub fn decode(envelope: &Envelope, accept: &[String]) -> Result<Self, DecodeError> {
        Self::from_envelope(envelope.clone(), accept)
    }

    /// The same, of an envelope that is no longer needed.
    ///
    /// # Errors
    /// As [`TaskMessage::decode`].
    pub fn from_envelope(envelope: Envelope, accept: &[String]) -> Result<Self, DecodeError> {
        let unpacked = match envelope.headers.get("compression") {
            Some(Value::String(name)) => compression::decompress(name, &envelope.body)?.into(),
            _ => std::borrow::Cow::from(&envelope.body),
        };
        let body = serializer::decode(&envelope.content_type, &unpacked, accept)?;
        let has_task = envelope.headers.get("task").is_some_and(Value::is_string);
        match body {
            Value::Array(items) if has_task => Self::protocol2(envelope, items),
            Value::Object(map) if has_task && map.contains_key("args") => Self::protocol1(envelope, map),
            Value::Object(map) if map.contains_key("task") => Self::protocol1(envelope, map),
            other if has_task => Err(DecodeError::shape(format!(
                "the body must be a list of three items [args, kwargs, embed], is {}",
                kind(Some(&other))
            ))),
            _ => Err(DecodeError::shape("neither the headers nor the body name a task")),
        }
    }

    fn protocol2(envelope: Envelope, items: Vec<Value>) -> Result<Self, DecodeError> {
        let [args, kwargs, embed]: [Value; 3] = items.try_into().map_err(|items: Vec<Value>| {
            DecodeError::shape(format!("the body must hold three items [args, kwargs, embed], holds {}", items.len()))
        })?;
        let mut message = Self::from_headers(envelope.headers, envelope.properties)?;
        message.args = as_list(args)?;
        message.kwargs = as_map(kwargs)?;
        message.embed = Embed::parse(embed)?;
        Ok(message)
    }

    /// Protocol 1: everything is in the body. Headers, where there are any, win.
    fn protocol1(envelope: Envelope, mut map: Map) -> Result<Self, DecodeError> {
        let args = as_list(map.remove("args").unwrap_or(Value::Null))?;
        let kwargs = as_map(map.remove("kwargs").unwrap_or(Value::Null))?;
        // json! cannot take what may hold Python's constants (`NaN`).
        let embed =
            ["callbacks", "errbacks", "chord"].map(|name| (name.to_owned(), map.remove(name).unwrap_or_default()));
        let embed = Value::Object(Map::from_iter(embed));
        if let Some(taskset) = map.remove("taskset").filter(|v| !v.is_null()) {
            map.insert("group".into(), taskset);
        }
        map.remove("utc");
        map.extend(envelope.headers);
        let mut message = Self::from_headers(map, envelope.properties)?;
        message.args = args;
        message.kwargs = kwargs;
        message.embed = Embed::parse(embed)?;
        Ok(message)
    }

    fn from_headers(headers: Map, properties: Properties) -> Result<Self, DecodeError> {
        let mut message = Self { redelivered: properties.redelivered, properties, ..Self::default() };
        let (mut task, mut id) = (None, None);
        for (name, value) in headers {
            match name.as_str() {
                "task" => task = text(value),
                "id" => id = text(value),
                "lang" | "groups" | "meth" | "compression" | "celery_beat_task" => {}
                "redelivered" => message.redelivered |= value == Value::Bool(true),
                "shadow" => message.shadow = text(value),
                "eta" => message.eta = text(value),
                "expires" => message.expires = text(value),
                "group" => message.group = text(value),
                "group_index" => message.group_index = value.as_i64(),
                "retries" => message.retries = count(&value),
                "timelimit" => message.timelimit = TimeLimits::parse(Some(value)),
                "root_id" => message.root_id = text(value),
                "parent_id" => message.parent_id = text(value),
                "argsrepr" => message.argsrepr = text(value),
                "kwargsrepr" => message.kwargsrepr = text(value),
                "origin" => message.origin = text(value),
                "ignore_result" => message.ignore_result = value.as_bool(),
                "replaced_task_nesting" => message.replaced_task_nesting = count(&value),
                "stamped_headers" => {
                    if let Value::Array(names) = value {
                        message.stamped_headers = Some(names.into_iter().filter_map(text).collect());
                    }
                }
                "stamps" => {
                    if let Value::Object(stamps) = value {
                        message.stamps = stamps;
                    }
                }
                _ => drop(message.custom.insert(name, value)),
            }
        }
        message.task = task.ok_or_else(|| DecodeError::shape("the message names no task"))?;
        message.id = id.ok_or_else(|| DecodeError::shape("the message has no id"))?;
        Ok(message)
    }

    /// Writes the message as protocol 2. `tag` becomes the delivery tag: a fresh one for every publish.
    pub fn encode(&self, tag: String) -> Envelope {
        self.encode_as(tag, Serializer::default(), None)
    }

    /// The same, with the sender's settings for what the message does not say of its own body.
    pub fn encode_as(&self, tag: String, serializer: Serializer, compression: Option<Compression>) -> Envelope {
        let mut headers = Map::new();
        let mut put = |name: &str, value: Value| {
            headers.insert(name.to_owned(), value);
        };
        put("lang", "py".into());
        put("task", self.task.as_str().into());
        put("id", self.id.as_str().into());
        put("shadow", json!(self.shadow));
        put("eta", json!(self.eta));
        put("expires", json!(self.expires));
        put("group", json!(self.group));
        put("group_index", json!(self.group_index));
        put("retries", self.retries.into());
        put("timelimit", self.timelimit.to_value());
        put("root_id", json!(self.root_id));
        put("parent_id", json!(self.parent_id));
        put("argsrepr", self.args_text().into());
        put("kwargsrepr", self.kwargs_text().into());
        put("origin", json!(self.origin));
        put("ignore_result", json!(self.ignore_result));
        put("replaced_task_nesting", self.replaced_task_nesting.into());
        put("stamped_headers", json!(self.stamped_headers));
        put("stamps", Value::Object(self.stamps.clone()));
        for (name, value) in &self.custom {
            put(name, value.clone());
        }
        let properties = Properties {
            correlation_id: Some(self.properties.correlation_id.clone().unwrap_or_else(|| self.id.clone())),
            reply_to: Some(self.properties.reply_to.clone().unwrap_or_default()),
            delivery_mode: 2,
            delivery_tag: tag,
            redelivered: false,
            ..self.properties.clone()
        };
        let serializer = self.serializer.unwrap_or(serializer);
        let mut envelope = Envelope {
            body: self.body(serializer),
            content_type: serializer.content_type().to_owned(),
            content_encoding: serializer.content_encoding().to_owned(),
            headers,
            properties,
        };
        if let Some(compression) = self.compression.or(compression)
            && let Ok(packed) = compression.compress(&envelope.body)
        {
            envelope.body = packed;
            envelope.headers.insert("compression".to_owned(), compression.content_type().into());
        }
        envelope
    }

    /// The text of a chain is put in as it is: it may be long, and was read before.
    fn body_in_json(&self) -> Vec<u8> {
        fn list(items: &[Signature]) -> Option<&[Signature]> {
            (!items.is_empty()).then_some(items)
        }
        let embed = &self.embed;
        let following = Following { callbacks: list(&embed.callbacks), errbacks: list(&embed.errbacks) };
        // Nothing made of JSON can fail to become its text.
        let begin = serde_json::to_vec(&(&self.args, &self.kwargs, following)).unwrap_or_default();
        let chord = serde_json::to_vec(&embed.chord).unwrap_or_default();
        let mut text = Vec::with_capacity(begin.len() + embed.chain.length() + chord.len() + 24);
        text.extend_from_slice(begin.strip_suffix(b"}]").unwrap_or_default());
        text.extend_from_slice(br#","chain":"#);
        if embed.in_chain || !embed.chain.is_empty() {
            embed.chain.write(&mut text);
        } else {
            text.extend_from_slice(b"null");
        }
        text.extend_from_slice(br#","chord":"#);
        text.extend_from_slice(&chord);
        text.extend_from_slice(b"}]");
        text
    }

    fn body(&self, serializer: Serializer) -> Vec<u8> {
        let text = self.body_in_json();
        match serializer {
            Serializer::Json => text,
            other => other.encode(&serializer::from_json(&text).unwrap_or(Value::Null)),
        }
    }

    /// The message as a worker reads what [`Self::encode`] wrote with this tag.
    pub fn received(mut self, tag: String) -> Self {
        self.argsrepr = Some(self.args_text());
        self.kwargsrepr = Some(self.kwargs_text());
        self.redelivered = false;
        self.serializer = None;
        self.compression = None;
        let properties = &mut self.properties;
        properties.correlation_id.get_or_insert_with(|| self.id.clone());
        properties.reply_to.get_or_insert_default();
        (properties.delivery_mode, properties.redelivered, properties.delivery_tag) = (2, false, tag);
        self
    }

    /// The arguments as Python text: the sender's, or made from the values.
    pub fn args_text(&self) -> String {
        self.argsrepr.clone().unwrap_or_else(|| repr::args(&self.args))
    }

    /// The keyword arguments as Python text: the sender's, or made from the values.
    pub fn kwargs_text(&self) -> String {
        self.kwargsrepr.clone().unwrap_or_else(|| repr::kwargs(&self.kwargs))
    }

    /// The name to show: the shadow, or the task's.
    pub fn shown_name(&self) -> &str {
        self.shadow.as_deref().unwrap_or(&self.task)
    }

    /// The root of the tree: the header, or the task itself.
    pub fn root(&self) -> &str {
        self.root_id.as_deref().unwrap_or(&self.id)
    }
}

fn count(value: &Value) -> u32 {
    value.as_f64().map_or(0, |number| number.max(0.0) as u32)
}

fn as_list(value: Value) -> Result<Vec<Value>, DecodeError> {
    match value {
        Value::Array(items) => Ok(items),
        Value::Null => Ok(vec![]),
        other => Err(DecodeError::shape(format!("args must be a list, are {}", kind(Some(&other))))),
    }
}

fn as_map(value: Value) -> Result<Map, DecodeError> {
    match value {
        Value::Object(map) => Ok(map),
        Value::Null => Ok(Map::new()),
        other => Err(DecodeError::shape(format!("kwargs must be a map, are {}", kind(Some(&other))))),
    }
}
