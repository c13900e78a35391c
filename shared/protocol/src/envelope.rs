//! The envelope: what lies in a Redis list and travels on a channel (kombu.transport.virtual.base, kombu.message).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::Map;
use crate::serializer::{DecodeError, JSON, from_json};

/// One message as kombu writes it: a body in base64 and what is said about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope {
    /// The serialised, possibly compressed body.
    pub body: Vec<u8>,
    /// `application/json` and the like.
    pub content_type: String,
    /// `utf-8` or `binary`.
    pub content_encoding: String,
    /// Application headers: for tasks the fields of protocol 2.
    pub headers: Map,
    /// Transport properties.
    pub properties: Properties,
}

/// The properties of an envelope.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Properties {
    /// The task's id.
    pub correlation_id: Option<String>,
    /// An id of the sender; kept, never used here.
    pub reply_to: Option<String>,
    /// 2 persistent, 1 transient; no effect on Redis.
    pub delivery_mode: u8,
    /// The exchange it was published to; "" is the default exchange.
    pub exchange: String,
    /// The routing key it was published with; for tasks the queue's name.
    pub routing_key: String,
    /// True after it was given back to the queue.
    pub redelivered: bool,
    /// The number as the sender gave it; 0 is served first.
    pub priority: i64,
    /// Fresh for every publish; kept when a message goes back to its queue.
    pub delivery_tag: String,
    /// Whatever else the sender wrote (`expiration`, `app_id`, …).
    pub other: Map,
}

impl Envelope {
    /// An envelope around a JSON body.
    pub fn json(body: &Value, headers: Map, properties: Properties) -> Self {
        Self {
            body: body.to_string().into_bytes(),
            content_type: JSON.to_owned(),
            content_encoding: "utf-8".to_owned(),
            headers,
            properties,
        }
    }

    /// Reads an envelope.
    ///
    /// # Errors
    /// Not JSON, or a field of the wrong kind. A missing `delivery_tag` is an error: the message could not be settled.
    pub fn parse(text: &[u8]) -> Result<Self, DecodeError> {
        let Value::Object(mut map) = from_json(text)? else {
            return Err(DecodeError::shape("an envelope must be an object"));
        };
        let Some(Value::Object(mut raw)) = map.remove("properties") else {
            return Err(DecodeError::shape("an envelope needs properties"));
        };
        let encoding = take_text(&mut raw, "body_encoding");
        let body = match map.remove("body") {
            Some(Value::String(text)) if encoding.as_deref() == Some("base64") => STANDARD.decode(text)?,
            Some(Value::String(text)) => text.into_bytes(),
            other => return Err(DecodeError::shape(format!("body must be text, is {}", kind(other.as_ref())))),
        };
        let headers = match map.remove("headers") {
            Some(Value::Object(headers)) => headers,
            None | Some(Value::Null) => Map::new(),
            other => {
                return Err(DecodeError::shape(format!("headers must be an object, are {}", kind(other.as_ref()))));
            }
        };
        Ok(Self {
            body,
            content_type: take_text(&mut map, "content-type").unwrap_or_else(|| "application/data".to_owned()),
            content_encoding: take_text(&mut map, "content-encoding").unwrap_or_else(|| "binary".to_owned()),
            headers,
            properties: Properties::parse(raw)?,
        })
    }

    /// Writes the envelope as kombu would.
    pub fn to_value(&self) -> Value {
        json!({
            "body": STANDARD.encode(&self.body),
            "content-encoding": self.content_encoding,
            "content-type": self.content_type,
            "headers": self.headers,
            "properties": self.properties.to_value(),
        })
    }

    /// The envelope's JSON text.
    pub fn to_text(&self) -> String {
        self.to_value().to_string()
    }
}

impl Properties {
    fn parse(mut raw: Map) -> Result<Self, DecodeError> {
        let mut info = match raw.remove("delivery_info") {
            Some(Value::Object(info)) => info,
            _ => Map::new(),
        };
        let delivery_tag =
            take_text(&mut raw, "delivery_tag").ok_or_else(|| DecodeError::shape("properties need a delivery_tag"))?;
        Ok(Self {
            correlation_id: take_text(&mut raw, "correlation_id"),
            reply_to: take_text(&mut raw, "reply_to"),
            delivery_mode: raw
                .remove("delivery_mode")
                .and_then(|v| v.as_u64())
                .and_then(|v| v.try_into().ok())
                .unwrap_or(2),
            exchange: take_text(&mut info, "exchange").unwrap_or_default(),
            routing_key: take_text(&mut info, "routing_key").unwrap_or_default(),
            redelivered: info.remove("redelivered").is_some_and(|v| v == Value::Bool(true)),
            priority: raw.remove("priority").and_then(|v| v.as_i64()).unwrap_or(0),
            delivery_tag,
            other: raw,
        })
    }

    fn to_value(&self) -> Value {
        let mut map = Map::new();
        if let Some(id) = &self.correlation_id {
            map.insert("correlation_id".into(), id.as_str().into());
        }
        if let Some(reply_to) = &self.reply_to {
            map.insert("reply_to".into(), reply_to.as_str().into());
        }
        map.extend(self.other.clone());
        map.insert("delivery_mode".into(), self.delivery_mode.into());
        let mut info = json!({"exchange": self.exchange, "routing_key": self.routing_key});
        if self.redelivered {
            info["redelivered"] = true.into();
        }
        map.insert("delivery_info".into(), info);
        map.insert("priority".into(), self.priority.into());
        map.insert("body_encoding".into(), "base64".into());
        map.insert("delivery_tag".into(), self.delivery_tag.as_str().into());
        Value::Object(map)
    }
}

/// Takes a text out of a map; null counts as missing.
pub(crate) fn take_text(map: &mut Map, key: &str) -> Option<String> {
    match map.remove(key) {
        Some(Value::String(text)) => Some(text),
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    }
}

/// What a value is, for an error message.
pub(crate) fn kind(value: Option<&Value>) -> &'static str {
    match value {
        None => "missing",
        Some(Value::Null) => "null",
        Some(Value::Bool(_)) => "a boolean",
        Some(Value::Number(_)) => "a number",
        Some(Value::String(_)) => "text",
        Some(Value::Array(_)) => "a list",
        Some(Value::Object(_)) => "an object",
    }
}
