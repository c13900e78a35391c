//! The tasks that the tests send.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use celery::prelude::*;
use petiole_engine::task::{Retry, RetryAt};
use petiole_engine::{Context, Fault, Task as EngineTask, TaskOptions};
use petiole_protocol::{Map, Signature, TaskException};
use serde_json::{Value, json};

#[celery::task(name = "t.add")]
pub(crate) async fn add(x: i64, y: i64) -> TaskResult<i64> {
    Ok(x + y)
}

#[celery::task(name = "t.unlucky", max_retries = 2, max_retry_delay = 0)]
pub(crate) async fn unlucky() -> TaskResult<()> {
    Err(TaskError::ExpectedError("no luck".into()))
}

#[celery::task(name = "t.fails")]
pub(crate) async fn fails() -> TaskResult<()> {
    Err(TaskError::UnexpectedError("broken".into()))
}

#[celery::task(name = "t.recovers")]
pub(crate) async fn recovers() -> TaskResult<()> {
    // Dropped: what the task fails with in the end is another error.
    let _ = petiole_engine::raise(TaskException::builtin("ValueError", "mended"));
    Err(TaskError::UnexpectedError("broken after all".into()))
}

#[celery::task(name = "t.panics")]
pub(crate) async fn panics() -> TaskResult<()> {
    panic!("out of cheese")
}

#[celery::task(name = "t.sends", bind = true)]
pub(crate) async fn sends(task: &Self, x: i64) -> TaskResult<String> {
    let sent = task.request().app.send_task(add::new(x, 1).with_queue(petiole_engine::context().unwrap().queue()));
    Ok(sent.await.map_err(|e| TaskError::UnexpectedError(e.to_string()))?.task_id)
}

#[celery::task(name = "t.sleeps")]
pub(crate) async fn sleeps(seconds: f64) -> TaskResult<f64> {
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    Ok(seconds)
}

/// On which threads ran what `t.where` spawned.
pub(crate) static SPAWNED: Mutex<Vec<String>> = Mutex::new(vec![]);

/// On which thread it runs.
#[celery::task(name = "t.where")]
pub(crate) async fn whereabouts(blocks: bool) -> TaskResult<String> {
    let name = || std::thread::current().name().unwrap_or_default().to_owned();
    tokio::spawn(async move { SPAWNED.lock().unwrap().push(name()) });
    Ok(if blocks { tokio::task::block_in_place(name) } else { name() })
}

/// Does what its first argument says; counts its runs.
pub(crate) struct Acts(pub(crate) Arc<AtomicU32>);

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
