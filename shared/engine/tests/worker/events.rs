//! What monitors see.

use std::time::Duration;

use futures::StreamExt;
use petiole_protocol::{Envelope, event};
use petiole_redis::Connector;
use serde_json::{Value, json};

use crate::stand::Stand;

/// More than wait for Redis at most (`BUFFER` in `src/events.rs`), three events each.
const TASKS: usize = 8_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_of_many_quick_tasks_is_sent_and_they_travel_together() {
    let stand = Stand::new(&[("WORKER_SEND_TASK_EVENTS", "1")]).await;
    let url = std::env::var("TEST_REDIS_URL").unwrap();
    let mut monitor = Connector::new(&url).unwrap().subscriber().await.unwrap();
    let keys = stand.client.broker().keys();
    monitor.subscribe(keys.channel(event::EXCHANGE, "task.multi")).await.unwrap();
    let mut task = petiole_client::TaskSend::new("t.add");
    task.args = vec![json!(1), json!(2)];
    let texts: Vec<_> =
        (0..TASKS).map(|_| (stand.queue.clone(), 0, stand.client.prepare(task.clone()).unwrap().envelope)).collect();
    stand.client.broker().publish_all(&texts).await.unwrap();
    let mut seen = [("task-received", 0), ("task-started", 0), ("task-succeeded", 0)];
    let mut largest = 0;
    let mut messages = monitor.on_message();
    while seen.iter().any(|(_, count)| *count < TASKS) {
        let message = tokio::time::timeout(Duration::from_secs(10), messages.next()).await;
        let message = message.unwrap_or_else(|_| panic!("no more events come: {seen:?}")).unwrap();
        let envelope = Envelope::parse(&message.get_payload::<Vec<u8>>().unwrap()).unwrap();
        let events: Vec<Value> = serde_json::from_slice(&envelope.body).unwrap();
        largest = largest.max(events.len());
        for event in &events {
            for (kind, count) in &mut seen {
                *count += usize::from(event["type"] == *kind);
            }
        }
    }
    assert!(seen.iter().all(|(_, count)| *count == TASKS) && largest <= 100, "{seen:?}, up to {largest} together");
    drop(messages);
    stand.stop().await;
}
