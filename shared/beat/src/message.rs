//! The message of a periodic task (celery.beat: Scheduler.apply_async).

use chrono::{DateTime, Utc};
use petiole_client::{ClientConfig, ClientError};
use petiole_protocol::{TaskMessage, repr};
use serde_json::Value;

use crate::entry::Entry;

/// The header by which a periodic task is known.
const HEADER: &str = "celery_beat_task";

/// The message of an entry that was due since `since`, and the queue it goes to.
///
/// # Errors
/// [`ClientError::Invalid`]: the options contradict each other.
pub(crate) fn message(
    entry: &Entry,
    sending: &ClientConfig,
    since: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<(TaskMessage, String), ClientError> {
    let mut task = entry.task.clone();
    let route = sending.routes.of(&task.name).cloned().unwrap_or_default();
    let queue = task.queue.take().or(route.queue).unwrap_or_else(|| sending.default_queue.clone());
    task.priority = task.priority.or(route.priority);
    task.task_id = Some(entry.task_id(since));
    task.headers.insert(HEADER.to_owned(), true.into());
    let mut message = task.message(&queue, now)?;
    // Celery's beat makes a list of the arguments, and shows that.
    if !task.args.is_empty() {
        message.argsrepr = Some(repr::value(&Value::Array(task.args)));
    }
    Ok((message, queue))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use petiole_protocol::Envelope;
    use serde_json::json;

    /// What differs from one sending to the next, or from one sender to another.
    fn masked(envelope: &Envelope) -> Value {
        let mut value = envelope.to_value();
        let body: Value = serde_json::from_slice(&envelope.body).unwrap();
        value["body"] = body;
        for (part, name) in [
            ("headers", "id"),
            ("headers", "root_id"),
            ("headers", "origin"),
            ("properties", "correlation_id"),
            ("properties", "reply_to"),
            ("properties", "delivery_tag"),
        ] {
            assert!(value[part][name].is_string(), "{part}.{name}");
            value[part][name] = "*".into();
        }
        for name in ["eta", "expires"] {
            if let Some(time) = value["headers"][name].as_str() {
                assert_eq!(time.len(), "2026-11-24T15:45:16.312596+00:00".len());
                value["headers"][name] = "*".into();
            }
        }
        value
    }

    /// The messages that `celery beat` 5.7.0 sent for the same entries, and ours, byte for byte where they do not tell the
    /// sender: order of fields included.
    #[test]
    fn as_celery_beat_sends_them() {
        let entries = json!({
            "plain": {"task": "demo.add", "schedule": 1.0, "args": [1, 2]},
            "empty": {"task": "demo.none", "schedule": 1.0},
            "options": {"task": "demo.echo", "schedule": 1.0, "args": ["a'b", {"k": null}], "kwargs": {"x": true},
                "options": {"queue": "other", "priority": 5, "expires": 30, "time_limit": 10, "soft_time_limit": 5,
                    "headers": {"mine": 1}, "ignore_result": true, "shadow": "shown"}},
            "count": {"task": "demo.count", "schedule": 1.0, "args": [5], "options": {"countdown": 3}},
        });
        let entries = Entry::read_all(entries.as_object().unwrap()).unwrap();
        let captured: Vec<Envelope> = include_str!("../tests/data/celery-beat-messages.jsonl")
            .lines()
            .map(|line| Envelope::parse(line.as_bytes()).unwrap())
            .collect();
        assert_eq!(captured.len(), entries.len());
        for (entry, celerys) in entries.iter().zip(&captured) {
            let now: DateTime<Utc> = "2026-11-24T15:44:46.312596Z".parse().unwrap();
            let (message, _) = message(entry, &ClientConfig::new("", ""), now, now).unwrap();
            let ours = message.encode("tag".into());
            assert_eq!(masked(&ours).to_string(), masked(celerys).to_string(), "{}", entry.name);
        }
    }

    #[test]
    fn routes_hold_for_entries_that_name_no_queue() {
        let mut reader = petiole_settings::Reader::from_map([
            ("TASK_ROUTES", r#"{"images.*": {"queue": "images", "priority": 3}}"#),
            ("TASK_DEFAULT_QUEUE", "work"),
        ]);
        let sending = ClientConfig::read(&mut reader, "", "");
        let entries = json!({
            "routed": {"task": "images.resize", "schedule": 1.0},
            "named": {"task": "images.resize", "schedule": 1.0, "options": {"queue": "own", "priority": 7}},
            "other": {"task": "demo.add", "schedule": 1.0},
        });
        let sent = |name: &str| {
            let entries = Entry::read_all(entries.as_object().unwrap()).unwrap();
            let entry = entries.iter().find(|entry| entry.name == name).unwrap();
            let (message, queue) = message(entry, &sending, Utc::now(), Utc::now()).unwrap();
            (queue, message.properties.priority)
        };
        assert_eq!(sent("routed"), ("images".to_owned(), 3));
        assert_eq!(sent("named"), ("own".to_owned(), 7));
        assert_eq!(sent("other"), ("work".to_owned(), 0));
    }
}
