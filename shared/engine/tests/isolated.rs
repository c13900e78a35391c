//! Isolated tasks: a worker in this program, whose children are this program too. No test harness: the children could not
//! find their tasks in it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use celery::prelude::*;
use petiole_client::{AsyncResult, Client, ClientConfig, IntoSignature, ResultError, State, TaskException, sig};
use petiole_engine::task::{TaskOptions, function};
use petiole_engine::{App, WorkerConfig, context, raise};
use petiole_settings::Reader;
use serde_json::{Value, json};

/// Children have the same; a run that has none makes it and starts itself again.
const PREFIX: &str = "PETIOLE_TEST_PREFIX";
const PATIENCE: Duration = Duration::from_secs(30);

#[celery::task(name = "i.pid")]
async fn pid() -> TaskResult<u32> {
    Ok(std::process::id())
}

#[celery::task(name = "i.raises")]
async fn raises(text: String) -> TaskResult<()> {
    Err(raise(TaskException::builtin("ValueError", text)))
}

#[celery::task(name = "i.panics")]
async fn panics() -> TaskResult<()> {
    panic!("out of cheese")
}

#[celery::task(name = "i.retries", max_retries = 2, min_retry_delay = 0, max_retry_delay = 0)]
async fn retries() -> TaskResult<u32> {
    match context().map(|context| context.message().retries) {
        Some(2) => Ok(2),
        _ => Err(TaskError::ExpectedError("again".into())),
    }
}

#[celery::task(name = "i.exits")]
async fn exits(code: i32) -> TaskResult<()> {
    std::process::exit(code)
}

