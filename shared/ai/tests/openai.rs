//! The embedder that asks an OpenAI-compatible server, against a server of this test's own.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::time::{Duration, Instant};

use common::settings;
use petiole_ai::{EmbedError, Embedder, cosine, embedder_from};
use serde_json::{Value, json};
use wiremock::matchers::{body_partial_json, header, method, path};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

const KEY: &str = "sk-never-to-be-seen-0123456789";

fn embedder(url: &str, more: &[(&str, &str)]) -> std::sync::Arc<dyn Embedder> {
    let base = format!("{url}/v1/");
    let mut values = vec![
        ("EMBEDDING_MODEL", "tiny-embed"),
        ("EMBEDDING_DIMENSIONS", "2"),
        ("OPENAI_BASE_URL", base.as_str()),
        ("OPENAI_API_KEY", KEY),
        ("AI_MAX_RETRIES", "2"),
    ];
    values.extend_from_slice(more);
    embedder_from(&settings(&values)).unwrap()
}

fn texts(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("text {n}")).collect()
}

/// Answers each text with a vector that tells its number, in reverse order.
fn answer(request: &Request) -> ResponseTemplate {
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    let input = body["input"].as_array().unwrap();
    let data = input.iter().enumerate().rev().map(|(index, text)| {
        let number: f64 = text.as_str().unwrap().trim_start_matches("text ").parse().unwrap();
        json!({"object": "embedding", "index": index, "embedding": [number, 1.0]})
    });
    ResponseTemplate::new(200).set_body_json(json!({"object": "list", "data": data.collect::<Vec<_>>()}))
}

#[tokio::test]
async fn texts_go_in_batches_and_vectors_come_back_in_order() {
    let server = MockServer::start().await;
    let asked = Mock::given(method("POST"))
        .and(path("/v1/embeddings"))
        .and(header("authorization", format!("Bearer {KEY}")))
        .and(body_partial_json(json!({"model": "tiny-embed", "encoding_format": "float"})));
    asked.respond_with(answer).expect(3).mount(&server).await;
    let embedder = embedder(&server.uri(), &[("EMBEDDING_BATCH_SIZE", "2")]);
    let vectors = embedder.embed(&texts(5)).await.unwrap();
    assert_eq!(vectors.len(), 5);
    for (number, vector) in vectors.iter().enumerate() {
        assert!((vector[0] / vector[1] - number as f32).abs() < 1e-4);
        assert!((cosine(vector, vector) - 1.0).abs() < 1e-5);
    }
    assert_eq!((embedder.model(), embedder.dimensions()), ("tiny-embed", 2));
}

#[tokio::test]
async fn what_passes_is_tried_again() {
    let server = MockServer::start().await;
    for status in [429, 503] {
        let once = ResponseTemplate::new(status).insert_header("retry-after", "1");
        Mock::given(method("POST")).respond_with(once).up_to_n_times(1).expect(1).mount(&server).await;
    }
    Mock::given(method("POST")).respond_with(answer).expect(1).mount(&server).await;
    let begun = Instant::now();
    embedder(&server.uri(), &[]).embed(&texts(1)).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(2), "the server's wish to wait was not respected");
}

#[tokio::test]
async fn what_does_not_pass_is_not_tried_again_and_the_key_stays_secret() {
    let server = MockServer::start().await;
    let refusal = json!({"error": {"message": format!("Incorrect API key provided: {KEY}."), "type": "invalid"}});
    let refusal = ResponseTemplate::new(401).set_body_json(refusal);
    Mock::given(method("POST")).respond_with(refusal).expect(1).mount(&server).await;
    let error = embedder(&server.uri(), &[]).embed(&texts(1)).await.unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(text.contains("401") && text.contains("Incorrect API key"), "{text}");
    assert!(!text.contains(KEY), "{text}");
}

#[tokio::test]
async fn trying_again_has_an_end() {
    let server = MockServer::start().await;
    Mock::given(method("POST")).respond_with(ResponseTemplate::new(500)).expect(3).mount(&server).await;
    let error = embedder(&server.uri(), &[]).embed(&texts(1)).await.unwrap_err();
    assert!(matches!(error, EmbedError::Refused { status: 500, .. }) && error.is_transient(), "{error}");
}

#[tokio::test]
async fn a_slow_server_is_given_up() {
    let server = MockServer::start().await;
    let slow = ResponseTemplate::new(200).set_delay(Duration::from_secs(30));
    Mock::given(method("POST")).respond_with(slow).mount(&server).await;
    let embedder = embedder(&server.uri(), &[("AI_TIMEOUT", "0.2"), ("AI_MAX_RETRIES", "0")]);
    let error = embedder.embed(&texts(1)).await.unwrap_err();
    assert!(matches!(&error, EmbedError::Unreachable(reason) if reason.contains("no answer in time")), "{error}");
}

#[tokio::test]
async fn nobody_at_the_address_is_an_error_that_names_it_without_its_password() {
    let url = "http://user:sesame@127.0.0.1:9/v1";
    let embedder = embedder("", &[("OPENAI_BASE_URL", url), ("AI_MAX_RETRIES", "0")]);
    let text = embedder.embed(&texts(1)).await.unwrap_err().to_string();
    assert!(text.contains("127.0.0.1:9") && !text.contains("sesame"), "{text}");
}

#[tokio::test]
async fn answers_that_make_no_sense_are_refused() {
    for (body, says) in [
        (json!({"data": [{"index": 0, "embedding": [1.0, 2.0, 3.0]}]}), "EMBEDDING_DIMENSIONS=3"),
        (json!({"data": []}), "fewer vectors"),
        (json!({"data": [{"index": 7, "embedding": [1.0, 2.0]}]}), "number 7"),
        (json!({"models": []}), "data"),
    ] {
        let server = MockServer::start().await;
        Mock::given(method("POST")).respond_with(ResponseTemplate::new(200).set_body_json(body)).mount(&server).await;
        let error = embedder(&server.uri(), &[]).embed(&texts(1)).await.unwrap_err().to_string();
        assert!(error.contains(says), "{says} not in {error}");
    }
}

#[test]
fn settings_that_do_not_suffice_say_what_is_missing() {
    for (values, says) in [
        (vec![("EMBEDDING_MODEL", "bge-m3")], "OPENAI_BASE_URL"),
        (vec![("EMBEDDING_MODEL", "unheard-of"), ("OPENAI_BASE_URL", "http://h/v1")], "EMBEDDING_DIMENSIONS"),
    ] {
        let error = embedder_from(&settings(&values)).err().unwrap().to_string();
        assert!(error.contains(says), "{says} not in {error}");
    }
}
