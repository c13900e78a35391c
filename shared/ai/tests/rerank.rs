//! Re-ranking: by sentences with the real embedding model, and by a server of this test's own.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{model_settings, settings};
use petiole_ai::reranker::{Reranker, order, reranker_from};
use petiole_ai::{RerankError, embedder_from};
use petiole_settings::AiSettings;
use serde_json::{Value, json};
use wiremock::matchers::{body_partial_json, header, method, path};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

fn reranker(settings: &AiSettings) -> std::sync::Arc<dyn Reranker> {
    reranker_from(settings, &embedder_from(settings).unwrap()).unwrap()
}

async fn places(reranker: &dyn Reranker, question: &str, passages: &[String]) -> Vec<usize> {
    order(reranker, question, passages).await.unwrap().into_iter().map(|(place, _)| place).collect()
}

#[tokio::test]
async fn one_good_sentence_in_a_long_passage_rises() {
    let reranker = reranker(&model_settings(&[]));
    let about_boats = "The boats lie in the yard until spring. Their hulls are scraped and painted. Ropes are spliced in \
        the loft. The slipway is greased every autumn.";
    let long = format!("{about_boats} Whoever finds a purse hands it to the harbour master. {about_boats}");
    let passages = [
        format!("{about_boats} Lost anchors are not replaced."),
        about_boats.to_owned(),
        long,
        "Lunch is at noon.".into(),
    ];
    assert_eq!(places(reranker.as_ref(), "I lost my wallet, who has it?", &passages).await[0], 2);
    assert_eq!(places(reranker.as_ref(), "When do we eat?", &passages).await[0], 3);
    assert!(places(reranker.as_ref(), "x", &[]).await.is_empty());
    assert_eq!(reranker.model(), "sentences");
}

fn served(url: &str) -> AiSettings {
    settings(&[
        ("RERANK_MODEL", "tiny-rerank"),
        ("RERANK_BASE_URL", url),
        ("RERANK_API_KEY", "rk-secret-0123456789"),
        ("OPENAI_API_KEY", "sk-another-servers"),
        ("EMBEDDING_MODEL", "tiny-embed"),
        ("EMBEDDING_DIMENSIONS", "2"),
        ("AI_MAX_RETRIES", "1"),
    ])
}

/// Scores each passage by the number it holds, in an order of the server's own.
fn answer(request: &Request) -> Value {
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    let documents = body["documents"].as_array().unwrap();
    let ranked = documents.iter().enumerate().rev().map(
        |(index, text)| json!({"index": index, "relevance_score": text.as_str().unwrap().parse::<f64>().unwrap()}),
    );
    ranked.collect()
}

#[tokio::test]
async fn a_server_gives_the_order_and_only_its_own_key_is_sent() {
    for named in [true, false] {
        let server = MockServer::start().await;
        let busy = ResponseTemplate::new(503);
        Mock::given(method("POST")).respond_with(busy).up_to_n_times(1).expect(1).mount(&server).await;
        Mock::given(method("POST"))
            .and(path("/v1/rerank"))
            .and(header("authorization", "Bearer rk-secret-0123456789"))
            .and(body_partial_json(json!({"model": "tiny-rerank", "query": "which?", "top_n": 3})))
            .respond_with(move |request: &Request| {
                let ranked = answer(request);
                ResponseTemplate::new(200).set_body_json(if named { json!({"results": ranked}) } else { ranked })
            })
            .expect(1)
            .mount(&server)
            .await;
        let reranker = reranker(&served(&format!("{}/v1", server.uri())));
        let passages = ["1.5", "-3", "2"].map(str::to_owned);
        assert_eq!(places(reranker.as_ref(), "which?", &passages).await, [2, 0, 1]);
    }
}

#[tokio::test]
async fn answers_that_make_no_sense_are_refused() {
    for body in [
        json!({"results": [{"index": 0, "relevance_score": 1.0}]}),
        json!([{"index": 7, "score": 1.0}, {"index": 0, "score": 1.0}]),
        json!({"data": []}),
    ] {
        let server = MockServer::start().await;
        Mock::given(method("POST")).respond_with(ResponseTemplate::new(200).set_body_json(&body)).mount(&server).await;
        let passages = ["1", "2"].map(str::to_owned);
        let error = order(reranker(&served(&server.uri())).as_ref(), "q", &passages).await.unwrap_err();
        assert!(matches!(error, RerankError::Answer(_)) && !error.is_transient(), "{body}: {error}");
    }
}

#[test]
fn a_model_without_a_server_is_named() {
    let settings = settings(&[
        ("RERANK_MODEL", "bge-reranker"),
        ("EMBEDDING_MODEL", "tiny"),
        ("EMBEDDING_DIMENSIONS", "2"),
        ("OPENAI_API_KEY", "k"),
    ]);
    let error = reranker_from(&settings, &embedder_from(&settings).unwrap()).err().unwrap().to_string();
    assert!(error.contains("RERANK_BASE_URL"), "{error}");
}
