//! Settling: all of it or nothing, and once.

use std::time::Duration;

use futures::StreamExt;
use petiole_protocol::{State, TaskMeta};
use petiole_redis::chord::Part;
use petiole_redis::claims::Claims;
use petiole_redis::handover::Push;
use petiole_redis::settle::{Settled, Settlement, Write};
use petiole_redis::{Backend, Connector};
use redis::AsyncCommands;
use serde_json::json;

use crate::fixture::Fixture;

const EXPIRES: Duration = Duration::from_secs(60);

impl Fixture {
    fn result(&self, id: &str, state: State, result: i64) -> Write {
        Write::result(&self.backend, &TaskMeta::new(id, &state, json!(result)), EXPIRES)
    }

    /// The same, so many bytes longer.
    fn long_result(&self, id: &str, state: State, result: i64, bytes: usize) -> Write {
        Write::result(&self.backend, &TaskMeta::new(id, &state, json!([result, "x".repeat(bytes)])), EXPIRES)
    }

    fn push(&self) -> Write {
        Write::Push(Box::new(Push::text(self.broker.keys(), "next", 0, "message")))
    }

    async fn settle(&self, owner: &str, settlement: &Settlement) -> Settled {
        self.broker.settle(owner, &self.backend, std::slice::from_ref(settlement)).await.unwrap().remove(0)
    }

    async fn stored(&self, id: &str) -> Option<String> {
        self.backend.get(id).await.unwrap().map(|meta| meta.status)
    }

    async fn pushed(&self) -> u64 {
        self.broker.queue_lengths("next").await.unwrap()[0]
    }
}

fn id() -> String {
    uuid::Uuid::new_v4().to_string()
}

#[tokio::test]
async fn result_message_and_acknowledgement_are_one_and_happen_once() {
    let (f, id) = (Fixture::new(), id());
    f.send("q", 0, "task").await;
    let delivery = f.fetch("w", 1).await.remove(0);
    let writes = vec![f.push(), f.result(&id, State::Success, 1)];
    let settlement = Settlement { tag: Some(delivery.tag), writes };
    assert!(matches!(f.settle("w", &settlement).await, Settled::Done));
    assert_eq!((f.counts("q").await, f.pushed().await), ((0, 0, 0), 1));
    assert_eq!(f.stored(&id).await.as_deref(), Some("SUCCESS"));
    // The answer was lost, the worker tries again.
    assert!(matches!(f.settle("w", &settlement).await, Settled::Lost));
    assert_eq!(f.pushed().await, 1);
}

#[tokio::test]
async fn who_has_lost_the_claim_writes_nothing() {
    let (f, id) = (Fixture::new(), id());
    f.send("q", 0, "task").await;
    let delivery = f.fetch("stalled", 1).await.remove(0);
    let claims = Claims::new(f.broker.clone(), "other");
    assert_eq!(claims.restore_dead(&["stalled".to_owned()]).await.unwrap(), 1);
    assert_eq!(f.fetch("other", 1).await.len(), 1);
    let writes = vec![f.push(), f.result(&id, State::Success, 1)];
    let settlement = Settlement { tag: Some(delivery.tag), writes };
    assert!(matches!(f.settle("stalled", &settlement).await, Settled::Lost));
    assert_eq!((f.counts("q").await, f.pushed().await, f.stored(&id).await), ((0, 1, 1), 0, None));
    assert!(matches!(f.settle("other", &settlement).await, Settled::Done));
    assert_eq!((f.counts("q").await, f.pushed().await), ((0, 0, 0), 1));
}

