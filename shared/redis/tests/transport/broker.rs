//! Fetching, giving back, and claims.

use std::collections::HashSet;
use std::time::Duration;

use petiole_redis::broker::{GiveBack, Side};
use petiole_redis::claims::Claims;
use petiole_redis::consumer::Delivery;
use petiole_redis::settle::Settlement;
use redis::AsyncCommands;
use serde_json::{Value, json};

use crate::fixture::{Fixture, names};

#[tokio::test]
async fn fetch_moves_into_unacked_in_order_of_priority() {
    let f = Fixture::new();
    for (priority, name) in [(9, "last"), (5, "third"), (0, "first"), (0, "second")] {
        f.send("q", priority, name).await;
    }
    let mut consumer = f.consumer("w").await;
    let some = consumer.exchange(&mut [], &["q".into()], 3).await.unwrap().deliveries;
    assert_eq!(names(&some), ["first", "second", "third"]);
    assert_eq!(f.counts("q").await, (1, 3, 3));
    // What lies there is what kombu expects: [envelope, exchange, routing key].
    let entry: String = f.broker.connection().hget(f.broker.keys().unacked(), &some[0].tag).await.unwrap();
    let entry: Value = serde_json::from_str(&entry).unwrap();
    assert_eq!((entry[0]["headers"]["task"].as_str(), &entry[1], &entry[2]), (Some("first"), &json!(""), &json!("q")));
    let done: Vec<_> = some.iter().map(|delivery| Settlement::acknowledge(&delivery.tag)).collect();
    f.broker.settle("w", &f.backend, &done).await.unwrap();
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
        served.extend(
            consumer
                .exchange(&mut [], &["a".into(), "b".into()], 1)
                .await
                .unwrap()
                .deliveries
                .into_iter()
                .map(|d| d.queue),
        );
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
    let got = consumer.exchange(&mut [], &["q".into()], 10).await.unwrap().deliveries;
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
    let got = consumer.exchange(&mut [], &["q".into()], 2).await.unwrap().deliveries;
    let next: Vec<_> = got.iter().rev().map(back).collect();
    assert_eq!(f.broker.give_back("w", Side::Next, &next).await.unwrap(), 2);
    // The answer was lost, the caller tries again: nothing doubles.
    assert_eq!(f.broker.give_back("w", Side::Next, &next).await.unwrap(), 0);
    let again = consumer.exchange(&mut [], &["q".into()], 10).await.unwrap().deliveries;
    assert_eq!(names(&again), ["one", "two", "three"]);
    let envelope = petiole_protocol::Envelope::parse(again[0].text.as_bytes()).unwrap();
    assert!(envelope.properties.redelivered && envelope.headers["redelivered"] == json!(true));
    f.broker.give_back("w", Side::Last, &[back(&again[0])]).await.unwrap();
    f.send("q", 0, "four").await;
    assert_eq!(names(&consumer.exchange(&mut [], &["q".into()], 10).await.unwrap().deliveries), ["one", "four"]);
}

#[tokio::test]
async fn a_consumer_is_told_when_something_comes() {
    let f = Fixture::new();
    let mut consumer = f.consumer("w").await;
    let queues = ["q".to_owned(), "r".to_owned()];
    assert!(consumer.exchange(&mut [], &queues, 3).await.unwrap().drained);
    let quiet = tokio::time::timeout(Duration::from_millis(200), consumer.wait()).await;
    assert!(quiet.is_err(), "nothing came, and yet it was told");
    assert!(!consumer.look(&queues).await.unwrap());
    let (told, ()) = tokio::join!(tokio::time::timeout(Duration::from_secs(10), consumer.wait()), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        f.send("r", 6, "one").await;
        f.send("r", 6, "two").await;
    });
    told.expect("it slept through").unwrap();
    assert!(consumer.look(&queues).await.unwrap());
    let first = consumer.exchange(&mut [], &queues, 1).await.unwrap();
    assert_eq!((first.deliveries.len(), first.drained), (1, false));
    let second = consumer.exchange(&mut [], &queues, 2).await.unwrap();
    assert_eq!((second.deliveries.len(), second.drained), (1, true));
}

