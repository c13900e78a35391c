//! Messages that wait for their time.

use std::time::Duration;

use petiole_redis::claims::Claims;
use petiole_redis::consumer::Delivery;
use petiole_redis::waiting::ToWait;
use redis::AsyncCommands;

use crate::fixture::{Fixture, names};

impl Fixture {
    /// Seconds since the epoch by Redis' clock.
    async fn now(&self) -> f64 {
        let time = redis::cmd("TIME").query_async(&mut self.broker.connection()).await;
        let (seconds, micros): (u64, u64) = time.unwrap();
        seconds as f64 + micros as f64 / 1e6
    }

    async fn put(&self, delivery: &Delivery, task_id: &str, priority: i64, eta: f64) -> bool {
        let wait = ToWait { delivery, priority, task_id, node: "w@host", eta };
        self.broker.put_waiting("w", &wait).await.unwrap()
    }
}

#[tokio::test]
async fn what_waits_comes_back_at_its_time_to_its_own_list_the_earliest_first() {
    let f = Fixture::new();
    for (priority, name) in [(0, "late"), (0, "early"), (6, "other list")] {
        f.send("q", priority, name).await;
    }
    let (got, now) = (f.fetch("w", 3).await, f.now().await);
    for (at, (delivery, after)) in got.iter().zip([0.6, 0.5, 0.4]).enumerate() {
        let priority = if at == 2 { 6 } else { 0 };
        assert!(f.put(delivery, &at.to_string(), priority, now + after).await);
        // The answer was lost, the caller tries again.
        assert!(!f.put(delivery, &at.to_string(), priority, now + after).await);
    }
    assert_eq!((f.counts("q").await, f.broker.waiting_count().await.unwrap()), ((0, 0, 0), 3));
    let due = f.broker.return_due(10).await.unwrap();
    assert_eq!(due.returned, 0);
    assert!(due.next.unwrap() <= Duration::from_millis(400), "{due:?}");
    let held: u64 = f.broker.connection().scard(f.broker.keys().held("w")).await.unwrap();
    assert_eq!(held, 0);
    // New ones do not overtake them.
    f.send("q", 0, "new").await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(f.broker.return_due(10).await.unwrap(), petiole_redis::waiting::Due { returned: 3, next: None });
    let again = f.fetch("w", 9).await;
    assert_eq!(names(&again), ["early", "late", "new", "other list"]);
    let text = |name: &str, of: &[Delivery]| of.iter().find(|d| names(&[(*d).clone()]) == [name]).unwrap().text.clone();
    assert_eq!(text("late", &again), text("late", &got), "a message that only waited is no redelivery");
    let left: u64 = f.broker.connection().exists(f.broker.keys().waiting_ids()).await.unwrap();
    assert_eq!((left, f.broker.waiting_count().await.unwrap()), (0, 0));
}

#[tokio::test]
async fn what_waits_is_found_and_taken_by_its_task_s_id() {
    let f = Fixture::new();
    f.send("q", 0, "one").await;
    f.send("q", 0, "two").await;
    let got = f.fetch("w", 2).await;
    f.put(&got[0], "one", 0, 4e9).await;
    f.put(&got[1], "two", 0, 3e9).await;
    let shown = f.broker.waiting(0, 10).await.unwrap();
    assert_eq!(shown.iter().map(|w| w.text.clone()).collect::<Vec<_>>(), [got[1].text.clone(), got[0].text.clone()]);
    assert_eq!((shown[0].node.as_str(), shown[0].queue.as_str()), ("w@host", "q"));
    assert_eq!(f.broker.waiting_of(&["one".into(), "none".into()]).await.unwrap()[0].text, got[0].text);
    assert_eq!(f.broker.take_waiting("w", "none").await.unwrap(), None);
    let taken = f.broker.take_waiting("w", "one").await.unwrap().unwrap();
    assert_eq!((&taken.text, &taken.queue), (&got[0].text, &got[0].queue));
    assert_eq!((f.counts("q").await, f.broker.waiting_count().await.unwrap()), ((0, 1, 1), 1));
    assert_eq!(f.broker.take_waiting("w", "one").await.unwrap(), None);
    // It lies there as kombu expects it.
    assert_eq!(Claims::new(f.broker.clone(), "w").restore("w", &[taken.tag]).await.unwrap(), 1);
    assert_eq!(names(&f.fetch("w", 1).await), ["one"]);
}

#[tokio::test]
async fn what_another_worker_has_taken_over_is_not_put_away() {
    let f = Fixture::new();
    f.send("q", 0, "one").await;
    let got = f.fetch("w", 1).await;
    assert_eq!(Claims::new(f.broker.clone(), "other").restore("w", &[got[0].tag.clone()]).await.unwrap(), 1);
    assert!(!f.put(&got[0], "one", 0, 4e9).await);
    assert_eq!((f.counts("q").await, f.broker.waiting_count().await.unwrap()), ((1, 0, 0), 0));
}

#[tokio::test]
async fn two_messages_with_one_tag_wait_both_and_one_without_a_list_waits_on() {
    let f = Fixture::new();
    f.send("q", 0, "one").await;
    let first = f.fetch("w", 1).await;
    f.put(&first[0], "one", 0, 1.0).await;
    f.broker.publish("q", 0, &first[0].text).await.unwrap();
    let second = f.fetch("w", 1).await;
    assert_eq!(first[0].tag, second[0].tag);
    f.put(&second[0], "one", 0, 1.0).await;
    assert_eq!(f.broker.waiting_count().await.unwrap(), 2);
    let _: () = f.broker.connection().set(f.broker.keys().list("q", 0), "no list").await.unwrap();
    f.broker.return_due(10).await.unwrap();
    assert_eq!(f.broker.waiting_count().await.unwrap(), 2, "nothing is thrown away");
    f.broker.connection().del::<_, ()>(f.broker.keys().list("q", 0)).await.unwrap();
    assert!(f.broker.return_due(10).await.unwrap().next.unwrap() > Duration::from_secs(50));
}
