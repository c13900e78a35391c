//! Content types, and bodies as kombu writes and reads them (kombu.serialization).
//!
//! | name | content type | read | written | what JSON has no type for |
//! |---|---|---|---|---|
//! | json | `application/json` | yes | yes | kombu's tags: `{"__type__": "datetime", "__value__": …}` |
//! | yaml | `application/x-yaml` | yes, by PyYAML's rules | yes | timestamps and `!!binary` become tags, and tags become those |
//! | msgpack | `application/x-msgpack` | yes | yes | the type bin becomes a tag, and the tag becomes bin |
//! | pickle | `application/x-python-serialize` | plain data, when asked for | no | bytes become a tag, sets and tuples lists |
//!
//! Whatever comes in becomes a JSON [`Value`], nested no deeper than [`MAX_DEPTH`].

mod json;
pub(crate) mod json_writer;
mod msgpack;
mod pickle;
mod tagged;
mod yaml;

use serde_json::Value;

use crate::compression::{self, Compression};
pub use json::{from_json, to_json};

/// The content type of JSON, Celery's default.
pub const JSON: &str = "application/json";
/// Nothing is read that is nested deeper than this.
pub const MAX_DEPTH: usize = 128;
/// What a value weighs in memory, in bytes, beside its text.
const VALUE: usize = 64;

/// How large the values of a body may become, in bytes. Bodies that name one thing many times (by YAML's aliases, by a
/// pickle's memo) grow when they are read: this is more than any body needs that does not.
fn copies_of(body: &[u8]) -> usize {
    64 * 1024 * 1024 + body.len().saturating_mul(VALUE + 1)
}

/// Why bytes from the wire could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON, not even Python's.
    #[error("not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// Not YAML, msgpack or a pickle: which one, and why.
    #[error("not {0}: {1}")]
    Body(&'static str, String),
    /// Not base64.
    #[error("body is not base64: {0}")]
    Base64(#[from] base64::DecodeError),
    /// The worker does not accept this content type (`accept_content`).
    #[error("content type {0:?} is not accepted here (accepted: {1})")]
    ContentDisallowed(String, String),
    /// A pickle that holds more than plain data.
    #[error("a pickle with more than plain data is not accepted: {0}")]
    Unsafe(String),
    /// A compression that is not known, or a body that is not compressed so.
    #[error("compression {0:?}: {1}")]
    Compression(String, String),
    /// Well formed, but not what the protocol says.
    #[error("{0}")]
    Shape(String),
}

impl DecodeError {
    /// A [`DecodeError::Shape`].
    pub fn shape(what: impl Into<String>) -> Self {
        Self::Shape(what.into())
    }

    /// True where Celery rejects the message; false where it acknowledges it (undecodable body).
    pub fn is_reject(&self) -> bool {
        !matches!(self, Self::Json(_) | Self::Body(..) | Self::Base64(_) | Self::Compression(..))
    }
}

/// A way to write bodies and results (`task_serializer`, `result_serializer`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Serializer {
    /// `json`.
    #[default]
    Json,
    /// `yaml`.
    Yaml,
    /// `msgpack`.
    Msgpack,
}

impl Serializer {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Json, Self::Yaml, Self::Msgpack];

    /// By its name or its content type. None: unknown, or `pickle`, which is not written here.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|serializer| serializer.name() == name || serializer.content_type() == name)
    }

    /// kombu's name, as a setting holds it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Yaml => "yaml",
            Self::Msgpack => "msgpack",
        }
    }

    /// The content type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => JSON,
            Self::Yaml => "application/x-yaml",
            Self::Msgpack => "application/x-msgpack",
        }
    }

    /// The content encoding.
    pub fn content_encoding(self) -> &'static str {
        match self {
            Self::Json | Self::Yaml => "utf-8",
            Self::Msgpack => "binary",
        }
    }

    /// Writes a value. What the form has no type for becomes text.
    pub fn encode(self, value: &Value) -> Vec<u8> {
        match self {
            Self::Json => value.to_string().into_bytes(),
            Self::Yaml => yaml::encode(value).into_bytes(),
            Self::Msgpack => msgpack::encode(value),
        }
    }

    /// Reads a value.
    ///
    /// # Errors
    /// [`DecodeError::Json`] or [`DecodeError::Body`].
    pub fn decode(self, bytes: &[u8]) -> Result<Value, DecodeError> {
        match self {
            Self::Json => from_json(bytes),
            Self::Yaml => yaml::decode(bytes),
            Self::Msgpack => msgpack::decode(bytes),
        }
    }
}

