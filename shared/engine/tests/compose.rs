//! Canvases that are composed in Rust, sent by a client, and run by a worker in this process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::time::Duration;

use celery::prelude::*;
use petiole_client::{Client, ClientConfig, Map, ResultError, Signature, State, chain, chord, group, partial, sig};
use petiole_engine::task::{TaskOptions, function};
use petiole_engine::{App, WorkerConfig};
use petiole_protocol::TaskException;
use petiole_settings::Reader;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(20);

#[celery::task(name = "c.add")]
async fn add(x: i64, y: i64) -> TaskResult<i64> {
    Ok(x + y)
}

#[celery::task(name = "c.sum")]
async fn sum(numbers: Vec<i64>) -> TaskResult<i64> {
    Ok(numbers.iter().sum())
}

#[celery::task(name = "c.fails")]
async fn fails(text: String) -> TaskResult<i64> {
    Err(petiole_engine::raise(TaskException::builtin("ValueError", text)))
}

struct Stand {
    client: Client,
    worker: tokio::task::JoinHandle<()>,
}

impl Stand {
    fn new() -> Self {
        let url = std::env::var("TEST_REDIS_URL").expect("TEST_REDIS_URL is not set: run docker/test.sh");
        let unique = uuid::Uuid::new_v4().simple().to_string();
        let mut config = WorkerConfig::read(&mut Reader::from_map([("RESULT_EXTENDED", "1")]));
        config.name = Some(format!("{unique}@test"));
        config.default_queue = format!("q{unique}");
        config.global_keyprefix = format!("t{unique}:");
        (config.concurrency, config.without_mingle) = (4, true);
        let mut client = ClientConfig::new(&url, &url);
        client.default_queue.clone_from(&config.default_queue);
        client.global_keyprefix.clone_from(&config.global_keyprefix);
        let echo = function("c.echo".into(), TaskOptions::default(), Some(1), async |args, _, _| Ok(args[0].clone()));
        let app = App::builder().task::<add>().task::<sum>().task::<fails>().register(echo).build().unwrap();
        let worker = tokio::spawn(async move { app.run(config, &url, &url).await.unwrap() });
        Self { client: Client::new(client).unwrap(), worker }
    }

    async fn get(&self, signature: Signature) -> Value {
        self.client.call(signature).await.unwrap().get(PATIENCE).await.unwrap()
    }

    async fn stop(self) {
        self.client.broadcast("shutdown", Map::new(), None).await.unwrap();
        tokio::time::timeout(PATIENCE, self.worker).await.expect("the worker does not end").unwrap();
    }
}

#[tokio::test]
async fn chains_groups_and_chords() {
    let stand = Stand::new();
    let client = &stand.client;
    let call = client.call(add::new(20, 22)).await.unwrap();
    assert_eq!(call.get_as::<i64>(PATIENCE).await.unwrap(), 42);
    assert_eq!(call.state().await.unwrap(), State::Success);
    assert!(matches!(call.get_as::<String>(PATIENCE).await, Err(ResultError::Type(_))));

    let steps = client.call(chain![add::new(1, 2), partial::<add>((3,)), sig("c.add", (4,))]).await.unwrap();
    assert_eq!(steps.get(PATIENCE).await.unwrap(), json!(10));
    let before = steps.parent().unwrap();
    assert_eq!(
        (before.get(PATIENCE).await.unwrap(), before.parent().unwrap().get(PATIENCE).await.unwrap()),
        (json!(6), json!(3))
    );

    let members = client.call(group![add::new(1, 1), add::new(2, 2), sig("c.echo", ("x",))]).await.unwrap();
    assert_eq!(members.get(PATIENCE).await.unwrap(), json!([2, 4, "x"]));
    assert_eq!(members.members().unwrap().len(), 3);

    let header = Signature::group(&(0..5).map(|n| sig("c.add", (n, 1))).collect::<Vec<_>>());
    assert_eq!(stand.get(chord(header, sig("c.sum", ()))).await, json!(15));
    // A chain as a member, a group in a chain, a chord in a chord.
    let nested = chord(group![chain![add::new(1, 1), partial::<add>((1,))], add::new(5, 5)], partial::<sum>(()));
    assert_eq!(stand.get(chord(group![nested, add::new(1, 0)], partial::<sum>(()))).await, json!(14));
    let fan = chain![add::new(1, 1), group![partial::<add>((1,)), partial::<add>((2,))], partial::<sum>(())];
    assert_eq!(stand.get(fan).await, json!(7));
    stand.stop().await;
}

#[tokio::test]
async fn links_errbacks_and_stamps() {
    let stand = Stand::new();
    let client = &stand.client;
    let called = uuid::Uuid::new_v4().to_string();
    let linked = sig("c.add", (1, 2)).link(sig("c.echo", ()).task_id(&called)).stamp("tenant", "acme");
    assert_eq!(stand.get(linked).await, json!(3));
    assert_eq!(client.result(&called).get(PATIENCE).await.unwrap(), json!(3));
    let mut connection = client.backend().connection();
    let text: String = redis::AsyncCommands::get(&mut connection, client.backend().task_key(&called)).await.unwrap();
    let stored: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&stored["stamped_headers"], &stored["tenant"]),
        (&json!(["tenant"]), &json!("acme")),
        "on the link too"
    );

    // The errback of a chain is called with the id of the step that failed, the other steps fail with it.
    let told = uuid::Uuid::new_v4().to_string();
    let chain = chain![add::new(1, 1), sig("c.fails", ("on purpose",)).immutable(), partial::<add>((1,))];
    let failed = client.call(chain.link_error(sig("c.echo", ()).task_id(&told))).await.unwrap();
    match failed.get(PATIENCE).await {
        Err(ResultError::Failed { exception, state: State::Failure, traceback }) => {
            assert_eq!(exception.last_line(), "ValueError: on purpose");
            assert!(traceback.unwrap().contains("c.fails"));
        }
        other => panic!("{other:?}"),
    }
    let step = failed.parent().unwrap();
    assert_eq!(client.result(&told).get(PATIENCE).await.unwrap(), json!(step.id()));

    let late = client.call(sig("c.add", (1, 1)).countdown(60.0)).await.unwrap();
    assert!(matches!(late.get(Duration::from_millis(200)).await, Err(ResultError::Timeout(_))));
    late.revoke(false).await.unwrap();
    match late.get(PATIENCE).await {
        Err(ResultError::Failed { state: State::Revoked, .. }) => {}
        other => panic!("{other:?}"),
    }
    assert!(client.call(Signature::chain(&[])).await.is_err(), "an empty chain");
    stand.stop().await;
}
