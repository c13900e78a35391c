//! Functions of their arguments.

use std::time::Duration;

use petiole_engine::task::{TaskOptions, function};
use petiole_engine::{AppBuilder, Fault};
use serde_json::{Value, json};

use crate::arguments::{Call, plus, runtime, sum, truthy};
use crate::name;

fn add(call: &Call) -> Result<Value, Fault> {
    let total = plus(&call.get("x"), &call.get("y"))?;
    let z = call.get("z");
    if truthy(&z) { plus(&total, &z) } else { Ok(total) }
}

async fn pause(seconds: &Value) -> Result<(), Fault> {
    let seconds = seconds.as_f64().ok_or_else(|| Fault::type_error("a number of seconds is wanted"))?;
    tokio::time::sleep(Duration::try_from_secs_f64(seconds).map_err(runtime)?).await;
    Ok(())
}

pub(crate) fn add_to(app: AppBuilder) -> AppBuilder {
    let plain = TaskOptions::default;
    let ignoring = |ignore| TaskOptions { ignore_result: Some(ignore), ..TaskOptions::default() };
    app.register(function(name("identity"), plain(), Some(1), async |args, kwargs, _| {
        Ok(Call::bind(&["x"], 1, args, kwargs)?.take("x"))
    }))
    .register(function(name("add"), plain(), Some(3), async |args, kwargs, _| {
        add(&Call::bind(&["x", "y", "z"], 2, args, kwargs)?)
    }))
    .register(function(name("add_not_typed"), plain(), Some(2), async |args, kwargs, _| {
        add(&Call::bind(&["x", "y"], 2, args, kwargs)?)
    }))
    .register(function(name("add_ignore_result"), ignoring(true), Some(2), async |args, kwargs, _| {
        add(&Call::bind(&["x", "y"], 2, args, kwargs)?)
    }))
    .register(function(name("add_with_result"), ignoring(false), Some(2), async |args, kwargs, _| {
        add(&Call::bind(&["x", "y"], 2, args, kwargs)?)
    }))
    .register(function(name("mul"), plain(), Some(2), async |args, kwargs, _| {
        let call = Call::bind(&["x", "y"], 2, args, kwargs)?;
        match (call.get("x").as_i64(), call.get("y").as_i64()) {
            (Some(x), Some(y)) => Ok(json!(x * y)),
            _ => match (call.get("x").as_f64(), call.get("y").as_f64()) {
                (Some(x), Some(y)) => Ok(json!(x * y)),
                _ => Err(Fault::type_error("can't multiply")),
            },
        }
    }))
    .register(function(name("tsum"), plain(), Some(1), async |args, kwargs, _| {
        sum(&Call::bind(&["nums"], 1, args, kwargs)?.get("nums"))
    }))
    .register(function(name("xsum"), plain(), Some(1), async |args, kwargs, _| {
        let Value::Array(items) = Call::bind(&["nums"], 1, args, kwargs)?.get("nums") else {
            return Err(Fault::type_error("object is not iterable"));
        };
        let sums = items.iter().map(|item| if item.is_array() { sum(item) } else { Ok(item.clone()) });
        sum(&sums.collect::<Result<Vec<_>, _>>()?.into())
    }))
    .register(function(name("write_to_file_and_return_int"), plain(), Some(2), async |args, kwargs, _| {
        use std::io::Write;
        let call = Call::bind(&["file_name", "i"], 2, args, kwargs)?;
        let file = std::fs::OpenOptions::new().append(true).create(true).open(call.text("file_name", ""));
        // In one write: several workers may append to the file.
        file.map_err(runtime)?.write_all(format!("{}\n", call.get("i")).as_bytes()).map_err(runtime)?;
        Ok(call.get("i"))
    }))
    .register(function(name("delayed_sum"), plain(), Some(2), async |args, kwargs, _| {
        let call = Call::bind(&["numbers", "pause_time"], 1, args, kwargs)?;
        let seconds = call.get("pause_time");
        pause(&if seconds.is_null() { json!(1) } else { seconds }).await?;
        sum(&call.get("numbers"))
    }))
    .register(function(
        name("delayed_sum_with_soft_guard"),
        plain(),
        Some(2),
        async |args, kwargs, context: petiole_engine::Context| {
            let call = Call::bind(&["numbers", "pause_time"], 1, args, kwargs)?;
            let seconds = call.get("pause_time");
            let seconds = if seconds.is_null() { json!(1) } else { seconds };
            tokio::select! {
                paused = pause(&seconds) => paused?,
                () = context.soft_time_limit() => return Ok(json!(0)),
            }
            sum(&call.get("numbers"))
        },
    ))
    .register(function(name("sleeping"), plain(), Some(1), async |args, mut kwargs: petiole_protocol::Map, _| {
        kwargs.retain(|name, _| name == "i");
        pause(&Call::bind(&["i"], 1, args, kwargs)?.get("i")).await?;
        Ok(Value::Null)
    }))
    .register(function(name("print_unicode"), plain(), Some(1), async |args, kwargs, _| {
        let call = Call::bind(&["log_message", "print_message"], 0, args, kwargs)?;
        tracing::warn!("{}", call.text("log_message", "håå®ƒ valmuefrø"));
        println!("{}", call.text("print_message", "hiöäüß"));
        Ok(Value::Null)
    }))
    .register(function(name("return_exception"), plain(), Some(1), async |args, kwargs, _| {
        Ok(json!([Call::bind(&["e"], 1, args, kwargs)?.get("e"), true]))
    }))
    .register(function(name("replaced_with_me"), plain(), Some(0), async |_, _, _| Ok(json!(true))))
    .register(function(name("add_pydantic"), plain(), Some(1), async |args, kwargs, _| {
        pydantic(&Call::bind(&["data"], 1, args, kwargs)?)
    }))
    .register(function(name("add_pydantic_string_annotations"), plain(), Some(1), async |args, kwargs, _| {
        pydantic(&Call::bind(&["data"], 1, args, kwargs)?)
    }))
}

/// On the wire the models are plain maps.
fn pydantic(call: &Call) -> Result<Value, Fault> {
    let data = call.get("data");
    Ok(json!({"result": plus(&data["x"], &data["y"])?}))
}
