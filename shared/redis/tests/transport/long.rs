//! Long messages, which are fetched without a script.

use petiole_protocol::TaskMessage;
use petiole_redis::claims::Claims;
use petiole_redis::settle::{Settled, Settlement};
use redis::AsyncCommands;
use serde_json::{Value, json};

use crate::fixture::{Fixture, names};

/// A message of some 20 kB.
async fn send(f: &Fixture, priority: i64, name: &str) {
    let args = vec![json!("long ".repeat(4000))];
    let mut message = TaskMessage::new(name, uuid::Uuid::new_v4().to_string(), args, Default::default());
    message.properties.priority = priority;
    message.properties.routing_key = "q".into();
    f.broker.publish("q", priority, &message.encode(uuid::Uuid::new_v4().to_string()).to_text()).await.unwrap();
}

async fn fetched(f: &Fixture) -> usize {
    let keys: Vec<String> = f.broker.connection().keys(f.broker.keys().key("petiole:fetched:*")).await.unwrap();
    keys.len()
}

#[tokio::test]
async fn they_come_in_their_order_and_go_with_their_acknowledgement() {
    let f = Fixture::new();
    for (priority, name) in [(0, "first"), (9, "last"), (3, "third"), (0, "second")] {
        send(&f, priority, name).await;
    }
    let mut consumer = f.consumer("w").await;
    // The first one comes by the script, and tells what follows.
    let first = consumer.exchange(&mut [], &["q".into()], 1).await.unwrap().deliveries;
    assert_eq!((names(&first), f.counts("q").await), (vec!["first".to_owned()], (3, 1, 1)));
    let rest = consumer.exchange(&mut [], &["q".into()], 10).await.unwrap();
    assert_eq!(names(&rest.deliveries), ["second", "third", "last"]);
    assert_eq!((f.counts("q").await, fetched(&f).await), ((0, 1, 1), 3));
    let acknowledge = |tag: &str| Settlement::acknowledge(tag);
    let mut settlements: Vec<_> =
        first.iter().chain(&rest.deliveries).map(|delivery| acknowledge(&delivery.tag)).collect();
    let done = consumer.exchange(&mut settlements, &["q".into()], 10).await.unwrap();
    assert!(done.settled.iter().all(|settled| matches!(settled, Settled::Done)), "{:?}", done.settled);
    assert!(done.drained && done.deliveries.is_empty());
    assert_eq!((f.counts("q").await, fetched(&f).await), ((0, 0, 0), 0));
    let held: u64 = f.broker.connection().scard(f.broker.keys().held("w")).await.unwrap();
    assert_eq!(held, 0);
    // A short one is fetched all the same.
    f.send("q", 0, "short").await;
    assert_eq!(names(&consumer.exchange(&mut [], &["q".into()], 1).await.unwrap().deliveries), ["short"]);
}

#[tokio::test]
async fn the_next_ones_are_on_their_way_while_others_come_and_none_is_asked_for_twice() {
    let f = Fixture::new();
    let queues = ["q".to_owned()];
    for n in 0..6 {
        send(&f, if n < 4 { 0 } else { 9 }, &format!("{n}")).await;
    }
    let mut consumer = f.consumer("w").await;
    consumer.exchange(&mut [], &queues, 1).await.unwrap();
    assert_eq!(names(&consumer.exchange(&mut [], &queues, 1).await.unwrap().deliveries), ["1"]);
    // Two of the one list and two of the other are left.
    let first = consumer.start(&[], &queues, 1).await.unwrap();
    assert!(consumer.goes_beside(&first));
    let second = consumer.start(&[], &queues, 1).await.unwrap();
    let first = consumer.finish(first, &mut []).await.unwrap();
    let third = consumer.start(&[], &queues, 2).await.unwrap();
    let second = consumer.finish(second, &mut []).await.unwrap();
    let third = consumer.finish(third, &mut []).await.unwrap();
    let all = [first, second, third].map(|exchange| names(&exchange.deliveries));
    assert_eq!(all, [vec!["2"], vec!["3"], vec!["4", "5"]]);
    // Nothing was claimed but what came.
    let held: u64 = f.broker.connection().scard(f.broker.keys().held("w")).await.unwrap();
    assert_eq!((held, f.counts("q").await.0), (6, 0));
}

