//! Exceptions in results, such that a Python caller gets its class back (celery.utils.serialization,
//! celery.backends.base: prepare_exception).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::repr;

/// An exception: the class by module and name, and the arguments to call it with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskException {
    /// The class, dotted for nested ones: `ValueError`.
    pub exc_type: String,
    /// Its arguments. A plain text is read as one argument.
    #[serde(deserialize_with = "one_or_many")]
    pub exc_message: Vec<Value>,
    /// The Python module of the class: `builtins`, `celery.exceptions`, …
    #[serde(default = "builtins")]
    pub exc_module: String,
}

fn builtins() -> String {
    "builtins".to_owned()
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<Value>, D::Error> {
    Ok(match Value::deserialize(from)? {
        Value::Array(items) => items,
        Value::Null => vec![],
        one => vec![one],
    })
}

impl TaskException {
    /// An exception of any class.
    pub fn new(module: impl Into<String>, name: impl Into<String>, args: Vec<Value>) -> Self {
        Self { exc_type: name.into(), exc_message: args, exc_module: module.into() }
    }

    /// One of Python's own: `ValueError`, `TypeError`, …
    pub fn builtin(name: &str, message: impl Into<String>) -> Self {
        Self::new("builtins", name, vec![Value::String(message.into())])
    }

    /// One of `celery.exceptions`.
    pub fn celery(name: &str, args: Vec<Value>) -> Self {
        Self::new("celery.exceptions", name, args)
    }

    /// One of `billiard.exceptions`: time limits and lost workers.
    pub fn billiard(name: &str, args: Vec<Value>) -> Self {
        Self::new("billiard.exceptions", name, args)
    }

    /// As Python's `repr(exc)`: `ValueError('boom', 42)`.
    pub fn repr(&self) -> String {
        let args: Vec<String> = self.exc_message.iter().map(repr::value).collect();
        format!("{}({})", self.short_name(), args.join(", "))
    }

    /// As Python's `str(exc)`.
    pub fn message(&self) -> String {
        match self.exc_message.as_slice() {
            [] => String::new(),
            [Value::String(text)] => text.clone(),
            [one] => repr::value(one),
            many => repr::args(many),
        }
    }

    /// The last line of a traceback: `celery.exceptions.Reject: no`, `ValueError: boom`.
    pub fn last_line(&self) -> String {
        let name = match self.exc_module.as_str() {
            "builtins" => self.exc_type.clone(),
            module => format!("{module}.{}", self.exc_type),
        };
        match self.message() {
            message if message.is_empty() => name,
            message => format!("{name}: {message}"),
        }
    }

    fn short_name(&self) -> &str {
        self.exc_type.rsplit('.').next().unwrap_or(&self.exc_type)
    }
}

impl std::fmt::Display for TaskException {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.last_line())
    }
}

impl std::error::Error for TaskException {}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn texts_are_python_s() {
        let boom = TaskException::new("builtins", "ValueError", vec![json!("boom"), json!(42)]);
        assert_eq!(boom.repr(), "ValueError('boom', 42)");
        assert_eq!(boom.last_line(), "ValueError: ('boom', 42)");
        assert_eq!(TaskException::celery("Reject", vec![]).last_line(), "celery.exceptions.Reject");
    }
}
