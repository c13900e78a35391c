//! What this crate reads of Redis' keys, from damaged versions of what lies there (`petiole-fuzz`).
#![allow(clippy::unwrap_used, clippy::expect_used)]

use petiole_fuzz::{Kind, run, samples, texts};
use petiole_protocol::Envelope;

use crate::dead::{DeadLetter, anew};
use crate::{backend, broker, chord, claims, waiting};

fn envelopes() -> Vec<Vec<u8>> {
    samples(Kind::Envelope, &["messages"])
}

#[test]
fn fuzz_entries_of_unacked() {
    let entry = |text: Vec<u8>| [b"[".as_slice(), &text, b", \"\", \"celery\"]"].concat();
    run("entries of unacked", &envelopes().into_iter().map(entry).collect::<Vec<_>>(), |bytes| {
        let text = String::from_utf8_lossy(bytes);
        if let Some((message, _queue)) = claims::unacked_entry(&text) {
            // What is given back is what was taken, but for the mark.
            let (marked, _) = broker::redelivered(&message);
            assert_eq!(Envelope::parse(message.as_bytes()).is_ok(), Envelope::parse(marked.as_bytes()).is_ok());
        }
    });
}

#[test]
fn fuzz_messages_that_go_back() {
    run("messages that go back", &envelopes(), |bytes| {
        let text = String::from_utf8_lossy(bytes);
        for (changed, _priority) in [broker::redelivered(&text), anew(&text)] {
            // One without a tag may get its first.
            assert!(Envelope::parse(text.as_bytes()).is_err() || Envelope::parse(changed.as_bytes()).is_ok());
        }
    });
}

#[test]
fn fuzz_messages_that_wait() {
    let place = r#"{"list":"celery","queue":"celery","node":"w@h","id":"1"}"#;
    let seeds: Vec<_> = envelopes().iter().map(|text| [place.as_bytes(), b"\n", text].concat()).collect();
    run("messages that wait", &seeds, |bytes| drop(waiting::waiting_entry(&String::from_utf8_lossy(bytes))));
}

#[test]
fn fuzz_dead_letters() {
    let letter = |text: Vec<u8>| {
        let letter = DeadLetter {
            id: "tag".into(),
            task: Some("t".into()),
            task_id: None,
            queue: "celery".into(),
            reason: "it cannot be read".into(),
            redeliveries: 3,
            worker: "w@h".into(),
            time: "2026-11-27T05:00:00+00:00".into(),
            message: String::from_utf8(text).unwrap(),
        };
        serde_json::to_vec(&letter).unwrap()
    };
    run("dead letters", &envelopes().into_iter().map(letter).collect::<Vec<_>>(), |bytes| {
        let read = serde_json::from_str::<DeadLetter>(&String::from_utf8_lossy(bytes));
        let _ = read.map(|letter| anew(&letter.message));
    });
}

#[test]
fn fuzz_parts_of_chords_and_results() {
    let mut seeds = texts(&[
        r#"[1, "id", "SUCCESS", {"a": [1]}]"#,
        r#"[1, "id", "FAILURE", {"exc_type": "E", "exc_message": ["x"]}]"#,
    ]);
    seeds.extend(samples(Kind::Result, &[]));
    run("parts of chords and results", &seeds, |bytes| {
        let _ = chord::stored_part(bytes);
        let _ = backend::parse(bytes, "id").map(|meta| (meta.exception(), meta.to_text()));
    });
}
