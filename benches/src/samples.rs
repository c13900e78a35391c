//! The documents that the hot paths work on: as Python's Celery writes them, with fixed ids.

use petiole_protocol::{Envelope, Map, Properties, Signature, TaskMessage};
use serde_json::{Value, json};

/// A task's id.
pub(crate) const ID: &str = "0f0b86a4-8c1c-4a6e-9d0a-1e6c5f2b7d10";
/// A delivery tag.
pub(crate) const TAG: &str = "7b8d5c1e-3a52-4f3a-8a27-5d8f0c9e6a41";

/// A message with these arguments and steps to follow, as a Python client puts it into its list.
pub(crate) fn message_text(args: &[Value], chain: &[Signature]) -> String {
    let steps: Vec<Value> = chain.iter().map(step).collect();
    let body = json!([args, {}, {"callbacks": null, "errbacks": null, "chain": steps, "chord": null}]);
    Envelope::json(&body, headers(args), properties()).to_text()
}

/// The same message with its body in another content type, which takes the long way.
pub(crate) fn message_in(content_type: &str, body: Vec<u8>, encoding: &str) -> String {
    let mut envelope = Envelope::json(&Value::Null, headers(&[]), properties());
    (envelope.body, envelope.content_type, envelope.content_encoding) = (body, content_type.into(), encoding.into());
    envelope.to_text()
}

/// A message as a worker holds it.
pub(crate) fn message() -> TaskMessage {
    let mut message = TaskMessage::new("demo.add", ID, vec![json!(2), json!(3)], Map::new());
    message.root_id = Some(ID.into());
    message.origin = Some("gen4711@host.example".into());
    message.properties = properties();
    message
}

/// The rest of a chain.
pub(crate) fn steps(count: usize) -> Vec<Signature> {
    (0..count)
        .map(|number| {
            Signature::new("demo.add", vec![json!(number)])
                .set("task_id", format!("{number:08}-8c1c-4a6e-9d0a-1e6c5f2b7d10"))
        })
        .collect()
}

/// Arguments with a bit of everything.
pub(crate) fn arguments() -> Vec<Value> {
    vec![
        json!(42),
        json!(2.5),
        json!("it's a text of some length, as arguments often are"),
        json!({"user": {"id": 7, "name": "Zoë"}, "tags": ["a", "b", "c"], "ok": true, "none": null}),
    ]
}

/// Arguments as a document: many small passages, some 10 KB.
pub(crate) fn document() -> Vec<Value> {
    let passage = |number: usize| json!({"id": number, "text": "The moon pulls the water up twice a day. ".repeat(4), "score": number as f64 / 7.0});
    vec![Value::Array((0..50).map(passage).collect())]
}

fn step(signature: &Signature) -> Value {
    json!({
        "task": signature.task, "args": signature.args, "kwargs": signature.kwargs, "options": signature.options,
        "subtask_type": signature.subtask_type, "immutable": signature.immutable,
    })
}

fn headers(args: &[Value]) -> Map {
    let headers = json!({
        "lang": "py", "task": "demo.add", "id": ID, "shadow": null, "eta": null, "expires": null, "group": null,
        "group_index": null, "retries": 0, "timelimit": [null, null], "root_id": ID, "parent_id": null,
        "argsrepr": petiole_protocol::repr::args(args), "kwargsrepr": "{}", "origin": "gen4711@host.example",
        "ignore_result": false, "replaced_task_nesting": 0, "stamped_headers": null, "stamps": {},
    });
    match headers {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn properties() -> Properties {
    Properties {
        correlation_id: Some(ID.into()),
        reply_to: Some("1c4f6d0e-52b7-3d6a-9a0b-2f1e7c8d9b30".into()),
        delivery_mode: 2,
        routing_key: "celery".into(),
        delivery_tag: TAG.into(),
        ..Properties::default()
    }
}