#[tokio::test]
async fn many_are_settled_together_each_by_its_own_claim() {
    let (f, ids) = (Fixture::new(), [id(), id(), id()]);
    for name in ["one", "two"] {
        f.send("q", 0, name).await;
    }
    let deliveries = f.fetch("w", 2).await;
    let mut settlements = [
        Settlement { tag: Some("unknown".into()), writes: vec![f.push(), f.result(&ids[0], State::Success, 0)] },
        Settlement { tag: Some(deliveries[0].tag.clone()), writes: vec![f.result(&ids[1], State::Failure, 1)] },
        Settlement {
            tag: Some(deliveries[1].tag.clone()),
            writes: vec![f.push(), f.result(&ids[2], State::Success, 2)],
        },
    ];
    let settled = f.consumer("w").await.exchange(&mut settlements, &["q".into()], 0).await.unwrap().settled;
    assert!(matches!(settled.as_slice(), [Settled::Lost, Settled::Done, Settled::Done]), "{settled:?}");
    assert_eq!((f.counts("q").await, f.pushed().await), ((0, 0, 0), 1));
    let mut stored = vec![];
    for id in &ids {
        stored.push(f.backend.get(id).await.unwrap().map(|meta| meta.result));
    }
    assert_eq!(stored, [None, Some(json!(1)), Some(json!(2))]);
}

#[tokio::test]
async fn without_a_message_a_token_makes_it_happen_once() {
    let f = Fixture::new();
    let settlement = Settlement::writes(vec![Write::once(f.broker.keys()), f.push()]);
    for _ in 0..2 {
        assert!(matches!(f.settle("", &settlement).await, Settled::Done));
    }
    assert_eq!(f.pushed().await, 1);
}

#[tokio::test]
async fn a_queue_that_is_no_list_is_told_and_the_rest_is_done() {
    let (f, id) = (Fixture::new(), id());
    f.send("q", 0, "task").await;
    let _: () = f.broker.connection().set(f.broker.keys().list("next", 0), "no list").await.unwrap();
    let tag = Some(f.fetch("w", 1).await.remove(0).tag);
    let settlement = Settlement { tag, writes: vec![f.push(), f.result(&id, State::Success, 1)] };
    let settled = f.settle("w", &settlement).await;
    assert!(matches!(&settled, Settled::Refused(why) if why.contains("WRONGTYPE")), "{settled:?}");
    assert_eq!((f.counts("q").await, f.stored(&id).await.as_deref()), ((0, 0, 0), Some("SUCCESS")));
}

#[tokio::test]
async fn a_stored_success_stays_and_who_waits_is_told() {
    let (f, id) = (Fixture::new(), id());
    let (seen, ()) = tokio::join!(f.backend.wait(&id, Duration::from_secs(10)), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        f.settle("", &Settlement::writes(vec![f.result(&id, State::Started, 1)])).await;
        f.settle("", &Settlement::writes(vec![f.result(&id, State::Success, 2)])).await;
    });
    let seen = seen.unwrap().unwrap();
    assert_eq!((seen.status.as_str(), &seen.result), ("SUCCESS", &json!(2)));
    f.settle("", &Settlement::writes(vec![f.result(&id, State::Failure, 3)])).await;
    assert_eq!(f.backend.get(&id).await.unwrap().unwrap().result, json!(2));
    let ttl: i64 = f.broker.connection().ttl(f.backend.task_key(&id)).await.unwrap();
    assert!((50..=60).contains(&ttl), "{ttl}");
}

