use serde_json::json;

use crate::server::{KEY, answer, start_with};

const READER: &str = "0a9b8c7d6e5f40312233445566778899";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outside_development_a_key_is_needed() {
    let redis_url = std::env::var("TEST_REDIS_URL").expect("TEST_REDIS_URL is not set: run docker/test.sh");
    let keys = format!("{KEY},{READER}:read");
    let server = start_with(&[("API_KEYS", &keys)], &redis_url).await;
    for path in ["/v1/documents", "/v1/nope", "/v1/tasks/6f2d3a10-0000-4000-8000-0123456789ab"] {
        let refused = server.get(path).await;
        refused.problem(401);
        assert!(refused.header("www-authenticate").starts_with("Bearer"));
    }
    server.post("/v1/documents", &json!({"text": "x"})).await.problem(401);
    server.post("/v1/documents", &json!(5)).await.problem(401);
    assert_eq!(server.get("/health").await.status, 200);
    assert_eq!(server.get("/openapi.json").await.status, 200);

    let ask = |name: &'static str, key: String, path: &str, post: bool| {
        let url = server.url.clone() + path;
        let request = if post {
            server.http.post(url).json(&json!({"query": "x", "mode": "keyword"}))
        } else {
            server.http.get(url)
        };
        answer(request.header(name, key))
    };
    assert_eq!(ask("authorization", format!("Bearer {KEY}"), "/v1/documents", false).await.status, 200);
    assert_eq!(ask("x-api-key", KEY.into(), "/v1/documents", false).await.status, 200);
    assert_eq!(ask("x-api-key", READER.into(), "/v1/documents", false).await.status, 200);
    assert_eq!(ask("x-api-key", READER.into(), "/v1/search", true).await.status, 200);
    ask("x-api-key", READER.into(), "/v1/documents", true).await.problem(403);
    ask("x-api-key", "another".into(), "/v1/documents", false).await.problem(401);
}
