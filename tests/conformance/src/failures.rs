//! Tasks that fail, reject or retry.

use std::sync::atomic::{AtomicU32, Ordering};

use petiole_engine::task::{Failure, Retry, RetryAt, TaskOptions, function};
use petiole_engine::{AppBuilder, Context, Fault};
use petiole_protocol::{Map, TaskException};
use serde_json::{Value, json};

use crate::arguments::{Call, plus};
use crate::name;

/// Runs of `retry` that were asked to return something in the end.
static ATTEMPTS: AtomicU32 = AtomicU32::new(0);

fn expected(args: Vec<Value>) -> TaskException {
    TaskException::new("t.integration.tasks", "ExpectedException", args)
}

fn unpickleable(argument: Value) -> TaskException {
    TaskException::new("t.integration.tasks", "UnpickleableException", vec![argument])
}

/// A retry some seconds from now.
pub(crate) fn retry(cause: Option<TaskException>, countdown: f64, max_retries: Option<u32>) -> Fault {
    retry_with(cause, countdown, max_retries, None, None)
}

fn retry_with(
    cause: Option<TaskException>,
    countdown: f64,
    max_retries: Option<u32>,
    args: Option<Vec<Value>>,
    kwargs: Option<Map>,
) -> Fault {
    let exception = cause.map(|exception| Failure { exception, trail: vec![] });
    let when = Some(RetryAt::In(countdown));
    Fault::Retry(Box::new(Retry { exception, when, max_retries: max_retries.map(Some), args, kwargs }))
}

fn with_options(kwargs: &Map) -> (f64, Option<u32>) {
    let countdown = kwargs.get("countdown").and_then(Value::as_f64).unwrap_or(0.1);
    (countdown, kwargs.get("max_retries").and_then(Value::as_u64).map(|n| n as u32).or(Some(1)))
}

pub(crate) fn add_to(app: AppBuilder) -> AppBuilder {
    let plain = TaskOptions::default;
    let retries = |n| TaskOptions { max_retries: Some(Some(n)), ..TaskOptions::default() };
    let late = || TaskOptions { acks_late: Some(true), ..TaskOptions::default() };
    app.register(function(name("fail"), plain(), Some(1), async |args: Vec<Value>, _, _| {
        Err(expected([json!("Task expected to fail")].into_iter().chain(args).collect()).into())
    }))
    .register(function(name("raise_error"), plain(), Some(1), async |_, _, _| {
        Err(TaskException::builtin("ValueError", "deliberate error").into())
    }))
    .register(function(name("fail_unpickleable"), plain(), Some(2), async |args, kwargs, _| {
        Err(unpickleable(Call::bind(&["foo", "bar"], 2, args, kwargs)?.get("foo")).into())
    }))
    .register(function(name("reject_without_requeue"), plain(), Some(0), async |_, _, _| {
        Err(Fault::Reject { reason: json!("rejected"), requeue: false })
    }))
    .register(function(name("reject_then_succeed"), late(), Some(0), async |_, _, context: Context| {
        if context.message().redelivered {
            return Ok(json!("second-pass"));
        }
        Err(Fault::Reject { reason: json!("rejected"), requeue: true })
    }))
    .register(function(name("store_success_then_reject"), late(), Some(0), async |_, _, context: Context| {
        if context.message().redelivered {
            return Ok(json!("dedup-pass"));
        }
        context.update_state("SUCCESS", json!("first-pass")).await;
        Err(Fault::Reject { reason: json!("rejected"), requeue: true })
    }))
    .register(function(name("soft_time_limit_must_exceed_time_limit"), plain(), Some(0), async |_, _, _| Ok(Value::Null)))
    .register(function(name("retry"), plain(), Some(1), async |args, kwargs, _| {
        let value = Call::bind(&["return_value"], 0, args, kwargs)?.get("return_value");
        if !value.is_null() && ATTEMPTS.fetch_add(1, Ordering::SeqCst) >= 3 {
            ATTEMPTS.store(0, Ordering::SeqCst);
            return Ok(value);
        }
        Err(retry(Some(expected(vec![])), 5.0, None))
    }))
    .register(function(name("retry_unpickleable"), plain(), Some(2), async |args, kwargs, _| {
        let call = Call::bind(&["foo", "bar", "retry_kwargs"], 2, args, kwargs)?;
        let options = call.get("retry_kwargs").as_object().cloned().unwrap_or_default();
        let countdown = options.get("countdown").and_then(Value::as_f64).unwrap_or(1.0);
        let max = options.get("max_retries").and_then(Value::as_u64).map(|n| n as u32);
        Err(retry(Some(unpickleable(call.get("foo"))), countdown, max))
    }))
    .register(function(name("retry_with_args_after_kwargs"), retries(1), Some(3), async |args, kwargs: Map, context: Context| {
        let label = kwargs.get("label").cloned();
        let call = Call::bind(&["foo", "bar", "label"], 2, args, kwargs)?;
        let tries = context.message().retries;
        if tries == 0 {
            let args = vec![plus(&call.get("foo"), &json!(1))?, plus(&call.get("bar"), &json!(1))?];
            let kwargs = label.map(|label| Map::from_iter([("label".to_owned(), label)])).unwrap_or_default();
            return Err(retry_with(None, 0.0, None, Some(args), Some(kwargs)));
        }
        Ok(json!({"foo": call.get("foo"), "bar": call.get("bar"), "label": call.get("label"), "retries": tries, "is_eager": false}))
    }))
    .register(function(name("retry_with_kwargs_after_args"), retries(1), Some(2), async |args: Vec<Value>, kwargs: Map, context: Context| {
        let call = Call::bind(&["foo", "bar"], 2, args, kwargs)?;
        let tries = context.message().retries;
        if tries == 0 {
            let kwargs = Map::from_iter([("foo".to_owned(), plus(&call.get("foo"), &json!(1))?), ("bar".to_owned(), call.get("bar"))]);
            return Err(retry_with(None, 0.0, None, Some(vec![]), Some(kwargs)));
        }
        Ok(json!({"foo": call.get("foo"), "bar": call.get("bar"), "retries": tries, "is_eager": false}))
    }))
    .register(function(name("retry_once"), TaskOptions { expires: Some(120.0), ..retries(1) }, None, async |_, kwargs: Map, context: Context| {
        let (countdown, max) = with_options(&kwargs);
        if context.message().retries > 0 {
            return Ok(json!(context.message().retries));
        }
        Err(retry(None, countdown, max))
    }))
    .register(function(name("retry_once_priority"), retries(1), None, async |_, kwargs: Map, context: Context| {
        let (countdown, max) = with_options(&kwargs);
        if context.message().retries > 0 {
            return Ok(json!(context.message().properties.priority));
        }
        Err(retry(None, countdown, max))
    }))
    .register(function(name("retry_once_ignore_result"), TaskOptions { ignore_result: Some(true), ..plain() }, Some(0), once))
    .register(function(name("retry_once_with_result"), TaskOptions { ignore_result: Some(false), ..plain() }, Some(0), once))
    .register(function("auto_retry_class_task".to_owned(), retries(1), Some(0), async |_, _, context: Context| {
        if context.message().retries > 0 {
            return Ok(json!(context.message().retries));
        }
        Err(retry(Some(TaskException::builtin("ValueError", "")), 0.5, None))
    }))
}

async fn once(_: Vec<Value>, _: Map, context: Context) -> Result<Value, Fault> {
    if context.message().retries > 0 {
        return Ok(json!(context.message().retries));
    }
    Err(retry(None, 0.0, None))
}
