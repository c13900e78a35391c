//! What a producer reads of workers, from damaged versions of what they write (`petiole-fuzz`).

use petiole_fuzz::{Kind, run, samples, texts};
use petiole_protocol::{Envelope, Map};
use serde_json::Value;

use crate::client::SentTask;
use crate::control::reply_of;
use crate::events::events_of;

/// A message around bytes.
fn around(bytes: &[u8]) -> Vec<u8> {
    let mut envelope = Envelope::json(&Value::Null, Map::new(), Default::default());
    envelope.body = bytes.to_vec();
    envelope.to_text().into_bytes()
}

#[test]
fn fuzz_events() {
    let mut seeds = samples(Kind::Envelope, &["events"]);
    seeds.extend(samples(Kind::Body, &["events"]));
    run("events", &seeds, |bytes| {
        let _ = (events_of(bytes), events_of(&around(bytes)));
    });
}

#[test]
fn fuzz_replies_of_workers() {
    let mut seeds = samples(Kind::Envelope, &["pidbox"]);
    seeds.extend(samples(Kind::Reply, &[]));
    run("replies of workers", &seeds, |bytes| {
        let _ = (reply_of(bytes, Some("ticket")), reply_of(bytes, None), reply_of(&around(bytes), None));
    });
}

#[test]
fn fuzz_what_was_sent() {
    run("what was sent", &texts(&[r#"{"name":"demo.add","queue":"celery"}"#]), |bytes| {
        let _ = serde_json::from_str::<SentTask>(&String::from_utf8_lossy(bytes));
    });
}
