//! Every parser of bytes that come from Redis, fed with noise and with damaged versions of what Celery writes. Nothing may
//! panic, hang or eat memory. `FUZZ_SECONDS=600 cargo test -p petiole-protocol --release --test fuzz` runs it for longer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::time::{Duration, Instant};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use petiole_protocol::compression::{Compression, decompress_result};
use petiole_protocol::pidbox::Request;
use petiole_protocol::serializer::{decode, from_json};
use petiole_protocol::{Envelope, Signature, TaskMessage, TaskMeta, repr, time};
use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};
use serde_json::Value;

fn accept() -> Vec<String> {
    ["json", "yaml", "msgpack", "pickle"].map(str::to_owned).to_vec()
}

const CONTENT_TYPES: [&str; 4] =
    ["application/json", "application/x-yaml", "application/x-msgpack", "application/x-python-serialize"];

/// What is parsed, as it lies in Redis. Each gets the same bytes.
fn parse_all(bytes: &[u8]) {
    let _ = from_json(bytes);
    for content_type in CONTENT_TYPES {
        if let Ok(value) = decode(content_type, bytes, &accept()) {
            let _ = (repr::value(&value), serde_json::from_value::<Signature>(value).map(|s| s.canvas().is_ok()));
        }
    }
    if let Ok(envelope) = Envelope::parse(bytes) {
        let _ = (TaskMessage::decode(&envelope, &accept()), Request::decode(&envelope, &accept()));
        let _ = envelope.to_text();
        // The short way may not see more or less than the long one.
        let (short, long) = (TaskMessage::read(bytes, &accept()), TaskMessage::decode(&envelope, &accept()));
        assert_eq!(short.ok(), long.ok());
    }
    let properties = petiole_protocol::Properties { delivery_tag: "t".into(), ..Default::default() };
    for (at, content_type) in CONTENT_TYPES.into_iter().enumerate() {
        let mut envelope = Envelope::json(&Value::Null, petiole_protocol::Map::new(), properties.clone());
        (envelope.content_type, envelope.body) = (content_type.to_owned(), bytes.to_vec());
        let _ = (TaskMessage::decode(&envelope, &accept()), Request::decode(&envelope, &accept()));
        envelope.headers.insert("task".into(), "a".into());
        envelope.headers.insert("id".into(), "1".into());
        if let Ok(message) = TaskMessage::decode(&envelope, &accept()) {
            let _ = message.encode("t".into());
        }
        envelope.headers.insert("compression".into(), Compression::ALL[at].name().into());
        let _ = TaskMessage::decode(&envelope, &accept());
    }
    for compression in Compression::ALL {
        let _ = compression.decompress(bytes);
    }
    let _ = decompress_result(bytes).map(|bytes| TaskMeta::decode(&bytes).map(|meta| meta.exception()));
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = time::parse(text);
    }
}

/// What Celery was seen to write: envelopes, bodies, results, events, in all serializers and compressions.
fn seeds() -> Vec<Vec<u8>> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let mut seeds = vec![];
    for folder in ["messages", "events", "pidbox", "results", "broker"] {
        for entry in std::fs::read_dir(data.join("wire-samples").join(folder)).unwrap() {
            let Ok(value) = from_json(&std::fs::read(entry.unwrap().path()).unwrap()) else { continue };
            collect(&value, &mut seeds);
        }
    }
    let samples = from_json(&std::fs::read(data.join("serializers.json")).unwrap()).unwrap();
    for sample in samples.as_array().unwrap() {
        seeds.push(STANDARD.decode(sample["body"].as_str().unwrap()).unwrap());
    }
    let texts: Vec<_> = seeds.iter().filter(|seed| seed.len() < 400).take(20).cloned().collect();
    for (at, text) in texts.iter().enumerate() {
        seeds.push(Compression::ALL[at % 5].compress(text).unwrap());
        seeds.push(petiole_protocol::compression::compress_result(Compression::ALL[at % 5], text).unwrap());
    }
    seeds.extend(
        ["2024-01-02T03:04:05.6+02:00", "1:30", "&a [*a]", "!!binary =", "<<: {}"].map(|text| text.as_bytes().to_vec()),
    );
    seeds
}

fn collect(value: &Value, seeds: &mut Vec<Vec<u8>>) {
    match value {
        Value::Object(map) if map.contains_key("body") && map.contains_key("properties") => {
            seeds.push(value.to_string().into_bytes());
            seeds.extend(map["body"].as_str().and_then(|body| STANDARD.decode(body).ok()));
        }
        Value::Object(map) if map.contains_key("status") => seeds.push(value.to_string().into_bytes()),
        Value::Object(map) => map.values().for_each(|value| collect(value, seeds)),
        Value::Array(items) => items.iter().for_each(|value| collect(value, seeds)),
        _ => {}
    }
}

/// Damages a seed: flips, cuts, repeats, and pieces of another.
fn damage(random: &mut TestRng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut below = |n: usize| (random.next_u64() % n.max(1) as u64) as usize;
    let mut bytes = seeds[below(seeds.len())].clone();
    if below(12) == 0 {
        bytes = (0..below(200)).map(|_| below(256) as u8).collect();
    }
    for _ in 0..=below(6) {
        let at = below(bytes.len());
        match below(7) {
            0 if !bytes.is_empty() => bytes[at] ^= 1_u8 << below(8),
            1 if !bytes.is_empty() => bytes[at] = below(256) as u8,
            2 => bytes.truncate(at),
            3 => bytes.insert(at, b"\x00\xff\"\\{}[]():,.!&*-<'|>#%@`~\n\x80\x94\x8c"[below(29)]),
            4 => {
                let (from, other) = (below(bytes.len()), &seeds[below(seeds.len())]);
                let (start, length) = (below(other.len()), below(60));
                let piece: Vec<u8> = other.iter().skip(start).take(length).copied().collect();
                bytes.splice(from..from, piece);
            }
            5 => {
                let piece: Vec<u8> = bytes.iter().skip(at).take(below(30)).copied().collect();
                let most = if below(50) == 0 { 2000 } else { 6 };
                let times = below(most);
                bytes.splice(at..at, piece.repeat(times));
            }
            _ if !bytes.is_empty() => drop(bytes.remove(at)),
            _ => {}
        }
    }
    bytes
}

#[test]
fn damaged_bytes_do_no_harm() {
    let seconds = std::env::var("FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    let seed = std::env::var("FUZZ_SEED").ok().and_then(|text| text.parse::<u64>().ok()).unwrap_or(1);
    let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed.to_le_bytes(); 4].concat());
    let seeds = seeds();
    assert!(seeds.len() > 150, "only {} seeds", seeds.len());
    seeds.iter().for_each(|seed| parse_all(seed));
    let (start, mut runs, mut slowest) = (Instant::now(), 0_u64, Duration::ZERO);
    let at_most = Duration::from_secs(seconds.unwrap_or(3));
    while start.elapsed() < at_most {
        let bytes = damage(&mut random, &seeds);
        let began = Instant::now();
        if let Err(panic) = std::panic::catch_unwind(|| parse_all(&bytes)) {
            eprintln!("input: {}", STANDARD.encode(&bytes));
            std::panic::resume_unwind(panic);
        }
        runs += 1;
        let took = began.elapsed();
        if took > slowest {
            slowest = took;
            assert!(took < Duration::from_secs(20), "{took:?} for {}", STANDARD.encode(&bytes));
        }
    }
    println!("{runs} inputs in {:?}, the slowest {slowest:?}", start.elapsed());
}
