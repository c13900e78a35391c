use redis::AsyncCommands;
use serde_json::{Value, json};

use crate::server::{Server, start};
use crate::tasks::connection;

async fn queue(server: &Server, name: &str) -> Value {
    let list = server.get("/v1/queues").await;
    assert_eq!(list.status, 200, "{}", list.json);
    let items = list.json["items"].as_array().unwrap().clone();
    items.into_iter().find(|queue| queue["name"] == name).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_shows_what_waits_by_priority() {
    let server = start().await;
    // the bindings are known from now on for a while: a new queue shows all the same
    assert_eq!(queue(&server, "celery").await["name"], "celery");
    for priority in [0, 2, 3, 9, 9] {
        let body = json!({"task": "demo.add", "args": [1, 1], "queue": server.queue, "priority": priority});
        assert_eq!(server.post("/v1/tasks", &body).await.status, 202);
    }
    let priorities = json!({"0": 2, "3": 1, "6": 0, "9": 2});
    assert_eq!(
        queue(&server, &server.queue).await,
        json!({"name": server.queue, "length": 5, "unacked": 0, "priorities": priorities})
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_counts_for_its_queue() {
    let server = start().await;
    let mut redis = connection(&server).await;
    // by a binding of another name, as a Python application may declare it; in a queue with an awkward name
    let (bound, awkward) = (format!("{}-bound", server.queue), format!("{}-\"ü}}", server.queue));
    let exchange = format!("exchange-{}", server.queue);
    let _: () =
        redis.sadd(format!("_kombu.binding.{exchange}"), format!("key\u{6}\u{16}\u{6}\u{16}{bound}")).await.unwrap();
    let mut tags = Vec::new();
    for (exchange, key) in [(exchange.as_str(), "key"), (exchange.as_str(), "key"), ("", awkward.as_str())] {
        let entry = json!([{"body": "}", "properties": {}}, exchange, key]);
        let tag = uuid::Uuid::new_v4().to_string();
        let _: () = redis.hset("unacked", &tag, entry.to_string()).await.unwrap();
        tags.push(tag);
    }
    let held = (queue(&server, &bound).await["unacked"].clone(), queue(&server, &awkward).await["unacked"].clone());
    let _: () = redis.hdel("unacked", tags).await.unwrap();
    assert_eq!(held, (json!(2), json!(1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_worker_the_list_of_workers_is_empty() {
    let server = start().await;
    assert_eq!(server.get("/v1/workers").await.json, json!({"items": []}));
}
