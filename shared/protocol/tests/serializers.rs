//! What kombu writes in each serializer is read, and what is written is read back (tests/data/serializers.py).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use base64::{Engine as _, engine::general_purpose::STANDARD};
use petiole_protocol::serializer::{Serializer, decode, from_json};
use serde_json::{Value, json};

fn accept() -> Vec<String> {
    ["json", "yaml", "msgpack", "pickle"].map(str::to_owned).to_vec()
}

fn samples() -> Vec<(String, String, Vec<u8>, Value)> {
    let Value::Array(samples) = from_json(include_bytes!("data/serializers.json")).unwrap() else { panic!() };
    let text = |sample: &Value, name: &str| sample[name].as_str().unwrap().to_owned();
    let sample = |sample: &Value| {
        let body = STANDARD.decode(text(sample, "body")).unwrap();
        (text(sample, "name"), text(sample, "content_type"), body, sample["value"].clone())
    };
    samples.iter().map(sample).collect()
}

/// 1.0 and 1, `1e+300` and `1e300` are the same; the order of keys is nothing.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            let float = |n: &serde_json::Number| n.as_str().contains(['.', 'e', 'E', 'I', 'N']);
            a == b || (float(a) && float(b) && a.as_str().parse::<f64>().ok() == b.as_str().parse::<f64>().ok())
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}

#[test]
fn what_kombu_writes_is_read() {
    let samples = samples();
    assert!(samples.len() > 60);
    for (name, content_type, body, expected) in samples {
        let value = decode(&content_type, &body, &accept()).unwrap_or_else(|error| panic!("{name}: {error}"));
        if !same(&value, &expected) {
            for (key, theirs) in expected.as_object().into_iter().flatten() {
                assert!(same(&value[key], theirs), "{name}.{key}:\n{}\n{theirs}", value[key]);
            }
            panic!("{name}\n{value}\n{expected}");
        }
    }
}

#[test]
fn what_is_written_is_read_again() {
    for (name, _, _, value) in samples() {
        for serializer in Serializer::ALL {
            let huge = serializer == Serializer::Msgpack && name.ends_with("huge");
            let timed = serializer == Serializer::Msgpack
                && (name.ends_with("times") || name.contains("hand") || name.contains("tags"));
            if !huge && !timed {
                let again = serializer.decode(&serializer.encode(&value)).unwrap();
                assert!(same(&again, &value), "{name} in {serializer:?}:\n{again}\n{value}");
            }
        }
    }
}

#[test]
fn only_what_is_asked_for_is_accepted() {
    for (name, content_type, body, _) in samples().iter().take(30) {
        for other in accept().into_iter().filter(|other| !name.starts_with(other.as_str())) {
            let refused = decode(content_type, body, &[other]).unwrap_err();
            assert!(refused.is_reject() && refused.to_string().contains(content_type.as_str()), "{refused}");
        }
        assert!(decode(content_type, body, std::slice::from_ref(content_type)).is_ok(), "by its content type");
    }
    assert!(decode("application/data", b"", &accept()).is_err());
}

#[test]
fn broken_and_dangerous_yaml_is_refused() {
    let refused = |text: &str| decode("application/x-yaml", text.as_bytes(), &accept()).unwrap_err().to_string();
    assert!(refused("!!python/object/apply:os.system ['true']").contains("python/object"));
    assert!(refused("!thing {}").contains("not known here"));
    assert!(refused("a: [1").contains("not YAML"));
    assert!(refused("--- 1\n--- 2\n").contains("more than one"));
    assert!(refused(&"[".repeat(10_000)).contains("not YAML"));
    assert!(refused("? [a]\n: 1\n").contains("key"));
    let mut laughs = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for n in 1..12 {
        laughs += &format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(", "));
    }
    assert!(refused(&laughs).contains("too large"));
}

#[test]
fn what_has_no_type_elsewhere_becomes_text() {
    let value = json!([{"__type__": "decimal", "__value__": "1.10"}, {"__type__": "uuid", "__value__": {"hex": "00000000000000000000000000000001"}}]);
    for serializer in [Serializer::Yaml, Serializer::Msgpack] {
        let again = serializer.decode(&serializer.encode(&value)).unwrap();
        assert_eq!(again, json!(["1.10", "00000000-0000-0000-0000-000000000001"]));
    }
}
