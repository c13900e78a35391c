//! What JSON has no type for: kombu's maps of a type and a value (kombu.utils.json: register_type).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Number, Value, json};

fn tag(kind: &str, value: impl Into<Value>) -> Value {
    json!({"__type__": kind, "__value__": value.into()})
}

/// Bytes: text where they are UTF-8, base64 where not.
pub(super) fn bytes(bytes: Vec<u8>) -> Value {
    match String::from_utf8(bytes) {
        Ok(text) => tag("bytes", text),
        Err(other) => tag("base64", STANDARD.encode(other.as_bytes())),
    }
}

/// A date and time, as Python's `isoformat()` writes it.
pub(super) fn datetime(iso: impl Into<String>) -> Value {
    tag("datetime", iso.into())
}

/// A date.
pub(super) fn date(iso: impl Into<String>) -> Value {
    tag("date", iso.into())
}

/// A float; also one that strict JSON cannot write.
pub(super) fn float(number: f64) -> Value {
    Value::Number(match Number::from_f64(number) {
        Some(number) => number,
        None if number.is_nan() => Number::from_string_unchecked("NaN".to_owned()),
        None if number > 0.0 => Number::from_string_unchecked("Infinity".to_owned()),
        None => Number::from_string_unchecked("-Infinity".to_owned()),
    })
}

/// A number's value as a float; also of one that strict JSON cannot write.
pub(super) fn as_float(number: &Number) -> f64 {
    match number.as_str() {
        "NaN" => f64::NAN,
        "Infinity" => f64::INFINITY,
        "-Infinity" => f64::NEG_INFINITY,
        text => text.parse().unwrap_or(f64::NAN),
    }
}

/// A tagged value, told apart from a map that only looks like a map.
pub(super) enum Tagged<'a> {
    /// Bytes.
    Bytes(Vec<u8>),
    /// A date and time, or a date, in ISO 8601.
    Time(&'a str),
    /// Anything else, as text: a decimal, a UUID, a time of day.
    Text(String),
}

/// Reads a tagged value. None: it is an ordinary value.
pub(super) fn read(value: &Value) -> Option<Tagged<'_>> {
    let map = value.as_object().filter(|map| map.len() == 2)?;
    let (kind, value) = (map.get("__type__")?.as_str()?, map.get("__value__")?);
    match (kind, value) {
        ("bytes", Value::String(text)) => Some(Tagged::Bytes(text.clone().into_bytes())),
        ("base64", Value::String(text)) => STANDARD.decode(text).ok().map(Tagged::Bytes),
        ("datetime" | "date", Value::String(text)) => Some(Tagged::Time(text)),
        ("time" | "decimal", Value::String(text)) => Some(Tagged::Text(text.clone())),
        ("uuid", value) => {
            let hex = value.get("hex")?.as_str()?;
            Some(Tagged::Text(uuid::Uuid::parse_str(hex).ok()?.to_string()))
        }
        _ => None,
    }
}
