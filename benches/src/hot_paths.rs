//! What a worker does for every task, piece by piece. Each is a function of nothing: its input is made beforehand.

use std::hint::black_box;

use petiole_protocol::event::{Event, Sender};
use petiole_protocol::serializer::{ResultFormat, Serializer, from_json};
use petiole_protocol::{Chain, Envelope, Signature, State, TaskMessage, TaskMeta, repr, to_value};
use serde::Serialize;
use serde_json::{Value, json};

use crate::samples::{self, ID, TAG};

/// A piece of work, with a name for the tables.
pub(crate) struct HotPath {
    pub(crate) name: &'static str,
    work: Box<dyn Fn()>,
}

impl HotPath {
    fn new<T>(name: &'static str, work: impl Fn() -> T + 'static) -> Self {
        Self { name, work: Box::new(move || drop(black_box(work()))) }
    }

    /// Does it once.
    pub(crate) fn run(&self) {
        (self.work)();
    }
}

/// The fields of `task-succeeded`.
#[derive(Serialize)]
struct Succeeded {
    uuid: &'static str,
    result: String,
    runtime: f64,
}

/// All of them. The expectations are the samples': what cannot be read would be measured as quick.
pub(crate) fn all() -> Vec<HotPath> {
    let accept = vec!["json".to_owned(), "msgpack".to_owned(), "yaml".to_owned()];
    let read = move |name, text: String| {
        let accept = accept.clone();
        assert!(TaskMessage::read(&text, &accept).is_ok(), "{name}: the sample is no message");
        HotPath::new(name, move || TaskMessage::read(black_box(&text), &accept))
    };
    let packed = |serializer: Serializer| {
        let body = serializer.encode(&json!([samples::arguments(), {}, {}]));
        samples::message_in(serializer.content_type(), body, serializer.content_encoding())
    };

    let (message, arguments) = (samples::message(), samples::arguments());
    let chain = Chain::from(samples::steps(100).as_slice());
    assert!(matches!(chain.split_next(), Ok(Some(_))), "the sample is no chain");
    let mut chained = samples::message();
    chained.embed.chain = chain.clone();
    let signature = to_value(&Signature::chord(&samples::steps(10), &Signature::new("demo.echo", vec![])));
    let meta = TaskMeta::new(ID, &State::Success, json!({"sum": 5, "parts": [2, 3]}));
    let stored = meta.encode(ResultFormat::default());
    let sender = Sender { hostname: "celery@host.example".into(), pid: 4711 };
    let succeeded = || Succeeded { uuid: ID, result: "5".into(), runtime: 0.000_012_5 };
    let one = sender.clone();
    let event = move || one.event("task-succeeded", 1_790_000_000.123_456, 77, &succeeded());
    let batch: Vec<Event> = (0..100).map(|_| event()).collect();
    let envelope = samples::message_text(&arguments, &[]);
    let numbers = format!("[{}]", vec!["NaN, -1.5, 10000000000000000000000"; 20].join(","));

    vec![
        read("read a message", samples::message_text(&[json!(2), json!(3)], &[])),
        read("read a message of 10 KB", samples::message_text(&samples::document(), &[])),
        read("read a message with 100 steps to follow", samples::message_text(&[json!(2)], &samples::steps(100))),
        read("read a message of msgpack", packed(Serializer::Msgpack)),
        read("read a message of yaml", packed(Serializer::Yaml)),
        HotPath::new("read an envelope", move || Envelope::parse(black_box(envelope.as_bytes()))),
        HotPath::new("write a message", move || black_box(&message).encode(TAG.into()).to_text()),
        HotPath::new("write a message with 100 steps to follow", move || {
            black_box(&chained).encode(TAG.into()).to_text()
        }),
        HotPath::new("take the next of 100 steps", move || black_box(&chain).split_next()),
        HotPath::new("read a chord's signature", move || Signature::from_value(black_box(&signature).clone())),
        HotPath::new("write a result", move || black_box(&meta).encode(ResultFormat::default())),
        HotPath::new("read a result", move || TaskMeta::decode(black_box(&stored))),
        HotPath::new("write an event", event),
        HotPath::new("write 100 events to send together", move || {
            let (key, envelope) = sender.envelope(black_box(&batch), TAG.into());
            (key, envelope.to_text())
        }),
        HotPath::new("show arguments as Python does", move || repr::args(black_box(&arguments))),
        HotPath::new("read Python's numbers", move || from_json(black_box(numbers.as_bytes())).unwrap_or(Value::Null)),
    ]
}
