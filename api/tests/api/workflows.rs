use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use redis::AsyncCommands;
use serde_json::{Value, json};

use crate::server::{Server, start};
use crate::tasks::{connection, message_of};

fn step(server: &Server, args: Value) -> Value {
    json!({"task": "demo.add", "args": args, "queue": server.queue})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_is_sent_by_its_first_step() {
    let server = start().await;
    let mut second = step(&server, json!([3]));
    second["countdown"] = json!(2.5);
    second["immutable"] = json!(true);
    let sent = server.post("/v1/workflows", &json!({"chain": [step(&server, json!([1, 2])), second]})).await;
    assert_eq!((sent.status, &sent.json["state"]), (202, &json!("PENDING")), "{}", sent.json);
    assert_eq!(sent.json["group_id"], json!(null));
    let task_id = sent.json["task_id"].as_str().unwrap();
    assert_eq!(sent.header("location"), format!("/v1/tasks/{task_id}"));
    let texts: Vec<String> = connection(&server).await.lrange(&server.queue, 0, -1).await.unwrap();
    assert_eq!(texts.len(), 1);
    let message: Value = serde_json::from_str(&texts[0]).unwrap();
    assert_eq!(message["headers"]["request_id"], sent.header("x-request-id"));
    let first = message["headers"]["id"].as_str().unwrap();
    assert_ne!(first, task_id);
    // the step that waits is known, too, and so is its own request
    for id in [first, task_id] {
        let task = server.get(&format!("/v1/tasks/{id}")).await.json;
        assert_eq!((&task["state"], &task["name"]), (&json!("PENDING"), &json!("demo.add")));
    }
    let later = chain_of(&message);
    assert_eq!(later["options"]["countdown"], json!(2.5));
    assert_eq!(later["options"]["headers"]["request_id"], sent.header("x-request-id"));
    assert_eq!((&later["immutable"], &later["options"]["task_id"]), (&json!(true), &json!(task_id)));
}

/// The one step that a message carries along.
fn chain_of(message: &Value) -> Value {
    let body = STANDARD.decode(message["body"].as_str().unwrap()).unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    body[2]["chain"][0].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_is_joined_by_one_task_and_saved_for_python() {
    let server = start().await;
    let steps: Vec<_> = (0..3).map(|n| step(&server, json!([n, n]))).collect();
    let sent = server.post("/v1/workflows", &json!({"group": steps})).await;
    assert_eq!(sent.status, 202, "{}", sent.json);
    let (task_id, group_id) = (sent.json["task_id"].as_str().unwrap(), sent.json["group_id"].as_str().unwrap());
    let mut redis = connection(&server).await;
    let saved: String = redis.get(format!("celery-taskset-meta-{group_id}")).await.unwrap();
    let saved: Value = serde_json::from_str(&saved).unwrap();
    assert_eq!(saved["result"][0], json!([group_id, null]));
    let members = saved["result"][1].as_array().unwrap();
    assert_eq!(members.len(), 3);
    for member in members {
        let id = member[0][0].as_str().unwrap();
        let message = message_of(&server, &server.queue, id).await;
        assert_eq!(message["headers"]["group"], group_id);
    }
    let size: usize = redis.get(format!("celery-taskset-meta-{group_id}.s")).await.unwrap();
    assert_eq!(size, 3);
    let task = server.get(&format!("/v1/tasks/{task_id}")).await.json;
    assert_eq!((&task["state"], &task["name"]), (&json!("PENDING"), &json!("celery.accumulate")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_at_the_end_of_a_chain_is_joined_as_well() {
    let server = start().await;
    let group = json!({"group": [step(&server, json!([1])), step(&server, json!([2]))]});
    let sent = server.post("/v1/workflows", &json!({"chain": [step(&server, json!([1, 1])), group]})).await;
    let group_id = sent.json["group_id"].as_str().unwrap();
    let saved: String = connection(&server).await.get(format!("celery-taskset-meta-{group_id}")).await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(&saved).unwrap()["result"][1].as_array().unwrap().len(), 2);
    let task = server.get(sent.header("location")).await.json;
    assert_eq!(task["name"], "celery.accumulate");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_sent_is_named() {
    let server = start().await;
    let add = || step(&server, json!([1, 1]));
    let with = |name: &str, value: Value| {
        let mut step = add();
        step[name] = value;
        step
    };
    let id = "6f2d3a10-0000-4000-8000-0123456789ab";
    let mut both = with("eta", json!("2030-01-01T00:00:00Z"));
    both["countdown"] = json!(1);
    for (body, field) in [
        (json!({"chain": []}), "chain"),
        (json!({"group": []}), "group"),
        (json!({"chain": "x"}), "chain"),
        (json!({"chain": [5]}), "chain[0]"),
        (json!({"chain": [{}]}), "chain[0]"),
        (json!({"chain": [add()], "group": [add()]}), "group"),
        (json!({"chain": [add()], "surprise": 1}), "surprise"),
        (json!({"map": []}), "map"),
        (json!({"task": "demo.add"}), "task"),
        (json!({}), "body"),
        (json!({"chord": []}), "chord"),
        (json!({"chord": {"header": [add()]}}), "chord.body"),
        (json!({"chord": {"body": add()}}), "chord.header"),
        (json!({"chord": {"header": [], "body": add()}}), "chord.header"),
        (json!({"chain": [add(), with("priority", json!(77))]}), "chain[1].priority"),
        (json!({"group": [{"chain": [add(), both]}]}), "group[0].chain[1].countdown"),
        (json!({"group": [with("headers", json!({"id": 1}))]}), "group[0].headers.id"),
        (json!({"group": [with("task_id", json!(id)), with("task_id", json!(id))]}), "group[1].task_id"),
    ] {
        let answer = server.post("/v1/workflows", &body).await;
        let named = answer.problem(422);
        assert!(named.contains(&field.to_owned()), "{body}: {named:?}");
    }
    let celerys = json!({"chain": [add(), {"chord": {"header": [add()], "body": {"task": "celery.backend_cleanup"}}}]});
    server.post("/v1/workflows", &celerys).await.problem(403);
    let linked = json!({"group": [with("link", json!([{"task": "celery.chord_unlock"}]))]});
    server.post("/v1/workflows", &linked).await.problem(403);
    let texts: Vec<String> = connection(&server).await.lrange(&server.queue, 0, -1).await.unwrap();
    assert!(texts.is_empty(), "something was sent all the same");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workflow_that_would_fill_memory_is_refused() {
    let server = start().await;
    let header: Vec<_> = (0..5000).map(|_| json!({"task": "demo.echo", "args": [1], "queue": server.queue})).collect();
    let body = json!({"task": "demo.echo", "args": ["x".repeat(100_000)]});
    let answer = server.post("/v1/workflows", &json!({"chord": {"header": header, "body": body}})).await;
    assert_eq!(answer.problem(422), ["chord"]);
}
