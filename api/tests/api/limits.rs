use serde_json::json;

use crate::server::{KEY, Server, answer, start, start_with};

fn redis_url() -> String {
    std::env::var("TEST_REDIS_URL").expect("TEST_REDIS_URL is not set: run docker/test.sh")
}

async fn ask(server: &Server, key: &str) -> crate::server::Answer {
    answer(server.http.get(format!("{}/v1/documents", server.url)).bearer_auth(key)).await
}

/// A key of its own limits.
async fn limited(server: &Server, limits: serde_json::Value) -> String {
    let mut body = json!({"name": "limited", "scope": "read"});
    body.as_object_mut().unwrap().extend(limits.as_object().unwrap().clone());
    let made = answer(server.http.post(format!("{}/v1/keys", server.url)).bearer_auth(KEY).json(&body)).await;
    made.json["key"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_has_so_many_requests_a_day() {
    let server = start_with(&[("API_KEYS", KEY)], &redis_url()).await;
    let (one, other) =
        (limited(&server, json!({"daily_quota": 3})).await, limited(&server, json!({"daily_quota": 3})).await);
    for left in [2, 1, 0] {
        let answer = ask(&server, &one).await;
        assert_eq!(answer.status, 200);
        assert_eq!(
            (answer.header("ratelimit-limit"), answer.header("ratelimit-remaining")),
            ("3", left.to_string().as_str())
        );
        assert_eq!(answer.header("ratelimit-policy"), "3;w=86400");
        assert!((1..=86_400).contains(&answer.header("ratelimit-reset").parse::<u64>().unwrap()));
    }
    let refused = ask(&server, &one).await;
    refused.problem(429);
    assert_eq!(refused.header("ratelimit-remaining"), "0");
    assert_eq!(refused.header("retry-after"), refused.header("ratelimit-reset"));
    // another key has its own count, errors tell of it too; a key without a limit hears nothing of limits
    let missing = format!("{}/v1/events/6f2d3a10-0000-4000-8000-0123456789ab", server.url);
    let missing = answer(server.http.get(missing).bearer_auth(&other)).await;
    missing.problem(404);
    assert_eq!(missing.header("ratelimit-remaining"), "2");
    assert_eq!(ask(&server, KEY).await.header("ratelimit-limit"), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_hold_without_redis_and_by_setting() {
    let settings = [("API_RATE_LIMIT", "1000"), ("API_DAILY_QUOTA", "100")];
    let server = start_with(&settings, "redis://127.0.0.1:9/0").await;
    let before: u64 = server.get("/v1/documents").await.header("ratelimit-remaining").parse().unwrap();
    let answer = server.get("/v1/documents").await;
    assert_eq!(answer.header("ratelimit-policy"), "1000;w=60, 100;w=86400");
    assert_eq!(answer.header("ratelimit-limit"), "100");
    assert_eq!(answer.header("ratelimit-remaining").parse::<u64>().unwrap(), before - 1);
    assert_eq!(server.get("/health").await.header("ratelimit-limit"), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_known_is_not_sent_again() {
    let server = start().await;
    let path = server.post("/v1/documents", &json!({"text": "x", "title": "a"})).await.header("location").to_owned();
    let first = server.get(&path).await;
    let tag = first.header("etag").to_owned();
    assert!(tag.starts_with('"') && first.header("cache-control").contains("no-cache"));
    let again = |tag: String| answer(server.http.get(server.url.clone() + &path).header("if-none-match", tag));
    let unchanged = again(format!("\"other\", {tag}")).await;
    assert_eq!((unchanged.status, unchanged.header("etag"), &unchanged.json), (304, tag.as_str(), &json!("")));
    assert!(!unchanged.header("x-request-id").is_empty());
    assert_eq!(again("\"other\"".into()).await.json, first.json);
    server.delete(&path).await;
    again(tag).await.problem(404);
    // nothing of a write or an error is kept anywhere
    let created = server.post("/v1/documents", &json!({"text": "x"})).await;
    assert_eq!((created.header("etag"), created.header("cache-control")), ("", "no-store"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_may_be_tied_to_what_was_read() {
    let server = start().await;
    let made = server.post("/v1/documents", &json!({"text": "x", "title": "a"})).await.header("location").to_owned();
    let put = |tag: &str, title: &str| {
        let body = json!({"text": "x", "title": title});
        answer(server.http.put(server.url.clone() + &made).header("if-match", tag.to_owned()).json(&body))
    };
    let tag = server.get(&made).await.header("etag").to_owned();
    put("\"other\"", "b").await.problem(412);
    put(&format!("W/{tag}"), "b").await.problem(412);
    assert_eq!(server.get(&made).await.json["title"], "a", "nothing was written");
    // of two writers who have seen the same, one is told
    let (one, other) = tokio::join!(put(&tag, "c"), put(&tag, "d"));
    let mut statuses = [one.status, other.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [202, 412]);
    assert_eq!(put("*", "e").await.status, 202);
    let delete = |path: &str, tag: &str| {
        answer(server.http.delete(server.url.clone() + path).header("if-match", tag.to_owned()))
    };
    delete(&made, &tag).await.problem(412);
    let now = server.get(&made).await.header("etag").to_owned();
    assert_eq!(delete(&made, &now).await.status, 204);
    delete(&made, &now).await.problem(404);

    let body = json!({"name": "n", "task": "demo.add", "args": [1, 1], "crontab": "30 7 * * *"});
    let made = server.post("/v1/schedules", &body).await.header("location").to_owned();
    let tag = server.get(&made).await.header("etag").to_owned();
    let patch = |tag: &str| {
        let request = server.http.patch(server.url.clone() + &made).header("if-match", tag.to_owned());
        answer(request.json(&json!({"enabled": false})))
    };
    assert_eq!(patch(&tag).await.status, 200);
    patch(&tag).await.problem(412);
    delete(&made, &tag).await.problem(412);
    let now = server.get(&made).await.header("etag").to_owned();
    assert_eq!(delete(&made, &now).await.status, 204);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_other_origins_may_use_it_by_setting() {
    let keys = [("API_KEYS", KEY), ("API_CORS_ORIGINS", "https://app.example, http://localhost:3000")];
    let server = start_with(&keys, &redis_url()).await;
    let url = server.url.clone() + "/v1/documents";
    let asks = |origin: &str| {
        let request = server.http.request(reqwest::Method::OPTIONS, &url).header("origin", origin.to_owned());
        answer(
            request
                .header("access-control-request-method", "POST")
                .header("access-control-request-headers", "authorization"),
        )
    };
    let allowed = asks("https://app.example").await;
    assert_eq!((allowed.status, allowed.header("access-control-allow-origin")), (204, "https://app.example"));
    for method in ["PUT", "PATCH", "DELETE"] {
        assert!(allowed.header("access-control-allow-methods").contains(method), "{method}");
    }
    for name in ["Authorization", "If-Match"] {
        assert!(allowed.header("access-control-allow-headers").contains(name), "{name}");
    }
    for other in ["https://evil.example", "https://app.example.evil", "null"] {
        let refused = asks(other).await;
        assert_ne!(refused.status, 204);
        assert_eq!(refused.header("access-control-allow-origin"), "");
    }
    // errors can be read by the page as well
    let refused = answer(server.http.get(&url).header("origin", "http://localhost:3000")).await;
    refused.problem(401);
    assert_eq!(refused.header("access-control-allow-origin"), "http://localhost:3000");
    assert!(refused.header("access-control-expose-headers").contains("X-Request-Id"));
    assert_eq!(refused.header("vary"), "Origin");
    let server = start().await;
    let closed = answer(server.http.get(server.url.clone() + "/health").header("origin", "https://app.example")).await;
    assert_eq!(closed.header("access-control-allow-origin"), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn browsers_are_told_to_do_nothing_with_answers() {
    let server = start().await;
    let answer = server.get("/v1/documents").await;
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
    ] {
        assert_eq!(answer.header(name), value);
    }
    let page = server.get("/docs").await;
    assert_eq!((page.header("content-security-policy"), page.header("x-frame-options")), ("", "DENY"));
}
