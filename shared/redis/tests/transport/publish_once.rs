use std::time::Duration;

use petiole_redis::publish_once::{Once, OnceMessage};
use redis::AsyncCommands;

use crate::fixture::Fixture;

const KEEP: Duration = Duration::from_secs(60);

fn message<'a>(task_id: &'a str, queue: &'a str) -> OnceMessage<'a> {
    OnceMessage { task_id, sent: "{}", queue, priority: 0, text: task_id }
}

#[tokio::test]
async fn what_was_published_is_not_published_again() {
    let f = Fixture::new();
    assert_eq!(f.broker.count_published_once().await.unwrap(), 0);
    let first = f.broker.publish_once(&[message("a", "q"), message("b", "q")], KEEP).await.unwrap();
    assert_eq!(first.count, 1);
    assert_eq!(first.messages, [Once::Published, Once::Published]);
    // the answer was lost, and another one comes along
    let again = f.broker.publish_once(&[message("b", "q"), message("c", "q"), message("a", "q")], KEEP).await.unwrap();
    assert_eq!((again.count, f.broker.count_published_once().await.unwrap()), (2, 2));
    assert_eq!(again.messages, [Once::Before, Once::Published, Once::Before]);
    let texts: Vec<String> = f.broker.connection().lrange(f.broker.keys().list("q", 0), 0, -1).await.unwrap();
    assert_eq!(texts, ["c", "b", "a"]);
    let ttl: i64 = f.broker.connection().ttl(f.broker.keys().sent("a")).await.unwrap();
    assert!((50..=60).contains(&ttl), "{ttl}");
    assert!(f.broker.bindings().await.unwrap().queues().contains("q"));
}

#[tokio::test]
async fn a_worker_that_took_it_meanwhile_does_not_make_it_new() {
    let f = Fixture::new();
    f.broker.publish_once(&[message("a", "q")], KEEP).await.unwrap();
    assert_eq!(f.fetch("w", 1).await.len(), 1);
    assert_eq!(f.broker.publish_once(&[message("a", "q")], KEEP).await.unwrap().messages, [Once::Before]);
    assert_eq!(f.counts("q").await.0, 0);
}

#[tokio::test]
async fn a_queue_that_is_no_list_refuses_its_messages_only_and_they_can_come_later() {
    let f = Fixture::new();
    let key = f.broker.keys().list("odd", 0);
    let _: () = f.broker.connection().set(&key, "no list").await.unwrap();
    let answers = f.broker.publish_once(&[message("a", "odd"), message("b", "q")], KEEP).await.unwrap().messages;
    assert!(matches!(&answers[0], Once::Refused(why) if why.contains("WRONGTYPE")), "{answers:?}");
    assert_eq!(answers[1], Once::Published);
    let _: () = f.broker.connection().del(&key).await.unwrap();
    assert_eq!(f.broker.publish_once(&[message("a", "odd")], KEEP).await.unwrap().messages, [Once::Published]);
}

#[tokio::test]
async fn what_redis_has_lost_is_published_again_and_the_count_tells_of_it() {
    let f = Fixture::new();
    f.broker.publish_once(&[message("kept", "q")], KEEP).await.unwrap();
    let last = f.broker.publish_once(&[message("lost", "q")], KEEP).await.unwrap();
    // A restart without the last second of the append-only file.
    let mut connection = f.broker.connection();
    let keys = f.broker.keys();
    let _: () = connection.del(keys.sent("lost")).await.unwrap();
    let _: () = connection.lpop(keys.list("q", 0), None).await.unwrap();
    let _: () = connection.decr(keys.key("petiole:outbox"), 1).await.unwrap();
    assert!(f.broker.count_published_once().await.unwrap() < last.count);
    let again = f.broker.publish_once(&[message("kept", "q"), message("lost", "q")], KEEP).await.unwrap();
    assert_eq!(again.messages, [Once::Before, Once::Published]);
}
