//! Events about texts: summarised, classified, taken data out of; with and without a language model.

use petiole_storage::EventState;
use petiole_worker::events::{EventError, Registry, process_incoming_event};
use serde_json::{Value, json};
use uuid::Uuid;
use wiremock::matchers::{body_string_contains, method};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::database::{World, world, world_with_language};

const TIDES: &str = "Tides rise twice a day. The moon pulls the sea water up. My cousin sells shoes in Lyon. \
    Spring tides are high because moon and sun pull together. At neap tide the water rises little.";

async fn output(world: &World, kind: &str, data: Value) -> Result<Value, EventError> {
    let id = world.event(kind, data).await;
    let output = process_incoming_event(&world.services, &Registry::shipped(), id).await.map(crate::events::output);
    let event = world.storage().event(id).await.unwrap();
    match &output {
        Ok(output) => assert_eq!((event.state, event.output.as_ref()), (EventState::Succeeded, Some(output))),
        Err(EventError::Failed(reason)) => {
            assert_eq!((event.state, event.error.as_ref()), (EventState::Failed, Some(reason)))
        }
        Err(error) => panic!("{error}"),
    }
    output
}

#[tokio::test]
async fn texts_are_worked_on_without_a_language_model() {
    let world = world().await;
    let summary = output(&world, "text.summarize", json!({"text": TIDES, "sentences": 2})).await.unwrap();
    assert_eq!(summary["sentences"].as_array().unwrap().len(), 2, "{summary}");
    assert!(summary["summary"].as_str().unwrap().contains("ide") && summary["model"] == "extractive");

    let document = world.document(TIDES, "text/plain").await;
    let data = json!({"document_id": document, "labels": ["cooking", "the sea", "football"]});
    let class = output(&world, "text.classify", data).await.unwrap();
    assert_eq!((&class["label"], &class["scores"][0]["label"]), (&json!("the sea"), &json!("the sea")));
    assert!(class["scores"][0]["score"].as_f64() > class["scores"][2]["score"].as_f64());

    let data = json!({"text": "Pay 1,250 EUR by 12 March 2030 to desk@example.org.", "kinds": ["date", "amount"]});
    let found = output(&world, "text.extract", data).await.unwrap();
    let values: Vec<_> = found["items"].as_array().unwrap().iter().map(|item| item["value"].clone()).collect();
    assert_eq!(values, ["1250 EUR", "2030-03-12"]);
    assert_eq!(found["items"][1]["kind"], "date");
}

#[tokio::test]
async fn a_question_as_an_event_is_answered() {
    let world = world().await;
    let text = "Sharks sense electric fields with their snout.";
    output(&world, "document.ingest", json!({"text": text})).await.unwrap();
    let data = json!({"question": "Which animals can feel electricity?", "conversation_id": Uuid::new_v4()});
    let answer = output(&world, "question.answer", data).await.unwrap();
    assert_eq!(answer["citations"][0]["text"], text);
}

#[tokio::test]
async fn what_cannot_be_done_fails_with_its_reason() {
    let world = world().await;
    let nobody = Uuid::new_v4();
    for (kind, data, says) in [
        ("text.summarize", json!({}), "either text or document_id"),
        ("text.summarize", json!({"text": "x", "document_id": nobody}), "either text or document_id"),
        ("text.summarize", json!({"document_id": nobody}), "there is no document"),
        ("text.summarize", json!({"text": " "}), "there is no text"),
        ("text.summarize", json!({"text": "x", "sentences": 0}), "from 1 to 50"),
        ("text.classify", json!({"text": "x", "labels": ["a"]}), "from 2 to 100"),
        ("text.classify", json!({"text": "x", "labels": ["a", "a"]}), "there twice"),
        ("text.extract", json!({"text": "x", "schema": {"type": "object"}}), "LANGUAGE_MODEL"),
        ("text.extract", json!({"text": "x", "schema": {"type": "thing"}}), "schema: "),
        ("question.answer", json!({"question": ""}), "question: must not be empty"),
    ] {
        let error = output(&world, kind, data.clone()).await.unwrap_err().to_string();
        assert!(error.contains(says), "{says} not in {error} of {data}");
    }
}

fn says(text: &str) -> ResponseTemplate {
    ResponseTemplate::new(200)
        .set_body_json(json!({"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}))
}

#[tokio::test]
async fn a_language_model_does_it_by_schemas() {
    let server = MockServer::start().await;
    for (asked, said) in [
        ("summarise texts", json!({"sentences": ["Moon and sun move the sea."]})),
        ("how well each label fits", json!({"a": 0.2, "b": 0.9})),
        ("take data out of texts", json!({"year": 1843})),
    ] {
        let mock = Mock::given(method("POST")).and(body_string_contains(asked));
        mock.respond_with(says(&said.to_string())).expect(1).mount(&server).await;
    }
    let world = world_with_language(&server.uri()).await;
    let summary = output(&world, "text.summarize", json!({"text": TIDES})).await.unwrap();
    assert_eq!((&summary["summary"], &summary["model"]), (&json!("Moon and sun move the sea."), &json!("tiny-chat")));
    assert_eq!(summary["prompt"], "summarize/v1");
    let class = output(&world, "text.classify", json!({"text": TIDES, "labels": ["a", "b"]})).await.unwrap();
    assert_eq!((&class["label"], &class["scores"][1]), (&json!("b"), &json!({"label": "a", "score": 0.2})));
    let schema = json!({"type": "object", "properties": {"year": {"type": "integer"}}, "required": ["year"]});
    let found = output(&world, "text.extract", json!({"text": "In 1843.", "schema": schema})).await.unwrap();
    assert_eq!((&found["data"], &found["items"]), (&json!({"year": 1843}), &json!([])));
}
