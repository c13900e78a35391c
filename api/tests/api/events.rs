use std::time::{Duration, Instant};

use sea_orm::sqlx::Row;
use serde_json::{Value, json};

use crate::server::{Server, answer, start};

fn ingest(text: &str) -> Value {
    json!({"type": "document.ingest", "data": {"text": text, "collection": "ev"}})
}

async fn post_with_key(server: &Server, key: &str, body: &Value) -> crate::server::Answer {
    answer(server.http.post(format!("{}/v1/events", server.url)).header("idempotency-key", key).json(body)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_is_stored_and_its_task_published() {
    let server = start().await;
    let request = server.http.post(format!("{}/v1/events", server.url)).header("x-request-id", "req-of-event");
    let accepted = answer(request.json(&ingest("one"))).await;
    assert_eq!(accepted.status, 202, "{}", accepted.json);
    assert_eq!(accepted.header("location"), format!("/v1/events/{}", accepted.json["id"].as_str().unwrap()));
    let event = server.get(accepted.header("location")).await.json;
    assert_eq!(
        (&event["type"], &event["data"], &event["state"]),
        (&json!("document.ingest"), &ingest("one")["data"], &json!("queued"))
    );
    assert_eq!((&event["output"], &event["error"]), (&json!(null), &json!(null)));

    // the relay publishes within moments, and nothing waits any more
    let task_id = accepted.json["task_id"].as_str().unwrap();
    let message = crate::tasks::message_of(&server, "celery", task_id).await;
    assert_eq!(message["headers"]["task"], "process_incoming_event");
    assert_eq!(message["headers"]["request_id"], "req-of-event");
    let mut database = server.database().await;
    let begun = Instant::now();
    loop {
        let row = sea_orm::sqlx::query(crate::relay::WAITING).fetch_one(&mut database).await.unwrap();
        if row.get::<i64, _>(0) == 0 {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(server.get(&format!("/v1/tasks/{task_id}")).await.json["state"], "PENDING");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_key_gets_the_same_answer() {
    let server = start().await;
    let first = post_with_key(&server, "k", &ingest("one")).await;
    let again = post_with_key(&server, "k", &ingest("one")).await;
    assert_eq!((again.status, &again.json), (202, &first.json));
    assert_eq!(again.header("location"), first.header("location"));
    let reordered = json!({"data": {"collection": "ev", "text": "one"}, "type": "document.ingest"});
    assert_eq!(post_with_key(&server, "k", &reordered).await.json, first.json);
    post_with_key(&server, "k", &ingest("two")).await.problem(409);
    assert_ne!(post_with_key(&server, "other", &ingest("one")).await.json, first.json);

    assert_eq!(post_with_key(&server, "", &ingest("one")).await.problem(422), ["Idempotency-Key"]);
    assert_eq!(post_with_key(&server, &"k".repeat(256), &ingest("one")).await.problem(422), ["Idempotency-Key"]);
    // a refused request does not use its key up
    post_with_key(&server, "unused", &json!({"type": "document.ingest"})).await.problem(422);
    assert_eq!(post_with_key(&server, "unused", &ingest("three")).await.status, 202);
    assert_eq!(server.get("/v1/events?type=document.ingest").await.json["items"].as_array().unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_events_are_refused() {
    let server = start().await;
    assert_eq!(server.post("/v1/events", &json!({"type": "no.such", "data": {}})).await.problem(422), ["type"]);
    let fields = server
        .post("/v1/events", &json!({"type": "document.ingest", "data": {"title": 1, "odd": 2}}))
        .await
        .problem(422);
    assert_eq!(fields, ["data.text", "data.title", "data.odd"]);
    assert_eq!(server.post("/v1/events", &ingest("a\0b")).await.problem(422), ["data.text"]);
    assert!(server.get("/v1/events").await.json["items"].as_array().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_type_has_its_own_data() {
    let server = start().await;
    let id = uuid::Uuid::new_v4();
    for (kind, data) in [
        ("question.answer", json!({"question": "x", "top_k": 3})),
        ("text.summarize", json!({"document_id": id, "sentences": 2})),
        ("text.classify", json!({"text": "x", "labels": ["a", "b"]})),
        ("text.extract", json!({"text": "x", "kinds": ["date", "phone"]})),
        ("text.extract", json!({"text": "x", "schema": {"type": "object"}, "kinds": ["url"]})),
        ("text.digest", json!({"text": "x"})),
        ("text.digest", json!({"document_id": id, "labels": ["a", "b"]})),
    ] {
        let answer = server.post("/v1/events", &json!({"type": kind, "data": data})).await;
        assert_eq!(answer.status, 202, "{}", answer.json);
        // a worker plans the steps of a workflow
        assert_eq!(server.get(answer.header("location")).await.json["steps"], json!([]));
    }
    for (kind, data, field) in [
        ("text.translate", json!({"text": "x"}), "type"),
        ("text.summarize", json!({}), "data"),
        ("text.summarize", json!({"text": "x", "document_id": id}), "data.document_id"),
        ("text.summarize", json!({"text": "x", "sentences": 0}), "data.sentences"),
        ("text.summarize", json!({"text": "x", "length": 1}), "data.length"),
        ("text.classify", json!({"text": "x"}), "data.labels"),
        ("text.classify", json!({"text": "x", "labels": ["a"]}), "data.labels"),
        ("text.classify", json!({"text": "x", "labels": ["a", "a"]}), "data.labels"),
        ("text.extract", json!({"text": "x", "kinds": ["iban"]}), "data.kinds[0]"),
        ("text.digest", json!({"labels": ["a", "b"]}), "data"),
        ("text.digest", json!({"text": "x", "labels": ["a"]}), "data.labels"),
        ("question.answer", json!({"question": " "}), "data.question"),
    ] {
        let fields = server.post("/v1/events", &json!({"type": kind, "data": data})).await.problem(422);
        assert_eq!(fields, [field], "{kind} {data}");
    }
}
