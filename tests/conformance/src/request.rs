//! Tasks that look at their own request.

use petiole_engine::task::{TaskOptions, function};
use petiole_engine::{AppBuilder, Context};
use petiole_protocol::message::number;
use petiole_protocol::{Map, Signature};
use serde_json::{Value, json};

use crate::arguments::{Call, sum};
use crate::{effects, name};

fn ids(context: &Context, i: Value) -> Value {
    let message = context.message();
    json!([message.root(), message.parent_id, i])
}

fn limits(context: &Context, declared: (Option<f64>, Option<f64>)) -> Value {
    let given = context.message().timelimit;
    json!({
        "time_limit": given.hard.or(declared.0).map(number), "soft_time_limit": given.soft.or(declared.1).map(number),
    })
}

pub(crate) fn add_to(app: AppBuilder) -> AppBuilder {
    let plain = TaskOptions::default;
    let limited = TaskOptions { time_limit: Some(60.0), soft_time_limit: Some(45.0), ..TaskOptions::default() };
    app.register(function(name("ids"), plain(), Some(1), async |args, kwargs, context| {
        Ok(ids(&context, Call::bind(&["i"], 1, args, kwargs)?.get("i")))
    }))
    .register(function(name("collect_ids"), plain(), Some(2), async |args, kwargs, context| {
        let call = Call::bind(&["res", "i"], 2, args, kwargs)?;
        Ok(json!([call.get("res"), ids(&context, call.get("i"))]))
    }))
    .register(function(name("sum_and_record"), plain(), Some(2), async |args, kwargs, context: Context| {
        let call = Call::bind(&["values", "redis_key"], 2, args, kwargs)?;
        let total = sum(&call.get("values"))?;
        effects::rpush(&call.text("redis_key", ""), context.task_id()).await?;
        Ok(total)
    }))
    .register(function(name("return_priority"), plain(), None, async |_, _, context: Context| {
        Ok(json!(format!("Priority: {}", context.message().properties.priority)))
    }))
    .register(function(name("return_request_eta"), plain(), Some(0), async |_, _, context: Context| {
        Ok(json!(context.message().eta))
    }))
    .register(function(name("return_properties"), plain(), Some(0), async |_, _, context: Context| {
        Ok(Value::Object(context.message().properties.other.clone()))
    }))
    .register(function(name("return_request_time_limits"), plain(), Some(0), async |_, _, context| {
        Ok(limits(&context, (None, None)))
    }))
    .register(function(name("task_with_declared_time_limits"), limited, Some(0), async |_, _, context| {
        Ok(limits(&context, (Some(60.0), Some(45.0))))
    }))
    .register(function(
        name("record_replaced_task_nesting"),
        plain(),
        Some(2),
        async |args, kwargs, context: Context| {
            let call = Call::bind(&["replacements", "nesting"], 1, args, kwargs)?;
            let mut nesting = call.get("nesting").as_array().cloned().unwrap_or_default();
            nesting.push(context.message().replaced_task_nesting.into());
            let left = call.get("replacements").as_i64().unwrap_or(0);
            if left <= 0 {
                return Ok(Value::Array(nesting));
            }
            let again =
                Signature::new(name("record_replaced_task_nesting"), vec![json!(left - 1), Value::Array(nesting)]);
            let reply_to = context.message().properties.reply_to.clone();
            Err(context.replace(again.set("reply_to", json!(reply_to))).await)
        },
    ))
    .register(function(
        name("retry_once_headers"),
        TaskOptions { max_retries: Some(Some(1)), ..plain() },
        None,
        async |_, _, context: Context| {
            if context.message().retries == 0 {
                return Err(crate::failures::retry(None, 0.1, Some(1)));
            }
            let message = context.message();
            let mut headers = Map::new();
            headers.insert("id".into(), message.id.as_str().into());
            headers.insert("task".into(), message.task.as_str().into());
            headers.insert("retries".into(), message.retries.into());
            headers.insert("stamped_headers".into(), json!(message.stamped_headers));
            headers.insert("stamps".into(), json!(message.stamps));
            headers.extend(message.stamps.clone());
            headers.extend(message.custom.clone());
            Ok(Value::Object(headers))
        },
    ))
}
