use serde_json::json;

use crate::server::{answer, start};

const POSTS: &[&str] = &["/v1/documents", "/v1/search", "/v1/events", "/v1/tasks"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unreadable_bodies_are_400() {
    let server = start().await;
    for path in POSTS {
        for body in ["", "{\"a\": ", "{'a': 1}", "{\"a\": NaN}", "nul", &"[".repeat(50_000)] {
            server.post_text(path, body).await.problem(400);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fields_are_named() {
    let server = start().await;
    let fields = server.post("/v1/documents", &json!({"title": 5, "surprise": 1})).await.problem(422);
    assert_eq!(fields, ["text", "title", "surprise"]);
    let fields = server.post("/v1/documents", &json!({"text": " \n"})).await.problem(422);
    assert_eq!(fields, ["text"]);
    let fields = server.post("/v1/documents", &json!({"text": "x", "language": "klingon"})).await.problem(422);
    assert_eq!(fields, ["language"]);
    let fields = server.post("/v1/documents", &json!({"text": "\u{1}\u{85} ", "title": "a\0"})).await.problem(422);
    assert_eq!(fields, ["text", "title"]);
    let fields = server.post("/v1/search", &json!({"query": "x", "top_k": 0, "mode": "best"})).await.problem(422);
    assert_eq!(fields, ["top_k", "mode"]);
    let fields = server
        .post("/v1/tasks", &json!({"task": "demo.add", "priority": 10, "eta": "soon", "expires": true}))
        .await
        .problem(422);
    assert_eq!(fields, ["priority", "eta", "expires"]);
    for expires in [-1.0, 1e100] {
        let far = json!({"task": "demo.add", "expires": expires});
        assert_eq!(server.post("/v1/tasks", &far).await.problem(422), ["expires"]);
    }
    let both = json!({"task": "demo.add", "countdown": 1, "eta": "2099-01-01T00:00:00Z"});
    assert_eq!(server.post("/v1/tasks", &both).await.problem(422), ["countdown"]);
    let own = json!({"task": "demo.add", "headers": {"retries": 3}});
    assert_eq!(server.post("/v1/tasks", &own).await.problem(422), ["headers.retries"]);
    for (path, field) in [
        ("/v1/documents?limit=0", "limit"),
        ("/v1/documents?limit=201", "limit"),
        ("/v1/documents?limit=x", "limit"),
        ("/v1/documents?cursor=x", "cursor"),
        ("/v1/documents?state=lost", "state"),
        ("/v1/events?state=ready", "state"),
        ("/v1/documents/not-an-id", "id"),
    ] {
        assert_eq!(server.get(path).await.problem(422), [field], "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_media_types_are_415_and_large_bodies_413() {
    let server = start().await;
    for path in POSTS {
        for kind in ["text/plain", "application/xml", "application/x-www-form-urlencoded"] {
            let request = server.http.post(server.url.clone() + path).header("content-type", kind).body("{}");
            answer(request).await.problem(415);
        }
        let request = server.http.post(server.url.clone() + path).header("content-encoding", "gzip").json(&json!({}));
        answer(request).await.problem(415);
    }
    let big = format!("{{\"text\": \"{}\"}}", "x".repeat(11 << 20));
    // a declared length is refused unread, so the connection may break while the body is still on its way
    let request = server.http.post(server.url.clone() + "/v1/documents").header("content-type", "application/json");
    let chunks = futures::stream::iter(
        big.into_bytes().chunks(1 << 16).map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec())).collect::<Vec<_>>(),
    );
    match request.body(reqwest::Body::wrap_stream(chunks)).send().await {
        Ok(response) => assert_eq!(response.status(), 413),
        Err(error) => assert!(error.is_request() || error.is_body(), "{error:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paths_and_methods() {
    let server = start().await;
    for path in ["/nope", "/v1/nope", "/v1/documents/6f2d3a10-0000-4000-8000-0123456789ab/nope/deep"] {
        server.get(path).await.problem(404);
    }
    for path in ["/v1/documents/", "/v1/events/", "/v1/tasks/"] {
        server.get(&format!("{path}6f2d3a10-0000-4000-8000-0123456789ab")).await.problem(404);
    }
    server.get("/v1/tasks/6f2d3a10-0000-4000-8000-0123456789ab/events").await.problem(404);
    server.delete("/v1/documents/6f2d3a10-0000-4000-8000-0123456789ab").await.problem(404);
    let refused = server.delete("/v1/documents").await;
    refused.problem(405);
    for method in ["GET", "POST"] {
        assert!(refused.header("allow").contains(method), "{}", refused.header("allow"));
    }
    let refused = server.delete("/docs").await;
    refused.problem(405);
    assert_eq!(refused.header("allow"), "GET, HEAD");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn request_ids_are_taken_or_made() {
    let server = start().await;
    let ask = |id: &str| answer(server.http.get(server.url.clone() + "/health").header("x-request-id", id));
    assert_eq!(ask("from-a-test.1").await.header("x-request-id"), "from-a-test.1");
    for hostile in ["a b\tc", "\"><script>", "%0d%0aSet-Cookie:x", &"x".repeat(5_000)] {
        let made = ask(hostile).await;
        assert_ne!(made.header("x-request-id"), hostile);
        assert_eq!(made.header("x-request-id").len(), 36);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_description_is_complete() {
    let server = start().await;
    let document = server.get("/openapi.json").await.json;
    assert_eq!(document["openapi"], "3.0.3");
    let mut operations = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            operations += 1;
            let takes_one = matches!(method.as_str(), "post" | "put" | "patch");
            assert!(takes_one || operation["requestBody"].is_null(), "{method} {path}");
            for name in ["summary", "description", "operationId", "tags"] {
                assert!(!operation[name].is_null(), "{method} {path} has no {name}");
            }
            for (status, response) in operation["responses"].as_object().unwrap() {
                if status.starts_with(['4', '5']) {
                    assert!(!response["content"]["application/problem+json"].is_null(), "{method} {path} {status}");
                }
            }
            assert!(!path.starts_with("/v1/") || !operation["responses"]["401"].is_null(), "{method} {path}");
        }
    }
    assert!(operations >= 22, "{operations}");
    for (path, method) in [("/v1/tasks", "get"), ("/v1/tasks", "post"), ("/v1/keys", "post"), ("/v1/events", "get")] {
        assert!(!document["paths"][path][method].is_null(), "{method} {path}");
    }
    let event = &document["paths"]["/v1/tasks/{id}/events"]["get"]["responses"]["200"]["content"]["text/event-stream"];
    assert_eq!(event["schema"]["properties"]["data"]["x-data"]["$ref"], "#/components/schemas/Task");
    let task = &document["components"]["schemas"]["Task"]["properties"]["error"];
    assert_eq!(task["anyOf"][0]["$ref"], "#/components/schemas/TaskError");
    assert_eq!((&task["anyOf"][1]["nullable"], &task["anyOf"][1]["enum"]), (&json!(true), &json!([null])));
    let docs = server.get("/docs").await;
    assert!(docs.json.as_str().unwrap().contains("securitySchemes"), "the page shows the completed document");
    let redoc = server.get("/redoc").await.json;
    assert!(!redoc.as_str().unwrap().contains("fonts.googleapis.com"));
}
