//! What Celery was seen to write, as seeds: the samples beside the tests of `petiole-protocol`.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// What a sample is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A message as it lies in a queue or travels on a channel.
    Envelope,
    /// What a message carries.
    Body,
    /// What a result backend stores.
    Result,
    /// A command of remote control, for whoever hears it.
    Command,
    /// What a worker answers to one.
    Reply,
}

/// Where the samples lie.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../protocol/tests/data")
}

fn read(path: &Path) -> Value {
    let text = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap_or(Value::Null)
}

/// All samples of a kind. `folders`: of these only (`messages`, `events`, `pidbox`, `results`, `broker`), or of all when there
/// are none.
///
/// # Panics
/// When the samples cannot be read.
pub fn samples(kind: Kind, folders: &[&str]) -> Vec<Vec<u8>> {
    let all = ["messages", "events", "pidbox", "results", "broker"];
    let mut found = vec![];
    for name in if folders.is_empty() { &all } else { folders } {
        let folder = folder().join("wire-samples").join(name);
        let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut files: Vec<PathBuf> = files.flatten().map(|file| file.path()).collect();
        files.sort();
        files.iter().for_each(|file| collect(&read(file), kind, &mut found));
    }
    if kind == Kind::Body && folders.is_empty() {
        let list = read(&folder().join("serializers.json"));
        let bodies = list.as_array().into_iter().flatten().filter_map(|sample| sample["body"].as_str());
        found.extend(bodies.filter_map(|body| STANDARD.decode(body).ok()));
    }
    found
}

fn collect(value: &Value, kind: Kind, found: &mut Vec<Vec<u8>>) {
    match value {
        Value::Object(map) if map.contains_key("body") && map.contains_key("properties") => match kind {
            Kind::Envelope => found.push(value.to_string().into_bytes()),
            Kind::Body => found.extend(map["body"].as_str().and_then(|body| STANDARD.decode(body).ok())),
            Kind::Result | Kind::Command | Kind::Reply => {}
        },
        Value::Object(map) if map.contains_key("request_body") => match kind {
            Kind::Command => {
                let mut request = map["request_body"].clone();
                request["destination"] = Value::Null;
                found.push(request.to_string().into_bytes());
            }
            Kind::Reply => {
                let replies = map.get("replies").and_then(Value::as_array).into_iter().flatten();
                found.extend(replies.map(|reply| reply.to_string().into_bytes()));
            }
            _ => {}
        },
        Value::Object(map) if map.contains_key("status") => {
            found.extend((kind == Kind::Result).then(|| value.to_string().into_bytes()));
        }
        Value::Object(map) => map.values().for_each(|value| collect(value, kind, found)),
        Value::Array(items) => items.iter().for_each(|value| collect(value, kind, found)),
        _ => {}
    }
}

/// Seeds that were thought of.
pub fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_samples_of_all_kinds() {
        for kind in [Kind::Envelope, Kind::Body, Kind::Result, Kind::Command, Kind::Reply] {
            let count = samples(kind, &[]).len();
            assert!(count >= 20, "{kind:?}: {count}");
        }
        assert!(samples(Kind::Envelope, &["pidbox"]).len() < samples(Kind::Envelope, &[]).len());
    }
}
