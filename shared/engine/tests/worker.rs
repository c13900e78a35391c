//! A worker in this process against a real Redis. Each test has a queue, a node name and a key prefix of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use celery::prelude::*;
use petiole_client::{Client, ClientConfig, TaskSend};
use petiole_engine::task::{Retry, RetryAt};
use petiole_engine::{App, Context, Fault, Task as EngineTask, TaskOptions, WorkerConfig};
use petiole_protocol::{Map, Signature, TaskException, TaskMeta};
use petiole_settings::Reader;
use serde_json::{Value, json};

#[celery::task(name = "t.add")]
async fn add(x: i64, y: i64) -> TaskResult<i64> {
    Ok(x + y)
}

#[celery::task(name = "t.unlucky", max_retries = 2, max_retry_delay = 0)]
async fn unlucky() -> TaskResult<()> {
    Err(TaskError::ExpectedError("no luck".into()))
}

#[celery::task(name = "t.fails")]
async fn fails() -> TaskResult<()> {
    Err(TaskError::UnexpectedError("broken".into()))
}

#[celery::task(name = "t.recovers")]
async fn recovers() -> TaskResult<()> {
    // Dropped: what the task fails with in the end is another error.
    let _ = petiole_engine::raise(TaskException::builtin("ValueError", "mended"));
    Err(TaskError::UnexpectedError("broken after all".into()))
}

#[celery::task(name = "t.panics")]
async fn panics() -> TaskResult<()> {
    panic!("out of cheese")
}

#[celery::task(name = "t.sends", bind = true)]
async fn sends(task: &Self, x: i64) -> TaskResult<String> {
    let sent = task.request().app.send_task(add::new(x, 1).with_queue(petiole_engine::context().unwrap().queue()));
    Ok(sent.await.map_err(|e| TaskError::UnexpectedError(e.to_string()))?.task_id)
}

#[celery::task(name = "t.sleeps")]
async fn sleeps(seconds: f64) -> TaskResult<f64> {
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    Ok(seconds)
}

/// Does what its first argument says; counts its runs.
struct Acts(Arc<AtomicU32>);

#[async_trait]
impl EngineTask for Acts {
    fn name(&self) -> &str {
        "t.acts"
    }

    fn options(&self) -> TaskOptions {
        TaskOptions { acks_late: Some(true), ..TaskOptions::default() }
    }

    async fn run(&self, args: Vec<Value>, _: Map, context: Context) -> Result<Value, Fault> {
        let run = self.0.fetch_add(1, Ordering::SeqCst);
        match args[0].as_str().unwrap() {
            "ignore" => Err(Fault::Ignore),
            "reject" => Err(Fault::Reject { reason: json!("no"), requeue: false }),
            "requeue" if run == 0 => Err(Fault::Reject { reason: json!("later"), requeue: true }),
            "requeue" => Ok(json!(context.message().redelivered)),
            "retry" if run == 0 => {
                let cause = TaskException::builtin("KeyError", "nope");
                let exception = match Fault::exception(cause) {
                    Fault::Error(failure) => Some(failure),
                    _ => None,
                };
                Err(Fault::Retry(Box::new(Retry { exception, when: Some(RetryAt::In(0.1)), ..Retry::default() })))
            }
            "retry" => Ok(json!(context.message().retries)),
            "replace" => Err(context.replace(Signature::new("t.add", vec![json!(20), json!(22)])).await),
            "soft" => {
                context.soft_time_limit().await;
                Ok(json!("cleaned up"))
            }
            other => panic!("{other}"),
        }
    }
}

struct Stand {
    client: Client,
    queue: String,
    runs: Arc<AtomicU32>,
    node: String,
    worker: tokio::task::JoinHandle<()>,
}

