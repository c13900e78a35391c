use redis::AsyncCommands;
use serde_json::{Value, json};

use crate::server::{Server, start};
use crate::tasks::connection;

/// Dead letters as a worker leaves them; all servers of the tests share one Redis.
async fn leave(server: &Server, count: usize) -> Vec<String> {
    let mut redis = connection(server).await;
    let mut ids = vec![];
    for n in 0..count {
        let id = uuid::Uuid::new_v4().to_string();
        let message = json!({"body": "W10=", "headers": {"task": "demo.add", "redelivered": true}, "properties": {
            "delivery_tag": id, "priority": 3, "delivery_info": {"redelivered": true}}});
        let letter = json!({"id": id, "task": "demo.add", "task_id": null, "queue": server.queue, "reason": "lost",
            "redeliveries": 4, "worker": "w@h", "time": "2026-01-01T00:00:00+00:00", "message": message.to_string()});
        let later_than_all = 4_000_000_000.0 + n as f64;
        let _: () = redis.hset("petiole:dead:letters", &id, letter.to_string()).await.unwrap();
        let _: () = redis.zadd("petiole:dead", &id, later_than_all).await.unwrap();
        ids.push(id);
    }
    ids.reverse();
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_listed_sent_again_and_thrown_away() {
    let server = start().await;
    let ids = leave(&server, 3).await;
    let page = server.get("/v1/dead-letters?limit=2").await;
    assert_eq!(page.status, 200, "{}", page.json);
    let shown = |page: &Value| -> Vec<String> {
        page["items"].as_array().unwrap().iter().map(|letter| letter["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(shown(&page.json), ids[..2]);
    assert_eq!(
        (page.json["items"][0]["reason"].as_str(), page.json["items"][0]["redeliveries"].as_u64()),
        (Some("lost"), Some(4))
    );
    let cursor = page.json["next_cursor"].as_str().unwrap();
    assert_eq!(shown(&server.get(&format!("/v1/dead-letters?cursor={cursor}")).await.json)[0], ids[2]);

    let replay = format!("/v1/dead-letters/{}/replay", ids[0]);
    assert_eq!(server.post(&replay, &json!({})).await.status, 202);
    server.post(&replay, &json!({})).await.problem(404);
    let mut redis = connection(&server).await;
    let sent: Vec<String> = redis.lrange(format!("{}\u{6}\u{16}3", server.queue), 0, -1).await.unwrap();
    let sent: Value = serde_json::from_str(&sent[0]).unwrap();
    assert_eq!((&sent["headers"], &sent["properties"]["delivery_info"]), (&json!({"task": "demo.add"}), &json!({})));
    assert_ne!(sent["properties"]["delivery_tag"], ids[0].as_str());

    for id in &ids[1..] {
        assert_eq!(server.delete(&format!("/v1/dead-letters/{id}")).await.status, 204);
        server.delete(&format!("/v1/dead-letters/{id}")).await.problem(404);
    }
    server.get(&format!("/v1/dead-letters?cursor={cursor}")).await.problem(404);
}
