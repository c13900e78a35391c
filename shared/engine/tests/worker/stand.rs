//! One worker in this process, with a queue, a node name and a key prefix of its own.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use petiole_client::{Client, ClientConfig, TaskSend};
use petiole_engine::{App, WorkerConfig};
use petiole_protocol::{Map, TaskMeta};
use petiole_settings::Reader;
use serde_json::{Value, json};

use crate::tasks::{Acts, add, fails, panics, recovers, sends, sleeps, unlucky, whereabouts};

pub(crate) struct Stand {
    pub(crate) client: Client,
    pub(crate) queue: String,
    pub(crate) runs: Arc<AtomicU32>,
    pub(crate) node: String,
    pub(crate) worker: tokio::task::JoinHandle<()>,
}

impl Stand {
    pub(crate) async fn new(settings: &[(&str, &str)]) -> Self {
        let unique = uuid::Uuid::new_v4().simple().to_string();
        Self::start(settings, format!("q{unique}"), format!("t{unique}:")).await
    }

    /// Another worker of the same queue.
    pub(crate) async fn beside(&self, settings: &[(&str, &str)]) -> Self {
        Self::start(settings, self.queue.clone(), self.client.broker().keys().prefix.clone()).await
    }

    async fn start(settings: &[(&str, &str)], queue: String, prefix: String) -> Self {
        let url = std::env::var("TEST_REDIS_URL").expect("TEST_REDIS_URL is not set: run docker/test.sh");
        let unique = uuid::Uuid::new_v4().simple().to_string();
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
            .task::<whereabouts>()
            .register(Acts(runs.clone()))
            .control_command("stumble", |_, _| async { panic!("as a mistake in a command would") })
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
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the worker does not answer");
    }

    pub(crate) async fn inspect(&self, method: &str, arguments: Value) -> Value {
        let Value::Object(arguments) = arguments else { panic!() };
        let mut replies = self
            .client
            .inspect(method, arguments, Some(std::slice::from_ref(&self.node)), Duration::from_millis(500))
            .await
            .unwrap();
        replies.remove(&self.node).unwrap_or_default()
    }

    pub(crate) async fn send(&self, name: &str, args: Value, change: impl FnOnce(&mut TaskSend)) -> String {
        let mut task = TaskSend::new(name);
        task.args = args.as_array().unwrap().clone();
        change(&mut task);
        self.client.send(task).await.unwrap()
    }

    pub(crate) async fn result(&self, id: &str) -> TaskMeta {
        let meta = self.client.wait(id, Duration::from_secs(10)).await.unwrap().expect("nothing was stored");
        assert!(meta.state().is_final(), "{meta:?}");
        meta
    }

    pub(crate) async fn run(&self, name: &str, args: Value) -> TaskMeta {
        let id = self.send(name, args, |_| {}).await;
        self.result(&id).await
    }

    pub(crate) async fn rest(&self) -> (u64, u64) {
        let mut connection = self.client.broker().connection();
        let unacked: u64 =
            redis::AsyncCommands::hlen(&mut connection, self.client.broker().keys().unacked()).await.unwrap();
        (self.client.queue_lengths(&self.queue).await.unwrap().iter().sum(), unacked)
    }

    /// Nothing is left on the broker.
    pub(crate) async fn drained(&self) {
        for _ in 0..100 {
            if self.rest().await == (0, 0) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("left: {:?}", self.rest().await);
    }

    pub(crate) async fn stop(self) {
        self.client.broadcast("shutdown", Map::new(), Some(std::slice::from_ref(&self.node))).await.unwrap();
        tokio::time::timeout(Duration::from_secs(20), self.worker).await.expect("the worker does not end").unwrap();
    }
}
