//! What a worker hears.

use std::time::Duration;

use futures::StreamExt;
use petiole_protocol::pidbox::{self, Request};
use petiole_protocol::{Map, event};
use petiole_redis::fanout::{self, Heard};

use crate::fixture::Fixture;

#[tokio::test]
async fn a_worker_hears_requests_and_with_gossip_what_workers_say_of_themselves() {
    let f = Fixture::new();
    let request = Request::new("ping", Map::new()).encode(0.0, uuid::Uuid::new_v4().to_string());
    let keys = ["worker.online", "worker.heartbeat", "worker.offline", "worker.elect", "worker.elect.ack"];
    for gossip in [true, false] {
        let mut channel = fanout::listen(&f.connector, gossip).await.unwrap();
        assert_eq!(f.broker.broadcast(pidbox::EXCHANGE, "", &request).await.unwrap(), 1);
        for key in keys {
            assert_eq!(f.broker.broadcast(event::EXCHANGE, key, &request).await.unwrap(), usize::from(gossip), "{key}");
        }
        assert_eq!(f.broker.broadcast(event::EXCHANGE, "task.sent", &request).await.unwrap(), 0);
        let mut messages = channel.on_message();
        for event in std::iter::once(false).chain(keys.map(|_| true).into_iter().filter(|_| gossip)) {
            let message = tokio::time::timeout(Duration::from_secs(5), messages.next()).await.unwrap().unwrap();
            let heard = fanout::heard(&f.connector, &message).unwrap();
            assert_eq!(matches!(heard, Heard::Event(_)), event, "{heard:?}");
        }
    }
}
