//! How tasks end, and what is stored.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use serde_json::json;

use crate::stand::Stand;

#[tokio::test]
async fn results_failures_and_panics() {
    let stand = Stand::new(&[]).await;
    let sum = stand.run("t.add", json!([2, 3])).await;
    assert_eq!((sum.status.as_str(), sum.result), ("SUCCESS", json!(5)));
    let failed = stand.run("t.fails", json!([])).await.exception().unwrap();
    assert_eq!(failed.last_line(), "RuntimeError: broken");
    let other = stand.run("t.recovers", json!([])).await.exception().unwrap();
    assert_eq!(other.last_line(), "RuntimeError: broken after all");
    let panicked = stand.run("t.panics", json!([])).await;
    assert_eq!(panicked.exception().unwrap().last_line(), "RuntimeError: panicked: out of cheese");
    assert!(panicked.traceback.unwrap().contains("tests/worker/tasks.rs"));
    let wrong = stand.run("t.add", json!([1])).await.exception().unwrap();
    assert_eq!(wrong.exc_type, "TypeError");
    let unknown = stand.run("t.nowhere", json!([])).await.exception().unwrap();
    assert_eq!(unknown.last_line(), "celery.exceptions.NotRegistered: t.nowhere");
    stand.drained().await;
    stand.stop().await;
}

#[tokio::test]
async fn who_subscribes_just_after_a_result_was_announced_hears_of_it() {
    let stand = Stand::new(&[]).await;
    let backend = stand.client.backend().clone();
    let mut channel = backend.connector().subscriber().await.unwrap();
    for _ in 0..50 {
        let id = stand.send("t.add", json!([2, 3]), |_| {}).await;
        while backend.get(&id).await.unwrap().is_none() {}
        channel.subscribe(backend.task_key(&id)).await.unwrap();
        let heard = tokio::time::timeout(Duration::from_millis(300), channel.on_message().next()).await;
        // Now and then this test is too slow itself.
        let Ok(Some(message)) = heard else { continue };
        assert!(message.get_payload::<String>().unwrap().contains("SUCCESS"));
        assert_eq!(message.get_channel_name(), backend.task_key(&id));
        return stand.stop().await;
    }
    panic!("none of fifty was heard of");
}

#[tokio::test]
async fn declared_retries_run_out_into_the_failure() {
    let stand = Stand::new(&[("RESULT_EXTENDED", "1")]).await;
    let failed = stand.run("t.unlucky", json!([])).await;
    assert_eq!(failed.exception().unwrap().last_line(), "Exception: no luck");
    assert_eq!(failed.retries, Some(2));
    let retried = stand.run("t.acts", json!(["retry"])).await;
    assert_eq!((retried.result, retried.retries), (json!(1), Some(1)));
    stand.stop().await;
}

#[tokio::test]
async fn ignore_reject_requeue_replace() {
    let stand = Stand::new(&[]).await;
    let ignored = stand.send("t.acts", json!(["ignore"]), |_| {}).await;
    stand.drained().await;
    assert!(stand.client.task_meta(&ignored).await.unwrap().is_none());
    let rejected = stand.run("t.acts", json!(["reject"])).await.exception().unwrap();
    assert_eq!(rejected.last_line(), "celery.exceptions.Reject: ('no', False)");
    stand.runs.store(0, Ordering::SeqCst);
    assert_eq!(stand.run("t.acts", json!(["requeue"])).await.result, json!(true));
    assert_eq!(stand.runs.load(Ordering::SeqCst), 2);
    assert_eq!(stand.run("t.acts", json!(["replace"])).await.result, json!(42));
    stand.drained().await;
    stand.stop().await;
}

#[tokio::test]
async fn limits_end_a_task() {
    let stand = Stand::new(&[]).await;
    let hard = stand.send("t.sleeps", json!([30]), |task| task.time_limit = Some(0.2)).await;
    let soft = stand.send("t.sleeps", json!([30]), |task| task.soft_time_limit = Some(0.2)).await;
    assert_eq!(stand.result(&hard).await.exception().unwrap().exc_type, "TimeLimitExceeded");
    assert_eq!(stand.result(&soft).await.exception().unwrap().exc_type, "SoftTimeLimitExceeded");
    let careful = stand.send("t.acts", json!(["soft"]), |task| task.soft_time_limit = Some(0.2)).await;
    assert_eq!(stand.result(&careful).await.result, json!("cleaned up"));
    stand.stop().await;
}

#[tokio::test]
async fn a_task_sends_another_by_the_crate_s_own_means() {
    let stand = Stand::new(&[]).await;
    let parent = stand.run("t.sends", json!([41])).await;
    let child = stand.result(parent.result.as_str().unwrap()).await;
    assert_eq!((child.result, child.parent_id.as_deref()), (json!(42), Some(parent.task_id.as_str())));
    assert_eq!(parent.children.unwrap(), [json!([[child.task_id, null], null])]);
    stand.stop().await;
}

#[tokio::test]
async fn of_many_quick_tasks_that_tell_their_start_each_is_left_as_it_ended() {
    let stand = Stand::new(&[("TASK_TRACK_STARTED", "1")]).await;
    let sent: Vec<_> = (0..3000)
        .map(|n| {
            let mut task = petiole_client::TaskSend::new(if n % 50 == 0 { "t.fails" } else { "t.add" });
            task.args = if n % 50 == 0 { vec![] } else { vec![json!(n), json!(1)] };
            stand.client.prepare(task).unwrap()
        })
        .collect();
    let texts: Vec<_> = sent.iter().map(|sent| (stand.queue.clone(), 0, sent.envelope.clone())).collect();
    stand.client.broker().publish_all(&texts).await.unwrap();
    stand.drained().await;
    for (n, sent) in sent.iter().enumerate() {
        let expected = if n % 50 == 0 { "FAILURE" } else { "SUCCESS" };
        assert_eq!(stand.result(&sent.task_id).await.status, expected, "task {n}");
    }
    stand.stop().await;
}
