//! Messages that are bad, come again, or go back.

use std::time::Duration;

use petiole_protocol::Map;
use serde_json::json;

use crate::stand::Stand;

#[tokio::test]
async fn bad_messages_do_not_stop_the_queue() {
    let stand = Stand::new(&[]).await;
    for text in ["", "{}", "no json", r#"{"body":"!","properties":{"delivery_tag":"a","body_encoding":"base64"}}"#] {
        stand.client.broker().publish(&stand.queue, 0, text).await.unwrap();
    }
    let pickled = r#"{"body":"gASVBA==","content-type":"application/x-python-serialize","content-encoding":"binary",
        "headers":{"task":"t.add","id":"ID"},"properties":{"delivery_tag":"b","body_encoding":"base64"}}"#;
    let id = uuid::Uuid::new_v4().to_string();
    stand.client.broker().publish(&stand.queue, 0, &pickled.replace("ID", &id)).await.unwrap();
    assert_eq!(stand.result(&id).await.exception().unwrap().exc_type, "ContentDisallowed");
    assert_eq!(stand.run("t.add", json!([1, 1])).await.result, json!(2));
    stand.drained().await;
    stand.stop().await;
}

#[tokio::test]
async fn one_that_waits_is_given_the_next_message_and_what_runs_is_where_python_looks_for_it() {
    let stand = Stand::new(&[("TASK_ACKS_LATE", "1")]).await;
    let (mut connection, keys) = (stand.client.broker().connection(), stand.client.broker().keys().clone());
    for _ in 0..12 {
        assert_eq!(stand.run("t.add", json!([1, 1])).await.result, json!(2));
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let ids = [stand.send("t.sleeps", json!([1.5]), |_| {}).await, stand.send("t.sleeps", json!([1.5]), |_| {}).await];
    tokio::time::sleep(Duration::from_millis(500)).await;
    let tags: Vec<String> = redis::AsyncCommands::hkeys(&mut connection, keys.unacked()).await.unwrap();
    assert!(tags.len() == 2 && tags.iter().any(|tag| tag.starts_with("fetched:")), "{tags:?}");
    for id in &ids {
        assert_eq!(stand.result(id).await.status, "SUCCESS");
    }
    stand.drained().await;
    stand.stop().await;
    let books = keys.key("petiole:held:*");
    let held: Vec<String> = redis::AsyncCommands::keys(&mut connection, books).await.unwrap();
    let owners: u64 = redis::AsyncCommands::zcard(&mut connection, keys.owners()).await.unwrap();
    assert_eq!((held, owners), (vec![], 0), "one that leaves claims nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quick_tasks_run_on_the_consumers_thread_and_what_they_spawn_elsewhere() {
    let stand = Stand::new(&[]).await;
    let run = async |blocks: bool| stand.run("t.where", json!([blocks])).await.result;
    let mut runs = 0;
    while run(false).await != json!("consumer") {
        runs += 1;
        assert!(runs < 1_000, "it never ran where it was received");
    }
    // It may block its thread as on any runtime, and is no failure then.
    assert!(run(true).await.as_str().is_some_and(|thread| !thread.is_empty()));
    assert!(run(true).await.as_str().is_some_and(|thread| !thread.is_empty()));
    assert_eq!(stand.run("t.add", json!([1, 1])).await.result, json!(2));
    stand.stop().await;
    let spawned = crate::tasks::SPAWNED.lock().unwrap().clone();
    assert!(spawned.len() > 8 && spawned.iter().all(|thread| thread != "consumer"), "{spawned:?}");
}

#[tokio::test]
async fn what_comes_is_given_to_a_worker_that_has_a_slot_for_it() {
    let busy = Stand::new(&[]).await;
    let long = [busy.send("t.sleeps", json!([4]), |_| {}).await, busy.send("t.sleeps", json!([4]), |_| {}).await];
    while busy.inspect("active", json!({})).await.as_array().is_none_or(|running| running.len() < 2) {}
    let free = busy.beside(&[]).await;
    for n in 0..10 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(free.run("t.add", json!([n, 1])).await.result, json!(n + 1));
    }
    assert_eq!(free.inspect("stats", json!({})).await["total"], json!({"t.add": 10}));
    for id in &long {
        assert_eq!(busy.result(id).await.status, "SUCCESS");
    }
    busy.stop().await;
    free.stop().await;
}

#[tokio::test]
async fn a_warm_shutdown_finishes_what_runs_and_gives_back_the_rest_in_order() {
    let stand = Stand::new(&[]).await;
    let running = [stand.send("t.sleeps", json!([1]), |_| {}).await, stand.send("t.sleeps", json!([1]), |_| {}).await];
    tokio::time::sleep(Duration::from_millis(300)).await;
    for n in 0..4 {
        stand.send("t.add", json!([n, 0]), |_| {}).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (client, queue) = (stand.client.clone(), stand.queue.clone());
    stand.stop().await;
    for id in &running {
        assert_eq!(client.task_meta(id).await.unwrap().unwrap().status, "SUCCESS");
    }
    let texts: Vec<String> =
        redis::AsyncCommands::lrange(&mut client.broker().connection(), client.broker().keys().key(&queue), 0, -1)
            .await
            .unwrap();
    let first = |text: &String| {
        let envelope = petiole_protocol::Envelope::parse(text.as_bytes()).unwrap();
        let message = petiole_protocol::TaskMessage::decode(&envelope, &["json".into()]).unwrap();
        (message.args[0].as_i64().unwrap(), message.redelivered)
    };
    // The right end is served first.
    let order: Vec<_> = texts.iter().rev().map(first).collect();
    assert_eq!(order, [(0, true), (1, true), (2, true), (3, true)]);
}

#[tokio::test]
async fn what_is_fetched_ahead_of_quick_tasks_goes_back_unmarked_when_slow_ones_come() {
    let stand = Stand::new(&[("WORKER_PREFETCH_MULTIPLIER", "4")]).await;
    let broker = stand.client.broker();
    let send = |name: &'static str, args: serde_json::Value| {
        let mut task = petiole_client::TaskSend::new(name);
        task.args = args.as_array().unwrap().clone();
        stand.client.prepare(task).unwrap()
    };
    let mut messages: Vec<_> = (0..3000).map(|n| send("t.add", json!([n, 0]))).collect();
    messages.extend((0..2).map(|_| send("t.sleeps", json!([1.5]))));
    messages.extend((0..300).map(|n| send("t.add", json!([n, 1]))));
    let texts: Vec<_> = messages.iter().map(|sent| (stand.queue.clone(), 0, sent.envelope.clone())).collect();
    broker.publish_all(&texts).await.unwrap();
    let mut most = 0;
    loop {
        let (_, unacked) = stand.rest().await;
        most = most.max(unacked);
        if stand.inspect("active", json!({})).await.as_array().is_some_and(|running| running.len() == 2) {
            break;
        }
    }
    // Both slots are taken: no more is held than 2 × 4.
    let (queued, unacked) = stand.rest().await;
    assert!((292..=300).contains(&queued) && unacked <= 8, "{queued} queued, {unacked} held");
    assert!(most > 8, "never more than {most} were held: nothing was fetched ahead");
    let list = broker.keys().key(&stand.queue);
    let texts: Vec<String> = redis::AsyncCommands::lrange(&mut broker.connection(), list, 0, -1).await.unwrap();
    let left: Vec<_> = texts
        .iter()
        .rev()
        .map(|text| {
            let envelope = petiole_protocol::Envelope::parse(text.as_bytes()).unwrap();
            let message = petiole_protocol::TaskMessage::decode(&envelope, &["json".into()]).unwrap();
            (message.args[0].as_u64().unwrap(), message.redelivered)
        })
        .collect();
    let expected: Vec<_> = (300 - queued..300).map(|n| (n, false)).collect();
    assert_eq!(left, expected, "in their old order, and unmarked");
    for sent in [&messages[0], &messages[2999], messages.last().unwrap()] {
        assert_eq!(stand.result(&sent.task_id).await.status, "SUCCESS");
    }
    stand.drained().await;
    assert_eq!(stand.inspect("stats", json!({})).await["total"], json!({"t.add": 3300, "t.sleeps": 2}));
    stand.stop().await;
}

#[tokio::test]
async fn without_a_reserve_nothing_is_fetched_ahead() {
    let stand = Stand::new(&[("WORKER_PREFETCH_MULTIPLIER", "1")]).await;
    let mut task = petiole_client::TaskSend::new("t.add");
    task.args = vec![json!(1), json!(2)];
    let texts: Vec<_> =
        (0..2000).map(|_| (stand.queue.clone(), 0, stand.client.prepare(task.clone()).unwrap().envelope)).collect();
    stand.client.broker().publish_all(&texts).await.unwrap();
    let mut most = 0;
    while stand.rest().await != (0, 0) {
        most = most.max(stand.rest().await.1);
    }
    assert!(most <= 2, "{most} were held");
    stand.stop().await;
}

#[tokio::test]
async fn a_task_longer_than_the_visibility_timeout_runs_once() {
    let settings = [("VISIBILITY_TIMEOUT", "1"), ("TASK_ACKS_LATE", "1")];
    let stand = Stand::new(&settings).await;
    let id = stand.send("t.sleeps", json!([4]), |_| {}).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    // Another worker's scan, again and again, finds nothing that is forgotten.
    let other = petiole_redis::claims::Claims::new(stand.client.broker().clone(), "other");
    for _ in 0..12 {
        assert_eq!(other.restore_visible(Duration::from_secs(1)).await.unwrap(), 0);
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    assert_eq!(stand.result(&id).await.result, json!(4.0));
    stand.drained().await;
    stand.stop().await;
}

#[tokio::test]
async fn a_message_that_takes_its_workers_with_it_becomes_a_dead_letter() {
    let stand = Stand::new(&[("TASK_ACKS_LATE", "1"), ("TASK_MAX_REDELIVERIES", "2")]).await;
    let (broker, keys) = (stand.client.broker(), stand.client.broker().keys());
    // As another worker would have left it: begun again so often, and never ended.
    let deliver = async |times: u64, tag: &str| {
        let mut message = petiole_protocol::TaskMessage::new("t.add", tag, vec![json!(1), json!(2)], Map::new());
        message.properties.routing_key.clone_from(&stand.queue);
        let mut envelope = message.encode(tag.to_owned());
        envelope.properties.redelivered = true;
        let _: () =
            redis::AsyncCommands::hset(&mut broker.connection(), keys.redeliveries(), tag, times).await.unwrap();
        broker.publish(&stand.queue, 0, &envelope.to_text()).await.unwrap();
        stand.result(tag).await
    };
    assert_eq!(deliver(1, &format!("{}-once", stand.queue)).await.result, json!(3));
    let tag = format!("{}-twice", stand.queue);
    let failed = deliver(2, &tag).await.exception().unwrap();
    assert_eq!((failed.exc_type.as_str(), failed.exc_module.as_str()), ("WorkerLostError", "billiard.exceptions"));
    stand.drained().await;
    let left: u64 = redis::AsyncCommands::hlen(&mut broker.connection(), keys.redeliveries()).await.unwrap();
    assert_eq!(left, 0, "counts of messages that have ended");
    let dead = broker.dead_letters(None, 10).await.unwrap().unwrap();
    assert_eq!(dead.len(), 1);
    assert_eq!((dead[0].id.as_str(), dead[0].task.as_deref(), &dead[0].queue), (&*tag, Some("t.add"), &stand.queue));
    // Looked at, mended, sent again: it is a new message.
    let _: () =
        redis::AsyncCommands::del(&mut broker.connection(), stand.client.backend().task_key(&tag)).await.unwrap();
    assert!(broker.replay(&tag).await.unwrap() && !broker.replay(&tag).await.unwrap());
    assert_eq!(stand.result(&tag).await.result, json!(3));
    assert!(broker.dead_letters(None, 10).await.unwrap().unwrap().is_empty());
    stand.drained().await;
    stand.stop().await;
}

#[tokio::test]
async fn what_cannot_be_read_is_kept_as_a_dead_letter() {
    let stand = Stand::new(&[]).await;
    let broker = stand.client.broker();
    broker.publish(&stand.queue, 0, "no message at all").await.unwrap();
    assert_eq!(stand.run("t.add", json!([2, 3])).await.result, json!(5));
    stand.drained().await;
    let dead = broker.dead_letters(None, 10).await.unwrap().unwrap();
    assert_eq!(dead.iter().map(|letter| letter.message.as_str()).collect::<Vec<_>>(), ["no message at all"]);
    assert!(dead[0].reason.starts_with("cannot be read: "), "{}", dead[0].reason);
    assert!(broker.delete_dead(&dead[0].id).await.unwrap() && !broker.delete_dead(&dead[0].id).await.unwrap());
    stand.stop().await;
}
