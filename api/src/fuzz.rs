//! What the API reads of workers and results, from damaged versions of what they write (`petiole-fuzz`).

use petiole_client::TaskMeta;
use petiole_fuzz::{Kind, run, samples, texts};
use petiole_protocol::serializer::from_json;
use poem_openapi::types::{ParseFromJSON, ToJSON};
use serde_json::Value;

use crate::recent::{Recent, RecentFilter};
use crate::routes::answers::AnswerView;
use crate::routes::{tasks, workers};

#[test]
fn fuzz_events_of_tasks() {
    let recent = Recent::default();
    run("events of tasks", &samples(Kind::Body, &["events"]), |bytes| {
        let events = match from_json(bytes) {
            Ok(Value::Array(events)) => events,
            Ok(event) => vec![event],
            Err(_) => return,
        };
        events.iter().filter_map(Value::as_object).for_each(|event| recent.event(event));
        let _ = recent.page(&RecentFilter::default(), None, 3);
    });
}

#[test]
fn fuzz_what_workers_say_of_themselves() {
    run("what workers say of themselves", &samples(Kind::Reply, &[]), |bytes| {
        let Ok(reply) = from_json(bytes) else { return };
        for answer in reply.as_object().into_iter().flat_map(|reply| reply.values()) {
            let _ = workers::view(Some(answer), Some(answer), "w@h".into(), answer).to_json();
        }
    });
}

#[test]
fn fuzz_results_of_tasks() {
    let mut seeds = samples(Kind::Result, &[]);
    seeds.extend(texts(&[
        r#"{"status":"SUCCESS","result":{"answer":"a","model":"m","citations":[{"document_id":"4c0d5e1c-2f3a-4f6e-9d1b-5b1c8a7e6f00","score":0.5}]},"task_id":"x"}"#,
    ]));
    run("results of tasks", &seeds, |bytes| {
        let Ok(meta) = TaskMeta::decode(bytes) else { return };
        let _ = AnswerView::parse_from_json(Some(meta.result.clone())).map(|view| view.to_json());
        let _ = tasks::view(meta, None).to_json();
    });
}
