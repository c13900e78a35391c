//! Events: what Flower and `celery events` listen to (celery.events.event, celery.events.dispatcher).

use serde_json::{Value, json};

use crate::Map;
use crate::envelope::{Envelope, Properties};

/// The exchange of events (`event_exchange`).
pub const EXCHANGE: &str = "celeryev";
/// The routing key of a batch of task events.
pub const TASK_MULTI: &str = "task.multi";

/// An event: a type, who sent it and when, and the type's own fields.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// `task-received`, `worker-heartbeat`, …
    pub kind: String,
    /// Everything that goes out, `type` included.
    pub fields: Map,
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
    /// An event of this sender. `timestamp` in seconds since the epoch, `clock` the Lamport clock.
    pub fn event(&self, kind: &str, timestamp: f64, clock: u64, own: Value) -> Event {
        let mut fields = Map::new();
        fields.insert("hostname".into(), self.hostname.as_str().into());
        // Always 0: receivers shift the timestamp by it although it is UTC already.
        fields.insert("utcoffset".into(), json!(0.0));
        fields.insert("pid".into(), self.pid.into());
        fields.insert("clock".into(), clock.into());
        if let Value::Object(own) = own {
            fields.extend(own);
        }
        fields.insert("timestamp".into(), json!(timestamp));
        fields.insert("type".into(), kind.into());
        Event { kind: kind.to_owned(), fields }
    }

    /// The envelope around one event, whatever its type: how those send who are no workers. With its routing key.
    pub fn single(&self, event: Event, tag: String) -> (String, Envelope) {
        let key = event.kind.replace('-', ".");
        (key.clone(), self.around(key, &Value::Object(event.fields), tag))
    }

    /// The envelope around one event or a batch of them, and its routing key.
    pub fn envelope(&self, events: Vec<Event>, tag: String) -> (String, Envelope) {
        let single = events.len() == 1 && !events[0].kind.starts_with("task-");
        let (key, body) = match <[Event; 1]>::try_from(events) {
            Ok([event]) if single => (event.kind.replace('-', "."), Value::Object(event.fields)),
            Ok([event]) => (TASK_MULTI.to_owned(), Value::Array(vec![Value::Object(event.fields)])),
            Err(many) => (TASK_MULTI.to_owned(), many.into_iter().map(|event| Value::Object(event.fields)).collect()),
        };
        (key.clone(), self.around(key, &body, tag))
    }

    fn around(&self, key: String, body: &Value, tag: String) -> Envelope {
        let mut headers = Map::new();
        headers.insert("hostname".into(), self.hostname.as_str().into());
        let properties = Properties {
            delivery_mode: 1,
            exchange: EXCHANGE.to_owned(),
            routing_key: key,
            delivery_tag: tag,
            ..Properties::default()
        };
        Envelope::json(body, headers, properties)
    }
}
