//! A signature: a task with its arguments and options, to be called later (celery.canvas).

mod build;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::Map;
use crate::serializer::from_json;

/// The map form of a signature, as it travels in callbacks, chains and chords.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Signature {
    /// The task's name; `celery.chain`, `celery.group`, `celery.chord` for compositions.
    pub task: String,
    /// Positional arguments.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub args: Vec<Value>,
    /// Keyword arguments; of a composition its parts.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub kwargs: Map,
    /// Publish options: `task_id`, `queue`, `link`, `chord`, …
    #[serde(default, deserialize_with = "null_is_empty")]
    pub options: Map,
    /// `chain`, `group`, `chord`, or none for a plain task.
    #[serde(default)]
    pub subtask_type: Option<String>,
    /// True: the result of the task before is not put in front of the arguments.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub immutable: bool,
}

fn null_is_empty<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// What a signature is made of.
#[derive(Debug, Clone, PartialEq)]
pub enum Canvas {
    /// One task.
    Task,
    /// Tasks one after the other, each with the result of the one before.
    Chain(Vec<Signature>),
    /// Tasks side by side.
    Group(Vec<Signature>),
    /// A group, and a task that gets the list of its results.
    Chord {
        /// The members of the header.
        header: Vec<Signature>,
        /// The options of the header, when it came as a group signature.
        header_options: Map,
        /// What is called with the results.
        body: Box<Signature>,
    },
}

impl Signature {
    /// Takes a signature's map form: what is in it stays as it is, Python's constants too.
    ///
    /// # Errors
    /// What is no signature.
    pub fn from_value(value: Value) -> Result<Self, serde_json::Error> {
        let wrong = |field: &str| serde_json::Error::custom(format!("a signature's {field}"));
        let Value::Object(mut map) = value else { return Err(serde_json::Error::custom("a signature is a map")) };
        let mut take = |field: &str| map.remove(field).unwrap_or(Value::Null);
        let object = |field: &str, value: Value| match value {
            Value::Null => Ok(Map::new()),
            Value::Object(map) => Ok(map),
            _ => Err(wrong(field)),
        };
        Ok(Self {
            task: match take("task") {
                Value::String(task) => task,
                _ => return Err(wrong("task")),
            },
            args: match take("args") {
                Value::Null => vec![],
                Value::Array(args) => args,
                _ => return Err(wrong("args")),
            },
            kwargs: object("kwargs", take("kwargs"))?,
            options: object("options", take("options"))?,
            subtask_type: match take("subtask_type") {
                Value::Null => None,
                Value::String(kind) => Some(kind),
                _ => return Err(wrong("subtask_type")),
            },
            immutable: match take("immutable") {
                Value::Null => false,
                Value::Bool(immutable) => immutable,
                _ => return Err(wrong("immutable")),
            },
        })
    }

    /// A plain task with positional arguments.
    pub fn new(task: impl Into<String>, args: Vec<Value>) -> Self {
        Self { task: task.into(), args, kwargs: Map::new(), options: Map::new(), subtask_type: None, immutable: false }
    }

    /// The same, not taking the result of the task before.
    pub fn immutable(mut self) -> Self {
        self.immutable = true;
        self
    }

    /// Sets an option.
    pub fn set(mut self, option: &str, value: impl Into<Value>) -> Self {
        self.options.insert(option.to_owned(), value.into());
        self
    }

    /// A chain signature.
    pub fn chain(tasks: &[Signature]) -> Self {
        let mut chain = Self::new("celery.chain", vec![]);
        chain.kwargs.insert("tasks".into(), to_value(tasks));
        chain.subtask_type = Some("chain".into());
        chain
    }

    /// A group signature.
    pub fn group(tasks: &[Signature]) -> Self {
        let mut group = Self::new("celery.group", vec![]);
        group.kwargs.insert("tasks".into(), to_value(tasks));
        group.subtask_type = Some("group".into());
        group
    }

    /// A chord signature.
    pub fn chord(header: &[Signature], body: &Signature) -> Self {
        let mut chord = Self::new("celery.chord", vec![]);
        chord.kwargs.insert("kwargs".into(), Value::Object(Map::new()));
        chord.kwargs.insert("header".into(), to_value(&Self::group(header)));
        chord.kwargs.insert("body".into(), to_value(body));
        chord.subtask_type = Some("chord".into());
        chord
    }

    /// Takes the signature apart.
    ///
    /// # Errors
    /// A composition without its parts.
    pub fn canvas(&self) -> Result<Canvas, serde_json::Error> {
        let tasks = || -> Result<Vec<Signature>, serde_json::Error> {
            match self.kwargs.get("tasks") {
                Some(tasks) => signatures(tasks),
                None => Ok(Vec::new()),
            }
        };
        Ok(match self.subtask_type.as_deref() {
            Some("chain") => Canvas::Chain(tasks()?),
            Some("group") => Canvas::Group(tasks()?),
            Some("chord") => {
                let header = self.kwargs.get("header").cloned().unwrap_or(Value::Array(vec![]));
                let (header, header_options) = match &header {
                    Value::Array(_) => (signatures(&header)?, Map::new()),
                    Value::Object(_) => {
                        let group = Signature::from_value(header)?;
                        let options = group.options.clone();
                        match group.canvas()? {
                            Canvas::Group(tasks) => (tasks, options),
                            _ => (vec![group], Map::new()),
                        }
                    }
                    _ => (vec![], Map::new()),
                };
                let body = self.kwargs.get("body").cloned().unwrap_or(Value::Null);
                Canvas::Chord { header, header_options, body: Box::new(Signature::from_value(body)?) }
            }
            _ => Canvas::Task,
        })
    }

    /// A text option; null counts as missing.
    pub fn option_text(&self, name: &str) -> Option<&str> {
        self.options.get(name).and_then(Value::as_str)
    }

    /// An option that holds one signature or a list of them (`link`, `link_error`).
    pub fn option_signatures(&self, name: &str) -> Vec<Signature> {
        self.options.get(name).map(|value| signatures(value).unwrap_or_default()).unwrap_or_default()
    }
}

/// Reads one signature or a list of them; null is none. Lists may hold nested lists, as kombu's `maybe_list` allows.
///
/// # Errors
/// What is no signature.
pub fn signatures(value: &Value) -> Result<Vec<Signature>, serde_json::Error> {
    match value {
        Value::Null => Ok(vec![]),
        Value::Array(items) => items.iter().map(|item| Signature::from_value(item.clone())).collect(),
        one => Ok(vec![Signature::from_value(one.clone())?]),
    }
}

/// The value of anything made of JSON. Python's constants (`NaN`) stay, where `serde_json::to_value` fails.
pub fn to_value<T: Serialize + ?Sized>(what: &T) -> Value {
    serde_json::to_value(what).unwrap_or_else(|_| {
        let text = serde_json::to_vec(what).unwrap_or_default();
        from_json(&text).unwrap_or(Value::Null)
    })
}