#[tokio::test]
async fn what_was_forgotten_is_restored_after_the_visibility_timeout_but_not_what_is_renewed() {
    let f = Fixture::new();
    f.send("q", 3, "kept").await;
    f.send("q", 3, "forgotten").await;
    let mut consumer = f.consumer("w").await;
    let got = consumer.exchange(&mut [], &["q".into()], 2).await.unwrap().deliveries;
    let (kept, claims) = (vec![got[0].tag.clone()], Claims::new(f.broker.clone(), "w"));
    tokio::time::sleep(Duration::from_millis(1200)).await;
    claims.renew(&kept).await.unwrap();
    let other = Claims::new(f.broker.clone(), "other");
    assert_eq!(other.restore_visible(Duration::from_secs(60)).await.unwrap(), 0);
    assert_eq!(other.restore_visible(Duration::from_secs(1)).await.unwrap(), 1);
    assert_eq!(f.counts("q").await, (1, 1, 1));
    assert_eq!(names(&consumer.exchange(&mut [], &["q".into()], 2).await.unwrap().deliveries), ["forgotten"]);
}

#[tokio::test]
async fn the_dead_lose_their_claims_at_once_and_the_living_keep_them() {
    let f = Fixture::new();
    for name in ["of the dead", "of the living"] {
        f.send("q", 0, name).await;
    }
    let (mut dead, mut living) = (f.consumer("dead").await, f.consumer("living").await);
    let of_the_dead = dead.exchange(&mut [], &["q".into()], 1).await.unwrap().deliveries.remove(0);
    living.exchange(&mut [], &["q".into()], 1).await.unwrap();
    let silent = Claims::new(f.broker.clone(), "dead");
    let long = Duration::from_secs(60);
    silent.keep_alive(Duration::from_millis(100), long).await.unwrap();
    Claims::new(f.broker.clone(), "living").keep_alive(long, long).await.unwrap();
    let other = Claims::new(f.broker.clone(), "other");
    assert_eq!(other.keep_alive(long, long).await.unwrap().dead, [""; 0]);
    assert!(!other.keep_alive(long, long).await.unwrap().lapsed);
    tokio::time::sleep(Duration::from_millis(150)).await;
    let alive = other.keep_alive(long, long).await.unwrap();
    assert_eq!(alive.dead, ["dead"]);
    assert_eq!(other.restore_dead(&alive.dead).await.unwrap(), 1);
    assert_eq!(names(&living.exchange(&mut [], &["q".into()], 5).await.unwrap().deliveries), ["of the dead"]);
    assert_eq!(other.restore_dead(&alive.dead).await.unwrap(), 0);
    // The dead one was only asleep: it learns what it has lost.
    assert!(silent.keep_alive(long, long).await.unwrap().lapsed);
    assert_eq!(silent.lost(std::slice::from_ref(&of_the_dead.tag)).await.unwrap(), [of_the_dead.tag]);
}

#[tokio::test]
async fn bytes_that_are_no_text_stand_in_nobody_s_way() {
    let f = Fixture::new();
    let list = f.broker.keys().list("q", 0);
    for bytes in [&b"\xff\xfe"[..], b"{\"body\":\"\xff\",\"properties\":{\"delivery_tag\": \"a\xff\"}}"] {
        f.broker.connection().lpush::<_, _, ()>(&list, bytes).await.unwrap();
    }
    f.send("q", 0, "good").await;
    let got = f.fetch("dead", 10).await;
    assert_eq!((got.len(), f.counts("q").await), (3, (0, 3, 3)));
    // Their worker dies before it has refused them: another will, and what came with them is not held up.
    let claims = Claims::new(f.broker.clone(), "other");
    assert_eq!(claims.restore_dead(&["dead".into()]).await.unwrap(), 3);
    let again = f.fetch("other", 10).await;
    assert_eq!((again.len(), f.counts("q").await), (3, (0, 3, 3)));
    assert!(again.iter().any(|delivery| delivery.text == got[0].text), "{again:?}");
    assert!(again.iter().any(|delivery| delivery.text.contains("\"good\"")), "{again:?}");
}

