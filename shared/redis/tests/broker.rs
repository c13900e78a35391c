//! The Redis side against a real Redis. Each test has a key prefix of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashSet;
use std::time::Duration;

use petiole_protocol::{State, TaskMessage, TaskMeta};
use petiole_redis::broker::{GiveBack, Side};
use petiole_redis::chord::Part;
use petiole_redis::claims::Claims;
use petiole_redis::consumer::{Consumer, Delivery};
use petiole_redis::{Backend, Broker, Connector};
use redis::AsyncCommands;
use serde_json::{Value, json};

struct Fixture {
    connector: Connector,
    broker: Broker,
}

impl Fixture {
    fn new() -> Self {
        let url = std::env::var("TEST_REDIS_URL").expect("TEST_REDIS_URL is not set: run docker/test.sh");
        let prefix = format!("test:{}:", uuid::Uuid::new_v4());
        let connector = Connector::new(&url).unwrap().with_prefix(&prefix);
        Self { broker: Broker::new(&connector).unwrap(), connector }
    }

    async fn send(&self, queue: &str, priority: i64, name: &str) {
        let mut message = TaskMessage::new(name, uuid::Uuid::new_v4().to_string(), vec![], Default::default());
        message.properties.priority = priority;
        message.properties.routing_key = queue.into();
        let text = message.encode(uuid::Uuid::new_v4().to_string()).to_text();
        self.broker.publish(queue, priority, &text).await.unwrap();
    }

    async fn consumer(&self, owner: &str) -> Consumer {
        Consumer::connect(&self.connector, owner).await.unwrap()
    }

    /// Messages in the queue, in `unacked`, in its index.
    async fn counts(&self, queue: &str) -> (u64, u64, u64) {
        let mut connection = self.broker.connection();
        let keys = self.broker.keys();
        let lengths: u64 = self.broker.queue_lengths(queue).await.unwrap().iter().sum();
        (lengths, connection.hlen(keys.unacked()).await.unwrap(), connection.zcard(keys.unacked_index()).await.unwrap())
    }
}

fn names(deliveries: &[Delivery]) -> Vec<String> {
    let name = |delivery: &Delivery| {
        let envelope = petiole_protocol::Envelope::parse(delivery.text.as_bytes()).unwrap();
        envelope.headers["task"].as_str().unwrap().to_owned()
    };
    deliveries.iter().map(name).collect()
}