#[tokio::test]
async fn what_is_held_is_recorded_where_kombu_looks_and_still_settled() {
    let f = Fixture::new();
    send(&f, 0, "one").await;
    send(&f, 0, "two").await;
    let mut consumer = f.consumer("w").await;
    consumer.exchange(&mut [], &["q".into()], 1).await.unwrap();
    let two = consumer.exchange(&mut [], &["q".into()], 1).await.unwrap().deliveries;
    let tag = two[0].tag.clone();
    let claims = Claims::new(f.broker.clone(), "w");
    claims.record(std::slice::from_ref(&tag)).await.unwrap();
    claims.record(std::slice::from_ref(&tag)).await.unwrap();
    assert_eq!((f.counts("q").await, fetched(&f).await), ((0, 2, 2), 0));
    let entry: String = f.broker.connection().hget(f.broker.keys().unacked(), &tag).await.unwrap();
    let entry: Value = serde_json::from_str(&entry).unwrap();
    assert_eq!((entry[0]["headers"]["task"].as_str(), &entry[1], &entry[2]), (Some("two"), &json!(""), &json!("q")));
    let settled = consumer.exchange(&mut [Settlement::acknowledge(tag)], &[], 0).await.unwrap().settled;
    assert!(matches!(settled[..], [Settled::Done]));
    assert_eq!(f.counts("q").await, (0, 1, 1));
}

#[tokio::test]
async fn the_dead_ones_long_messages_go_to_others_and_are_then_known_by_their_own_tags() {
    let f = Fixture::new();
    send(&f, 0, "one").await;
    send(&f, 0, "two").await;
    let mut dead = f.consumer("dead").await;
    dead.exchange(&mut [], &["q".into()], 1).await.unwrap();
    let two = dead.exchange(&mut [], &["q".into()], 1).await.unwrap().deliveries;
    let tags: Vec<String> = f.broker.connection().smembers(f.broker.keys().held("dead")).await.unwrap();
    assert_eq!(Claims::new(f.broker.clone(), "w").restore("dead", &tags).await.unwrap(), 2);
    let settled = dead.exchange(&mut [Settlement::acknowledge(&two[0].tag)], &[], 0).await.unwrap().settled;
    assert!(matches!(settled[..], [Settled::Lost]), "{settled:?}");
    // Redeliveries are counted by a message's own tag.
    let mut consumer = f.consumer("w").await;
    let mut again = vec![];
    for _ in 0..4 {
        again.extend(consumer.exchange(&mut [], &["q".into()], 1).await.unwrap().deliveries);
    }
    let mut came = names(&again);
    came.sort();
    assert_eq!(came, ["one", "two"]);
    for delivery in &again {
        assert!(delivery.text.contains(&format!("\"delivery_tag\":\"{}\"", delivery.tag)), "{}", delivery.tag);
    }
    assert_eq!((f.counts("q").await, fetched(&f).await), ((0, 2, 2), 0));
}

#[tokio::test]
async fn where_others_were_faster_nothing_is_left() {
    let f = Fixture::new();
    for name in ["one", "two", "three"] {
        send(&f, 0, name).await;
    }
    let mut consumer = f.consumer("w").await;
    consumer.exchange(&mut [], &["q".into()], 1).await.unwrap();
    // A queue that is named twice looks as if it held twice as much.
    let rest = consumer.exchange(&mut [], &["q".into(), "q".into()], 10).await.unwrap().deliveries;
    assert_eq!((names(&rest), fetched(&f).await), (vec!["two".to_owned(), "three".to_owned()], 2));
    let held: u64 = f.broker.connection().scard(f.broker.keys().held("w")).await.unwrap();
    assert_eq!(held, 3);
}

#[tokio::test]
async fn the_next_come_with_what_is_settled_also_when_redis_has_forgotten_the_scripts() {
    let f = Fixture::new();
    for name in ["one", "two", "three", "four", "five"] {
        send(&f, 3, name).await;
    }
    let mut consumer = f.consumer("w").await;
    let queues = ["q".to_owned()];
    consumer.exchange(&mut [], &queues, 1).await.unwrap();
    let mut last = consumer.exchange(&mut [], &queues, 1).await.unwrap();
    for next in ["three", "four", "five"] {
        let () = redis::cmd("SCRIPT").arg("FLUSH").query_async(&mut f.broker.connection()).await.unwrap();
        let mut settlements = [Settlement::acknowledge(&last.deliveries[0].tag)];
        last = consumer.exchange(&mut settlements, &queues, 1).await.unwrap();
        assert_eq!(names(&last.deliveries), [next]);
        assert!(matches!(last.settled[..], [Settled::Done]), "{:?}", last.settled);
        assert_eq!((fetched(&f).await, last.drained), (1, next == "five"));
    }
    // What is more urgent comes first, unless it came just after the last look.
    for (priority, name) in [(3, "six"), (3, "seven")] {
        send(&f, priority, name).await;
    }
    assert_eq!(names(&consumer.exchange(&mut [], &queues, 1).await.unwrap().deliveries), ["six"]);
    tokio::time::sleep(std::time::Duration::from_millis(60)).await;
    send(&f, 0, "urgent").await;
    assert_eq!(names(&consumer.exchange(&mut [], &queues, 1).await.unwrap().deliveries), ["urgent"]);
    assert_eq!(names(&consumer.exchange(&mut [], &queues, 1).await.unwrap().deliveries), ["seven"]);
}
