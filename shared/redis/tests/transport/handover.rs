//! Messages that a worker sends and takes on itself.

use petiole_protocol::TaskMessage;
use petiole_redis::broker::{GiveBack, Side};
use petiole_redis::claims::Claims;
use petiole_redis::handover::Push;
use petiole_redis::settle::{Settled, Settlement, Write};
use redis::AsyncCommands;

use crate::fixture::{Fixture, names};

impl Fixture {
    /// A message for the queue `q`, to be taken; its argument is of that many bytes.
    fn taken(&self, name: &str, bytes: usize) -> Push {
        let tag = uuid::Uuid::new_v4().to_string();
        let mut message = TaskMessage::new(name, name, vec!["x".repeat(bytes).into()], Default::default());
        message.properties.routing_key = "q".into();
        Push {
            list: self.broker.keys().list("q", 0),
            queue: "q".into(),
            text: message.encode(tag.clone()).to_text(),
            message: Some(Box::new(message.received(tag.clone()))),
            tag,
            take: true,
        }
    }

    /// The entry of a tag in `unacked`.
    async fn entry(&self, tag: &str) -> Option<String> {
        self.broker.connection().hget(self.broker.keys().unacked(), tag).await.unwrap()
    }
}

fn pushes(push: &Push) -> Vec<Write> {
    vec![Write::Push(Box::new(push.clone()))]
}

const SHORT: usize = 10;
const LONG: usize = 20_000;

#[tokio::test]
async fn the_next_step_comes_with_the_acknowledgement_of_the_last_and_lies_in_unacked() {
    for bytes in [SHORT, LONG] {
        let f = Fixture::new();
        let mut consumer = f.consumer("w").await;
        f.send("q", 0, "first").await;
        let first = consumer.exchange(&mut [], &["q".into()], 1).await.unwrap().deliveries.remove(0);
        let push = f.taken("next", bytes);
        let mut settlements = [Settlement { tag: Some(first.tag), writes: pushes(&push) }];
        let exchange = consumer.exchange(&mut settlements, &["q".into()], 0).await.unwrap();
        assert!(exchange.taken && matches!(exchange.settled[0], Settled::Done));
        let next = &exchange.deliveries[0];
        assert_eq!((next.tag.as_str(), next.queue.as_str(), &next.text), (push.tag.as_str(), "q", &push.text));
        assert_eq!(next.message, push.message);
        // What a worker that fetched it would have read, and left in `unacked`.
        let read = TaskMessage::read(&next.text, &["json".into()]).unwrap();
        assert_eq!(Some(&read), next.message.as_deref());
        assert_eq!(f.counts("q").await, (0, 1, 1));
        assert_eq!(f.entry(&push.tag).await, Some(format!("[{}, \"\", \"q\"]", push.text)));
        // It is the worker's like any other: it can be given back, and goes when the worker dies.
        let back = GiveBack { tag: next.tag.clone(), queue: next.queue.clone(), text: next.text.clone() };
        assert_eq!(f.broker.give_back("w", Side::Next, &[back]).await.unwrap(), 1);
        assert_eq!(f.counts("q").await, (1, 0, 0));
    }
}

#[tokio::test]
async fn a_dead_workers_steps_go_to_others() {
    let f = Fixture::new();
    let mut settlements = [Settlement::writes(pushes(&f.taken("next", LONG)))];
    f.consumer("dead").await.exchange(&mut settlements, &["q".into()], 0).await.unwrap();
    assert!(f.fetch("other", 1).await.is_empty());
    let claims = Claims::new(f.broker.clone(), "other");
    assert_eq!(claims.restore_dead(&["dead".to_owned()]).await.unwrap(), 1);
    assert_eq!(names(&f.fetch("other", 1).await), ["next"]);
}

#[tokio::test]
async fn nothing_overtakes_what_waits() {
    for bytes in [SHORT, LONG] {
        let f = Fixture::new();
        f.send("q", 0, "waits").await;
        let mut settlements = [Settlement::writes(pushes(&f.taken("next", bytes)))];
        let mut consumer = f.consumer("w").await;
        let exchange = consumer.exchange(&mut settlements, &["q".into()], 0).await.unwrap();
        assert!(!exchange.taken && exchange.deliveries.is_empty());
        assert_eq!(f.counts("q").await, (2, 0, 0));
        let fetched = consumer.exchange(&mut [], &["q".into()], 2).await.unwrap().deliveries;
        assert_eq!(names(&fetched), ["waits", "next"]);
    }
}

#[tokio::test]
async fn who_has_lost_the_claim_takes_nothing_and_leaves_nothing() {
    for bytes in [SHORT, LONG] {
        let f = Fixture::new();
        let mut settlements = [Settlement { tag: Some("another's".into()), writes: pushes(&f.taken("next", bytes)) }];
        let exchange = f.consumer("w").await.exchange(&mut settlements, &["q".into()], 0).await.unwrap();
        assert!(matches!(exchange.settled[0], Settled::Lost) && !exchange.taken && exchange.deliveries.is_empty());
        assert_eq!(f.counts("q").await, (0, 0, 0));
    }
}

#[tokio::test]
async fn a_second_try_doubles_nothing_and_loses_nothing() {
    for bytes in [SHORT, LONG] {
        let f = Fixture::new();
        let push = f.taken("next", bytes);
        let mut writes = pushes(&push);
        writes.insert(0, Write::once(f.broker.keys()));
        let settlements = [Settlement::writes(writes)];
        let mut consumer = f.consumer("w").await;
        let queues = ["q".to_owned()];
        assert!(consumer.exchange(&mut settlements.clone(), &queues, 0).await.unwrap().taken);
        // The answer was lost: the message is the worker's without its knowledge, and stays so until it is given back.
        assert!(!consumer.exchange(&mut settlements.clone(), &queues, 0).await.unwrap().taken);
        assert_eq!(f.counts("q").await, (0, 1, 1));
        let claims = Claims::new(f.broker.clone(), "w");
        let forgotten = claims.forgotten(&Default::default()).await.unwrap();
        assert_eq!((forgotten.len(), claims.restore("w", &forgotten).await.unwrap()), (1, 1));
        assert!(!consumer.exchange(&mut settlements.clone(), &queues, 0).await.unwrap().taken);
        assert_eq!(f.counts("q").await, (1, 0, 0));
    }
}
