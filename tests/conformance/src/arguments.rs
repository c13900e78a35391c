//! Python's calling conventions, and its `+`.

use petiole_engine::Fault;
use petiole_protocol::{Map, TaskException};
use serde_json::{Value, json};

/// The arguments of a call, by the names of the parameters; none where the call gives none.
pub(crate) struct Call {
    names: &'static [&'static str],
    values: Vec<Option<Value>>,
}

impl Call {
    /// Binds arguments to parameters, of which the first `required` must be given.
    pub(crate) fn bind(
        names: &'static [&'static str],
        required: usize,
        args: Vec<Value>,
        mut kwargs: Map,
    ) -> Result<Self, Fault> {
        if args.len() > names.len() {
            return Err(Fault::type_error(format!(
                "takes {} positional arguments but {} were given",
                names.len(),
                args.len()
            )));
        }
        let mut values: Vec<Option<Value>> = args.into_iter().map(Some).collect();
        values.resize(names.len(), None);
        for (name, value) in names.iter().zip(&mut values) {
            if let Some(given) = kwargs.remove(*name)
                && value.replace(given).is_some()
            {
                return Err(Fault::type_error(format!("got multiple values for argument '{name}'")));
            }
        }
        if let Some(name) = kwargs.keys().next() {
            return Err(Fault::type_error(format!("got an unexpected keyword argument '{name}'")));
        }
        if let Some(at) = values.iter().take(required).position(Option::is_none) {
            return Err(Fault::type_error(format!("missing 1 required positional argument: '{}'", names[at])));
        }
        Ok(Self { names, values })
    }

    /// An argument, or null.
    pub(crate) fn get(&self, name: &str) -> Value {
        let at = self.names.iter().position(|known| *known == name);
        at.and_then(|at| self.values[at].clone()).unwrap_or(Value::Null)
    }

    /// The argument that counts, or null: it is not copied.
    pub(crate) fn take(mut self, name: &str) -> Value {
        let at = self.names.iter().position(|known| *known == name);
        at.and_then(|at| self.values[at].take()).unwrap_or(Value::Null)
    }

    /// An argument as text, or a default.
    pub(crate) fn text(&self, name: &str, default: &str) -> String {
        match self.get(name) {
            Value::Null => default.to_owned(),
            Value::String(text) => text,
            other => other.to_string(),
        }
    }
}

/// Python's truth.
pub(crate) fn truthy(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Bool(true) => true,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// Python's `+`: numbers add, texts and lists join.
pub(crate) fn plus(a: &Value, b: &Value) -> Result<Value, Fault> {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => Ok(match (x.as_i64(), y.as_i64()) {
            (Some(x), Some(y)) => json!(x + y),
            _ => json!(x.as_f64().unwrap_or(f64::NAN) + y.as_f64().unwrap_or(f64::NAN)),
        }),
        (Value::String(x), Value::String(y)) => Ok(json!(format!("{x}{y}"))),
        (Value::Array(x), Value::Array(y)) => Ok(x.iter().chain(y).cloned().collect()),
        _ => Err(Fault::type_error(format!("unsupported operand type(s) for +: {} and {}", kind(a), kind(b)))),
    }
}

/// Python's `sum`.
pub(crate) fn sum(values: &Value) -> Result<Value, Fault> {
    let Value::Array(items) = values else {
        return Err(Fault::type_error(format!("{} object is not iterable", kind(values))));
    };
    items.iter().try_fold(json!(0), |total, item| plus(&total, item))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "'NoneType'",
        Value::Bool(_) => "'bool'",
        Value::Number(_) => "'int'",
        Value::String(_) => "'str'",
        Value::Array(_) => "'list'",
        Value::Object(_) => "'dict'",
    }
}

/// An error of the surroundings, as Python would raise it.
pub(crate) fn runtime(error: impl std::fmt::Display) -> Fault {
    TaskException::builtin("RuntimeError", error.to_string()).into()
}
