use serde_json::json;

use crate::server::{KEY, Server, answer, start, start_with};

/// The lines of the page.
async fn lines(server: &Server) -> Vec<String> {
    let page = server.get("/metrics").await;
    assert_eq!(page.status, 200);
    assert!(page.header("content-type").starts_with("application/openmetrics-text"), "{:?}", page.headers);
    page.json.as_str().unwrap().lines().map(str::to_owned).collect()
}

fn value(lines: &[String], name: &str) -> f64 {
    let line = lines.iter().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
    let line = line.unwrap_or_else(|| panic!("no {name} in {lines:#?}"));
    line.rsplit_once(' ').unwrap().1.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_counted_by_route_method_and_status() {
    let server = start().await;
    for id in ["6f2d3a10-0000-4000-8000-0123456789ab", "6f2d3a10-0000-4000-8000-0123456789ac"] {
        server.get(&format!("/v1/events/{id}")).await.problem(404);
    }
    server.post("/v1/events", &json!({})).await.problem(422);
    server.get("/no/such/place").await.problem(404);
    let odd = server.http.request("BREW".parse().unwrap(), server.url.clone() + "/v1/events").send().await.unwrap();
    assert_eq!(odd.status(), 405);
    let lines = lines(&server).await;
    let count = |labels: &str| value(&lines, &format!("http_requests_total{{{labels}}}"));
    assert_eq!(count(r#"route="/v1/events/{id}",method="GET",status="404""#), 2.0);
    assert_eq!(count(r#"route="/v1/events",method="POST",status="422""#), 1.0);
    assert_eq!(count(r#"route="/v1/events",method="other",status="405""#), 1.0);
    assert_eq!(count(r#"route="unmatched",method="GET",status="404""#), 1.0);
    let events = r#"route="/v1/events/{id}",method="GET""#;
    assert_eq!(value(&lines, &format!("http_request_duration_seconds_count{{{events}}}")), 2.0);
    assert_eq!(value(&lines, &format!("http_request_duration_seconds_bucket{{le=\"60.0\",{events}}}")), 2.0);
    // the request for this page
    assert_eq!(value(&lines, "http_requests_in_flight"), 1.0);
    assert_eq!(lines.last().unwrap(), "# EOF");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backlogs_and_what_is_away_show() {
    let server = start().await;
    let body = json!({"task": "demo.add", "queue": server.queue, "priority": 9});
    assert_eq!(server.post("/v1/tasks", &body).await.status, 202);
    let known = lines(&server).await;
    assert_eq!(value(&known, &format!("petiole_queue_length{{queue=\"{}\",priority=\"9\"}}", server.queue)), 1.0);
    assert_eq!(value(&known, "petiole_dependency_up{dependency=\"redis\"}"), 1.0);
    assert_eq!(value(&known, "petiole_outbox_messages"), 0.0);

    let server = start_with(&[], "redis://127.0.0.1:9/0").await;
    server.post("/v1/documents", &json!({"text": "waits"})).await;
    let known = lines(&server).await;
    assert_eq!(value(&known, "petiole_dependency_up{dependency=\"redis\"}"), 0.0);
    assert_eq!(value(&known, "petiole_dependency_up{dependency=\"postgresql\"}"), 1.0);
    assert_eq!(value(&known, "petiole_outbox_messages"), 1.0);
    assert!(value(&known, "petiole_outbox_oldest_seconds") > 0.0);
    assert!(!known.iter().any(|line| line.starts_with("petiole_queue_length")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn figures_are_for_who_has_a_key() {
    let redis_url = std::env::var("TEST_REDIS_URL").expect("TEST_REDIS_URL is not set: run docker/test.sh");
    let server = start_with(&[("API_KEYS", &format!("{KEY}:read"))], &redis_url).await;
    server.get("/metrics").await.problem(401);
    let page = answer(server.http.get(server.url.clone() + "/metrics").bearer_auth(KEY)).await;
    assert_eq!(page.status, 200);
}