#[tokio::test]
async fn a_long_message_without_a_tag_does_not_keep_redis_busy() {
    let f = Fixture::new();
    f.broker.publish("q", 0, &"\"no tag\": ".repeat(10_000)).await.unwrap();
    let begun = std::time::Instant::now();
    assert_eq!(f.fetch("w", 10).await.len(), 1);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn messages_fetched_into_a_broken_connection_are_found_again() {
    let f = Fixture::new();
    f.send("q", 0, "known").await;
    f.send("q", 0, "answer lost").await;
    let got = f.fetch("w", 2).await;
    let claims = Claims::new(f.broker.clone(), "w");
    let forgotten = claims.forgotten(&HashSet::from([got[0].tag.clone()])).await.unwrap();
    assert_eq!(forgotten, [got[1].tag.clone()]);
    assert_eq!(claims.restore("w", &forgotten).await.unwrap(), 1);
    assert_eq!(f.counts("q").await, (1, 1, 1));
}

#[tokio::test]
async fn nobody_is_taken_for_dead_when_redis_was_away() {
    let f = Fixture::new();
    f.send("q", 0, "of the living").await;
    f.fetch("living", 1).await;
    let (living, other) = (Claims::new(f.broker.clone(), "living"), Claims::new(f.broker.clone(), "other"));
    let (short, silence) = (Duration::from_millis(200), Duration::from_millis(100));
    living.keep_alive(short, silence).await.unwrap();
    // Redis stands still: nobody is heard, and every claim runs out.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(other.keep_alive(short, silence).await.unwrap().dead, [""; 0]);
    assert_eq!(other.restore_visible(short).await.unwrap(), 0, "nobody could renew anything");
    assert!(!living.keep_alive(short, silence).await.unwrap().lapsed);
    // One who stays silent while the other is heard is dead.
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(60)).await;
        other.keep_alive(short, silence).await.unwrap();
    }
    assert_eq!(other.keep_alive(short, silence).await.unwrap().dead, ["living"]);
}

#[tokio::test]
async fn what_a_python_worker_may_hold_is_left_to_python_s_workers_while_one_lives() {
    let f = Fixture::new();
    for name in ["petiole's", "python's"] {
        f.send("q", 0, name).await;
    }
    let owner = Claims::new(f.broker.clone(), "owner");
    owner.keep_alive(Duration::from_secs(60), Duration::from_secs(60)).await.unwrap();
    // A scan that comes just after the first sign of life judges nothing.
    f.broker.connection().del::<_, ()>(f.broker.keys().unjudged()).await.unwrap();
    f.fetch("owner", 1).await;
    // As kombu records it: nobody's.
    let got = f.fetch("owner", 1).await;
    let held = f.broker.keys().held("owner");
    f.broker.connection().srem::<_, _, ()>(held, &got[0].tag).await.unwrap();
    let _petiole = petiole_redis::fanout::listen(&f.connector, false).await.unwrap();
    assert!(!f.broker.strangers_live().await.unwrap());
    let mut python = f.connector.subscriber().await.unwrap();
    python.psubscribe(f.broker.keys().channel("celery.pidbox", "")).await.unwrap();
    assert!(f.broker.strangers_live().await.unwrap());
    let scan = Duration::from_millis(1);
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(owner.restore_visible(scan).await.unwrap(), 1);
    assert_eq!(names(&f.fetch("w", 5).await), ["petiole's"]);
    drop(python);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(owner.restore_visible(scan).await.unwrap(), 2);
    assert_eq!(f.counts("q").await, (2, 0, 0));
}
