use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use petiole_storage::{OutboxMessage, Relayed};

use crate::database::{message, new_event, ready};

#[tokio::test]
async fn relays_side_by_side_publish_each_message_once() {
    let database = ready().await;
    let mut expected = HashSet::new();
    for n in 0..60 {
        database.storage.create_event(new_event(), message(&n.to_string()), None).await.unwrap();
        expected.insert(n.to_string());
    }
    let seen = Arc::new(Mutex::new(Vec::new()));
    let relays = (0..3).map(|_| {
        let (storage, seen) = (database.storage.clone(), seen.clone());
        tokio::spawn(async move {
            while storage.outbox_length().await.unwrap() > 0 {
                let seen = seen.clone();
                let publish = |messages: Vec<OutboxMessage>| async move {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    seen.lock().unwrap().extend(messages.into_iter().map(|message| message.message));
                    Ok(vec![])
                };
                storage.relay(10, publish).await.unwrap();
            }
        })
    });
    for relay in relays.collect::<Vec<_>>() {
        relay.await.unwrap();
    }
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 60);
    assert_eq!(seen.iter().cloned().collect::<HashSet<_>>(), expected);
}

#[tokio::test]
async fn a_refused_message_stays_and_lets_others_pass() {
    let database = ready().await;
    let storage = &database.storage;
    for text in ["bad", "a", "b"] {
        storage.create_event(new_event(), message(text), None).await.unwrap();
    }
    let publish = |messages: Vec<OutboxMessage>| async move {
        let bad = messages.into_iter().filter(|message| message.message == "bad");
        Ok(bad.map(|message| (message.id, "refused\0".to_owned())).collect())
    };
    let first = storage.relay(1, publish).await.unwrap();
    assert_eq!(first, Relayed { refused: 1, ..Relayed::default() });
    // what was never tried comes first
    assert_eq!(storage.relay(2, publish).await.unwrap(), Relayed { published: 2, ..Relayed::default() });
    assert_eq!(storage.outbox_length().await.unwrap(), 1);
    let attempts = Arc::new(Mutex::new(0));
    let counted = attempts.clone();
    let last = storage
        .relay(10, move |messages| {
            *counted.lock().unwrap() = messages[0].attempts;
            async { Ok(vec![]) }
        })
        .await
        .unwrap();
    assert_eq!((last.published, *attempts.lock().unwrap()), (1, 1));
    let waiting = message("waits");
    storage.create_event(new_event(), waiting.clone(), None).await.unwrap();
    assert!(storage.outbox_has_task(&waiting.task_id).await.unwrap());
    assert!(!storage.outbox_has_task("another").await.unwrap());
}

#[tokio::test]
async fn while_nothing_can_be_published_all_stay_as_they_are() {
    let database = ready().await;
    let storage = &database.storage;
    for text in ["a", "b", "c"] {
        storage.create_event(new_event(), message(text), None).await.unwrap();
    }
    for _ in 0..3 {
        let round = storage.relay(2, |_| async { Err("away".to_owned()) }).await.unwrap();
        assert_eq!(round, Relayed { failure: Some("away".to_owned()), ..Relayed::default() });
    }
    let seen = Arc::new(Mutex::new(Vec::new()));
    let kept = seen.clone();
    let publish = |messages: Vec<OutboxMessage>| async move {
        kept.lock().unwrap().extend(messages.into_iter().map(|message| (message.message, message.attempts)));
        Ok(vec![])
    };
    assert_eq!(storage.relay(10, publish).await.unwrap().published, 3);
    let expected = ["a", "b", "c"].map(|text| (text.to_owned(), 0));
    assert_eq!(*seen.lock().unwrap(), expected);
}

