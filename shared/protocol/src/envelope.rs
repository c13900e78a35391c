//! The envelope: what lies in a Redis list and travels on a channel (kombu.transport.virtual.base, kombu.message).

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Map;
use crate::body_encoding;
use crate::serializer::{DecodeError, JSON, from_json};
use crate::signature::to_value;

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

/// An envelope with all its parts, as Celery writes it.
#[derive(Deserialize)]
struct Plain<'a> {
    #[serde(borrow)]
    body: Cow<'a, str>,
    #[serde(borrow, rename = "content-type")]
    content_type: Cow<'a, str>,
    #[serde(borrow, rename = "content-encoding")]
    content_encoding: Cow<'a, str>,
    headers: Map,
    properties: Map,
}

/// An envelope as it is written, but for the body, which comes first.
#[derive(Serialize)]
struct Form<'a> {
    #[serde(rename = "content-encoding")]
    content_encoding: &'a str,
    #[serde(rename = "content-type")]
    content_type: &'a str,
    headers: &'a Map,
    properties: Value,
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
        // Nearly all are of the plain form: their bodies are decoded where they lie.
        if let Ok(plain) = serde_json::from_slice::<Plain<'_>>(text)
            && plain.properties.get("body_encoding").and_then(Value::as_str) == Some("base64")
            && let Ok(body) = body_encoding::decode(plain.body.as_bytes())
        {
            return Ok(Self {
                body,
                content_type: plain.content_type.into_owned(),
                content_encoding: plain.content_encoding.into_owned(),
                headers: plain.headers,
                properties: Properties::parse(plain.properties)?,
            });
        }
        let Value::Object(mut map) = from_json(text)? else {
            return Err(DecodeError::shape("an envelope must be an object"));
        };
        let Some(Value::Object(mut raw)) = map.remove("properties") else {
            return Err(DecodeError::shape("an envelope needs properties"));
        };
        let encoding = take_text(&mut raw, "body_encoding");
        let body = match map.remove("body") {
            Some(Value::String(text)) if encoding.as_deref() == Some("base64") => body_encoding::decode(text)?,
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

    fn form(&self) -> Form<'_> {
        Form {
            content_encoding: &self.content_encoding,
            content_type: &self.content_type,
            headers: &self.headers,
            properties: self.properties.to_value(),
        }
    }

    /// Writes the envelope as kombu would.
    pub fn to_value(&self) -> Value {
        let mut map = Map::new();
        map.insert("body".into(), body_encoding::encode(&self.body).into());
        if let Value::Object(around) = to_value(&self.form()) {
            map.extend(around);
        }
        Value::Object(map)
    }

    /// The envelope's JSON text.
    pub fn to_text(&self) -> String {
        // Nothing made of JSON can fail to become its text.
        let around = serde_json::to_string(&self.form()).unwrap_or_default();
        // Base64 has nothing to be escaped.
        let mut text = String::with_capacity(around.len() + body_encoding::length(&self.body) + 16);
        text.push_str(r#"{"body":""#);
        body_encoding::encode_to(&self.body, &mut text);
        text.push_str("\",");
        text.push_str(around.strip_prefix('{').unwrap_or_default());
        text
    }
}

impl Properties {
    fn parse(raw: Map) -> Result<Self, DecodeError> {
        let (mut properties, mut tag) = (Self { delivery_mode: 2, ..Self::default() }, None);
        for (name, value) in raw {
            match name.as_str() {
                "correlation_id" => properties.correlation_id = text(value),
                "reply_to" => properties.reply_to = text(value),
                "delivery_mode" => {
                    properties.delivery_mode = value.as_u64().and_then(|mode| mode.try_into().ok()).unwrap_or(2);
                }
                "priority" => properties.priority = value.as_i64().unwrap_or(0),
                "delivery_tag" => tag = text(value),
                "body_encoding" => {}
                "delivery_info" => {
                    let Value::Object(info) = value else { continue };
                    for (name, value) in info {
                        match name.as_str() {
                            "exchange" => properties.exchange = text(value).unwrap_or_default(),
                            "routing_key" => properties.routing_key = text(value).unwrap_or_default(),
                            "redelivered" => properties.redelivered = value == Value::Bool(true),
                            _ => {}
                        }
                    }
                }
                _ => drop(properties.other.insert(name, value)),
            }
        }
        properties.delivery_tag = tag.ok_or_else(|| DecodeError::shape("properties need a delivery_tag"))?;
        Ok(properties)
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
    map.remove(key).and_then(text)
}

/// A text, or a number as one; anything else counts as missing.
pub(crate) fn text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
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
