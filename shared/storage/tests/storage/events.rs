use petiole_storage::{
    CreatedEvent, Cursor, EventFilter, EventState, IdempotencyKey, NewEvent, StorageError, request_hash,
};
use serde_json::json;
use uuid::Uuid;

use crate::database::{message, new_document, new_event, ready};

#[tokio::test]
async fn an_event_is_stored_run_and_done() {
    let database = ready().await;
    let storage = &database.storage;
    let new = new_event();
    assert_eq!(storage.create_event(new.clone(), message("m"), None).await.unwrap(), CreatedEvent::New);
    let event = storage.event(new.id).await.unwrap();
    assert_eq!((event.kind, event.data, event.task_id), (new.kind, new.data, new.task_id));
    assert_eq!((event.state, event.output, event.error), (EventState::Queued, None, None));
    assert_eq!(storage.outbox_length().await.unwrap(), 1);

    assert!(storage.mark_running(new.id).await.unwrap());
    assert_eq!(storage.event(new.id).await.unwrap().state, EventState::Running);
    assert!(storage.mark_running(new.id).await.unwrap(), "a redelivered task goes on");
    storage.succeed(new.id, json!({"document_id": 1})).await.unwrap();
    let event = storage.event(new.id).await.unwrap();
    assert_eq!((event.state, event.output), (EventState::Succeeded, Some(json!({"document_id": 1}))));
    assert!(event.updated_at > event.created_at);
    assert!(!storage.mark_running(new.id).await.unwrap(), "what is done is not begun again");

    assert!(!storage.fail(new.id, "too late").await.unwrap(), "what succeeded does not fail");
    let event = storage.event(new.id).await.unwrap();
    assert_eq!(
        (event.state, event.output, event.error),
        (EventState::Succeeded, Some(json!({"document_id": 1})), None)
    );
}

#[tokio::test]
async fn of_failures_at_the_same_time_the_first_is_kept() {
    let database = ready().await;
    let storage = &database.storage;
    let new = new_event();
    storage.create_event(new.clone(), message("m"), None).await.unwrap();
    let failures = (0..4).map(|n| {
        let (storage, id) = (storage.clone(), new.id);
        tokio::spawn(async move { (n, storage.fail(id, &format!("a\0{n}")).await.unwrap()) })
    });
    let mut first = vec![];
    for failure in failures.collect::<Vec<_>>() {
        let (n, is_news) = failure.await.unwrap();
        if is_news {
            first.push(n);
        }
    }
    let event = storage.event(new.id).await.unwrap();
    assert_eq!((event.state, event.output, first.len()), (EventState::Failed, None, 1));
    assert_eq!(event.error, Some(format!("a\u{fffd}{}", first[0])));
    assert!(!storage.mark_running(new.id).await.unwrap());
}

#[tokio::test]
async fn unknown_events_are_not_found() {
    let database = ready().await;
    let (storage, id) = (&database.storage, Uuid::now_v7());
    for error in [
        storage.event(id).await.unwrap_err(),
        storage.mark_running(id).await.unwrap_err(),
        storage.succeed(id, json!(1)).await.unwrap_err(),
        storage.fail(id, "x").await.unwrap_err(),
        storage.create_document_for_event(id, new_document("c", "t", json!({})), None).await.unwrap_err(),
    ] {
        assert!(matches!(error, StorageError::NotFound { what: "event", .. }), "{error:?}");
    }
}

