//! The tasks of the worker on stock rusty-celery, by its public API alone.
//!
//! rusty-celery has no result backend: what its users write by hand, a hook that stores and publishes the result as Celery
//! does, stands here, and works unless `STORE_RESULTS=0`. `demo.echo` always stores, so that the end of a queue can be seen.
//!
//! Settings: `BROKER_URL`, `WORKER_CONCURRENCY`, `WORKER_PREFETCH_MULTIPLIER`, `TASK_ACKS_LATE`, `STORE_RESULTS`.

use std::env::var;
use std::time::Duration;

use celery::prelude::*;
use celery::task::Task;
use redis::aio::ConnectionManager;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

static RESULTS: OnceCell<ConnectionManager> = OnceCell::const_new();

async fn store(id: &str, result: Value) {
    let Some(connection) = RESULTS.get() else { return };
    let key = format!("celery-task-meta-{id}");
    let done = chrono::Utc::now().format("%Y-%m-%dT%H:%M:%S%.6f+00:00").to_string();
    let meta = json!({
        "status": "SUCCESS", "result": result, "traceback": null, "children": [], "date_done": done, "task_id": id,
    });
    let meta = meta.to_string();
    let mut both = redis::pipe();
    both.cmd("SETEX").arg(&key).arg(86_400).arg(&meta).ignore().cmd("PUBLISH").arg(&key).arg(&meta).ignore();
    if let Err(error) = both.query_async::<_, ()>(&mut connection.clone()).await {
        eprintln!("the result of {id} cannot be stored: {error}");
    }
}

fn stores_results() -> bool {
    var("STORE_RESULTS").as_deref() != Ok("0")
}

async fn store_sum<T: Task<Returns = i64>>(task: &T, sum: &i64) {
    if stores_results() {
        store(&task.request().id, json!(sum)).await;
    }
}

async fn store_value<T: Task<Returns = Value>>(task: &T, value: &Value) {
    store(&task.request().id, value.clone()).await;
}

async fn store_seconds<T: Task<Returns = f64>>(task: &T, seconds: &f64) {
    if stores_results() {
        store(&task.request().id, json!(seconds)).await;
    }
}

#[celery::task(name = "demo.add", on_success = store_sum)]
async fn add(x: i64, y: i64) -> TaskResult<i64> {
    Ok(x + y)
}

#[celery::task(name = "demo.echo", on_success = store_value)]
async fn echo(value: Value) -> TaskResult<Value> {
    Ok(value)
}

#[celery::task(name = "demo.sleep", on_success = store_seconds)]
async fn sleep(seconds: f64) -> TaskResult<f64> {
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    Ok(seconds)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("error")).init();
    let broker = var("BROKER_URL")?;
    let number = |name: &str, otherwise: u16| var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise);
    RESULTS.set(ConnectionManager::new(redis::Client::open(broker.clone())?).await?).ok();
    // The prefetch count is the only bound it has on tasks that run at once.
    let app = celery::app!(
        broker = RedisBroker { broker.clone() },
        tasks = [add, echo, sleep],
        task_routes = ["*" => "celery"],
        prefetch_count = number("WORKER_CONCURRENCY", 2) * number("WORKER_PREFETCH_MULTIPLIER", 4),
        acks_late = var("TASK_ACKS_LATE").as_deref() == Ok("1"),
    )
    .await?;
    app.consume_from(&["celery"]).await?;
    app.close().await?;
    Ok(())
}
