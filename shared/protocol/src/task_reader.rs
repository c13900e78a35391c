//! The short way from a message's text to a task message: nearly all messages are JSON of protocol 2 as Celery writes it, and
//! are read without the maps between. Whatever is not of that form takes the long way, by the envelope.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::Map;
use crate::body_encoding;
use crate::chain::Chain;
use crate::envelope::{Envelope, Properties};
use crate::message::{Embed, TaskMessage, TimeLimits};
use crate::serializer::{DecodeError, JSON, accepts};
use crate::signature::{Signature, signatures};

impl TaskMessage {
    /// Reads a task message from an envelope's text: the same as [`Envelope::parse`] and [`TaskMessage::decode`], quicker.
    ///
    /// # Errors
    /// As both.
    pub fn read(text: &str, accept: &[String]) -> Result<Self, DecodeError> {
        match plain(text, accept) {
            Some(message) => Ok(message),
            None => Self::from_envelope(Envelope::parse(text.as_bytes())?, accept),
        }
    }
}

fn plain(text: &str, accept: &[String]) -> Option<TaskMessage> {
    let cut = cut(text);
    let mut plain: Plain<'_> = serde_json::from_str(cut.as_ref().map_or(text, |(_, around)| around)).ok()?;
    if plain.content_type != JSON || !accepts(accept, JSON) {
        return None;
    }
    let body = match (plain.body.take(), &cut) {
        (Some(body), None) => body,
        (None, Some((body, _))) => Cow::Borrowed(*body),
        _ => return None,
    };
    let body = body_encoding::decode(body.as_bytes()).ok()?;
    // Also of what is skipped: serde_json looks at no more than it is asked for.
    let body = std::str::from_utf8(&body).ok()?;
    let Body(args, kwargs, embed) = serde_json::from_str(body).ok()?;
    let mut message = plain.headers.0;
    message.args = args;
    message.kwargs = kwargs;
    message.embed = embed.read()?;
    message.redelivered |= plain.properties.0.redelivered;
    message.properties = plain.properties.0;
    Some(message)
}

/// Cuts a long body out of an envelope that begins with it, as kombu's do: the body, and the envelope without it. Base64 has
/// neither quotes nor escapes, so that its end is found without reading it as JSON.
fn cut(text: &str) -> Option<(&str, String)> {
    if text.len() < LONG {
        return None;
    }
    let begun = text.strip_prefix(r#"{"body": ""#).or_else(|| text.strip_prefix(r#"{"body":""#))?;
    let (body, behind) = begun.split_at(memchr::memchr(b'"', begun.as_bytes())?);
    let around = behind.strip_prefix("\",")?;
    (around.len() < body.len()).then(|| (body, format!("{{{around}")))
}

/// From this length on, in bytes, the envelope's text is not read twice.
const LONG: usize = 8 * 1024;

#[derive(Deserialize)]
struct Plain<'a> {
    #[serde(borrow, default)]
    body: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "content-type")]
    content_type: Cow<'a, str>,
    headers: Headers,
    properties: PlainProperties,
}

#[derive(Deserialize)]
struct Body(Vec<Value>, Map, PlainEmbed);

#[derive(Deserialize)]
struct PlainEmbed {
    #[serde(default)]
    callbacks: Option<Value>,
    #[serde(default)]
    errbacks: Option<Value>,
    #[serde(default)]
    chain: Option<Chain>,
    #[serde(default)]
    chord: Option<Signature>,
}

impl PlainEmbed {
    fn read(self) -> Option<Embed> {
        let list = |given: Option<Value>| given.map_or(Some(vec![]), |given| signatures(&given).ok());
        Some(Embed {
            callbacks: list(self.callbacks)?,
            errbacks: list(self.errbacks)?,
            in_chain: self.chain.is_some(),
            chain: self.chain.unwrap_or_default(),
            chord: self.chord,
        })
    }
}

/// The headers, as the message that they make.
struct Headers(TaskMessage);

/// The name of a field, which need not be copied.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(HeadersVisitor)
    }
}

struct HeadersVisitor;

