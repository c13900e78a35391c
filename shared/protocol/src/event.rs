//! Events: what Flower and `celery events` listen to (celery.events.event, celery.events.dispatcher).

use serde::Serialize;

use crate::Map;
use crate::envelope::{Envelope, Properties};
use crate::serializer::JSON;

/// The exchange of events (`event_exchange`).
pub const EXCHANGE: &str = "celeryev";
/// The routing key of a batch of task events.
pub const TASK_MULTI: &str = "task.multi";

/// An event: a type, and everything that goes out as JSON.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// `task-received`, `worker-heartbeat`, …
    pub kind: String,
    /// The JSON text of an object: who sent it and when, the type's own fields, and the type.
    pub text: String,
}

/// Who sends: the fields that are the same in all events of a process.
#[derive(Debug, Clone)]
pub struct Sender {
    /// The node name.
    pub hostname: String,
    /// The process id.
    pub pid: u32,
}

impl Sender {
    /// An event of this sender. `timestamp` in seconds since the epoch, `clock` the Lamport clock; `own` are the type's own
    /// fields, a map.
    pub fn event(&self, kind: &str, timestamp: f64, clock: u64, own: &impl Serialize) -> Event {
        let own = serde_json::to_string(own).unwrap_or_default();
        let own = own.strip_prefix('{').and_then(|own| own.strip_suffix('}')).unwrap_or_default();
        let comma = if own.is_empty() { "" } else { "," };
        // The offset is always 0: receivers shift the timestamp by it although it is UTC already.
        let text = format!(
            r#"{{"hostname":{},"utcoffset":0.0,"pid":{},"clock":{clock}{comma}{own},"timestamp":{},"type":{}}}"#,
            text_of(&self.hostname),
            self.pid,
            text_of(&timestamp),
            text_of(kind),
        );
        Event { kind: kind.to_owned(), text }
    }

    /// The envelope around one event, whatever its type: how those send who are no workers. With its routing key.
    pub fn single(&self, event: Event, tag: String) -> (String, Envelope) {
        let key = event.kind.replace('-', ".");
        (key.clone(), self.around(key, event.text, tag))
    }

    /// The envelope around one event or a batch of them, and its routing key.
    pub fn envelope(&self, events: &[Event], tag: String) -> (String, Envelope) {
        if let [event] = events
            && !event.kind.starts_with("task-")
        {
            return self.single(event.clone(), tag);
        }
        let texts: Vec<&str> = events.iter().map(|event| event.text.as_str()).collect();
        (TASK_MULTI.to_owned(), self.around(TASK_MULTI.to_owned(), format!("[{}]", texts.join(",")), tag))
    }

    fn around(&self, key: String, body: String, tag: String) -> Envelope {
        let mut headers = Map::new();
        headers.insert("hostname".into(), self.hostname.as_str().into());
        let properties = Properties {
            delivery_mode: 1,
            exchange: EXCHANGE.to_owned(),
            routing_key: key,
            delivery_tag: tag,
            ..Properties::default()
        };
        Envelope {
            body: body.into_bytes(),
            content_type: JSON.to_owned(),
            content_encoding: "utf-8".to_owned(),
            headers,
            properties,
        }
    }
}

/// The JSON text of what cannot fail to have one.
fn text_of<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
