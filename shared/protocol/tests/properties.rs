//! Whatever is written can be read, and whatever comes in does no harm.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use petiole_protocol::compression::Compression;
use petiole_protocol::pidbox::Request;
use petiole_protocol::serializer::{Serializer, from_json, to_json};
use petiole_protocol::{Chain, Embed, Envelope, Map, Signature, TaskMessage, TimeLimits, repr, time};
use proptest::prelude::*;
use serde_json::{Value, json};

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e9..1e9).prop_map(|n: f64| json!(n)),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            prop::collection::btree_map(any::<String>(), inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn accept() -> Vec<String> {
    ["json", "yaml", "msgpack"].map(str::to_owned).to_vec()
}

fn long_text() -> impl Strategy<Value = Value> {
    "[a-z' ]{0,2000}".prop_map(Value::from)
}

fn map() -> impl Strategy<Value = Map> {
    prop::collection::btree_map("[a-z_]{1,8}", value(), 0..4).prop_map(|map| map.into_iter().collect())
}

fn signature() -> impl Strategy<Value = Signature> {
    ("[a-z.]{1,12}", prop::collection::vec(value(), 0..3), map(), any::<bool>())
        .prop_map(|(task, args, kwargs, immutable)| Signature { kwargs, immutable, ..Signature::new(task, args) })
}

fn message() -> impl Strategy<Value = TaskMessage> {
    let embed = (
        prop::collection::vec(signature(), 0..3),
        prop::collection::vec(signature(), 0..3),
        prop::option::of(prop::collection::vec(signature(), 0..3)),
        prop::option::of(signature()),
    )
        .prop_map(|(callbacks, errbacks, chain, chord)| Embed {
            callbacks,
            errbacks,
            in_chain: chain.is_some(),
            chain: Chain::from(chain.unwrap_or_default().as_slice()),
            chord,
        });
    let limits = (prop::option::of(1u32..10_000), prop::option::of(1u32..10_000))
        .prop_map(|(hard, soft)| TimeLimits { hard: hard.map(f64::from), soft: soft.map(f64::from) });
    (
        ("[a-z.]{1,12}", "[0-9a-f-]{1,36}", prop::collection::vec(value(), 0..4), map(), embed, limits),
        (
            prop::option::of("[0-9a-f]{8}"),
            prop::option::of(any::<i32>()),
            any::<u16>(),
            prop::option::of(any::<bool>()),
            -3i64..15,
        ),
    )
        .prop_map(
            |((task, id, args, kwargs, embed, timelimit), (group, index, retries, ignore_result, priority))| {
                let mut message = TaskMessage::new(task, id, args, kwargs);
                message.embed = embed;
                message.timelimit = timelimit;
                message.group = group;
                message.group_index = index.map(i64::from);
                message.retries = retries.into();
                message.ignore_result = ignore_result;
                message.properties.priority = priority;
                message
            },
        )
}

proptest! {
    #[test]
    fn a_message_survives_the_wire(message in message()) {
        let text = message.encode("tag".into()).to_text();
        let envelope = Envelope::parse(text.as_bytes()).unwrap();
        let mut read = TaskMessage::decode(&envelope, &["json".to_owned()]).unwrap();
        // What is filled in on the way out.
        read.argsrepr = None;
        read.kwargsrepr = None;
        read.properties = message.properties.clone();
        prop_assert_eq!(read, message);
    }

    #[test]
    fn bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = from_json(&bytes);
        if let Ok(envelope) = Envelope::parse(&bytes) {
            let _ = TaskMessage::decode(&envelope, &["json".to_owned()]);
        }
    }

    #[test]
    fn any_json_as_a_body_does_no_harm(body in value(), headers in map(), task in any::<bool>()) {
        let mut headers = headers;
        if task {
            headers.insert("task".into(), "a".into());
            headers.insert("id".into(), "1".into());
        }
        let properties = petiole_protocol::Properties { delivery_tag: "t".into(), ..Default::default() };
        let envelope = Envelope::json(&body, headers, properties);
        let _ = TaskMessage::decode(&envelope, &["json".to_owned()]);
        let _ = Request::decode(&envelope, &["json".to_owned()]);
    }

    #[test]
    fn values_survive_every_serializer(value in value()) {
        for serializer in Serializer::ALL {
            prop_assert_eq!(serializer.decode(&serializer.encode(&value)).unwrap(), value.clone(), "{:?}", serializer);
        }
    }

    #[test]
    fn json_survives(value in value()) {
        prop_assert_eq!(from_json(to_json(&value).unwrap().as_bytes()).unwrap(), value);
    }

    #[test]
    fn argument_texts_are_bounded(args in prop::collection::vec(prop_oneof![value(), long_text()], 0..6)) {
        prop_assert!(repr::args(&args).chars().count() <= repr::MAX_LENGTH + 40);
    }

    #[test]
    fn times_survive(seconds in 0i64..4_000_000_000, micros in 0u32..1_000_000) {
        let at = chrono::DateTime::from_timestamp(seconds, micros * 1000).unwrap();
        prop_assert_eq!(time::parse(&time::format(at)), Some(at));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn a_message_survives_every_serializer(message in message(), which in 0..3_usize, compression in 0..6_usize) {
        let mut message = message;
        message.serializer = Some(Serializer::ALL[which]);
        message.compression = Compression::ALL.get(compression).copied();
        let envelope = message.encode("tag".into());
        let mut read = TaskMessage::decode(&envelope, &accept()).unwrap();
        (read.argsrepr, read.kwargsrepr) = (None, None);
        read.properties = message.properties.clone();
        (read.serializer, read.compression) = (message.serializer, message.compression);
        prop_assert_eq!(read, message);
    }
}
