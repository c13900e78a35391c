//! Everything that Celery 5.7 was seen to write is read here, and written again with the same meaning.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;

use petiole_protocol::pidbox::Request;
use petiole_protocol::serializer::from_json;
use petiole_protocol::{Envelope, TaskException, TaskMessage, TaskMeta, repr};
use serde_json::Value;

fn samples(folder: &str) -> Vec<(String, Value)> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/wire-samples").join(folder);
    let mut found: Vec<_> = std::fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "json"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, from_json(&std::fs::read(path).unwrap()).unwrap())
        })
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(!found.is_empty(), "no samples in {folder}");
    found
}

/// A sample is one capture or a list of them.
fn captures(sample: &Value) -> Vec<&Value> {
    sample.as_array().map_or_else(|| vec![sample], |items| items.iter().collect())
}

/// 1 and 1.0 mean the same.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}

#[test]
fn messages_are_read_and_written_again() {
    let accept = ["json", "yaml", "msgpack", "pickle"].map(str::to_owned);
    let mut read = 0;
    for (name, sample) in samples("messages") {
        for capture in captures(&sample) {
            let raw = &capture["envelope"];
            let envelope = Envelope::parse(raw.to_string().as_bytes()).unwrap_or_else(|e| panic!("{name}: {e}"));
            let again = envelope.to_value();
            assert!(same(&again, raw), "{name}: envelope\n{again}\n{raw}");
            let message = match TaskMessage::decode(&envelope, &accept) {
                Ok(message) => message,
                Err(error) => panic!("{name}: {error}"),
            };
            let short = TaskMessage::read(&raw.to_string(), &accept).unwrap();
            assert_eq!(short, message, "{name}: the short way reads another message than the long one");
            read += 1;
            if name == "protocol_v1" {
                assert_eq!((message.task.as_str(), message.embed.callbacks.len()), ("wt.add", 1));
                assert_eq!(message.args_text(), "[2, 3]".replace('[', "(").replace(']', ")"));
                continue;
            }
            let encoded = message.encode(envelope.properties.delivery_tag.clone());
            let received = message.clone().received(envelope.properties.delivery_tag.clone());
            let again = TaskMessage::read(&encoded.to_text(), &accept).unwrap();
            assert_eq!(received, again, "{name}: what is handed over is not what would be fetched");
            let body = from_json(&encoded.body).unwrap();
            match capture.get("decoded_body") {
                Some(theirs) => assert!(same(&body, theirs), "{name}: body\n{body}\n{theirs}"),
                // Compressed and binary ones are kept as bytes: all are add(2, 3) or a long text.
                None => {
                    assert!(name.starts_with("compression_") || name.starts_with("serializer_"), "{name}: {body}");
                    assert!(!message.args.is_empty(), "{name}: {body}");
                }
            }
            let (ours, theirs) = (encoded.to_value(), raw);
            for (header, value) in theirs["headers"].as_object().unwrap() {
                // What belongs to one delivery, or to beat, is not written again.
                if !matches!(header.as_str(), "redelivered" | "celery_beat_task" | "compression") {
                    assert!(
                        same(&ours["headers"][header], value),
                        "{name}: header {header}: {}",
                        ours["headers"][header]
                    );
                }
            }
        }
    }
    assert!(read > 40, "only {read} messages were read");
}

#[test]
fn argument_texts_are_python_s() {
    let accept = ["json".to_owned()];
    let mut compared = 0;
    for (name, sample) in samples("messages") {
        for capture in captures(&sample) {
            let envelope = Envelope::parse(capture["envelope"].to_string().as_bytes()).unwrap();
            let Ok(message) = TaskMessage::decode(&envelope, &accept) else { continue };
            // Tuples and tagged types are lists and maps in JSON: Python's text tells more than its JSON.
            let (Some(theirs), false) = (&message.argsrepr, name == "json_special_types") else { continue };
            if !theirs.contains("[(") && !theirs.contains("((") && theirs.starts_with('(') {
                assert_eq!(&repr::args(&message.args), theirs, "{name}");
                compared += 1;
            }
            if let Some(theirs) = &message.kwargsrepr
                && !theirs.contains('(')
                && !theirs.contains("{...}")
            {
                assert_eq!(&repr::kwargs(&message.kwargs), theirs, "{name}");
            }
        }
    }
    assert!(compared > 20, "only {compared} texts were compared");
}

