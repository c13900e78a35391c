//! Remote control.

use std::time::Duration;

use serde_json::json;

use crate::stand::Stand;

#[tokio::test]
async fn control_commands() {
    let stand = Stand::new(&[]).await;
    let stats = stand.inspect("stats", json!({})).await;
    assert_eq!((stats["pid"].as_u64(), stats["prefetch_count"].as_u64()), (Some(std::process::id().into()), Some(8)));
    let names = stand.inspect("registered", json!({})).await;
    assert!(names.as_array().unwrap().contains(&json!("t.add")), "{names}");
    assert_eq!(stand.inspect("no_such", json!({})).await, json!({"error": "KeyError('no_such')"}));
    let stumbled = stand.inspect("stumble", json!({})).await;
    assert_eq!(stumbled, json!({"error": "it panicked: the worker's log says where"}));
    assert_eq!(stand.inspect("enable_events", json!({})).await, json!({"ok": "task events enabled"}));
    assert_eq!(stand.inspect("enable_events", json!({})).await, json!({"ok": "task events already enabled"}));
    assert_eq!(stand.inspect("pool_grow", json!({"n": 2})).await, json!({"ok": "pool will grow"}));
    assert_eq!(stand.inspect("stats", json!({})).await["pool"]["max-concurrency"], json!(4));
    let other = format!("{}-other", stand.queue);
    stand.inspect("add_consumer", json!({"queue": other})).await;
    let id = stand.send("t.add", json!([4, 5]), |task| task.queue = Some(other.clone())).await;
    assert_eq!(stand.result(&id).await.result, json!(9));
    stand.inspect("cancel_consumer", json!({"queue": other})).await;
    assert_eq!(stand.inspect("active_queues", json!({})).await.as_array().unwrap().len(), 1);
    let conf = stand.inspect("conf", json!({})).await.to_string();
    assert!(!conf.contains(&std::env::var("TEST_REDIS_URL").unwrap()) || !conf.contains('@'), "{conf}");
    stand.stop().await;
}

#[tokio::test]
async fn limits_and_slots_change_by_command() {
    let stand = Stand::new(&[("WORKER_AUTOSCALE", "3,1"), ("WORKER_POOL_RESTARTS", "1")]).await;
    let limits = stand.inspect("time_limit", json!({"task_name": "t.sleeps", "hard": 0.3})).await;
    assert_eq!(limits, json!({"ok": "time limits set successfully"}));
    let ended = stand.run("t.sleeps", json!([30])).await.exception().unwrap();
    assert_eq!(ended.last_line(), "billiard.exceptions.TimeLimitExceeded: 0.3");
    stand.inspect("time_limit", json!({"task_name": "t.sleeps"})).await;
    assert_eq!(stand.inspect("time_limit", json!({"task_name": "t.no"})).await, json!({"error": "unknown task"}));
    // Three at once grow the pool from one slot to three.
    let began = std::time::Instant::now();
    let mut ids = vec![];
    for _ in 0..3 {
        ids.push(stand.send("t.sleeps", json!([0.5]), |_| {}).await);
    }
    for id in &ids {
        stand.result(id).await;
    }
    assert!(began.elapsed() < Duration::from_millis(1400), "one after the other: {:?}", began.elapsed());
    let stats = stand.inspect("stats", json!({})).await;
    assert_eq!((&stats["autoscaler"]["max"], &stats["autoscaler"]["current"]), (&json!(3), &json!(3)));
    let told = stand.inspect("autoscale", json!({"max": 2, "min": 1})).await;
    assert_eq!(told, json!({"ok": "autoscale now max=2 min=1"}));
    assert_eq!(stand.inspect("stats", json!({})).await["pool"]["max-concurrency"], json!(2));
    assert!(stand.inspect("pool_grow", json!({})).await["error"].as_str().unwrap().contains("autoscale"));
    assert_eq!(stand.inspect("pool_restart", json!({})).await, json!({"ok": "reload started"}));
    let limited = stand.inspect("rate_limit", json!({"task_name": "t.add", "rate_limit": "5/s"})).await;
    assert_eq!(limited, json!({"ok": "new rate limit set successfully"}));
    let began = std::time::Instant::now();
    for n in 0..3 {
        ids.push(stand.send("t.add", json!([n, 1]), |_| {}).await);
    }
    for id in &ids[3..] {
        stand.result(id).await;
    }
    assert!(began.elapsed() >= Duration::from_millis(380), "not spaced: {:?}", began.elapsed());
    stand.stop().await;
}
