//! Tasks for later, and tasks that are not to run.

use std::time::Duration;

use petiole_client::TaskSend;
use serde_json::{Value, json};

use crate::stand::Stand;

#[tokio::test]
async fn eta_expiry_and_revocation() {
    let stand = Stand::new(&[]).await;
    let began = std::time::Instant::now();
    let late = stand.send("t.add", json!([1, 2]), |task| task.countdown = Some(1.0)).await;
    let gone = stand
        .send("t.add", json!([1, 2]), |task| {
            task.countdown = Some(0.5);
            task.expires = Some(petiole_client::Expires::In(0.2));
        })
        .await;
    let revoked = stand.send("t.add", json!([1, 2]), |task| task.countdown = Some(60.0)).await;
    for _ in 0..100 {
        if stand.inspect("scheduled", json!({})).await.as_array().is_some_and(|rows| rows.len() == 3) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stand.client.revoke(std::slice::from_ref(&revoked), false, None).await.unwrap();
    assert_eq!(stand.result(&revoked).await.exception().unwrap().message(), "revoked");
    assert_eq!(stand.result(&gone).await.exception().unwrap().message(), "expired");
    assert_eq!(stand.result(&late).await.result, json!(3));
    assert!(began.elapsed() >= Duration::from_secs(1));
    let running = stand.send("t.sleeps", json!([60]), |_| {}).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    stand.client.revoke(std::slice::from_ref(&running), true, None).await.unwrap();
    let ended = stand.result(&running).await;
    assert_eq!((ended.status.as_str(), ended.exception().unwrap().message().as_str()), ("REVOKED", "terminated"));
    stand.stop().await;
}

#[tokio::test]
async fn etas_beyond_the_limit_wait_on_redis_are_shown_and_run_at_their_time() {
    let stand = Stand::new(&[("WORKER_ETA_TASK_LIMIT", "2")]).await;
    let began = std::time::Instant::now();
    let mut ids = vec![];
    for n in 0..5 {
        ids.push(stand.send("t.add", json!([n, 1]), |task| task.countdown = Some(2.0)).await);
    }
    let broker = stand.client.broker();
    for _ in 0..100 {
        if broker.waiting_count().await.unwrap() == 3 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!((stand.rest().await, broker.waiting_count().await.unwrap()), ((0, 2), 3));
    let shown = stand.inspect("scheduled", json!({})).await;
    let shown: Vec<&str> = shown.as_array().unwrap().iter().map(|row| row["request"]["id"].as_str().unwrap()).collect();
    assert_eq!((shown.len(), ids.iter().all(|id| shown.contains(&id.as_str()))), (5, true), "{shown:?}");
    let found = stand.inspect("query_task", json!({"ids": ids})).await;
    assert!(ids.iter().all(|id| found[id][0] == json!("scheduled")), "{found}");
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(stand.result(id).await.result, json!(n + 1));
    }
    assert!(began.elapsed() >= Duration::from_millis(1990), "too early: {:?}", began.elapsed());
    stand.drained().await;
    assert_eq!(broker.waiting_count().await.unwrap(), 0);
    assert_eq!(stand.inspect("stats", json!({})).await["total"], json!({"t.add": 5}));
    stand.stop().await;
}

#[tokio::test]
async fn a_task_with_a_number_that_only_python_knows_is_shown() {
    let stand = Stand::new(&[]).await;
    let nan = petiole_protocol::serializer::from_json(b"[NaN, 1]").unwrap();
    let id = stand.send("t.add", nan, |task| task.countdown = Some(36_000.0)).await;
    let mut shown = Value::Null;
    for _ in 0..50 {
        shown = stand.inspect("scheduled", json!({})).await;
        if shown.as_array().is_some_and(|rows| !rows.is_empty()) {
            break;
        }
    }
    assert_eq!(shown[0]["request"]["args"].to_string(), "[NaN,1]");
    let found = stand.inspect("query_task", json!({"ids": [id]})).await;
    assert_eq!(found[&id][0], json!("scheduled"), "{found}");
    stand.inspect("revoke", json!({"task_id": id})).await;
    stand.stop().await;
}

#[tokio::test]
async fn a_revoked_task_that_waits_on_redis_ends_at_once() {
    let stand = Stand::new(&[("WORKER_ETA_TASK_LIMIT", "0")]).await;
    let far = |task: &mut TaskSend| task.countdown = Some(36_000.0);
    let (revoked, kept) =
        (stand.send("t.add", json!([1, 2]), far).await, stand.send("t.add", json!([1, 2]), far).await);
    for _ in 0..100 {
        if stand.client.broker().waiting_count().await.unwrap() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(stand.rest().await, (0, 0));
    stand.client.revoke(std::slice::from_ref(&revoked), false, None).await.unwrap();
    assert_eq!(stand.result(&revoked).await.status, "REVOKED");
    for _ in 0..100 {
        if stand.client.broker().waiting_count().await.unwrap() == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let left = stand.client.broker().waiting(0, 9).await.unwrap();
    assert!(left.len() == 1 && left[0].text.contains(&kept), "{left:?}");
    stand.drained().await;
    stand.stop().await;
}
