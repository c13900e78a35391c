//! Messages that Redis gives by itself while a worker is idle.

use std::time::Duration;

use petiole_redis::claims::Claims;
use petiole_redis::consumer::{Consumer, Delivery};
use petiole_redis::idle::Sign;
use petiole_redis::settle::{Settled, Settlement, Write};
use redis::AsyncCommands;

use crate::fixture::{Fixture, names};

/// How many are prepared at a time.
const PLACES: usize = 8;

fn queues() -> Vec<String> {
    vec!["q".to_owned(), "r".to_owned()]
}

/// Finds its queues empty, and tells Redis to wait.
async fn wait(consumer: &mut Consumer) {
    let found = consumer.exchange(&mut [], &queues(), 4).await.unwrap();
    assert!(found.drained && found.deliveries.is_empty());
    for _ in 0..3 {
        // Another test may have made Redis forget the script.
        consumer.begin_waiting(&queues()).await.unwrap();
    }
    assert!(consumer.is_waiting());
    let quiet = tokio::time::timeout(Duration::from_millis(100), consumer.wait()).await;
    assert!(quiet.is_err(), "nothing was sent: {quiet:?}");
}

async fn given(consumer: &mut Consumer) -> Delivery {
    match tokio::time::timeout(Duration::from_secs(10), consumer.wait()).await.unwrap().unwrap() {
        Sign::Message(delivery, _) => delivery,
        other => panic!("{other:?}"),
    }
}

async fn held(f: &Fixture, owner: &str) -> Vec<String> {
    f.broker.connection().smembers(f.broker.keys().held(owner)).await.unwrap()
}

async fn keys(f: &Fixture) -> Vec<String> {
    f.broker.connection().keys(f.broker.keys().key("petiole:fetched:*")).await.unwrap()
}

#[tokio::test]
async fn a_message_comes_by_itself_and_goes_with_its_settlement() {
    let f = Fixture::new();
    let mut consumer = f.consumer("w").await;
    wait(&mut consumer).await;
    // A place for this message, and some for the next ones: claims, and no keys.
    assert_eq!((keys(&f).await.len(), held(&f, "w").await.len()), (0, PLACES));
    f.send("q", 0, "one").await;
    let one = given(&mut consumer).await;
    assert_eq!((names(std::slice::from_ref(&one)), one.queue.as_str()), (vec!["one".to_owned()], "q"));
    assert_eq!((f.counts("q").await, keys(&f).await.len()), ((0, 0, 0), 1));
    assert!(held(&f, "w").await.contains(&one.tag));
    let mut settlement = [Settlement::acknowledge(&one.tag)];
    let settled = consumer.exchange(&mut settlement, &[], 0).await.unwrap().settled;
    assert!(matches!(settled[..], [Settled::Done]), "{settled:?}");
    assert_eq!((keys(&f).await.len(), held(&f, "w").await.len()), (0, PLACES - 1));
    let settled = consumer.exchange(&mut settlement, &[], 0).await.unwrap().settled;
    assert!(matches!(settled[..], [Settled::Lost]), "{settled:?}");
}

async fn next(f: &Fixture, consumer: &mut Consumer, name: &str) -> Delivery {
    wait(consumer).await;
    f.send("q", 0, name).await;
    given(consumer).await
}

/// A result as the end of a message that is acknowledged with it, or was before.
fn result(delivery: &Delivery, late: bool, key: &str, text: &str) -> Vec<Settlement> {
    let write = Write::Result { key: key.to_owned(), seconds: 60, text: text.as_bytes().to_vec(), last: true };
    if late {
        return vec![Settlement { tag: Some(delivery.tag.clone()), writes: vec![write] }];
    }
    vec![Settlement::acknowledge(&delivery.tag), Settlement::writes(vec![write])]
}