#[tokio::test]
async fn a_long_result_is_one_like_any_other() {
    let (f, id) = (Fixture::new(), id());
    let result = |state, result| f.long_result(&id, state, result, 50_000);
    let first = |meta: TaskMeta| (meta.status, meta.result[0].clone());
    let (seen, ()) = tokio::join!(f.backend.wait(&id, Duration::from_secs(10)), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        f.settle("", &Settlement::writes(vec![result(State::Started, 1)])).await;
        f.settle("", &Settlement::writes(vec![result(State::Success, 2)])).await;
    });
    assert_eq!(first(seen.unwrap().unwrap()), ("SUCCESS".into(), json!(2)));
    f.settle("", &Settlement::writes(vec![result(State::Failure, 3)])).await;
    assert_eq!(first(f.backend.get(&id).await.unwrap().unwrap()), ("SUCCESS".into(), json!(2)));
    let ttl: i64 = f.broker.connection().ttl(f.backend.task_key(&id)).await.unwrap();
    assert!((50..=60).contains(&ttl), "{ttl}");
    // Several of one task in one call: the first SUCCESS stays here, too.
    let one = self::id();
    let result_of_one = |state, result| f.long_result(&one, state, result, 50_000);
    let writes = vec![
        result_of_one(State::Started, 1),
        result_of_one(State::Retry, 2),
        result_of_one(State::Success, 3),
        result_of_one(State::Failure, 4),
    ];
    assert!(matches!(f.settle("", &Settlement::writes(writes)).await, Settled::Done));
    assert_eq!(first(f.backend.get(&one).await.unwrap().unwrap()), ("SUCCESS".into(), json!(3)));
    let _: () = f.broker.connection().del(f.backend.task_key(&one)).await.unwrap();
    // Whoever has lost the message stores nothing, and leaves nothing behind.
    let other = uuid::Uuid::new_v4().to_string();
    let lost =
        Settlement { tag: Some("unknown".into()), writes: vec![f.long_result(&other, State::Success, 1, 50_000)] };
    assert!(matches!(f.settle("w", &lost).await, Settled::Lost));
    let left: Vec<String> = f.broker.connection().keys(format!("{}*", f.backend.task_key(""))).await.unwrap();
    assert_eq!(left, [f.backend.task_key(&id)]);
    // Kept for ever, when it is to be.
    let forever = TaskMeta::new(&other, &State::Success, json!("x".repeat(50_000)));
    let forever = Write::result(&f.backend, &forever, Duration::ZERO);
    assert!(matches!(f.settle("", &Settlement::writes(vec![forever])).await, Settled::Done));
    let ttl: i64 = f.broker.connection().ttl(f.backend.task_key(&other)).await.unwrap();
    assert_eq!(ttl, -1);
}

#[tokio::test]
async fn the_last_part_of_a_chord_is_acknowledged_with_its_body() {
    let (f, group) = (Fixture::new(), id());
    f.settle("", &Settlement::writes(f.backend.chord_size(&group, 2, EXPIRES).into())).await;
    let part = |index, task_id, result: i64, redelivered| {
        let result = json!(result);
        let part =
            Part { group_id: &group, index: Some(index), task_id, state: "SUCCESS", result: &result, redelivered };
        Settlement::writes(vec![f.backend.chord_part(&part, EXPIRES)])
    };
    assert!(matches!(f.settle("w", &part(1, "b", 2, false)).await, Settled::Done));
    // Run again after a redelivery, and with another result: the part counts once, as it was first.
    assert!(matches!(f.settle("w", &part(1, "b", 99, true)).await, Settled::Done), "counted twice");
    f.send("q", 0, "a").await;
    let tag = f.fetch("w", 1).await.remove(0).tag;
    let last = Settlement { tag: Some(tag.clone()), ..part(0, "a", 1, false) };
    let Settled::Claimed(claim) = f.settle("w", &last).await else { panic!("the last one has no claim") };
    // The answer was lost, the worker tries again.
    assert!(matches!(f.settle("w", &last).await, Settled::Claimed(_)));
    assert_eq!(f.counts("q").await, (0, 1, 1), "it must wait for the body");
    let results: Vec<_> = f.backend.chord_parts(&group).await.unwrap().into_iter().map(|part| part.result).collect();
    assert_eq!(results, [json!(1), json!(2)]);
    assert!(f.backend.renew_chord(&claim).await.unwrap());
    let end = Settlement { tag: Some(tag), writes: vec![f.backend.chord_end(&claim), f.push()] };
    assert!(matches!(f.settle("w", &end).await, Settled::Done));
    assert_eq!((f.counts("q").await, f.pushed().await), ((0, 0, 0), 1));
    assert!(
        matches!(f.settle("w", &part(0, "a", 1, true)).await, Settled::Done),
        "a late duplicate got the claim again"
    );
    assert!(f.backend.chord_parts(&group).await.unwrap().is_empty());
    // Whoever comes with a claim that is over sends nothing.
    f.settle("w", &Settlement::writes(vec![f.backend.chord_end(&claim), f.push()])).await;
    assert_eq!(f.pushed().await, 1);
    // The same chord is sent anew: its first part may be done before its sender says how many there are.
    f.settle("w", &part(0, "a", 1, false)).await;
    f.settle("", &Settlement::writes(f.backend.chord_size(&group, 2, EXPIRES).into())).await;
    assert!(matches!(f.settle("w", &part(1, "b", 2, false)).await, Settled::Claimed(_)));
}

