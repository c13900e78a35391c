//! Questions become tasks, and streams of what the task says.

use std::time::Duration;

use petiole_client::{Client, ClientConfig};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::server::{Server, start};
use crate::tasks::message_of;

const KEPT: Duration = Duration::from_secs(60);

fn worker(server: &Server) -> Client {
    Client::new(ClientConfig::new(&server.redis_url, &server.redis_url)).unwrap()
}

fn result() -> Value {
    json!({
        "answer": "Sharks do [1].", "model": "extractive", "truncated": false, "prompt": null, "conversation_id": null,
        "citations": [{
            "number": 1, "document_id": Uuid::new_v4(), "chunk_id": Uuid::new_v4(), "title": null,
            "text": "Sharks sense electric fields.", "score": 0.75,
        }],
    })
}

/// Stores and announces a result, as Celery's backend does.
async fn store(client: &Client, task_id: &str, status: &str, result: &Value) {
    let meta = json!({"status": status, "result": result, "task_id": task_id, "traceback": null, "children": []});
    let (key, meta) = (client.backend().task_key(task_id), meta.to_string());
    let mut pipe = redis::pipe();
    pipe.atomic().set_ex(&key, &meta, 60).ignore().publish(&key, &meta).ignore();
    pipe.exec_async(&mut client.backend().connection()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_becomes_a_task() {
    let server = start().await;
    let talk = Uuid::new_v4();
    let body = json!({"question": "Who?", "top_k": 3, "collection": "c", "filter": {"a": 1}, "conversation_id": talk});
    let sent = server.post("/v1/answers", &body).await;
    assert_eq!((sent.status, &sent.json["state"]), (202, &json!("PENDING")), "{}", sent.json);
    let task_id = sent.json["task_id"].as_str().unwrap();
    assert_eq!(sent.header("location"), format!("/v1/tasks/{task_id}"));
    let message = message_of(&server, "celery", task_id).await;
    assert_eq!(message["headers"]["task"], "answers.generate");
    assert_eq!(message["headers"]["request_id"], sent.header("x-request-id"));
    let waiting = server.get(sent.header("location")).await.json;
    assert_eq!((&waiting["state"], &waiting["name"]), (&json!("PENDING"), &json!("answers.generate")));
}

/// The events of a stream, as pairs of name and data, as far as they have come.
fn events(text: &str) -> Vec<(String, Value)> {
    let event = |block: &str| {
        let field =
            |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(|text| text.trim().to_owned());
        Some((field("event:")?, serde_json::from_str(&field("data:")?).unwrap()))
    };
    text.split("\n\n").filter_map(event).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_passes_on_what_the_task_says_as_it_says_it() {
    let server = start().await;
    let worker = worker(&server);
    let request = server.http.post(format!("{}/v1/answers", server.url)).header("accept", "text/event-stream");
    let mut response = request.json(&json!({"question": "Who?"})).send().await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-type"]),
        (200, &"text/event-stream".parse().unwrap())
    );
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    let task_id = location.strip_prefix("/v1/tasks/").unwrap();
    message_of(&server, "celery", task_id).await;
    worker.backend().add_tokens(task_id, "1", &["Sharks ".into()], KEPT).await.unwrap();
    let mut text = String::new();
    while events(&text).is_empty() {
        let chunk =
            tokio::time::timeout(Duration::from_secs(5), response.chunk()).await.expect("the token is held back");
        text.push_str(std::str::from_utf8(&chunk.unwrap().unwrap()).unwrap());
    }
    worker.backend().add_tokens(task_id, "1", &["do\n".into(), "[1].".into()], KEPT).await.unwrap();
    let result = result();
    store(&worker, task_id, "SUCCESS", &result).await;
    text.push_str(&response.text().await.unwrap());
    let events = events(&text);
    let names: Vec<_> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["token", "token", "token", "done"]);
    let words: Vec<_> = events[..3].iter().map(|(_, data)| data["text"].as_str().unwrap()).collect();
    assert_eq!(words, ["Sharks ", "do\n", "[1]."]);
    assert_eq!(events[3].1, result);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_is_a_problem_at_the_end_of_the_stream() {
    let server = start().await;
    let worker = worker(&server);
    let request = server.http.post(format!("{}/v1/answers", server.url)).header("accept", "text/event-stream");
    let response = request.json(&json!({"question": "Who?"})).send().await.unwrap();
    let request_id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    let failure = json!({"exc_type": "RuntimeError", "exc_message": ["no more money"], "exc_module": "builtins"});
    store(&worker, location.strip_prefix("/v1/tasks/").unwrap(), "FAILURE", &failure).await;
    let events = events(&response.text().await.unwrap());
    assert_eq!(events.len(), 1);
    let (name, problem) = &events[0];
    assert_eq!((name.as_str(), &problem["status"]), ("error", &json!(502)));
    assert_eq!((&problem["detail"], &problem["request_id"]), (&json!("no more money"), &json!(request_id)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_question_is_refused_also_as_a_stream() {
    let server = start().await;
    for (body, field) in [
        (json!({}), "question"),
        (json!({"question": " "}), "question"),
        (json!({"question": "x\u{0}"}), "question"),
        (json!({"question": "x", "top_k": 0}), "top_k"),
        (json!({"question": "x", "conversation_id": "talk"}), "conversation_id"),
        (json!({"question": "x", "surprise": 1}), "surprise"),
        (json!({"question": "x", "collection": "\u{0}"}), "collection"),
    ] {
        assert_eq!(server.post("/v1/answers", &body).await.problem(422), [field]);
        let request = server.http.post(format!("{}/v1/answers", server.url)).header("accept", "text/event-stream");
        assert_eq!(crate::server::answer(request.json(&body)).await.problem(422), [field]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_is_read_and_forgotten() {
    let server = start().await;
    let talk = Uuid::new_v4();
    let path = format!("/v1/conversations/{talk}");
    server.get(&path).await.problem(404);
    let mut database = server.database().await;
    let sql = "INSERT INTO conversation_turns (conversation_id, task_id, question, answer, citations, model)
        VALUES ($1, 't', 'Who?', 'Sharks [1].', '[{\"number\": 1}]', 'extractive')";
    sea_orm::sqlx::query(sql).bind(talk).execute(&mut database).await.unwrap();
    let read = server.get(&path).await;
    assert_eq!(read.json["id"], json!(talk));
    assert_eq!(
        (&read.json["items"][0]["question"], &read.json["items"][0]["citations"][0]["number"]),
        (&json!("Who?"), &json!(1))
    );
    assert_eq!(server.delete(&path).await.status, 204);
    server.get(&path).await.problem(404);
    server.delete(&path).await.problem(404);
}