/// Ends as by a fault of memory.
#[celery::task(name = "i.crashes")]
async fn crashes() -> TaskResult<()> {
    let own = std::process::id().to_string();
    // Rust's own handler, which looks for a full stack, takes the first and then lets go.
    loop {
        let _ = Command::new("kill").args(["-SEGV", &own]).status();
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Never gives way, after telling its process.
#[celery::task(name = "i.spins")]
async fn spins() -> TaskResult<()> {
    context().unwrap().update_state("SPINNING", json!({"pid": std::process::id()})).await;
    loop {
        std::hint::spin_loop();
    }
}

#[celery::task(name = "i.sends")]
async fn sends() -> TaskResult<String> {
    let sent = context().unwrap().apply(pid::new().into_signature()).await;
    Ok(sent.map_err(|error| TaskError::UnexpectedError(error.to_string()))?.id)
}

fn app() -> App {
    let options = TaskOptions { isolated: true, ..TaskOptions::default() };
    let cleans = function("i.cleans".to_owned(), options, Some(0), async |_, _, context| {
        context.soft_time_limit().await;
        Ok(json!("cleaned up"))
    });
    App::builder()
        .isolated::<pid>()
        .isolated::<raises>()
        .isolated::<panics>()
        .isolated::<retries>()
        .isolated::<exits>()
        .isolated::<crashes>()
        .isolated::<spins>()
        .isolated::<sends>()
        .register(cleans)
        .build()
        .unwrap()
}

fn main() -> ExitCode {
    let Ok(prefix) = std::env::var(PREFIX) else {
        let unique = uuid::Uuid::new_v4().simple().to_string();
        let status = Command::new(std::env::current_exe().unwrap()).env(PREFIX, unique).status().unwrap();
        return if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let url = std::env::var("TEST_REDIS_URL").expect("TEST_REDIS_URL is not set: run docker/test.sh");
        let mut reader = Reader::from_map([("TASK_ACKS_LATE", "0")]);
        let mut config = WorkerConfig::read(&mut reader);
        config.name = Some(format!("{prefix}@test"));
        config.default_queue = format!("q{prefix}");
        config.global_keyprefix = format!("t{prefix}:");
        (config.concurrency, config.without_mingle) = (4, true);
        let mut client = ClientConfig::new(&url, &url);
        client.default_queue.clone_from(&config.default_queue);
        client.global_keyprefix.clone_from(&config.global_keyprefix);
        if petiole_engine::isolated::is_child() {
            return app().run(config, &url, &url).await.unwrap();
        }
        let client = Client::new(client).unwrap();
        let worker = tokio::spawn(async move { app().run(config, &url, &url).await.unwrap() });
        tests(&client).await;
        client.broadcast("shutdown", petiole_client::Map::new(), None).await.unwrap();
        tokio::time::timeout(PATIENCE, worker).await.expect("the worker does not end").unwrap();
        println!("isolated tasks: ok");
    });
    // A child's endless task would hold the runtime.
    runtime.shutdown_background();
    ExitCode::SUCCESS
}

async fn failure(result: &AsyncResult) -> (State, String) {
    match result.get(PATIENCE).await {
        Err(ResultError::Failed { exception, state, .. }) => (state, exception.last_line()),
        other => panic!("{other:?}"),
    }
}

/// The process of a task that tells it by its state.
async fn process_of(client: &Client, result: &AsyncResult) -> u64 {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        if let Some(meta) = client.task_meta(result.id()).await.unwrap().filter(|meta| meta.status == "SPINNING") {
            return meta.result["pid"].as_u64().unwrap();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it does not tell its process");
}

async fn is_gone(pid: u64) {
    for _ in 0..200 {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if stat.is_empty() || stat.contains(") Z ") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("process {pid} lives on");
}

async fn tests(client: &Client) {
    let call = async |signature: petiole_client::Signature| client.call(signature).await.unwrap();
    // A process each, and not the worker's.
    let pids = [call(sig("i.pid", ())).await, call(sig("i.pid", ())).await];
    let pids = [pids[0].get_as::<u32>(PATIENCE).await.unwrap(), pids[1].get_as::<u32>(PATIENCE).await.unwrap()];
    assert!(pids[0] != pids[1] && !pids.contains(&std::process::id()), "{pids:?}");

    // Exceptions, panics and retries are the worker's own.
    let (state, told) = failure(&call(sig("i.raises", ("as\never",))).await).await;
    assert_eq!((state, told.as_str()), (State::Failure, "ValueError: as\never"));
    assert_eq!(failure(&call(sig("i.panics", ())).await).await.1, "RuntimeError: panicked: out of cheese");
    assert_eq!(call(sig("i.retries", ())).await.get(PATIENCE).await.unwrap(), json!(2));

    // What the task sends is its child.
    let parent = call(sig("i.sends", ())).await;
    let child: String = parent.get_as(PATIENCE).await.unwrap();
    assert!(client.result(&child).get(PATIENCE).await.unwrap().is_u64());
    let meta = client.task_meta(parent.id()).await.unwrap().unwrap();
    assert_eq!(meta.children, Some(vec![json!([[child, null], null])]));
    assert_eq!(client.task_meta(&child).await.unwrap().unwrap().parent_id.as_deref(), Some(parent.id()));

    // It may end as it likes: the worker tells, and lives.
    let lost = |told: &str, how: &str| {
        assert!(
            told.starts_with(&format!("billiard.exceptions.WorkerLostError: Worker exited prematurely: {how} Job: ")),
            "{told}"
        );
    };
    lost(&failure(&call(sig("i.exits", (3,))).await).await.1, "exitcode 3");
    lost(&failure(&call(sig("i.crashes", ())).await).await.1, "signal 11 (SIGSEGV)");

    // The hard limit and `terminate` end what never gives way, and its process with it.
    let spinning = call(sig("i.spins", ()).set("time_limit", 2)).await;
    let pid = process_of(client, &spinning).await;
    assert_eq!(failure(&spinning).await.1, "billiard.exceptions.TimeLimitExceeded: 2");
    is_gone(pid).await;
    let spinning = call(sig("i.spins", ())).await;
    let pid = process_of(client, &spinning).await;
    spinning.revoke(true).await.unwrap();
    assert_eq!(failure(&spinning).await, (State::Revoked, "celery.exceptions.TaskRevokedError: terminated".to_owned()));
    is_gone(pid).await;

    // The soft limit is told to whoever listens, and ends who does not.
    let cleaned = call(sig("i.cleans", ()).set("soft_time_limit", 0.5).set("time_limit", 20)).await;
    assert_eq!(cleaned.get(PATIENCE).await.unwrap(), Value::from("cleaned up"));
    let spinning = call(sig("i.spins", ()).set("soft_time_limit", 1)).await;
    let pid = process_of(client, &spinning).await;
    assert_eq!(failure(&spinning).await.1, "billiard.exceptions.SoftTimeLimitExceeded");
    is_gone(pid).await;
}
