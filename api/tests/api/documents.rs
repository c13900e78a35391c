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
    // what cannot be read becomes a document that failed, with the reason
    for bytes in [&b""[..], b"\xff\xfe"] {
        let form = Form::new().part("file", file("a.txt", "text/plain", bytes));
        assert_eq!(upload(&server, form).await.status, 202);
    }
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_is_handed_in_again_under_its_id() {
    let server = start().await;
    let body = json!({"text": "Herons.", "title": "birds", "metadata": {"n": 1}});
    let first = server.post("/v1/documents", &body).await;
    let path = first.header("location").to_owned();
    let put = async |path: &str, body: &serde_json::Value| {
        answer(server.http.put(server.url.clone() + path).json(body)).await
    };
    let again = put(&path, &json!({"text": "Storks.", "collection": "c"})).await;
    assert_eq!((again.status, &again.json["id"]), (202, &first.json["id"]), "{}", again.json);
    assert_eq!(again.header("location"), path);
    assert_ne!(again.json["task_id"], first.json["task_id"]);
    let document = server.get(&path).await.json;
    assert_eq!((&document["revision"], &document["state"]), (&json!(2), &json!("queued")));
    assert_eq!((&document["title"], &document["metadata"]), (&json!(null), &json!({})));
    assert_eq!((&document["collection"], &document["task_id"]), (&json!("c"), &again.json["task_id"]));
    let form = Form::new().part("file", file("a.md", "text/markdown", b"# Storks"));
    let uploaded = answer(server.http.put(server.url.clone() + &path).multipart(form)).await;
    assert_eq!(uploaded.status, 202, "{}", uploaded.json);
    assert_eq!(server.get(&path).await.json["media_type"], "text/markdown");
    put("/v1/documents/6f2d3a10-0000-4000-8000-0123456789ab", &body).await.problem(404);
    assert_eq!(put(&path, &json!({"text": ""})).await.problem(422), ["text"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn duplicates_are_found_by_their_content() {
    let server = start().await;
    let body = json!({"text": "Herons.", "collection": "c"});
    let first = server.post("/v1/documents", &body).await;
    assert_eq!(server.post("/v1/documents", &body).await.status, 202);
    let there = server.post("/v1/documents?on_duplicate=existing", &body).await;
    assert_eq!((there.status, &there.json["id"]), (200, &first.json["id"]));
    assert_eq!(there.header("location"), first.header("location"));
    let refused = server.post("/v1/documents?on_duplicate=refuse", &body).await;
    refused.problem(409);
    assert!(refused.json["detail"].as_str().unwrap().contains(first.json["id"].as_str().unwrap()));
    let hash = server.get(first.header("location")).await.json["content_hash"].as_str().unwrap().to_owned();
    let twins = server.get(&format!("/v1/documents?content_hash={hash}")).await.json;
    assert_eq!(twins["items"].as_array().unwrap().len(), 2);
    assert_eq!(server.post("/v1/documents?on_duplicate=x", &body).await.problem(422), ["on_duplicate"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_that_is_sent_again_with_its_key_is_stored_once() {
    let server = start().await;
    let send = async |text: &str| {
        let request = server.http.post(format!("{}/v1/documents", server.url)).header("idempotency-key", "one");
        answer(request.json(&json!({"text": text, "collection": "once"}))).await
    };
    let (first, second) = (send("Herons.").await, send("Herons.").await);
    assert_eq!((first.status, second.status, &first.json), (202, 202, &second.json));
    assert_eq!(first.header("location"), second.header("location"));
    send("Storks.").await.problem(409);
    assert_eq!(server.get("/v1/documents?collection=once").await.json["items"].as_array().unwrap().len(), 1);
    // once the document is deleted, its key asks for it anew
    server.delete(first.header("location")).await;
    let (third, fourth) = tokio::join!(send("Herons."), send("Herons."));
    assert_eq!((third.status, &third.json), (202, &fourth.json));
    assert_ne!(third.json["id"], first.json["id"]);
    assert_eq!(server.get(third.header("location")).await.status, 200);
    assert_eq!(server.get("/v1/documents?collection=once").await.json["items"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stream_of_a_document_tells_its_states_and_progress() {
    let server = start().await;
    let created = server.post("/v1/documents", &json!({"text": "Herons."})).await;
    let path = created.header("location").to_owned();
    let id = created.json["id"].as_str().unwrap().to_owned();
    let mut sql = server.database().await;
    let stream = tokio::spawn({
        let (http, url) = (server.http.clone(), format!("{}{path}/events", server.url));
        async move { http.get(url).send().await.unwrap().text().await.unwrap() }
    });
    for change in
        ["state = 'processing'", "chunks = 2, chunks_done = 0", "chunks_done = 1", "state = 'ready', chunks_done = 2"]
    {
        tokio::time::sleep(std::time::Duration::from_millis(600)).await;
        let statement = format!("UPDATE documents SET {change} WHERE id = '{id}'");
        sea_orm::sqlx::query(sea_orm::sqlx::AssertSqlSafe(statement)).execute(&mut sql).await.unwrap();
    }
    let text = tokio::time::timeout(std::time::Duration::from_secs(20), stream).await.unwrap().unwrap();
    let kinds: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("event:")).map(str::trim).collect();
    assert_eq!(kinds, ["state", "state", "progress", "progress", "state"], "{text}");
    assert!(text.lines().rfind(|line| line.starts_with("data:")).unwrap().contains("\"state\":\"ready\""), "{text}");
    server.delete(&path).await;
    server.get(&format!("{path}/events")).await.problem(404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn collections_are_listed_looked_at_and_deleted() {
    let server = start().await;
    for (collection, count) in [("b/c ü", 2), ("a", 1), ("d", 1)] {
        for n in 0..count {
            let body = json!({"text": format!("{n}"), "collection": collection});
            assert_eq!(server.post("/v1/documents", &body).await.status, 202);
        }
    }
    let names = |page: &serde_json::Value| {
        let items = page["items"].as_array().unwrap();
        items.iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let first = server.get("/v1/collections?limit=2").await.json;
    assert_eq!(names(&first), ["a", "b/c ü"]);
    assert_eq!(first["next_cursor"], "b/c ü");
    let rest = server.get("/v1/collections?limit=2&cursor=b%2Fc%20%C3%BC").await.json;
    assert_eq!((names(&rest), &rest["next_cursor"]), (vec!["d".to_owned()], &json!(null)));
    let path = "/v1/collections/b%2Fc%20%C3%BC";
    let one = server.get(path).await.json;
    assert_eq!((&one["documents"], &one["queued"], &one["ready"]), (&json!(2), &json!(2), &json!(0)));
    assert_eq!(server.delete(path).await.status, 204);
    server.get(path).await.problem(404);
    server.delete(path).await.problem(404);
    server.get("/v1/collections/a%00").await.problem(404);
    assert_eq!(server.get("/v1/documents").await.json["items"].as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_a_filter_is_named() {
    let server = start().await;
    let search = async |filter: serde_json::Value| {
        server.post("/v1/search", &json!({"query": "x", "mode": "keyword", "filter": filter})).await
    };
    let wrong = json!({"year": {"$gte": true, "$near": 3}, "$or": [{"a": {"$in": []}}]});
    assert_eq!(search(wrong).await.problem(422), ["filter.year.$gte", "filter.year.$near", "filter.$or[0].a.$in"]);
    for fine in [json!({}), json!(null), json!({"year": {"$gte": 1840}, "$not": {"x": null}, "": ["", 1.5, false]})] {
        assert_eq!(search(fine.clone()).await.status, 200, "{fine}");
    }
    let question = json!({"question": "x", "filter": {"a": {"b": 1}}});
    assert_eq!(server.post("/v1/answers", &question).await.problem(422), ["filter.a.b"]);
    let event = json!({"type": "question.answer", "data": question});
    assert_eq!(server.post("/v1/events", &event).await.problem(422), ["data.filter.a.b"]);
}