impl Stand {
    async fn new(settings: &[(&str, &str)]) -> Self {
        let url = std::env::var("TEST_REDIS_URL").expect("TEST_REDIS_URL is not set: run docker/test.sh");
        let unique = uuid::Uuid::new_v4().simple().to_string();
        let (queue, prefix) = (format!("q{unique}"), format!("t{unique}:"));
        let mut reader = Reader::from_map(settings.iter().map(|(name, value)| (*name, *value)));
        let mut config = WorkerConfig::read(&mut reader);
        reader.finish().unwrap();
        config.name = Some(format!("{unique}@test"));
        config.default_queue.clone_from(&queue);
        config.global_keyprefix.clone_from(&prefix);
        config.without_mingle = true;
        config.concurrency = 2;
        let runs = Arc::new(AtomicU32::new(0));
        let app = App::builder()
            .task::<add>()
            .task::<unlucky>()
            .task::<fails>()
            .task::<panics>()
            .task::<recovers>()
            .task::<sends>()
            .task::<sleeps>()
            .register(Acts(runs.clone()))
            .build()
            .unwrap();
        let mut client = ClientConfig::new(&url, &url);
        client.default_queue.clone_from(&queue);
        client.global_keyprefix = prefix;
        let worker = tokio::spawn(async move { app.run(config, &url, &url).await.unwrap() });
        let stand = Self { client: Client::new(client).unwrap(), queue, runs, node: format!("{unique}@test"), worker };
        for _ in 0..200 {
            if stand.inspect("ping", json!({})).await == json!({"ok": "pong"}) {
                return stand;
            }
        }
        panic!("the worker does not answer");
    }

    async fn inspect(&self, method: &str, arguments: Value) -> Value {
        let Value::Object(arguments) = arguments else { panic!() };
        let mut replies = self
            .client
            .inspect(method, arguments, Some(std::slice::from_ref(&self.node)), Duration::from_millis(500))
            .await
            .unwrap();
        replies.remove(&self.node).unwrap_or_default()
    }

    async fn send(&self, name: &str, args: Value, change: impl FnOnce(&mut TaskSend)) -> String {
        let mut task = TaskSend::new(name);
        task.args = args.as_array().unwrap().clone();
        change(&mut task);
        self.client.send(task).await.unwrap()
    }

    async fn result(&self, id: &str) -> TaskMeta {
        let meta = self.client.wait(id, Duration::from_secs(10)).await.unwrap().expect("nothing was stored");
        assert!(meta.state().is_final(), "{meta:?}");
        meta
    }

    async fn run(&self, name: &str, args: Value) -> TaskMeta {
        let id = self.send(name, args, |_| {}).await;
        self.result(&id).await
    }

    async fn rest(&self) -> (u64, u64) {
        let mut connection = self.client.broker().connection();
        let unacked: u64 =
            redis::AsyncCommands::hlen(&mut connection, self.client.broker().keys().unacked()).await.unwrap();
        (self.client.queue_lengths(&self.queue).await.unwrap().iter().sum(), unacked)
    }

    /// Nothing is left on the broker.
    async fn drained(&self) {
        for _ in 0..100 {
            if self.rest().await == (0, 0) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("left: {:?}", self.rest().await);
    }

    async fn stop(self) {
        self.client.broadcast("shutdown", Map::new(), Some(std::slice::from_ref(&self.node))).await.unwrap();
        tokio::time::timeout(Duration::from_secs(20), self.worker).await.expect("the worker does not end").unwrap();
    }
}

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
    assert!(panicked.traceback.unwrap().contains("tests/worker.rs"));
    let wrong = stand.run("t.add", json!([1])).await.exception().unwrap();
    assert_eq!(wrong.exc_type, "TypeError");
    let unknown = stand.run("t.nowhere", json!([])).await.exception().unwrap();
    assert_eq!(unknown.last_line(), "celery.exceptions.NotRegistered: t.nowhere");
    stand.drained().await;
    stand.stop().await;
}

/// What a worker tells a reader of its figures.
async fn figures(address: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("# EOF\n"), "{answer}");
    answer
}