#[tokio::test]
async fn a_relay_that_dies_loses_nothing() {
    let database = ready().await;
    let storage = database.storage.clone();
    storage.create_event(new_event(), message("m"), None).await.unwrap();
    let stuck = tokio::spawn({
        let storage = storage.clone();
        async move { storage.relay(10, |_| std::future::pending()).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(storage.relay(10, |_| async { Ok(vec![]) }).await.unwrap().published, 0, "the other one holds it");
    stuck.abort();
    let _ = stuck.await;
    let begun = Instant::now();
    while storage.relay(10, |_| async { Ok(vec![]) }).await.unwrap().published == 0 {
        assert!(begun.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_new_message_wakes_the_listener() {
    let database = ready().await;
    let mut listener = database.storage.listen_outbox().await.unwrap();
    let storage = database.storage.clone();
    let insert = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(200)).await;
        storage.create_event(new_event(), message("m"), None).await.unwrap();
    });
    let begun = Instant::now();
    listener.wait(Duration::from_secs(20)).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    insert.await.unwrap();
    let begun = Instant::now();
    listener.wait(Duration::from_millis(100)).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(90));
}

#[tokio::test]
async fn the_backlog_has_a_size_and_an_age() {
    let database = ready().await;
    assert_eq!(database.storage.outbox_backlog().await.unwrap(), petiole_storage::OutboxBacklog::default());
    database.storage.create_event(new_event(), message("1"), None).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    database.storage.create_event(new_event(), message("2"), None).await.unwrap();
    let backlog = database.storage.outbox_backlog().await.unwrap();
    assert_eq!(backlog.messages, 2);
    assert!((0.05..20.0).contains(&backlog.oldest.as_secs_f64()), "{backlog:?}");
    let pool = database.storage.pool();
    assert!(pool.used + pool.idle > 0 && pool.used + pool.idle <= pool.limit, "{pool:?}");
}

#[tokio::test]
async fn what_the_broker_lost_is_published_again_until_its_work_has_ended() {
    let database = ready().await;
    let storage = &database.storage;
    let mut events = vec![];
    for text in ["open", "done", "failed"] {
        let (event, message) = (new_event(), message(text));
        events.push(event.id);
        let event = petiole_storage::NewEvent { task_id: message.task_id.clone(), ..event };
        storage.create_event(event, message, None).await.unwrap();
    }
    let round = || async {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let kept = seen.clone();
        let publish = |messages: Vec<OutboxMessage>| async move {
            kept.lock().unwrap().extend(messages.into_iter().map(|message| message.message));
            Ok(vec![])
        };
        storage.relay(10, publish).await.unwrap();
        Arc::try_unwrap(seen).unwrap().into_inner().unwrap()
    };
    assert_eq!(round().await, ["open", "done", "failed"]);
    assert!(round().await.is_empty());
    assert_eq!(storage.outbox_length().await.unwrap(), 0);
    storage.mark_running(events[0]).await.unwrap();
    storage.succeed(events[1], serde_json::json!(1)).await.unwrap();
    storage.fail(events[2], "why").await.unwrap();
    assert_eq!(storage.reopen_outbox().await.unwrap(), 1);
    assert_eq!(round().await, ["open"]);
    storage.succeed(events[0], serde_json::json!(1)).await.unwrap();
    assert_eq!(storage.reopen_outbox().await.unwrap(), 0);
}

#[tokio::test]
async fn work_that_ends_while_a_relay_holds_its_message_waits_for_nobody() {
    let database = ready().await;
    let storage = database.storage.clone();
    let (event, message) = (new_event(), message("m"));
    let id = event.id;
    let event = petiole_storage::NewEvent { task_id: message.task_id.clone(), ..event };
    storage.create_event(event, message, None).await.unwrap();
    let begun = Instant::now();
    let publish = |_| {
        let storage = storage.clone();
        async move {
            storage.succeed(id, serde_json::json!(1)).await.unwrap();
            Ok(vec![])
        }
    };
    assert_eq!(storage.relay(10, publish).await.unwrap().published, 1);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    // younger than a minute, it is left to the next time
    assert_eq!(storage.purge_outbox().await.unwrap(), 0);
}