/// The names that `accept_content` may hold, each with its content type.
pub const ACCEPTABLE: [(&str, &str); 4] = [
    ("json", JSON),
    ("yaml", "application/x-yaml"),
    ("msgpack", "application/x-msgpack"),
    ("pickle", "application/x-python-serialize"),
];

/// Does `accept` list a content type, by its name or itself?
pub fn accepts(accept: &[String], content_type: &str) -> bool {
    let name = ACCEPTABLE.iter().find(|(_, known)| *known == content_type).map(|(name, _)| *name);
    accept.iter().any(|accepted| accepted == content_type || Some(accepted.as_str()) == name)
}

/// Reads a body of a content type that `accept` lists, by name or content type.
///
/// # Errors
/// A content type that is not listed, or a body that is not of it.
pub fn decode(content_type: &str, body: &[u8], accept: &[String]) -> Result<Value, DecodeError> {
    let known = ACCEPTABLE.iter().find(|(_, known)| *known == content_type);
    match known.filter(|_| accepts(accept, content_type)) {
        None => Err(DecodeError::ContentDisallowed(content_type.to_owned(), accept.join(", "))),
        Some(("pickle", _)) => pickle::decode(body),
        Some((name, _)) => Serializer::from_name(name).unwrap_or_default().decode(body),
    }
}

/// How results are written (`result_serializer`, `result_compression`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ResultFormat {
    /// The serializer.
    pub serializer: Serializer,
    /// The compression; Celery's default is none.
    pub compression: Option<Compression>,
}

impl ResultFormat {
    /// Writes a result, or a part of a chord.
    pub fn encode(self, value: &Value) -> Vec<u8> {
        let plain = self.serializer.encode(value);
        let packed = self.compression.map(|compression| compression::compress_result(compression, &plain));
        match packed {
            Some(Ok(packed)) => packed,
            _ => plain,
        }
    }
}

/// Reads what lies in the result backend, whatever wrote it: a map or a list in JSON, YAML or msgpack, compressed or not.
/// Workers with other settings may share the backend, so the bytes decide, not a setting.
///
/// # Errors
/// Bytes that are none of these.
pub fn decode_result(bytes: &[u8]) -> Result<Value, DecodeError> {
    let bytes = compression::decompress_result(bytes)?;
    match bytes.first() {
        Some(b'{' | b'[') => match from_json(&bytes) {
            Ok(value) => Ok(value),
            Err(error) => Serializer::Yaml.decode(&bytes).map_err(|_| error),
        },
        Some(first) if *first >= 0x80 => Serializer::Msgpack.decode(&bytes),
        Some(first) if first.is_ascii_whitespace() => from_json(&bytes),
        _ => Serializer::Yaml.decode(&bytes),
    }
}

/// A key as Python's json writes it: text, or the text of what it is.
fn key(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Null => Some("null".to_owned()),
        Value::Bool(is) => Some(is.to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::Array(_) => None,
        // A tagged value: a date, bytes.
        Value::Object(map) => map.get("__value__").and_then(Value::as_str).map(str::to_owned),
    }
}

/// What a value weighs in memory, in bytes. Values are no deeper than [`MAX_DEPTH`].
fn weight(value: &Value) -> usize {
    VALUE
        + match value {
            Value::String(text) => text.len(),
            Value::Array(items) => items.iter().map(weight).sum(),
            Value::Object(map) => map.iter().map(|(key, value)| key.len() + weight(value)).sum(),
            _ => 0,
        }
}
