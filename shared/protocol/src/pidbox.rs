//! Remote control: requests that are broadcast to the workers, and their replies (kombu.pidbox, celery.app.control).

use serde_json::{Value, json};

use crate::Map;
use crate::compression;
use crate::envelope::{Envelope, Properties};
use crate::serializer::{self, DecodeError, Serializer};

/// The exchange that requests go to (`control_exchange` + `.pidbox`).
pub const EXCHANGE: &str = "celery.pidbox";
/// The exchange of replies.
pub const REPLY_EXCHANGE: &str = "reply.celery.pidbox";

/// A request to one, some or all workers.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The command.
    pub method: String,
    /// Its keyword arguments.
    pub arguments: Map,
    /// The node names that are meant; empty: see `pattern`, else all.
    pub destination: Vec<String>,
    /// A pattern of node names.
    pub pattern: Option<String>,
    /// `glob` or `pcre`.
    pub matcher: Option<String>,
    /// Marks the replies to this request.
    pub ticket: Option<String>,
    /// Where replies go; none: no reply is wanted.
    pub reply_to: Option<ReplyTo>,
    /// The sender's Lamport clock.
    pub clock: u64,
    /// How it is written. The sender can read a reply that is written likewise.
    pub serializer: Serializer,
}

/// Where a reply goes.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplyTo {
    /// The exchange, [`REPLY_EXCHANGE`] unless the client says otherwise.
    pub exchange: String,
    /// The client's id.
    pub routing_key: String,
}

impl Request {
    /// A request in JSON to all workers, from a sender without a Lamport clock of its own, that wants no reply.
    pub fn new(method: impl Into<String>, arguments: Map) -> Self {
        Self {
            method: method.into(),
            arguments,
            destination: vec![],
            pattern: None,
            matcher: None,
            ticket: None,
            reply_to: None,
            clock: 1,
            serializer: Serializer::default(),
        }
    }

    /// Reads a request of a content type that `accept` lists.
    ///
    /// # Errors
    /// What is no request: other content types too.
    pub fn decode(envelope: &Envelope, accept: &[String]) -> Result<Self, DecodeError> {
        let unpacked = match envelope.headers.get("compression") {
            Some(Value::String(name)) => compression::decompress(name, &envelope.body)?.into(),
            _ => std::borrow::Cow::from(&envelope.body),
        };
        let Value::Object(mut body) = serializer::decode(&envelope.content_type, &unpacked, accept)? else {
            return Err(DecodeError::shape("a control request must be an object"));
        };
        let text = |value: Option<Value>| match value {
            Some(Value::String(text)) => Some(text),
            _ => None,
        };
        let reply_to = match body.remove("reply_to") {
            Some(Value::Object(mut to)) => match (text(to.remove("exchange")), text(to.remove("routing_key"))) {
                (Some(exchange), Some(routing_key)) => Some(ReplyTo { exchange, routing_key }),
                _ => None,
            },
            _ => None,
        };
        Ok(Self {
            method: text(body.remove("method"))
                .ok_or_else(|| DecodeError::shape("a control request needs a method"))?,
            arguments: match body.remove("arguments") {
                Some(Value::Object(map)) => map,
                _ => Map::new(),
            },
            destination: match body.remove("destination") {
                Some(Value::Array(names)) => names.into_iter().filter_map(|name| text(Some(name))).collect(),
                Some(Value::String(name)) => vec![name],
                _ => vec![],
            },
            pattern: text(body.remove("pattern")),
            matcher: text(body.remove("matcher")),
            ticket: text(body.remove("ticket")),
            reply_to,
            clock: envelope.headers.get("clock").and_then(Value::as_u64).unwrap_or(0),
            serializer: Serializer::from_name(&envelope.content_type).unwrap_or_default(),
        })
    }

    /// Is it meant for this node?
    ///
    /// # Errors
    /// A pattern or a matcher that cannot be used.
    pub fn is_for(&self, node: &str) -> Result<bool, String> {
        if !self.destination.is_empty() {
            return Ok(self.destination.iter().any(|name| name == node));
        }
        let (Some(pattern), Some(matcher)) = (&self.pattern, &self.matcher) else { return Ok(true) };
        let expression = match matcher.as_str() {
            "glob" => format!("^{}$", glob_to_regex(pattern)),
            "pcre" => format!("^(?:{pattern})"),
            other => return Err(format!("matcher {other:?} is none of glob, pcre")),
        };
        let expression = regex::Regex::new(&expression).map_err(|error| format!("pattern {pattern:?}: {error}"))?;
        Ok(expression.is_match(node))
    }

