//! Structured output of a language model, against a server of this test's own.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::settings;
use petiole_ai::language_model_from;
use petiole_ai::prompts::{ExtractPrompt, Prompts};
use petiole_ai::structured::{Schema, StructuredError, generate};
use serde_json::{Value, json};
use wiremock::matchers::{body_partial_json, method};
use wiremock::{Mock, MockServer, ResponseTemplate};

fn says(text: &str) -> ResponseTemplate {
    ResponseTemplate::new(200)
        .set_body_json(json!({"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}))
}

async fn ask(server: &MockServer) -> Result<Value, StructuredError> {
    let base = format!("{}/v1", server.uri());
    let settings = settings(&[("LANGUAGE_MODEL", "tiny"), ("OPENAI_BASE_URL", &base)]);
    let model = language_model_from(&settings).unwrap().unwrap();
    let schema = json!({"type": "object", "properties": {"year": {"type": "integer"}}, "required": ["year"]});
    let schema = Schema::new(&schema).unwrap();
    let prompts = Prompts::load(None).unwrap();
    let messages = prompts.messages(&ExtractPrompt { text: "In 1843.", schema: schema.text() }).unwrap();
    generate(model.as_ref(), &prompts, messages, &schema).await
}

#[tokio::test]
async fn what_does_not_fit_is_asked_for_again_with_what_is_wrong() {
    let server = MockServer::start().await;
    for said in ["I think it is 1843.", "{\"year\": \"1843\"}"] {
        Mock::given(method("POST")).respond_with(says(said)).up_to_n_times(1).expect(1).mount(&server).await;
    }
    let json = Mock::given(method("POST")).and(body_partial_json(json!({"response_format": {"type": "json_object"}})));
    json.respond_with(says("```json\n{\"year\": 1843}\n```")).expect(1).mount(&server).await;
    assert_eq!(ask(&server).await.unwrap(), json!({"year": 1843}));
    let asked = server.received_requests().await.unwrap();
    let last: Value = serde_json::from_slice(&asked[2].body).unwrap();
    let contents: Vec<_> =
        last["messages"].as_array().unwrap().iter().map(|m| m["content"].as_str().unwrap()).collect();
    assert_eq!(contents.len(), 6);
    assert!(contents[0].contains("\"required\":[\"year\"]") && contents[1] == "In 1843.", "{contents:?}");
    assert!(contents[3].contains("no JSON") && contents[5].contains("/year: "), "{contents:?}");
}

#[tokio::test]
async fn a_model_that_never_fits_is_given_up() {
    let server = MockServer::start().await;
    Mock::given(method("POST")).respond_with(says("{}")).expect(3).mount(&server).await;
    let error = ask(&server).await.unwrap_err();
    assert!(
        matches!(error, StructuredError::Unfit(_)) && error.to_string().contains("\"year\" is a required"),
        "{error}"
    );
}
