use reqwest::multipart::{Form, Part};
use serde_json::json;

use crate::server::{Server, answer, start};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_is_accepted_followed_and_deleted() {
    let server = start().await;
    let body = json!({"text": "Salmon swim upstream.", "title": "salmon", "collection": "fish", "metadata": {"n": 1, "deep": {"x": null, "k\0": "v\0"}}});
    let accepted = server.post("/v1/documents", &body).await;
    assert_eq!((accepted.status, &accepted.json["state"]), (202, &json!("queued")), "{}", accepted.json);
    let path = accepted.header("location").to_owned();
    assert_eq!(path, format!("/v1/documents/{}", accepted.json["id"].as_str().unwrap()));

    let document = server.get(&path).await.json;
    for (name, value) in [("title", "salmon"), ("collection", "fish"), ("state", "queued")] {
        assert_eq!(document[name], value);
    }
    assert_eq!(document["metadata"], body["metadata"]);
    assert_eq!(document["task_id"], accepted.json["task_id"]);
    assert_eq!((&document["chunks"], &document["error"]), (&json!(0), &json!(null)));
    assert!(document["created_at"].as_str().unwrap().ends_with("+00:00"), "{document}");

    assert_eq!(server.delete(&path).await.status, 204);
    server.get(&path).await.problem(404);
    server.delete(&path).await.problem(404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_list_is_paged() {
    let server = start().await;
    for n in 0..5 {
        server.post("/v1/documents", &json!({"text": "x", "title": n.to_string(), "collection": "paged"})).await;
    }
    let first = server.get("/v1/documents?collection=paged&limit=3").await.json;
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = server.get(&format!("/v1/documents?collection=paged&limit=3&cursor={cursor}")).await.json;
    let titles = |page: &serde_json::Value| {
        page["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["title"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (titles(&first), titles(&second)),
        (vec!["4".into(), "3".into(), "2".into()], vec!["1".into(), "0".into()])
    );
    assert_eq!(second["next_cursor"], json!(null));
    assert_eq!(titles(&server.get("/v1/documents?collection=other").await.json), Vec::<String>::new());
}

async fn upload(server: &Server, form: Form) -> crate::server::Answer {
    answer(server.http.post(format!("{}/v1/documents", server.url)).multipart(form)).await
}

fn file(name: &str, kind: &str, bytes: &[u8]) -> Part {
    Part::bytes(bytes.to_vec()).file_name(name.to_owned()).mime_str(kind).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_a_document_too() {
    let server = start().await;
    let form = Form::new()
        .part("file", file("geysers.txt", "text/plain", b"Geysers erupt."))
        .text("metadata", "{\"a\": 1}")
        .text("collection", "up");
    let accepted = upload(&server, form).await;
    assert_eq!(accepted.status, 202, "{}", accepted.json);
    let document = server.get(accepted.header("location")).await.json;
    assert_eq!(
        (&document["title"], &document["metadata"], &document["collection"]),
        (&json!("geysers.txt"), &json!({"a": 1}), &json!("up"))
    );

    let form = Form::new().part("other", file("a.txt", "text/plain", b"x"));
    assert_eq!(upload(&server, form).await.problem(422), ["other", "file"]);
    let form = Form::new().part("file", file("a.txt", "text/plain", b""));
    assert_eq!(upload(&server, form).await.problem(422), ["file"]);
    let form = Form::new().part("file", file("a.txt", "text/plain", b"\xff\xfe"));
    assert_eq!(upload(&server, form).await.problem(422), ["file"]);
    let form = Form::new().part("file", file("a.txt", "text/plain", b"x")).text("metadata", "{broken");
    assert_eq!(upload(&server, form).await.problem(422), ["metadata"]);
    let form = Form::new().part("file", file("a.png", "image/png", b"\x89PNG"));
    upload(&server, form).await.problem(415);
    let request = server.http.post(format!("{}/v1/documents", server.url));
    answer(request.header("content-type", "multipart/form-data; boundary=b").body("--b\r\nbroken")).await.problem(400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keyword_search_works_without_a_model() {
    let server = start().await;
    // no model, no vectors: nothing is found, and nothing breaks
    let found = server.post("/v1/search", &json!({"query": "salmon", "mode": "keyword"})).await;
    assert_eq!((found.status, found.json), (200, json!({"hits": []})));
    // U+0000 is in no stored text, so it finds nothing and breaks nothing
    let odd = json!({"query": "a b", "mode": "keyword", "collection": "c\0", "filter": {"k\0": "v\0"}});
    assert_eq!(server.post("/v1/search", &odd).await.json, json!({"hits": []}));
    assert_eq!(server.get("/v1/documents?collection=%00").await.json["items"], json!([]));
    assert_eq!(server.get("/v1/events?type=%00").await.json["items"], json!([]));
    let refused = server.post("/v1/search", &json!({"query": "salmon", "mode": "vector"})).await;
    refused.problem(503);
    assert!(!refused.header("retry-after").is_empty());
}
