//! Small tasks to try a worker with.

// The macro makes a struct of each function and does not pass the doc comment on.
#![allow(missing_docs)]

use std::time::Duration;

use celery::prelude::*;
use petiole_client::{Signature, chain, chord, partial, sig};
use petiole_engine::{context, raise};
use petiole_protocol::TaskException;
use serde_json::{Value, json};

/// The sum of two numbers; whole numbers stay whole, however large.
#[celery::task(name = "demo.add")]
pub async fn add(x: Value, y: Value) -> TaskResult<Value> {
    let (Value::Number(a), Value::Number(b)) = (&x, &y) else {
        let text = format!("demo.add adds numbers, not {x} and {y}");
        return Err(raise(TaskException::builtin("TypeError", text)));
    };
    if let (Ok(a), Ok(b)) = (a.to_string().parse::<i128>(), b.to_string().parse::<i128>())
        && let Some(sum) = a.checked_add(b)
    {
        // Through text: a sum beyond 64 bits keeps its digits.
        return serde_json::from_str(&sum.to_string()).with_unexpected_err(|| "the sum cannot be written");
    }
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => Ok(json!(a + b)),
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

/// Composes a chain and a chord whose parts run on `queue`, by whatever worker consumes it; gives the ids of both.
#[celery::task(name = "demo.compose")]
pub async fn compose(queue: String) -> TaskResult<Vec<String>> {
    let context = context().ok_or_else(|| TaskError::UnexpectedError("not within a task".into()))?;
    let call = |call: Signature| call.queue(&queue);
    let steps = chain![call(sig("demo.add", (1, 2))), call(partial::<add>((3,))), call(partial::<add>((4,)))];
    let members: Vec<Signature> = (0..4).map(|n| call(sig("demo.add", (n, 1)))).collect();
    let sums = chord(Signature::group(&members), call(sig("demo.echo", ()))).stamp("made_by", "rust");
    let mut ids = Vec::new();
    for canvas in [steps, sums] {
        ids.push(context.apply(canvas).await.with_unexpected_err(|| "the canvas cannot be sent")?.id);
    }
    Ok(ids)
}

fn duration(seconds: f64) -> Result<Duration, TaskError> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| raise(TaskException::builtin("ValueError", format!("seconds must be 0 or more, is {seconds}"))))
}
