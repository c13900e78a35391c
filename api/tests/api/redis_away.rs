use std::time::{Duration, Instant};

use serde_json::json;

use crate::server::start_with;

/// Nothing listens there.
const NOWHERE: &str = "redis://127.0.0.1:9/0";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_needs_redis_is_503_and_the_rest_goes_on() {
    let server = start_with(&[], NOWHERE).await;
    assert_eq!(server.get("/health").await.status, 200);
    let begun = Instant::now();
    let ready = server.get("/ready").await;
    assert!(ready.problem(503).contains(&"redis".to_owned()), "{}", ready.json);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    for answer in [
        server.post("/v1/tasks", &json!({"task": "demo.add", "args": [1, 2]})).await,
        server.post("/v1/workflows", &json!({"chain": [{"task": "demo.add", "args": [1, 2]}]})).await,
        server.get("/v1/queues").await,
        server.get("/v1/workers").await,
        server.get("/v1/tasks/6f2d3a10-0000-4000-8000-0123456789ab").await,
    ] {
        answer.problem(503);
        assert!(!answer.header("retry-after").is_empty());
    }
    let accepted = server.post("/v1/documents", &json!({"text": "Storks nest on chimneys."})).await;
    assert_eq!(accepted.status, 202);
    let accepted = server.post("/v1/events", &json!({"type": "document.ingest", "data": {"text": "x"}})).await;
    assert_eq!(accepted.status, 202);
    assert_eq!(server.get("/v1/documents").await.json["items"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_hangs_is_away_too() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server =
        start_with(&[("API_REQUEST_TIMEOUT", "3")], &format!("redis://{}/0", silent.local_addr().unwrap())).await;
    let begun = Instant::now();
    server.get("/ready").await.problem(503);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    server.post("/v1/tasks", &json!({"task": "demo.add", "args": [1, 2]})).await.problem(503);
}