#[tokio::test]
async fn fetch_moves_into_unacked_in_order_of_priority() {
    let f = Fixture::new();
    for (priority, name) in [(9, "last"), (5, "third"), (0, "first"), (0, "second")] {
        f.send("q", priority, name).await;
    }
    let mut consumer = f.consumer("w").await;
    let some = consumer.fetch(&["q".into()], 3).await.unwrap();
    assert_eq!(names(&some), ["first", "second", "third"]);
    assert_eq!(f.counts("q").await, (1, 3, 3));
    // What lies there is what kombu expects: [envelope, exchange, routing key].
    let entry: String = f.broker.connection().hget(f.broker.keys().unacked(), &some[0].tag).await.unwrap();
    let entry: Value = serde_json::from_str(&entry).unwrap();
    assert_eq!((entry[0]["headers"]["task"].as_str(), &entry[1], &entry[2]), (Some("first"), &json!(""), &json!("q")));
    f.broker.ack("w", &some.iter().map(|d| d.tag.clone()).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(f.counts("q").await, (1, 0, 0));
}

#[tokio::test]
async fn queues_of_one_priority_take_turns() {
    let f = Fixture::new();
    for n in 0..3 {
        f.send("a", 0, &format!("a{n}")).await;
        f.send("b", 0, &format!("b{n}")).await;
    }
    let mut consumer = f.consumer("w").await;
    let mut served = vec![];
    for _ in 0..4 {
        served.extend(consumer.fetch(&["a".into(), "b".into()], 1).await.unwrap().into_iter().map(|d| d.queue));
    }
    assert_eq!(served.iter().filter(|queue| *queue == "a").count(), 2, "{served:?}");
}

#[tokio::test]
async fn two_messages_with_one_tag_and_one_without_are_all_kept() {
    let f = Fixture::new();
    let text = r#"{"body":"","headers":{},"properties":{"delivery_tag":"same"}}"#;
    for text in [text, text, "no envelope at all"] {
        f.broker.publish("q", 0, text).await.unwrap();
    }
    let mut consumer = f.consumer("w").await;
    let got = consumer.fetch(&["q".into()], 10).await.unwrap();
    let tags: HashSet<_> = got.iter().map(|d| d.tag.clone()).collect();
    assert_eq!((got.len(), tags.len()), (3, 3));
    assert_eq!(f.counts("q").await, (0, 3, 3));
}

#[tokio::test]
async fn what_goes_back_comes_next_in_its_old_order_or_last() {
    let f = Fixture::new();
    for name in ["one", "two", "three"] {
        f.send("q", 0, name).await;
    }
    let mut consumer = f.consumer("w").await;
    let back = |delivery: &Delivery| GiveBack {
        tag: delivery.tag.clone(),
        queue: delivery.queue.clone(),
        text: delivery.text.clone(),
    };
    let got = consumer.fetch(&["q".into()], 2).await.unwrap();
    let next: Vec<_> = got.iter().rev().map(back).collect();
    assert_eq!(f.broker.give_back("w", Side::Next, &next).await.unwrap(), 2);
    // The answer was lost, the caller tries again: nothing doubles.
    assert_eq!(f.broker.give_back("w", Side::Next, &next).await.unwrap(), 0);
    let again = consumer.fetch(&["q".into()], 10).await.unwrap();
    assert_eq!(names(&again), ["one", "two", "three"]);
    let envelope = petiole_protocol::Envelope::parse(again[0].text.as_bytes()).unwrap();
    assert!(envelope.properties.redelivered && envelope.headers["redelivered"] == json!(true));
    f.broker.give_back("w", Side::Last, &[back(&again[0])]).await.unwrap();
    f.send("q", 0, "four").await;
    assert_eq!(names(&consumer.fetch(&["q".into()], 10).await.unwrap()), ["one", "four"]);
}

#[tokio::test]
async fn waiting_ends_when_something_comes_and_costs_nothing_meanwhile() {
    let f = Fixture::new();
    let mut consumer = f.consumer("w").await;
    let queues = ["q".to_owned(), "r".to_owned()];
    let began = std::time::Instant::now();
    consumer.wait(&queues, Duration::from_millis(200)).await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(190), "nothing came, and yet it ended");
    let (waited, ()) = tokio::join!(
        async {
            consumer.wait(&queues, Duration::from_secs(20)).await.unwrap();
            began.elapsed()
        },
        async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            f.send("r", 6, "task").await;
        }
    );
    assert!(waited < Duration::from_secs(10), "it slept through: {waited:?}");
    assert_eq!(consumer.fetch(&queues, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_was_forgotten_is_restored_after_the_visibility_timeout_but_not_what_is_renewed() {
    let f = Fixture::new();
    f.send("q", 3, "kept").await;
    f.send("q", 3, "forgotten").await;
    let mut consumer = f.consumer("w").await;
    let got = consumer.fetch(&["q".into()], 2).await.unwrap();
    let (kept, claims) = (vec![got[0].tag.clone()], Claims::new(f.broker.clone(), "w"));
    tokio::time::sleep(Duration::from_millis(1200)).await;
    claims.renew(&kept).await.unwrap();
    let other = Claims::new(f.broker.clone(), "other");
    assert_eq!(other.restore_visible(Duration::from_secs(60)).await.unwrap(), 0);
    assert_eq!(other.restore_visible(Duration::from_secs(1)).await.unwrap(), 1);
    assert_eq!(f.counts("q").await, (1, 1, 1));
    assert_eq!(names(&consumer.fetch(&["q".into()], 2).await.unwrap()), ["forgotten"]);
}

#[tokio::test]
async fn the_dead_lose_their_claims_at_once_and_the_living_keep_them() {
    let f = Fixture::new();
    for name in ["of the dead", "of the living"] {
        f.send("q", 0, name).await;
    }
    let (mut dead, mut living) = (f.consumer("dead").await, f.consumer("living").await);
    dead.fetch(&["q".into()], 1).await.unwrap();
    living.fetch(&["q".into()], 1).await.unwrap();
    Claims::new(f.broker.clone(), "dead").keep_alive(Duration::from_millis(100)).await.unwrap();
    Claims::new(f.broker.clone(), "living").keep_alive(Duration::from_secs(60)).await.unwrap();
    let other = Claims::new(f.broker.clone(), "other");
    assert_eq!(other.restore_dead().await.unwrap(), 0);
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(other.restore_dead().await.unwrap(), 1);
    assert_eq!(names(&living.fetch(&["q".into()], 5).await.unwrap()), ["of the dead"]);
    assert_eq!(other.restore_dead().await.unwrap(), 0);
}

#[tokio::test]
async fn messages_fetched_into_a_broken_connection_are_found_again() {
    let f = Fixture::new();
    f.send("q", 0, "known").await;
    f.send("q", 0, "answer lost").await;
    let got = f.consumer("w").await.fetch(&["q".into()], 2).await.unwrap();
    let claims = Claims::new(f.broker.clone(), "w");
    let forgotten = claims.forgotten(&HashSet::from([got[0].tag.clone()])).await.unwrap();
    assert_eq!(forgotten, [got[1].tag.clone()]);
    assert_eq!(claims.restore("w", &forgotten).await.unwrap(), 1);
    assert_eq!(f.counts("q").await, (1, 1, 1));
}

#[tokio::test]
async fn a_stored_success_stays_and_who_waits_is_told() {
    let f = Fixture::new();
    let backend = Backend::new(&f.connector).unwrap();
    let id = uuid::Uuid::new_v4().to_string();
    let expires = Duration::from_secs(60);
    let store = |state: State, result: i64| {
        let (backend, meta) = (backend.clone(), TaskMeta::new(&id, &state, json!(result)));
        async move { backend.store(&meta, expires).await.unwrap() }
    };
    let (seen, ()) = tokio::join!(backend.wait(&id, Duration::from_secs(10)), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(store(State::Started, 1).await);
        assert!(store(State::Success, 2).await);
    });
    let seen = seen.unwrap().unwrap();
    assert_eq!((seen.status.as_str(), &seen.result), ("SUCCESS", &json!(2)));
    assert!(!store(State::Failure, 3).await);
    assert_eq!(backend.get(&id).await.unwrap().unwrap().result, json!(2));
    let ttl: i64 = f.broker.connection().ttl(backend.task_key(&id)).await.unwrap();
    assert!((50..=60).contains(&ttl), "{ttl}");
}

#[tokio::test]
async fn a_chord_part_counts_once_and_one_claims_the_body() {
    let f = Fixture::new();
    let backend = Backend::new(&f.connector).unwrap();
    let (group, expires) = (uuid::Uuid::new_v4().to_string(), Duration::from_secs(60));
    backend.set_chord_size(&group, 2, expires).await.unwrap();
    let (one, two) = (json!(1), json!(2));
    let part =
        |index, task_id, result| Part { group_id: &group, index: Some(index), task_id, state: "SUCCESS", result };
    let second = part(1, "b", &two);
    assert!(backend.chord_part(&second, expires).await.unwrap().is_none());
    // Run again after a redelivery, and with another result: the part counts once, as it was first.
    let (other, size) = (json!(99), "counted twice");
    assert!(backend.chord_part(&part(1, "b", &other), expires).await.unwrap().is_none(), "{size}");
    let claim = backend.chord_part(&part(0, "a", &one), expires).await.unwrap().expect("the last one has the claim");
    let results: Vec<_> = backend.chord_parts(&group).await.unwrap().into_iter().map(|part| part.result).collect();
    assert_eq!(results, [json!(1), json!(2)]);
    assert!(backend.renew_chord(&claim).await.unwrap());
    backend.end_chord(&claim).await.unwrap();
    assert!(backend.chord_part(&second, expires).await.unwrap().is_none(), "a late duplicate sent the body again");
    assert!(backend.chord_parts(&group).await.unwrap().is_empty());
}