#[tokio::test]
async fn what_postgresql_cannot_hold_is_invalid_and_leaves_nothing() {
    let database = ready().await;
    let storage = &database.storage;
    let error = storage.create_event(new_event(), message("a\0b"), None).await.unwrap_err();
    assert!(matches!(error, StorageError::Invalid { .. }), "{error:?}");
    assert!(storage.events(&EventFilter::default(), None, 10).await.unwrap().items.is_empty());
    let nowhere = EventFilter { kind: Some("a\0b".into()), state: None };
    assert!(storage.events(&nowhere, None, 10).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn any_json_comes_back_as_it_was_sent() {
    let database = ready().await;
    let storage = &database.storage;
    let data = json!({"k\0": ["a\0b", {"\0": null}], "n": 1.5});
    let event = NewEvent { data: data.clone(), ..new_event() };
    storage.create_event(event.clone(), message("m"), None).await.unwrap();
    assert_eq!(storage.event(event.id).await.unwrap().data, data);
    assert_eq!(storage.events(&EventFilter::default(), None, 1).await.unwrap().items[0].data, data);
}

#[tokio::test]
async fn of_fifty_equal_requests_one_is_stored() {
    let database = ready().await;
    let hash = request_hash(&json!({"type": "t"}));
    let key = IdempotencyKey { scope: "events".into(), key: "storm".into(), request_hash: hash };
    let many = (0..50).map(|_| {
        let (storage, key) = (database.storage.clone(), key.clone());
        tokio::spawn(async move {
            let new = new_event();
            let answer = json!({"id": new.id});
            match storage.create_event(new, message("m"), Some((&key, &answer))).await.unwrap() {
                CreatedEvent::New => (true, answer),
                CreatedEvent::Replayed(first) => (false, first),
            }
        })
    });
    let mut answers = Vec::new();
    for task in many.collect::<Vec<_>>() {
        answers.push(task.await.unwrap());
    }
    assert_eq!(answers.iter().filter(|(new, _)| *new).count(), 1);
    assert!(answers.iter().all(|(_, answer)| *answer == answers[0].1));
    assert_eq!(database.storage.outbox_length().await.unwrap(), 1);

    let other = IdempotencyKey { request_hash: request_hash(&json!({"type": "u"})), ..key.clone() };
    let error = database.storage.create_event(new_event(), message("m"), Some((&other, &json!(1)))).await.unwrap_err();
    assert!(matches!(error, StorageError::Conflict(_)), "{error:?}");
    let elsewhere = IdempotencyKey { scope: "another".into(), ..other };
    let created =
        database.storage.create_event(new_event(), message("m"), Some((&elsewhere, &json!(1)))).await.unwrap();
    assert_eq!(created, CreatedEvent::New);
    assert_eq!(database.storage.purge_idempotency_keys().await.unwrap(), 0);
}

#[tokio::test]
async fn a_refused_request_does_not_use_its_key_up() {
    let database = ready().await;
    let key = IdempotencyKey { scope: "events".into(), key: "k".into(), request_hash: request_hash(&json!(1)) };
    database.storage.create_event(new_event(), message("\0"), Some((&key, &json!(1)))).await.unwrap_err();
    let other = IdempotencyKey { request_hash: request_hash(&json!(2)), ..key };
    let created = database.storage.create_event(new_event(), message("m"), Some((&other, &json!(2)))).await.unwrap();
    assert_eq!(created, CreatedEvent::New);
}

#[tokio::test]
async fn the_list_is_paged_and_filtered() {
    let database = ready().await;
    let storage = &database.storage;
    let mut ids = Vec::new();
    for n in 0..7 {
        let new = NewEvent { kind: if n % 2 == 0 { "even" } else { "odd" }.into(), ..new_event() };
        ids.insert(0, new.id);
        storage.create_event(new, message("m"), None).await.unwrap();
    }
    storage.succeed(ids[0], json!(null)).await.unwrap();
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = storage.events(&EventFilter::default(), after, 3).await.unwrap();
        assert!(page.items.len() <= 3);
        seen.extend(page.items.iter().map(|event| event.id));
        // new rows do not shift the pages
        storage.create_event(new_event(), message("m"), None).await.unwrap();
        let Some(next) = page.next else { break };
        after = Some(Cursor::decode(&next.encode()).unwrap());
    }
    assert_eq!(seen, ids);
    let even = EventFilter { kind: Some("even".into()), state: Some(EventState::Queued) };
    assert_eq!(storage.events(&even, None, 200).await.unwrap().items.len(), 3);
}