fn figure(page: &str, name: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} is not in {page}")).parse().unwrap()
}

#[tokio::test]
async fn figures_for_prometheus() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let stand = Stand::new(&[("WORKER_METRICS_ADDRESS", &address)]).await;
    stand.run("t.add", json!([2, 3])).await;
    stand.run("t.add", json!([2, 4])).await;
    stand.run("t.fails", json!([])).await;
    stand.run("t.nowhere", json!([])).await;
    stand.run("t.acts", json!(["retry"])).await;
    stand.drained().await;
    // Two run and are acknowledged, eight are held here, and the rest waits.
    let _sleepers: Vec<_> =
        futures::future::join_all((0..11).map(|_| stand.send("t.sleeps", json!([60]), |_| {}))).await;
    let mut page = String::new();
    for _ in 0..100 {
        page = figures(&address).await;
        if figure(&page, "petiole_worker_tasks_reserved") >= 8.0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for (name, value) in [
        (r#"petiole_worker_tasks_total{task="t.add",state="received"}"#, 2.0),
        (r#"petiole_worker_tasks_total{task="t.add",state="started"}"#, 2.0),
        (r#"petiole_worker_tasks_total{task="t.add",state="succeeded"}"#, 2.0),
        (r#"petiole_worker_tasks_total{task="t.fails",state="failed"}"#, 1.0),
        (r#"petiole_worker_tasks_total{task="unknown",state="failed"}"#, 1.0),
        (r#"petiole_worker_tasks_total{task="t.acts",state="retried"}"#, 1.0),
        (r#"petiole_worker_task_runtime_seconds_count{task="t.add"}"#, 2.0),
        ("petiole_worker_slots", 2.0),
        ("petiole_worker_tasks_active", 2.0),
        ("petiole_worker_tasks_reserved", 8.0),
        ("petiole_worker_prefetched", 8.0),
        ("petiole_worker_prefetch_count", 8.0),
        ("petiole_worker_redis_connected", 1.0),
        (&format!(r#"petiole_worker_queue_length{{queue="{}"}}"#, stand.queue), 1.0),
    ] {
        assert_eq!(figure(&page, name), value, "{name} in {page}");
    }
    assert!(figure(&page, "petiole_worker_heartbeat_age_seconds") < 15.0);
    stand.worker.abort();
}

#[tokio::test]
async fn no_start_where_the_figures_cannot_be_served() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let url = std::env::var("TEST_REDIS_URL").expect("TEST_REDIS_URL is not set: run docker/test.sh");
    let config = WorkerConfig::read(&mut Reader::from_map([("WORKER_METRICS_ADDRESS", address.as_str())]));
    let error = App::builder().build().unwrap().run(config, &url, &url).await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("WORKER_METRICS_ADDRESS {address}: cannot listen there")), "{error}");
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
async fn a_task_sends_another_by_the_crate_s_own_means() {
    let stand = Stand::new(&[]).await;
    let parent = stand.run("t.sends", json!([41])).await;
    let child = stand.result(parent.result.as_str().unwrap()).await;
    assert_eq!((child.result, child.parent_id.as_deref()), (json!(42), Some(parent.task_id.as_str())));
    assert_eq!(parent.children.unwrap(), [json!([[child.task_id, null], null])]);
    stand.stop().await;
}

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
async fn control_commands() {
    let stand = Stand::new(&[]).await;
    let stats = stand.inspect("stats", json!({})).await;
    assert_eq!((stats["pid"].as_u64(), stats["prefetch_count"].as_u64()), (Some(std::process::id().into()), Some(8)));
    let names = stand.inspect("registered", json!({})).await;
    assert!(names.as_array().unwrap().contains(&json!("t.add")), "{names}");
    assert_eq!(stand.inspect("no_such", json!({})).await, json!({"error": "KeyError('no_such')"}));
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
