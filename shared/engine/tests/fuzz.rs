//! A worker in this process whose queue, mailbox and event channel are fed with damaged versions of what Celery writes there
//! (`petiole-fuzz`). Nothing of it may panic, stop the queue, or leave anything in it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use petiole_client::{Client, ClientConfig, TaskSend};
use petiole_engine::{App, Context, Fault, Task, WorkerConfig};
use petiole_fuzz::{Kind, damage, duration, random, samples};
use petiole_protocol::{Envelope, Map, event, pidbox};
use petiole_settings::Reader;
use redis::AsyncCommands;
use serde_json::{Value, json};

/// Messages between two looks at the worker.
const BATCH: usize = 300;

static PANICS: AtomicUsize = AtomicUsize::new(0);

/// Takes whatever comes.
struct Any(String);

#[async_trait]
impl Task for Any {
    fn name(&self) -> &str {
        &self.0
    }

    async fn run(&self, args: Vec<Value>, kwargs: Map, context: Context) -> Result<Value, Fault> {
        let _ = context.message().encode("t".into());
        Ok(args.into_iter().next().unwrap_or(Value::Object(kwargs)))
    }
}

struct Stand {
    client: Client,
    connection: redis::aio::MultiplexedConnection,
    queue: String,
    node: String,
    worker: tokio::task::JoinHandle<()>,
}

impl Stand {
    async fn new(names: &[String]) -> Self {
        let url = std::env::var("TEST_REDIS_URL").expect("TEST_REDIS_URL is not set: run docker/test.sh");
        let unique = uuid::Uuid::new_v4().simple().to_string();
        let (queue, prefix, node) = (format!("q{unique}"), format!("t{unique}:"), format!("{unique}@test"));
        let settings = [
            ("ACCEPT_CONTENT", "json,yaml,msgpack,pickle"),
            ("TASK_TRACK_STARTED", "1"),
            ("RESULT_EXPIRES", "60"),
            ("WORKER_SEND_TASK_EVENTS", "1"),
            ("RESULT_EXTENDED", "1"),
            ("WORKER_POOL_RESTARTS", "1"),
        ];
        let mut reader = Reader::from_map(settings);
        let mut config = WorkerConfig::read(&mut reader);
        reader.finish().unwrap();
        config.name = Some(node.clone());
        config.default_queue.clone_from(&queue);
        config.global_keyprefix.clone_from(&prefix);
        config.concurrency = 4;
        let mut app = App::builder();
        for name in names {
            app = app.register(Any(name.clone()));
        }
        let app = app.build().unwrap();
        let mut client = ClientConfig::new(&url, &url);
        client.default_queue.clone_from(&queue);
        client.global_keyprefix = prefix;
        let patient = redis::AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(60)));
        let redis = redis::Client::open(url.as_str()).unwrap();
        let connection = redis.get_multiplexed_async_connection_with_config(&patient).await.unwrap();
        let worker = tokio::spawn(async move { app.run(config, &url, &url).await.unwrap() });
        let stand = Self { client: Client::new(client).unwrap(), connection, queue, node, worker };
        stand.is_well("at the start").await;
        stand
    }

    /// The worker answers, and a task that comes after all the others runs.
    async fn is_well(&self, when: &str) {
        let until = Instant::now() + Duration::from_secs(60);
        let destination = std::slice::from_ref(&self.node);
        loop {
            let replies =
                self.client.inspect("ping", Map::new(), Some(destination), Duration::from_secs(2)).await.unwrap();
            if replies.get(&self.node) == Some(&json!({"ok": "pong"})) {
                break;
            }
            assert!(!self.worker.is_finished(), "the worker ended {when}");
            assert!(Instant::now() < until, "the worker does not answer {when}: {replies:?}");
        }
        let mut task = TaskSend::new("fuzz.any");
        task.args = vec![json!("well")];
        let id = self.client.send(task).await.unwrap();
        let meta = self.client.wait(&id, Duration::from_secs(60)).await.unwrap();
        assert_eq!(meta.map(|meta| meta.result), Some(json!("well")), "the queue stands still {when}");
        assert_eq!(PANICS.load(Ordering::SeqCst), 0, "there was a panic {when}");
    }

    /// The tasks that a command of `inspect` shows.
    async fn inspect(&self, command: &str) -> Vec<Value> {
        let destination = std::slice::from_ref(&self.node);
        let replies = self.client.inspect(command, Map::new(), Some(destination), Duration::from_secs(10)).await;
        replies.unwrap().remove(&self.node).and_then(|rows| rows.as_array().cloned()).unwrap_or_default()
    }

    /// Nothing is left of what was sent: not in the queue, and in the worker's hands only what is to run later.
    async fn drained(&mut self) {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let waiting: u64 = self.client.queue_lengths(&self.queue).await.unwrap().iter().sum();
            let unacked: HashMap<Vec<u8>, Vec<u8>> =
                self.connection.hgetall(self.client.broker().keys().unacked()).await.unwrap();
            // Damage may have put some off for years.
            let later = self.inspect("scheduled").await;
            if waiting == 0 && unacked.len() == later.len() {
                return;
            }
            if Instant::now() > until {
                let mut held = vec![];
                for command in ["scheduled", "reserved", "active"] {
                    let rows = self.inspect(command).await;
                    held.push(format!("{command}: {}", rows.len()));
                }
                // Of an id with more messages in hand than tasks shown, all messages.
                let mut shown: HashMap<String, i64> = HashMap::new();
                later.iter().for_each(|row| *shown.entry(row["request"]["id"].to_string()).or_default() += 1);
                let id = |entry: &[u8]| {
                    let entry: Value = serde_json::from_str(&String::from_utf8_lossy(entry)).unwrap_or_default();
                    entry[0]["headers"]["id"].to_string()
                };
                unacked.values().for_each(|entry| *shown.entry(id(entry)).or_default() -= 1);
                for (tag, entry) in unacked.iter().filter(|(_, entry)| shown[&id(entry)] < 0).take(20) {
                    eprintln!("in hand: {} {}", String::from_utf8_lossy(tag), String::from_utf8_lossy(entry));
                }
                panic!("left: {waiting} in the queue, {} in hand; {}", unacked.len(), held.join(", "));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Whatever the samples call, so that it is run and not only refused.
fn tasks_of(envelopes: &[Vec<u8>]) -> Vec<String> {
    let task = |text: &Vec<u8>| Envelope::parse(text).ok()?.headers.get("task")?.as_str().map(str::to_owned);
    let mut names: Vec<String> =
        envelopes.iter().filter_map(task).filter(|name| !name.starts_with("celery.")).collect();
    names.push("fuzz.any".into());
    names.sort();
    names.dedup();
    names
}

/// A command around bytes, as it travels.
fn command(body: &[u8]) -> Vec<u8> {
    let mut envelope = Envelope::json(&Value::Null, Map::new(), Default::default());
    envelope.body = body.to_vec();
    envelope.headers.insert("clock".into(), json!(1));
    envelope.to_text().into_bytes()
}

async fn feed(name: &str, seeds: Vec<Vec<u8>>, send: impl AsyncFn(&mut Stand, &[u8])) {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Ordering::SeqCst);
        hook(panic);
    }));
    let mut stand = Stand::new(&tasks_of(&samples(Kind::Envelope, &["messages"]))).await;
    let (begun, at_most, mut random, mut sent) = (Instant::now(), duration(), random(name), 0);
    while begun.elapsed() < at_most {
        // Told to end, it would.
        let batch: Vec<_> = (0..BATCH).map(|_| damage(&mut random, &seeds)).filter(|bytes| !ends(bytes)).collect();
        for bytes in &batch {
            send(&mut stand, bytes).await;
        }
        let well = std::panic::AssertUnwindSafe(stand.is_well("after a batch"));
        if let Err(failure) = futures::FutureExt::catch_unwind(well).await {
            batch.iter().for_each(|bytes| eprintln!("{name}: {}", STANDARD.encode(bytes)));
            std::panic::resume_unwind(failure);
        }
        sent += batch.len();
    }
    stand.drained().await;
    println!("{name}: {sent} inputs in {:?}", begun.elapsed());
}