#[tokio::test]
async fn results_may_live_in_another_database() {
    let (f, id, group) = (Fixture::new(), id(), id());
    let url = f.connector.url().rsplit_once('/').unwrap().0.to_owned();
    let database = if f.connector.keys().database == 9 { 8 } else { 9 };
    let backend = Backend::new(&Connector::new(&format!("{url}/{database}")).unwrap()).unwrap();
    assert!(!backend.shares(&f.broker) && f.backend.shares(&f.broker));
    f.send("q", 0, "task").await;
    let tag = f.fetch("w", 1).await.remove(0).tag;
    let result = json!(1);
    let part =
        Part { group_id: &group, index: Some(0), task_id: &id, state: "SUCCESS", result: &result, redelivered: false };
    let settle = async |settlement: Settlement| f.broker.settle("w", &backend, &[settlement]).await.unwrap().remove(0);
    settle(Settlement::writes(backend.chord_size(&group, 1, EXPIRES).into())).await;
    let meta = TaskMeta::new(&id, &State::Success, json!(1));
    let writes = vec![f.push(), Write::result(&backend, &meta, EXPIRES), backend.chord_part(&part, EXPIRES)];
    let Settled::Claimed(claim) = settle(Settlement { tag: Some(tag.clone()), writes }).await else {
        panic!("the only part has no claim")
    };
    assert_eq!((f.counts("q").await, f.pushed().await), ((0, 1, 1), 1));
    assert!(backend.get(&id).await.unwrap().is_some() && f.backend.get(&id).await.unwrap().is_none());
    settle(Settlement { tag: Some(tag), writes: vec![backend.chord_end(&claim)] }).await;
    assert_eq!(f.counts("q").await, (0, 0, 0));
    assert!(backend.chord_parts(&group).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_is_announced_again_reaches_those_who_listen_and_nobody_else() {
    let f = Fixture::new();
    let keys: Vec<String> = (0..600).map(|n| f.broker.keys().key(&format!("result-{n}"))).collect();
    let mut connection = f.broker.connection();
    for key in &keys {
        let () = connection.set(key, format!("of {key}")).await.unwrap();
    }
    assert_eq!(f.backend.announce_again(&keys).await.unwrap(), 0);
    assert_eq!(f.backend.announce_again(&[]).await.unwrap(), 0);
    let mut listening = f.connector.subscriber().await.unwrap();
    for key in [&keys[3], &keys[599], &f.broker.keys().key("gone")] {
        listening.subscribe(key).await.unwrap();
    }
    let asked: Vec<String> = keys.iter().cloned().chain([f.broker.keys().key("gone")]).collect();
    assert_eq!(f.backend.announce_again(&asked).await.unwrap(), 2);
    let mut messages = listening.on_message();
    for key in [&keys[3], &keys[599]] {
        let message = tokio::time::timeout(Duration::from_secs(5), messages.next()).await.unwrap().unwrap();
        assert_eq!(message.get_payload::<String>().unwrap(), format!("of {key}"));
    }
}
