//! Every parser of this crate, fed with noise and with damaged versions of what Celery writes (`petiole-fuzz`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use petiole_fuzz::{Kind, run, samples, texts};
use petiole_protocol::compression::{Compression, compress_result, decompress_result};
use petiole_protocol::pidbox::Request;
use petiole_protocol::serializer::{decode, decode_result, from_json};
use petiole_protocol::{Chain, Envelope, Map, Properties, Signature, TaskMessage, TaskMeta, repr, time};
use serde_json::Value;

const CONTENT_TYPES: [&str; 4] =
    ["application/json", "application/x-yaml", "application/x-msgpack", "application/x-python-serialize"];

fn accept() -> Vec<String> {
    ["json", "yaml", "msgpack", "pickle"].map(str::to_owned).to_vec()
}

/// What an engine or an API does next with a value that came.
fn look_at(value: Value) {
    let _ = repr::value(&value);
    let _ = Chain::from_value(&value).map(|chain| {
        let _ = (chain.split_next().is_ok(), chain.signatures().is_ok(), chain.readable(), chain.to_value());
    });
    let _ = serde_json::from_value::<Signature>(value).map(|signature| signature.canvas().is_ok());
}

/// A body by itself, in the serializer of its content type.
fn bodies_of(content_type: &'static str) {
    let extra = match content_type {
        "application/x-yaml" => {
            &["1:30", "&a [*a]", "&a [1, &b [*a, *a], *b]", "!!binary =", "<<: {}", "? {a: b}\n: - c"][..]
        }
        "application/json" => &["{\"__type__\": \"uuid\", \"__value__\": {\"hex\": \"00\"}}", "[1e5, NaN, -Infinity]"],
        _ => &[],
    };
    let seeds: Vec<_> = samples(Kind::Body, &[]).into_iter().chain(texts(extra)).collect();
    assert!(seeds.len() > 60, "only {} seeds", seeds.len());
    run(content_type, &seeds, |bytes| {
        if let Ok(value) = decode(content_type, bytes, &accept()) {
            look_at(value);
        }
    });
}

#[test]
fn fuzz_json() {
    bodies_of(CONTENT_TYPES[0]);
}

#[test]
fn fuzz_yaml() {
    bodies_of(CONTENT_TYPES[1]);
}

#[test]
fn fuzz_msgpack() {
    bodies_of(CONTENT_TYPES[2]);
}

#[test]
fn fuzz_pickle() {
    bodies_of(CONTENT_TYPES[3]);
}

#[test]
fn fuzz_envelopes() {
    let mut seeds = samples(Kind::Envelope, &[]);
    // A body in base64 is damaged as a whole only.
    seeds.extend(seeds.clone().iter().filter_map(|text| {
        let mut envelope = Envelope::parse(text).ok()?;
        let body = String::from_utf8(std::mem::take(&mut envelope.body)).ok()?;
        let mut plain = from_json(text).ok()?;
        (plain["body"], plain["properties"]["body_encoding"]) = (body.into(), Value::Null);
        Some(plain.to_string().into_bytes())
    }));
    let long = TaskMessage::new("t", "1", vec!["a long text, ".repeat(1000).into()], Map::new());
    seeds.push(long.encode("t".into()).to_text().into_bytes());
    run("envelopes", &seeds, |bytes| {
        let Ok(envelope) = Envelope::parse(bytes) else { return };
        let _ = envelope.to_text();
        // The short way may not see more or less than the long one.
        let long = TaskMessage::decode(&envelope, &accept());
        if let Ok(text) = std::str::from_utf8(bytes) {
            assert_eq!(TaskMessage::read(text, &accept()).ok(), long.as_ref().ok().cloned());
        }
        if let Ok(message) = long {
            let text = message.encode("t".into()).to_text();
            assert!(Envelope::parse(text.as_bytes()).is_ok(), "what is written can be read: {text}");
        }
    });
}

/// A message around damaged bytes: with headers and without, which is protocol 2 and 1.
#[test]
fn fuzz_bodies_of_messages() {
    let properties = Properties { delivery_tag: "t".into(), ..Default::default() };
    run("bodies of messages", &samples(Kind::Body, &[]), |bytes| {
        for content_type in CONTENT_TYPES {
            let mut envelope = Envelope::json(&Value::Null, Map::new(), properties.clone());
            (envelope.content_type, envelope.body) = (content_type.to_owned(), bytes.to_vec());
            let _ = TaskMessage::decode(&envelope, &accept()).map(|message| message.encode("t".into()));
            envelope.headers.insert("task".into(), "a".into());
            envelope.headers.insert("id".into(), "1".into());
            let _ = TaskMessage::decode(&envelope, &accept()).map(|message| message.encode("t".into()));
        }
    });
}

