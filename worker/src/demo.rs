//! Small tasks to try a worker with.

// The macro makes a struct of each function and does not pass the doc comment on.
#![allow(missing_docs)]

use std::time::Duration;

use celery::prelude::*;
use petiole_engine::{context, raise};
use petiole_protocol::TaskException;
use serde_json::{Number, Value, json};

/// The sum of two numbers; whole numbers stay whole.
#[celery::task(name = "demo.add")]
pub async fn add(x: Number, y: Number) -> TaskResult<Value> {
    if let (Ok(x), Ok(y)) = (x.to_string().parse::<i128>(), y.to_string().parse::<i128>())
        && let Some(sum) = x.checked_add(y)
    {
        // Through text: a sum beyond 64 bits keeps its digits.
        return serde_json::from_str(&sum.to_string()).with_unexpected_err(|| "the sum cannot be written");
    }
    match (x.as_f64(), y.as_f64()) {
        (Some(x), Some(y)) => Ok(json!(x + y)),
        _ => Err(raise(TaskException::builtin("OverflowError", "number too large to add"))),
    }
}

/// Whatever it is given.
#[celery::task(name = "demo.echo")]
pub async fn echo(value: Value) -> TaskResult<Value> {
    Ok(value)
}

/// Waits some seconds.
#[celery::task(name = "demo.sleep")]
pub async fn sleep(seconds: f64) -> TaskResult<f64> {
    tokio::time::sleep(duration(seconds)?).await;
    Ok(seconds)
}

/// Fails with a ValueError.
#[celery::task(name = "demo.fail")]
pub async fn fail(message: String) -> TaskResult<()> {
    Err(raise(TaskException::builtin("ValueError", message)))
}

/// Goes through some steps and tells of each by the state PROGRESS.
#[celery::task(name = "demo.progress")]
pub async fn progress(steps: u32, seconds: f64) -> TaskResult<u32> {
    let pause = duration(seconds)?.div_f64(f64::from(steps.max(1)));
    for step in 1..=steps {
        if let Some(context) = context() {
            context.update_state("PROGRESS", json!({"current": step, "total": steps})).await;
        }
        tokio::time::sleep(pause).await;
    }
    Ok(steps)
}

fn duration(seconds: f64) -> Result<Duration, TaskError> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| raise(TaskException::builtin("ValueError", format!("seconds must be 0 or more, is {seconds}"))))
}
