//! Tasks that leave marks in the Redis of REDIS_HOST and REDIS_PORT, database 0.

use petiole_engine::task::{TaskOptions, function};
use petiole_engine::{AppBuilder, Context, Fault};
use petiole_protocol::Signature;
use redis::AsyncCommands;
use redis::aio::ConnectionManager;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::arguments::{Call, runtime};
use crate::name;

static CONNECTION: OnceCell<ConnectionManager> = OnceCell::const_new();

async fn connection() -> Result<ConnectionManager, Fault> {
    let connect = || async {
        let variable = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
        let password = std::env::var("REDIS_PASSWORD").ok().filter(|password| !password.is_empty());
        let password = password.map(|password| format!(":{password}@")).unwrap_or_default();
        let url =
            format!("redis://{password}{}:{}/0", variable("REDIS_HOST", "127.0.0.1"), variable("REDIS_PORT", "6379"));
        redis::Client::open(url)?.get_connection_manager().await
    };
    CONNECTION.get_or_try_init(connect).await.cloned().map_err(runtime)
}

/// Appends a text to a list.
pub(crate) async fn rpush(key: &str, text: &str) -> Result<(), Fault> {
    connection().await?.rpush(key, text).await.map_err(runtime)
}

async fn incr(key: &str) -> Result<(), Fault> {
    connection().await?.incr(key, 1).await.map_err(runtime)
}

/// A value as it is pushed: text as it is, kombu's tagged bytes as their text, a number as its digits.
fn text(value: &Value) -> String {
    let value = match value.get("__type__").and_then(Value::as_str) {
        Some("bytes") => &value["__value__"],
        _ => value,
    };
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

pub(crate) fn add_to(app: AppBuilder) -> AppBuilder {
    let plain = TaskOptions::default;
    app.register(function(name("redis_echo"), plain(), Some(2), async |args, kwargs, _| {
        let call = Call::bind(&["message", "redis_key"], 1, args, kwargs)?;
        rpush(&call.text("redis_key", "redis-echo"), &text(&call.get("message"))).await?;
        Ok(Value::Null)
    }))
    .register(function(name("redis_echo_group_id"), plain(), Some(2), async |args, kwargs, context: Context| {
        let call = Call::bind(&["_", "redis_key"], 1, args, kwargs)?;
        rpush(&call.text("redis_key", "redis-group-ids"), context.message().group.as_deref().unwrap_or("None")).await?;
        Ok(Value::Null)
    }))
    .register(function(name("redis_count"), plain(), Some(1), async |args, kwargs, _| {
        incr(&Call::bind(&["redis_key"], 0, args, kwargs)?.text("redis_key", "redis-count")).await?;
        Ok(Value::Null)
    }))
    .register(function(name("second_order_replace1"), plain(), Some(1), async |args, kwargs, context| {
        let second = Call::bind(&["state"], 0, args, kwargs)?.get("state") == json!(true);
        let between = Signature::new(name("second_order_replace2"), vec![]);
        second_order(context, second, "A", between, "second_order_replace1").await
    }))
    .register(function(name("second_order_replace2"), plain(), Some(1), async |args, kwargs, context| {
        let second = Call::bind(&["state"], 0, args, kwargs)?.get("state") == json!(true);
        let between = Signature::new(name("redis_echo"), vec![json!("In/Out C")]);
        second_order(context, second, "B", between, "second_order_replace2").await
    }))
    .register(function(name("errback_old_style"), plain(), Some(1), async |args, kwargs, _| {
        let id = Call::bind(&["request_id"], 1, args, kwargs)?.text("request_id", "");
        incr(&id).await?;
        Ok(json!(id))
    }))
    .register(function(name("errback_new_style"), plain(), Some(3), async |args, kwargs, _| {
        let id = text(&Call::bind(&["request", "exc", "tb"], 3, args, kwargs)?.get("request")["id"]);
        incr(&id).await?;
        Ok(json!(id))
    }))
    .register(function(name("errback_old_style_with_args"), plain(), Some(2), async |args, kwargs, _| {
        let call = Call::bind(&["request_id", "label"], 2, args, kwargs)?;
        rpush(&call.text("request_id", ""), &call.text("label", "")).await?;
        Ok(call.get("request_id"))
    }))
    .register(function(name("errback_new_style_with_args"), plain(), Some(4), async |args, kwargs, _| {
        let call = Call::bind(&["request", "exc", "tb", "label"], 4, args, kwargs)?;
        let id = text(&call.get("request")["id"]);
        rpush(&id, &call.text("label", "")).await?;
        Ok(json!(id))
    }))
}

/// First: mark, and be replaced by something and the same once more. Second: mark.
async fn second_order(
    context: Context,
    second: bool,
    letter: &str,
    between: Signature,
    own: &str,
) -> Result<Value, Fault> {
    if second {
        rpush("redis-echo", &format!("Out {letter}")).await?;
        return Ok(Value::Null);
    }
    rpush("redis-echo", &format!("In {letter}")).await?;
    let mut again = Signature::new(name(own), vec![]).immutable();
    again.kwargs.insert("state".into(), true.into());
    Err(context.replace(Signature::chain(&[between, again])).await)
}