impl<'de> Visitor<'de> for HeadersVisitor {
    type Value = Headers;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("the headers of protocol 2")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Headers, A::Error> {
        let mut message = TaskMessage::default();
        let (mut task, mut id) = (None, None);
        while let Some(Name(name)) = map.next_key()? {
            match &*name {
                "task" => task = map.next_value()?,
                "id" => id = map.next_value()?,
                "lang" | "groups" | "meth" | "celery_beat_task" => drop(map.next_value::<IgnoredAny>()?),
                "redelivered" => message.redelivered = map.next_value()?,
                "shadow" => message.shadow = map.next_value()?,
                "eta" => message.eta = map.next_value()?,
                "expires" => message.expires = map.next_value()?,
                "group" => message.group = map.next_value()?,
                "group_index" => message.group_index = map.next_value()?,
                "retries" => message.retries = map.next_value()?,
                "timelimit" => {
                    let (hard, soft): (Option<f64>, Option<f64>) = map.next_value()?;
                    let positive = |seconds: Option<f64>| seconds.filter(|seconds| *seconds > 0.0);
                    message.timelimit = TimeLimits { hard: positive(hard), soft: positive(soft) };
                }
                "root_id" => message.root_id = map.next_value()?,
                "parent_id" => message.parent_id = map.next_value()?,
                "argsrepr" => message.argsrepr = map.next_value()?,
                "kwargsrepr" => message.kwargsrepr = map.next_value()?,
                "origin" => message.origin = map.next_value()?,
                "ignore_result" => message.ignore_result = map.next_value()?,
                "replaced_task_nesting" => message.replaced_task_nesting = map.next_value()?,
                "stamped_headers" => message.stamped_headers = map.next_value()?,
                "stamps" => message.stamps = map.next_value::<Option<Map>>()?.unwrap_or_default(),
                "compression" => return Err(A::Error::custom("a compressed body")),
                _ => drop(message.custom.insert(name.into_owned(), map.next_value()?)),
            }
        }
        let missing = || A::Error::custom("no task or no id");
        (message.task, message.id) = (task.ok_or_else(missing)?, id.ok_or_else(missing)?);
        Ok(Headers(message))
    }
}

struct PlainProperties(Properties);

#[derive(Deserialize)]
struct DeliveryInfo {
    #[serde(default)]
    exchange: Option<String>,
    #[serde(default)]
    routing_key: Option<String>,
    #[serde(default)]
    redelivered: bool,
}

impl<'de> Deserialize<'de> for PlainProperties {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(PropertiesVisitor)
    }
}

struct PropertiesVisitor;

impl<'de> Visitor<'de> for PropertiesVisitor {
    type Value = PlainProperties;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("the properties of an envelope")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<PlainProperties, A::Error> {
        let mut properties = Properties { delivery_mode: 2, ..Properties::default() };
        let (mut tag, mut base64) = (None, false);
        while let Some(Name(name)) = map.next_key()? {
            match &*name {
                "correlation_id" => properties.correlation_id = map.next_value()?,
                "reply_to" => properties.reply_to = map.next_value()?,
                "delivery_mode" => properties.delivery_mode = map.next_value()?,
                "priority" => properties.priority = map.next_value::<Option<i64>>()?.unwrap_or(0),
                "delivery_tag" => tag = map.next_value()?,
                "body_encoding" => base64 = map.next_value::<Name<'_>>()?.0 == "base64",
                "delivery_info" => {
                    let info: DeliveryInfo = map.next_value()?;
                    properties.exchange = info.exchange.unwrap_or_default();
                    properties.routing_key = info.routing_key.unwrap_or_default();
                    properties.redelivered = info.redelivered;
                }
                _ => drop(properties.other.insert(name.into_owned(), map.next_value()?)),
            }
        }
        if !base64 {
            return Err(A::Error::custom("a body that is not base64"));
        }
        properties.delivery_tag = tag.ok_or_else(|| A::Error::custom("no delivery tag"))?;
        Ok(PlainProperties(properties))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_long_message_is_read_as_any_other() {
        let accept = [JSON.to_owned()];
        let mut sent = TaskMessage::new("t", "1", vec!["a long text? ".repeat(1000).into()], Map::new());
        sent.shadow = Some("\"é\"".into());
        let text = sent.encode("tag".into()).to_text();
        let envelope = Envelope::parse(text.as_bytes()).unwrap();
        let read = TaskMessage::decode(&envelope, &accept).unwrap();
        assert!(cut(&text).is_some());
        let body = text.split('"').nth(3).unwrap().to_owned();
        let spaced = text.replacen(':', ": ", 1);
        assert!(cut(&spaced).is_some());
        // As some write it, with the body elsewhere, and with a second one: Python takes the last.
        let escaped = text.replacen(&body, &body.replacen('A', "\\u0041", 1), 1);
        let behind = format!("{{\"a\": 1, {}", &text[1..]);
        let twice = format!("{}, \"body\": \"{body}\"}}", text.strip_suffix('}').unwrap()).replacen(
            &body,
            &"A".repeat(9000),
            1,
        );
        for text in [text, spaced, escaped, behind, twice] {
            assert_eq!(TaskMessage::read(&text, &accept).unwrap(), read);
        }
        let cut_off = format!("{{\"body\":\"{body}");
        assert!(TaskMessage::read(&cut_off, &accept).is_err());
    }

    #[test]
    fn bytes_that_are_no_text_are_refused_also_where_nobody_looks() {
        let accept = [JSON.to_owned()];
        let message = |body: &[u8]| {
            let body = body_encoding::encode(body);
            format!(
                r#"{{"body":"{body}","content-type":"application/json","content-encoding":"utf-8","headers":{{"task":"t","id":"1"}},
                "properties":{{"delivery_tag":"1","body_encoding":"base64","delivery_info":{{"exchange":"","routing_key":"q"}}}}}}"#
            )
        };
        assert!(TaskMessage::read(&message(br#"[[1],{},{"other":"x"}]"#), &accept).is_ok());
        assert!(TaskMessage::read(&message(b"[[1],{},{\"other\":\"\xef\"}]"), &accept).is_err());
    }
}