fn ends(bytes: &[u8]) -> bool {
    bytes.windows(8).any(|part| part == b"shutdown")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fuzz_a_queue() {
    let mut seeds = samples(Kind::Envelope, &["messages"]);
    seeds.extend(seeds.clone().iter().filter_map(|text| {
        // What is in the body is found by damage only when it is not in base64.
        let mut envelope: Value = serde_json::from_slice(text).ok()?;
        let body = STANDARD.decode(envelope["body"].as_str()?).ok()?;
        envelope["body"] = String::from_utf8(body).ok()?.into();
        envelope["properties"]["body_encoding"] = Value::Null;
        Some(envelope.to_string().into_bytes())
    }));
    feed("a queue", seeds, async |stand, bytes| {
        let list = stand.client.broker().keys().list(&stand.queue, 0);
        stand.connection.lpush::<_, _, ()>(list, bytes).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fuzz_a_mailbox() {
    feed("a mailbox", samples(Kind::Command, &[]), async |stand, bytes| {
        let channel = stand.client.broker().keys().channel(pidbox::EXCHANGE, "");
        stand.connection.publish::<_, _, ()>(channel, command(bytes)).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fuzz_events_of_others() {
    let mut seeds = samples(Kind::Body, &["events"]);
    seeds.extend(petiole_fuzz::texts(&[
        r#"{"type":"worker-elect","hostname":"o@h","pid":7,"clock":3,"id":"e","topic":"task","action":{"task":"fuzz.any"},"cver":1}"#,
        r#"{"type":"worker-elect-ack","hostname":"o@h","pid":7,"clock":4,"id":"e"}"#,
        r#"{"type":"worker-heartbeat","hostname":"o@h","freq":2.0,"clock":5}"#, r#"{"type":"worker-offline","hostname":"o@h","clock":6}"#,
    ]));
    feed("events of others", seeds, async |stand, bytes| {
        let channel = stand.client.broker().keys().channel(event::EXCHANGE, "worker.heartbeat");
        stand.connection.publish::<_, _, ()>(channel, command(bytes)).await.unwrap();
    })
    .await;
}
