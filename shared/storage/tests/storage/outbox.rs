use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

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
                let publish = |message: petiole_storage::OutboxMessage| {
                    let seen = seen.clone();
                    async move {
                        tokio::time::sleep(Duration::from_millis(2)).await;
                        seen.lock().unwrap().push(message.message);
                        Ok(())
                    }
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
async fn a_failed_message_stays_and_lets_others_pass() {
    let database = ready().await;
    let storage = &database.storage;
    for text in ["a", "bad", "c"] {
        storage.create_event(new_event(), message(text), None).await.unwrap();
    }
    let publish = |message: petiole_storage::OutboxMessage| async move {
        if message.message == "bad" { Err("refused\0".to_owned()) } else { Ok(()) }
    };
    let first = storage.relay(10, publish).await.unwrap();
    assert_eq!((first.published, first.failed), (1, true));
    let second = storage.relay(10, publish).await.unwrap();
    assert_eq!((second.published, second.failed), (1, true));
    assert_eq!(storage.outbox_length().await.unwrap(), 1);
    let attempts = Arc::new(Mutex::new(0));
    let counted = attempts.clone();
    let last = storage
        .relay(10, move |message| {
            *counted.lock().unwrap() = message.attempts;
            async { Ok(()) }
        })
        .await
        .unwrap();
    assert_eq!((last.published, *attempts.lock().unwrap()), (1, 2));
    let waiting = message("waits");
    storage.create_event(new_event(), waiting.clone(), None).await.unwrap();
    assert!(storage.outbox_has_task(&waiting.task_id).await.unwrap());
    assert!(!storage.outbox_has_task("another").await.unwrap());
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
    assert_eq!(storage.relay(10, |_| async { Ok(()) }).await.unwrap().published, 0, "the other one holds it");
    stuck.abort();
    let _ = stuck.await;
    let begun = Instant::now();
    while storage.relay(10, |_| async { Ok(()) }).await.unwrap().published == 0 {
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
