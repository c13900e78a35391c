use std::time::{Duration, Instant};

use redis::AsyncCommands;
use sea_orm::sqlx::Executor;
use serde_json::{Value, json};

use crate::server::{Server, start, start_beside_worker};

/// The message of a task on a queue, as a worker would find it.
pub(crate) async fn message_of(server: &Server, queue: &str, task_id: &str) -> Value {
    let mut redis = connection(server).await;
    let begun = Instant::now();
    loop {
        for list in [queue.to_owned(), format!("{queue}\u{6}\u{16}3")] {
            let texts: Vec<String> = redis.lrange(&list, 0, -1).await.unwrap();
            let messages = texts.iter().map(|text| serde_json::from_str::<Value>(text).unwrap());
            if let Some(found) = messages.into_iter().find(|message| message["headers"]["id"] == task_id) {
                return found;
            }
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "no message of {task_id} on {queue}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) async fn connection(server: &Server) -> redis::aio::MultiplexedConnection {
    redis::Client::open(server.redis_url.as_str()).unwrap().get_multiplexed_async_connection().await.unwrap()
}

/// Stores a result as a worker does.
async fn store(server: &Server, task_id: &str, meta: &Value) {
    let _: () =
        connection(server).await.set_ex(format!("celery-task-meta-{task_id}"), meta.to_string(), 60).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_becomes_a_celery_message() {
    let server = start().await;
    let body = json!({
        "task": "demo.add", "args": [2], "kwargs": {"y": 3}, "queue": server.queue, "priority": 3, "time_limit": 9.5,
        "headers": {"mine": "x"}, "link": [{"task": "demo.echo", "args": [1], "immutable": true}],
    });
    let sent = server.post("/v1/tasks", &body).await;
    assert_eq!((sent.status, &sent.json["state"]), (202, &json!("PENDING")), "{}", sent.json);
    let task_id = sent.json["task_id"].as_str().unwrap();
    assert_eq!(sent.header("location"), format!("/v1/tasks/{task_id}"));
    let message = message_of(&server, &server.queue, task_id).await;
    let headers = &message["headers"];
    assert_eq!((&headers["task"], &headers["mine"]), (&json!("demo.add"), &json!("x")));
    assert_eq!(headers["request_id"], sent.header("x-request-id"));
    assert_eq!(headers["timelimit"], json!([9.5, null]));
    assert_eq!((&headers["argsrepr"], &headers["kwargsrepr"]), (&json!("(2,)"), &json!("{'y': 3}")));
    assert_eq!(message["properties"]["priority"], 3);

    let waiting = server.get(sent.header("location")).await.json;
    assert_eq!(
        (&waiting["state"], &waiting["name"], &waiting["result"]),
        (&json!("PENDING"), &json!("demo.add"), &json!(null))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn integers_keep_all_their_digits() {
    let server = start().await;
    let text =
        format!(r#"{{"task": "demo.echo", "args": [1000000000000000000000000000007], "queue": "{}"}}"#, server.queue);
    let sent = server.post_text("/v1/tasks", &text).await;
    let task_id = sent.json["task_id"].as_str().unwrap().to_owned();
    let mut redis = connection(&server).await;
    let texts: Vec<String> = redis.lrange(&server.queue, 0, -1).await.unwrap();
    let message: Value = serde_json::from_str(&texts[0]).unwrap();
    assert!(message["headers"]["argsrepr"].as_str().unwrap().contains("1000000000000000000000000000007"));
    let stored =
        format!(r#"{{"status": "SUCCESS", "result": 1000000000000000000000000000007, "task_id": "{task_id}"}}"#);
    let _: () = redis.set_ex(format!("celery-task-meta-{task_id}"), stored, 60).await.unwrap();
    let answer =
        server.http.get(format!("{}/v1/tasks/{task_id}", server.url)).send().await.unwrap().text().await.unwrap();
    assert!(answer.contains("\"result\":1000000000000000000000000000007"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_and_failures_are_shown() {
    let server = start().await;
    let id = uuid::Uuid::new_v4().to_string();
    let done = "2030-01-01T00:00:00+00:00";
    store(&server, &id, &json!({"status": "SUCCESS", "result": 5, "date_done": done, "task_id": id, "name": "demo.add", "worker": "w@h"})).await;
    let task = server.get(&format!("/v1/tasks/{id}")).await.json;
    assert_eq!(
        task,
        json!({"task_id": id, "state": "SUCCESS", "result": 5, "error": null, "name": "demo.add", "worker": "w@h", "date_done": done})
    );
    let error = json!({"exc_type": "ValueError", "exc_message": ["boom"], "exc_module": "builtins"});
    store(&server, &id, &json!({"status": "FAILURE", "result": error, "traceback": "Traceback: boom", "task_id": id}))
        .await;
    let task = server.get(&format!("/v1/tasks/{id}")).await.json;
    assert_eq!(task["error"], json!({"type": "ValueError", "message": "boom", "traceback": "Traceback: boom"}));
    assert_eq!(task["result"], json!(null));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_leaves_the_outbox_just_then_is_known() {
    let server = start().await;
    let mut database = server.database().await;
    let id = uuid::Uuid::new_v4().to_string();
    // Redis was asked already, and the outbox answers late.
    database.execute("BEGIN; LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let path = format!("/v1/tasks/{id}");
    let asked = server.get(&path);
    let published = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        store(&server, &id, &json!({"status": "STARTED", "result": null, "task_id": id})).await;
        database.execute("ROLLBACK").await.unwrap();
    };
    let (found, ()) = tokio::join!(asked, published);
    assert_eq!((found.status, &found.json["state"]), (200, &json!("STARTED")), "{}", found.json);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_ends_with_the_task_or_in_time() {
    let server = start().await;
    let sent = server.post("/v1/tasks", &json!({"task": "demo.add", "queue": server.queue})).await;
    let path = sent.header("location").to_owned();
    let begun = Instant::now();
    assert_eq!(server.get(&format!("{path}?wait=0.5")).await.json["state"], "PENDING");
    assert!((0.4..3.0).contains(&begun.elapsed().as_secs_f64()), "{:?}", begun.elapsed());
    for wait in ["61", "-1", "x", "NaN", "1e9"] {
        assert_eq!(server.get(&format!("{path}?wait={wait}")).await.problem(422), ["wait"]);
    }
    server.get("/v1/tasks/6f2d3a10-0000-4000-8000-0123456789ab?wait=5").await.problem(404);
    let id = sent.json["task_id"].as_str().unwrap();
    let waiter = server.http.get(format!("{}{path}?wait=20", server.url)).send();
    let worker = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        store(&server, id, &json!({"status": "SUCCESS", "result": 1, "task_id": id})).await;
        let published = json!({"status": "SUCCESS", "result": 1, "task_id": id}).to_string();
        let _: i64 = connection(&server).await.publish(format!("celery-task-meta-{id}"), published).await.unwrap();
    };
    let begun = Instant::now();
    let (answer, ()) = tokio::join!(waiter, worker);
    assert_eq!(answer.unwrap().json::<Value>().await.unwrap()["state"], "SUCCESS");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_follows_a_task_to_its_end() {
    let server = start().await;
    let sent = server.post("/v1/tasks", &json!({"task": "demo.progress", "queue": server.queue})).await;
    let id = sent.json["task_id"].as_str().unwrap();
    let stream = server.http.get(format!("{}/v1/tasks/{id}/events", server.url)).send();
    let worker = async {
        for (status, result) in
            [("PROGRESS", json!({"step": 1})), ("PROGRESS", json!({"step": 2})), ("SUCCESS", json!("done"))]
        {
            tokio::time::sleep(Duration::from_millis(500)).await;
            store(&server, id, &json!({"status": status, "result": result, "task_id": id})).await;
        }
    };
    let (stream, ()) = tokio::join!(async { stream.await.unwrap().text().await.unwrap() }, worker);
    let events: Vec<_> = stream
        .split("\n\n")
        .filter_map(|event| {
            let name = event.lines().find_map(|line| line.strip_prefix("event:"))?.trim().to_owned();
            let data: Value = serde_json::from_str(event.lines().find_map(|line| line.strip_prefix("data:"))?).unwrap();
            Some((name, data["state"].as_str().or(data["step"].as_i64().map(|_| "step")).unwrap().to_owned()))
        })
        .collect();
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(
        events,
        [pair("state", "PENDING"), pair("progress", "step"), pair("progress", "step"), pair("state", "SUCCESS")],
        "{stream}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn not_every_task_may_be_sent() {
    let server = start_beside_worker().await;
    for name in ["celery.backend_cleanup", "celery.chord_unlock"] {
        server.post("/v1/tasks", &json!({"task": name})).await.problem(403);
        server.post("/v1/tasks", &json!({"task": "demo.add", "link": [{"task": name}]})).await.problem(403);
    }
    server.post("/v1/tasks", &json!({"task": format!("no.such.{}", server.queue)})).await.problem(404);
    server.get("/v1/tasks/6f2d3a10-0000-4000-8000-0123456789ab").await.problem(404);
    server.delete("/v1/tasks/6f2d3a10-0000-4000-8000-0123456789ab").await.problem(404);
    let sent = server.post("/v1/tasks", &json!({"task": "demo.add", "queue": server.queue})).await;
    assert_eq!(server.delete(sent.header("location")).await.status, 202);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_lets_requests_end() {
    let mut server = start().await;
    let sent = server.post("/v1/tasks", &json!({"task": "demo.add", "queue": server.queue})).await;
    let waiter = tokio::spawn(server.http.get(format!("{}{}?wait=1", server.url, sent.header("location"))).send());
    let long = tokio::spawn(server.http.get(format!("{}{}?wait=50", server.url, sent.header("location"))).send());
    let stream = tokio::spawn(server.http.get(format!("{}{}/events", server.url, sent.header("location"))).send());
    tokio::time::sleep(Duration::from_millis(300)).await;
    let begun = Instant::now();
    server.stop().await;
    // who waits gets what there is, and a stream ends, well before the grace is over
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert_eq!(waiter.await.unwrap().unwrap().status(), 200);
    assert_eq!(long.await.unwrap().unwrap().json::<Value>().await.unwrap()["state"], "PENDING");
    assert!(stream.await.unwrap().unwrap().text().await.unwrap().contains("PENDING"));
    assert!(server.http.get(server.url.clone() + "/health").send().await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recent_tasks_are_listed_as_events_tell_of_them() {
    let server = start().await;
    let name = format!("demo.{}", server.queue);
    let id = uuid::Uuid::new_v4().to_string();
    let sent = server.post("/v1/tasks", &json!({"task": "demo.add", "queue": server.queue})).await;
    let newest = server.get("/v1/tasks?limit=1").await.json;
    assert_eq!(
        (&newest["items"][0]["task_id"], &newest["items"][0]["state"]),
        (&sent.json["task_id"], &json!("PENDING"))
    );
    assert_eq!(newest["items"][0]["queue"], server.queue);
    assert_eq!(server.get("/v1/tasks?cursor=x").await.problem(422), ["cursor"]);
    // as a worker tells, a Python one too
    let events = json!([
        {"type": "task-received", "uuid": id, "name": name, "hostname": "w@h", "timestamp": 1.0, "clock": 1},
        {"type": "task-failed", "uuid": id, "exception": "ValueError('x')", "hostname": "w@h", "timestamp": 2.0, "clock": 2},
    ]);
    let body = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, events.to_string());
    let envelope = json!({
        "body": body, "content-encoding": "utf-8", "content-type": "application/json", "headers": {},
        "properties": {"body_encoding": "base64", "delivery_tag": "t", "delivery_info": {"exchange": "celeryev", "routing_key": "task.multi"}},
    });
    let database = server.redis_url.rsplit_once('/').unwrap().1;
    let begun = Instant::now();
    loop {
        let told = envelope.to_string();
        let _: i64 = connection(&server).await.publish(format!("/{database}.celeryev/task.multi"), told).await.unwrap();
        let list = server.get(&format!("/v1/tasks?name={name}&state=FAILURE&worker=w@h")).await.json;
        if let Some(task) = list["items"].get(0) {
            assert_eq!((&task["task_id"], &task["error"]), (&json!(id), &json!("ValueError('x')")));
            assert_eq!(list["next_cursor"], json!(null));
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "the event was not heard");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(
        server.get(&format!("/v1/tasks?name={name}&state=SUCCESS")).await.json["items"].as_array().unwrap().is_empty()
    );
}