/// What was found: json! panics for a number that only Python knows.
#[test]
fn protocol_1_with_python_s_constants() {
    let body = br#"{"task": "a", "id": "1", "args": [NaN], "callbacks": [{"task": "b", "args": [-Infinity]}]}"#;
    let mut envelope =
        Envelope::json(&Value::Null, Map::new(), Properties { delivery_tag: "t".into(), ..Default::default() });
    envelope.body = body.to_vec();
    let read = TaskMessage::decode(&envelope, &accept()).unwrap();
    assert_eq!((read.args[0].to_string().as_str(), read.embed.callbacks.len()), ("NaN", 1));
}

#[test]
fn fuzz_compressed() {
    let small: Vec<_> = samples(Kind::Body, &[]).into_iter().filter(|body| body.len() < 400).take(20).collect();
    let mut seeds = vec![];
    for (at, body) in small.iter().enumerate() {
        let compression = Compression::ALL[at % Compression::ALL.len()];
        seeds.push(compression.compress(body).unwrap());
        seeds.push(compress_result(compression, body).unwrap());
    }
    let properties = Properties { delivery_tag: "t".into(), ..Default::default() };
    run("compressed", &seeds, |bytes| {
        let _ = decompress_result(bytes);
        for compression in Compression::ALL {
            let _ = compression.decompress(bytes);
            let mut envelope = Envelope::json(&Value::Null, Map::new(), properties.clone());
            envelope.body = bytes.to_vec();
            for (name, value) in [("task", "a"), ("id", "1"), ("compression", compression.name())] {
                envelope.headers.insert(name.into(), value.into());
            }
            let _ = TaskMessage::decode(&envelope, &accept());
        }
    });
}

#[test]
fn fuzz_remote_control() {
    let mut seeds = samples(Kind::Envelope, &["pidbox"]);
    seeds.extend(samples(Kind::Command, &[]));
    for (pattern, matcher) in [("w*@[a-c]?", "glob"), ("^(w|x){2,3}@.*$", "pcre"), ("(((((a*)*)*)*)*)*$", "pcre")] {
        let body =
            format!("{{\"method\":\"ping\",\"arguments\":{{}},\"pattern\":\"{pattern}\",\"matcher\":\"{matcher}\"}}");
        seeds.push(
            Envelope::json(&from_json(body.as_bytes()).unwrap(), Map::new(), Properties::default())
                .to_text()
                .into_bytes(),
        );
        seeds.push(body.into_bytes());
    }
    run("remote control", &seeds, |bytes| {
        let mut bare = Envelope::json(&Value::Null, Map::new(), Properties::default());
        bare.body = bytes.to_vec();
        for envelope in Envelope::parse(bytes).into_iter().chain([bare]) {
            if let Ok(request) = Request::decode(&envelope, &accept()) {
                let _ = request.is_for("worker@host");
                let _ = request.encode(0.0, "t".into());
            }
        }
    });
}

#[test]
fn fuzz_results() {
    let mut seeds = samples(Kind::Result, &[]);
    for (at, result) in seeds.clone().iter().enumerate() {
        seeds.push(compress_result(Compression::ALL[at % Compression::ALL.len()], result).unwrap());
    }
    run("results", &seeds, |bytes| {
        let _ = decode_result(bytes).map(look_at);
        let _ = TaskMeta::decode(bytes).map(|meta| {
            let _ = (meta.state().is_final(), meta.to_text());
            let _ = meta.exception().map(|exception| (exception.repr(), exception.message(), exception.last_line()));
        });
    });
}

#[test]
fn fuzz_times() {
    let seeds = texts(&[
        "2024-01-02T03:04:05.6+02:00",
        "2026-11-27T05:00:00.123456",
        "2026-11-27",
        "20261127T050000Z",
        "2026-W48-5",
        "0001-01-01T00:00:00-23:59",
    ]);
    run("times", &seeds, |bytes| {
        if let Ok(text) = std::str::from_utf8(bytes) {
            let _ = time::parse(text);
        }
    });
}