#[test]
fn results_are_read_and_written_again() {
    let mut read = 0;
    for (name, sample) in samples("results") {
        let Some(value) = sample.get("value").filter(|value| value.get("status").is_some()) else { continue };
        let meta: TaskMeta = serde_json::from_value(value.clone()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let again = from_json(meta.to_text().as_bytes()).unwrap();
        assert!(same(&again, value), "{name}\n{again}\n{value}");
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&again), keys(value), "{name}: order of fields");
        if meta.state().is_exception() && !meta.result.is_null() {
            let exception = meta.exception().unwrap_or_else(|| panic!("{name}: no exception"));
            if let Some(traceback) = &meta.traceback
                && meta.status == "FAILURE"
                && exception.exc_type != "KeyError"
                && exception.exc_type != "SoftTimeLimitExceeded"
            {
                let last = traceback.trim_end().lines().last().unwrap();
                assert_eq!(exception.last_line(), last, "{name}");
            }
        }
        read += 1;
    }
    assert!(read >= 20, "only {read} results were read");
}

#[test]
fn control_requests_are_read_and_written_again() {
    let mut read = 0;
    for (name, sample) in samples("pidbox") {
        let envelope = match (&sample["envelope"], &sample["request"]["envelope"]) {
            (Value::Object(_), _) if sample.get("publish_channel").is_some() => &sample["envelope"],
            (_, Value::Object(_)) => &sample["request"]["envelope"],
            _ => continue,
        };
        let envelope = Envelope::parse(envelope.to_string().as_bytes()).unwrap();
        let request = Request::decode(&envelope, &["json".to_owned()]).unwrap_or_else(|e| panic!("{name}: {e}"));
        let expires = envelope.headers["expires"].as_f64().unwrap();
        let again = request.encode(expires, envelope.properties.delivery_tag.clone());
        assert!(same(&from_json(&again.body).unwrap(), &from_json(&envelope.body).unwrap()), "{name}");
        assert!(same(&again.to_value()["properties"], &envelope.to_value()["properties"]), "{name}");
        assert_eq!(Some(request.clock), envelope.headers["clock"].as_u64());
        read += 1;
    }
    assert!(read >= 2, "only {read} requests were read");
}

#[test]
fn events_have_the_same_fields() {
    let sender = petiole_protocol::event::Sender { hostname: "w1@host.example".into(), pid: 29255 };
    let (_, by_type) = samples("events").into_iter().find(|(name, _)| name == "by_type").unwrap();
    for (name, sample) in by_type.as_object().unwrap() {
        let theirs = &sample["event"];
        let mut own = theirs.clone();
        for common in ["hostname", "utcoffset", "pid", "clock", "timestamp", "type"] {
            own.as_object_mut().unwrap().remove(common);
        }
        let (kind, time) = (theirs["type"].as_str().unwrap(), theirs["timestamp"].as_f64().unwrap());
        let event = sender.event(kind, time, theirs["clock"].as_u64().unwrap(), &own);
        let mut ours = serde_json::from_str::<Value>(&event.text).unwrap();
        ours["hostname"] = theirs["hostname"].clone();
        ours["pid"] = theirs["pid"].clone();
        assert!(same(&ours, theirs), "{name}\n{ours}\n{theirs}");
        let (key, envelope) = sender.envelope(&[event], "tag".into());
        if kind != "task-sent" {
            let channel = sample["channel"].as_str().unwrap();
            assert_eq!(format!("/0.celeryev/{key}"), channel, "{name}");
        }
        assert_eq!(envelope.headers["hostname"], "w1@host.example");
    }
}