#[tokio::test]
async fn a_result_is_stored_with_the_acknowledgement_of_what_was_given_or_not_at_all() {
    let f = Fixture::new();
    let (mut consumer, mut connection) = (f.consumer("w").await, f.broker.connection());
    for late in [true, false] {
        let (one, key) = (next(&f, &mut consumer, "one").await, f.broker.keys().key(&format!("result-{late}")));
        let claims = held(&f, "w").await.len();
        // What is no result under its key makes way for it.
        let () = connection.lpush(&key, "a list").await.unwrap();
        let settlements = &mut result(&one, late, &key, r#"{"status": "SUCCESS"}"#);
        let settled = consumer.exchange(settlements, &[], 0).await.unwrap().settled;
        assert!(settled.iter().all(|settled| matches!(settled, Settled::Done)), "{settled:?}");
        assert_eq!((keys(&f).await.len(), held(&f, "w").await.len()), (0, claims - 1));
        let stored: (String, u64) = (connection.get(&key).await.unwrap(), connection.ttl(&key).await.unwrap());
        assert!(stored.0 == r#"{"status": "SUCCESS"}"# && (1..=60).contains(&stored.1), "{stored:?}");
        // It is there once, and a SUCCESS stays.
        let again = &mut result(&one, late, &key, r#"{"status": "FAILURE"}"#);
        let settled = consumer.exchange(again, &[], 0).await.unwrap().settled;
        assert!(matches!(settled[0], Settled::Lost) && settled.len() == again.len(), "{settled:?}");
        let two = next(&f, &mut consumer, "two").await;
        let again = &mut result(&two, late, &key, r#"{"status": "FAILURE"}"#);
        let settled = consumer.exchange(again, &[], 0).await.unwrap().settled;
        assert!(settled.iter().all(|settled| matches!(settled, Settled::Done)), "{settled:?}");
        assert_eq!(connection.get::<_, String>(&key).await.unwrap(), stored.0);
        assert!(connection.ttl::<_, i64>(&key).await.unwrap() > 0);
    }
    // What others have taken over is theirs.
    let (one, key) = (next(&f, &mut consumer, "one").await, f.broker.keys().key("lost"));
    let () = connection.srem(f.broker.keys().held("w"), &one.tag).await.unwrap();
    let settled = consumer.exchange(&mut result(&one, true, &key, "{}"), &[], 0).await.unwrap().settled;
    assert!(matches!(settled[..], [Settled::Lost]), "{settled:?}");
    assert_eq!((keys(&f).await.len(), connection.exists::<_, bool>(&key).await.unwrap()), (1, false));
}

#[tokio::test]
async fn what_came_into_the_list_before_redis_waits_for_it_again_is_given_without_a_look() {
    let f = Fixture::new();
    let mut consumer = f.consumer("w").await;
    let one = next(&f, &mut consumer, "one").await;
    let looked = consumer.exchange(&mut [Settlement::acknowledge(&one.tag)], &queues(), 0).await.unwrap();
    assert!(looked.looked && looked.drained);
    f.send("q", 0, "two").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(consumer.begin_waiting(&queues()).await.unwrap());
    let two = given(&mut consumer).await;
    assert_eq!(names(std::slice::from_ref(&two)), ["two"]);
    let looked = consumer.exchange(&mut [Settlement::acknowledge(&two.tag)], &queues(), 0).await.unwrap();
    assert!(looked.looked && looked.drained);
    // Of another list it would not.
    f.send("r", 0, "other").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!consumer.begin_waiting(&queues()).await.unwrap() && !consumer.is_waiting());
    assert_eq!(names(&consumer.exchange(&mut [], &queues(), 1).await.unwrap().deliveries), ["other"]);
}

#[tokio::test]
async fn what_is_not_settled_at_once_is_recorded_where_kombu_looks_also_when_redis_has_forgotten_the_scripts() {
    let f = Fixture::new();
    let mut consumer = f.consumer("w").await;
    wait(&mut consumer).await;
    f.send("q", 0, "one").await;
    let one = given(&mut consumer).await;
    // It is asked for more while the task runs.
    consumer.exchange(&mut [], &queues(), 3).await.unwrap();
    assert_eq!(f.counts("q").await, (0, 1, 1));
    let entry: String = f.broker.connection().hget(f.broker.keys().unacked(), &one.tag).await.unwrap();
    assert!(entry.starts_with("[{") && entry.ends_with(", \"\", \"q\"]"), "{entry}");
    consumer.begin_waiting(&queues()).await.unwrap();
    f.send("q", 0, "two").await;
    let two = given(&mut consumer).await;
    let () = redis::cmd("SCRIPT").arg("FLUSH").query_async(&mut f.broker.connection()).await.unwrap();
    consumer.exchange(&mut [], &queues(), 2).await.unwrap();
    let claims = Claims::new(f.broker.clone(), "w");
    claims.record(std::slice::from_ref(&two.tag)).await.unwrap();
    assert_eq!(f.counts("q").await, (0, 2, 2));
    let mut settlements = [&one, &two].map(|delivery| Settlement::acknowledge(&delivery.tag));
    let settled = consumer.exchange(&mut settlements, &queues(), 4).await.unwrap().settled;
    assert!(settled.iter().all(|settled| matches!(settled, Settled::Done)), "{settled:?}");
    assert_eq!(f.counts("q").await, (0, 0, 0));
    // And it waits again.
    wait(&mut consumer).await;
}

#[tokio::test]
async fn those_who_wait_are_served_in_turn_and_of_the_other_lists_they_are_told() {
    let f = Fixture::new();
    let (mut first, mut second) = (f.consumer("first").await, f.consumer("second").await);
    wait(&mut first).await;
    wait(&mut second).await;
    f.send("q", 0, "one").await;
    f.send("q", 0, "two").await;
    assert_eq!(names(&[given(&mut first).await, given(&mut second).await]), ["one", "two"]);
    for consumer in [&mut first, &mut second] {
        let found = consumer.exchange(&mut [], &queues(), 4).await.unwrap();
        assert!(found.drained && found.deliveries.is_empty());
        consumer.begin_waiting(&queues()).await.unwrap();
    }
    f.send("r", 6, "other").await;
    let sign = tokio::time::timeout(Duration::from_secs(10), first.wait()).await.unwrap().unwrap();
    assert!(matches!(sign, Sign::Changed), "{sign:?}");
    assert!(first.is_waiting());
    let found = first.exchange(&mut [], &queues(), 3).await.unwrap();
    assert_eq!(names(&found.deliveries), ["other"]);
    // From now on it waits where that came from.
    first.end_waiting().await.unwrap();
    first.exchange(&mut [], &queues(), 3).await.unwrap();
    first.begin_waiting(&queues()).await.unwrap();
    assert_eq!(first.waits_for(), Some("r"));
    f.send("r", 6, "more").await;
    assert_eq!(names(&[given(&mut first).await]), ["more"]);
}

#[tokio::test]
async fn waiting_ends_when_it_is_told_to_and_by_itself() {
    let f = Fixture::new();
    let mut consumer = f.consumer("w").await;
    wait(&mut consumer).await;
    assert!(matches!(consumer.end_waiting().await.unwrap(), Some(Sign::Nothing)));
    f.send("q", 0, "one").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(f.counts("q").await, (1, 0, 0));
    assert_eq!(names(&consumer.exchange(&mut [], &queues(), 1).await.unwrap().deliveries), ["one"]);
    // What came just before is not lost.
    consumer.exchange(&mut [], &queues(), 1).await.unwrap();
    consumer.begin_waiting(&queues()).await.unwrap();
    assert!(consumer.given().unwrap().is_none());
    f.send("q", 0, "two").await;
    let sign = consumer.end_waiting().await.unwrap();
    assert!(matches!(&sign, Some(Sign::Message(two, _)) if names(std::slice::from_ref(two)) == ["two"]), "{sign:?}");
    wait(&mut consumer).await;
    let sign = tokio::time::timeout(Duration::from_secs(10), consumer.wait()).await.unwrap().unwrap();
    assert!(matches!(sign, Sign::Nothing), "{sign:?}");
    assert!(!consumer.is_waiting());
    consumer.leave().await.unwrap();
    assert_eq!(held(&f, "w").await.len(), 2, "of what was prepared nothing is left");
    consumer.begin_waiting(&queues()).await.unwrap();
    assert!(!consumer.is_waiting());
}

#[tokio::test]
async fn what_comes_for_one_who_is_taken_for_dead_is_found() {
    let f = Fixture::new();
    let others = Claims::new(f.broker.clone(), "others");
    let (mut connection, owners) = (f.broker.connection(), f.broker.keys().owners());
    let silent = |since: i64| (now_ms() - since * 1000).to_string();
    let mut frozen = f.consumer("frozen").await;
    wait(&mut frozen).await;
    // Redis may still put something there: the others keep the place in sight.
    let _: () = connection.zadd(&owners, "frozen", silent(1)).await.unwrap();
    assert_eq!(others.restore_dead(&["frozen".into()]).await.unwrap(), 0);
    assert_eq!(held(&f, "frozen").await.len(), PLACES);
    f.send("q", 3, "one").await;
    f.send("q", 0, "two").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(f.counts("q").await, (1, 0, 0));
    assert_eq!(others.restore_dead(&["frozen".into()]).await.unwrap(), 1);
    assert_eq!((f.counts("q").await, keys(&f).await.len()), ((2, 0, 0), 0));
    // And when it wakes up, what it was given is no longer its own.
    let two = given(&mut frozen).await;
    let settled = frozen.exchange(&mut [Settlement::acknowledge(&two.tag)], &[], 0).await.unwrap().settled;
    assert!(matches!(settled[..], [Settled::Lost]), "{settled:?}");
}

#[tokio::test]
async fn a_place_is_struck_off_when_nothing_can_come_into_it_any_more() {
    let f = Fixture::new();
    let others = Claims::new(f.broker.clone(), "others");
    let (mut connection, owners) = (f.broker.connection(), f.broker.keys().owners());
    let mut dead = f.consumer("dead").await;
    wait(&mut dead).await;
    drop(dead);
    for (silent, left) in [(50_i64, PLACES), (70, 0)] {
        let _: () = connection.zadd(&owners, "dead", (now_ms() - silent * 1000).to_string()).await.unwrap();
        others.restore_dead(&["dead".into()]).await.unwrap();
        let listed: Option<f64> = connection.zscore(&owners, "dead").await.unwrap();
        assert_eq!((held(&f, "dead").await.len(), usize::from(listed.is_some())), (left, left.min(1)));
    }
}

#[tokio::test]
async fn one_that_was_dead_for_long_and_is_not_prepares_its_places_anew() {
    let f = Fixture::new();
    let mut consumer = f.consumer("w").await;
    wait(&mut consumer).await;
    consumer.end_waiting().await.unwrap();
    let long_ago = (now_ms() - 70_000).to_string();
    let _: () = f.broker.connection().zadd(f.broker.keys().owners(), "w", long_ago).await.unwrap();
    Claims::new(f.broker.clone(), "others").restore_dead(&["w".into()]).await.unwrap();
    assert_eq!(held(&f, "w").await.len(), 0);
    consumer.lapsed();
    wait(&mut consumer).await;
    f.send("q", 0, "one").await;
    let one = given(&mut consumer).await;
    let settled = consumer.exchange(&mut [Settlement::acknowledge(&one.tag)], &[], 0).await.unwrap().settled;
    assert!(matches!(settled[..], [Settled::Done]), "{settled:?}");
}

#[tokio::test]
async fn one_that_was_delivered_before_is_fetched_by_its_own_tag() {
    let f = Fixture::new();
    f.send("q", 0, "one").await;
    let lost = f.fetch("other", 1).await;
    let mut consumer = f.consumer("w").await;
    wait(&mut consumer).await;
    Claims::new(f.broker.clone(), "w").restore("other", &[lost[0].tag.clone()]).await.unwrap();
    let sign = tokio::time::timeout(Duration::from_secs(10), consumer.wait()).await.unwrap().unwrap();
    assert!(matches!(sign, Sign::Changed), "{sign:?}");
    // Also when Redis has forgotten the scripts.
    let () = redis::cmd("SCRIPT").arg("FLUSH").query_async(&mut f.broker.connection()).await.unwrap();
    let again = consumer.exchange(&mut [], &queues(), 1).await.unwrap().deliveries;
    assert_eq!((names(&again), again[0].tag == lost[0].tag), (vec!["one".to_owned()], true));
    assert_eq!((f.counts("q").await, held(&f, "w").await.contains(&lost[0].tag)), ((0, 1, 1), true));
    assert_eq!((keys(&f).await.len(), held(&f, "w").await.len()), (0, PLACES));
    // One that leaves has it in hand, and gives it back.
    Claims::new(f.broker.clone(), "others").restore("w", &[lost[0].tag.clone()]).await.unwrap();
    let mut other = f.consumer("v").await;
    other.begin_waiting(&queues()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let left = other.leave().await.unwrap();
    assert_eq!((names(&left), left[0].tag == lost[0].tag), (vec!["one".to_owned()], true));
    assert_eq!(held(&f, "v").await, [lost[0].tag.clone()]);
}

#[tokio::test]
async fn a_key_that_is_no_list_is_waited_for_no_more_for_a_while() {
    let f = Fixture::new();
    let mut consumer = f.consumer("w").await;
    let () = f.broker.connection().set(f.broker.keys().list("q", 0), "none").await.unwrap();
    consumer.begin_waiting(&queues()).await.unwrap();
    let sign = tokio::time::timeout(Duration::from_secs(10), consumer.wait()).await.unwrap().unwrap();
    assert!(matches!(sign, Sign::Nothing), "{sign:?}");
    consumer.begin_waiting(&queues()).await.unwrap();
    assert!(!consumer.is_waiting());
}

fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_millis()).unwrap()
}