    /// Writes a request. `expires` in seconds since the epoch, 0 for never.
    pub fn encode(&self, expires: f64, tag: String) -> Envelope {
        let destination = if self.destination.is_empty() { Value::Null } else { json!(self.destination) };
        let mut body = json!({
            "method": self.method, "arguments": null, "destination": destination,
            "pattern": self.pattern, "matcher": self.matcher,
        });
        // json! cannot take what may hold Python's constants (`NaN`).
        body["arguments"] = Value::Object(self.arguments.clone());
        if let (Some(ticket), Some(to)) = (&self.ticket, &self.reply_to) {
            body["ticket"] = json!(ticket);
            body["reply_to"] = json!({"exchange": to.exchange, "routing_key": to.routing_key});
        }
        let mut headers = Map::new();
        headers.insert("clock".into(), self.clock.into());
        headers.insert("expires".into(), json!(expires));
        let properties =
            Properties { delivery_mode: 2, exchange: EXCHANGE.to_owned(), delivery_tag: tag, ..Properties::default() };
        Envelope::json(&body, headers, properties)
    }
}

/// A reply, and how it is to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// The node that replies.
    pub node: String,
    /// What it replies.
    pub body: Value,
    /// As the request has it.
    pub ticket: Option<String>,
    /// The sender's Lamport clock.
    pub clock: u64,
    /// The serializer: the request's, so that whoever asked can read it.
    pub serializer: Serializer,
}

/// Writes the reply of a node.
pub fn reply(reply: Reply, to: &ReplyTo, tag: String) -> Envelope {
    let mut body = Map::new();
    body.insert(reply.node, reply.body);
    let mut headers = Map::new();
    headers.insert("ticket".into(), json!(reply.ticket));
    headers.insert("clock".into(), reply.clock.into());
    let properties = Properties {
        delivery_mode: 1,
        exchange: to.exchange.clone(),
        routing_key: to.routing_key.clone(),
        delivery_tag: tag,
        ..Properties::default()
    };
    Envelope {
        body: reply.serializer.encode(&Value::Object(body)),
        content_type: reply.serializer.content_type().to_owned(),
        content_encoding: reply.serializer.content_encoding().to_owned(),
        headers,
        properties,
    }
}

/// A shell pattern as Python's fnmatch reads it, as the inside of a regular expression.
pub fn glob_to_regex(pattern: &str) -> String {
    let mut out = String::new();
    let mut letters = pattern.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '*' => out.push_str(".*"),
            '?' => out.push('.'),
            '[' if letters.as_str().contains(']') => {
                let class: String = letters.by_ref().take_while(|c| *c != ']').collect();
                let class = class.strip_prefix('!').map_or(class.clone(), |rest| format!("^{rest}"));
                out.push_str(&format!("[{}]", class.replace('\\', "\\\\")));
            }
            other => out.push_str(&regex::escape(&other.to_string())),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn arguments_may_hold_python_s_constants() {
        let body = crate::serializer::from_json(br#"{"method": "m", "arguments": {"x": NaN}}"#).unwrap();
        let envelope = Envelope::json(&body, Map::new(), Properties::default());
        let request = Request::decode(&envelope, &["json".to_owned()]).unwrap();
        let again = String::from_utf8(request.encode(0.0, "t".into()).body).unwrap();
        assert!(again.contains(r#""arguments":{"x":NaN}"#), "{again}");
    }

    #[test]
    fn patterns_as_fnmatch_reads_them() {
        let matches = |pattern: &str, name: &str| {
            regex::Regex::new(&format!("^{}$", glob_to_regex(pattern))).unwrap().is_match(name)
        };
        assert!(matches("w?@*", "w1@host.example"));
        assert!(matches("w[12]@host", "w2@host") && !matches("w[!12]@host", "w2@host"));
        assert!(!matches("w1", "w1@host") && matches("a.b", "a.b") && !matches("a.b", "axb"));
    }
}