#[test]
fn a_message_that_is_none_is_an_error_with_its_reason() {
    let accept = ["json".to_owned()];
    let envelope = |headers: &str, body: &str| {
        let text = format!(
            r#"{{"body":{body:?},"content-type":"application/json","headers":{headers},"properties":{{"delivery_tag":"t"}}}}"#
        );
        TaskMessage::decode(&Envelope::parse(text.as_bytes()).unwrap(), &accept).unwrap_err().to_string()
    };
    assert!(envelope(r#"{"task":"a","id":"1"}"#, "[[], {}]").contains("three items"));
    assert!(envelope(r#"{"task":"a"}"#, "[[], {}, {}]").contains("no id"));
    assert!(envelope("{}", "[1]").contains("neither"));
    assert!(envelope(r#"{"task":"a","id":"1"}"#, "[{}, {}, {}]").contains("args must be a list"));
    assert!(Envelope::parse(b"[]").is_err() && Envelope::parse(b"{\"body\": \"\"}").is_err());
    let minimal = r#"{"body":"[[1],{},null]","content-type":"application/json","headers":{"task":"a","id":"1"},
        "properties":{"delivery_tag":"t"}}"#;
    let minimal = TaskMessage::decode(&Envelope::parse(minimal.as_bytes()).unwrap(), &accept).unwrap();
    assert_eq!((minimal.retries, minimal.embed.chain.is_empty()), (0, true));
}

#[test]
fn exceptions_survive() {
    let boom = TaskException::builtin("ValueError", "boom");
    let value = serde_json::to_value(&boom).unwrap();
    assert_eq!(value.to_string(), r#"{"exc_type":"ValueError","exc_message":["boom"],"exc_module":"builtins"}"#);
    assert_eq!(serde_json::from_value::<TaskException>(value).unwrap(), boom);
}

#[test]
fn every_control_command_is_read() {
    let mut read = 0;
    for (name, sample) in samples("pidbox") {
        let Some(body) = sample.get("request_body").filter(|body| body.is_object()) else { continue };
        let properties = petiole_protocol::Properties { delivery_tag: "t".into(), ..Default::default() };
        let envelope = Envelope::json(body, petiole_protocol::Map::new(), properties);
        let request = Request::decode(&envelope, &["json".to_owned()]).unwrap_or_else(|e| panic!("{name}: {e}"));
        let again = from_json(&request.encode(0.0, "t".into()).body).unwrap();
        assert!(same(&again, body), "{name}\n{again}\n{body}");
        read += 1;
    }
    assert!(read > 50, "only {read} commands were read");
}

#[test]
fn envelopes_of_events_and_of_unacked_messages_are_read() {
    let mut events = 0;
    for (name, sample) in samples("events") {
        let Some(raw) = sample.get("envelope") else { continue };
        let envelope = Envelope::parse(raw.to_string().as_bytes()).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(same(&envelope.to_value(), raw), "{name}");
        let body = from_json(&envelope.body).unwrap();
        let first = if body.is_array() { &body[0] } else { &body };
        assert!(first["type"].is_string() && first["hostname"].is_string(), "{name}: {first}");
        events += 1;
    }
    assert!(events >= 3, "only {events} envelopes were read");
    let (_, unacked) = samples("broker").into_iter().find(|(name, _)| name == "unacked_and_index").unwrap();
    for (tag, entry) in unacked["unacked"].as_object().unwrap() {
        let envelope = Envelope::parse(entry[0].to_string().as_bytes()).unwrap();
        assert_eq!(
            (&envelope.properties.delivery_tag, entry[1].as_str(), entry[2].as_str()),
            (tag, Some(""), Some("celery"))
        );
        assert_eq!(unacked["index"][0][0].as_str(), Some(tag.as_str()));
    }
}
