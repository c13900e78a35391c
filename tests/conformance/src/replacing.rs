//! Tasks that put others in their place, add to their chord, or send others.

use petiole_engine::task::{TaskOptions, function};
use petiole_engine::{AppBuilder, Context};
use petiole_protocol::{Map, Signature};
use serde_json::{Value, json};

use crate::arguments::{Call, runtime};
use crate::name;

fn sig(task: &str, args: Vec<Value>) -> Signature {
    Signature::new(name(task), args)
}

fn add(x: Value, y: Value) -> Signature {
    sig("add", vec![x, y])
}

fn each(nums: &Value, val: &Value) -> Vec<Signature> {
    nums.as_array().map(|nums| nums.iter().map(|n| add(n.clone(), val.clone())).collect()).unwrap_or_default()
}

/// `redis_echo`, of the result or of a fixed text.
fn echo(kwargs: &Map) -> Signature {
    match kwargs.get("link_msg") {
        None | Some(Value::Null) => sig("redis_echo", vec![]),
        Some(text) => sig("redis_echo", vec![text.clone()]).immutable(),
    }
}

/// The one argument, or all of them.
fn packed(args: Vec<Value>) -> Value {
    match <[Value; 1]>::try_from(args) {
        Ok([one]) => one,
        Err(many) => Value::Array(many),
    }
}

pub(crate) fn add_to(app: AppBuilder) -> AppBuilder {
    let plain = TaskOptions::default;
    app.register(function(name("add_replaced"), plain(), Some(2), async |args, kwargs, context: Context| {
        let call = Call::bind(&["x", "y"], 2, args, kwargs)?;
        Err(context.replace(add(call.get("x"), call.get("y"))).await)
    }))
    .register(function(name("add_replaced_with_chain"), plain(), Some(2), async |args, kwargs, context: Context| {
        let call = Call::bind(&["x", "y"], 2, args, kwargs)?;
        let chain = Signature::chain(&[add(call.get("x"), call.get("y")), sig("identity", vec![])]);
        Err(context.replace(chain).await)
    }))
    .register(function(name("replace_with_chain"), plain(), None, async |args, kwargs, context: Context| {
        let chain = Signature::chain(&[sig("identity", vec![packed(args)]), sig("identity", vec![])]);
        Err(context.replace(chain.set("link", json!([echo(&kwargs)]))).await)
    }))
    .register(function(
        name("replace_with_chain_which_raises"),
        plain(),
        None,
        async |args, kwargs, context: Context| {
            let chain = Signature::chain(&[sig("identity", vec![packed(args)]), sig("raise_error", vec![])]);
            Err(context.replace(chain.set("link_error", json!([echo(&kwargs)]))).await)
        },
    ))
    .register(function(name("replace_with_empty_chain"), plain(), None, async |_, _, context: Context| {
        Err(context.replace(Signature::chain(&[])).await)
    }))
    .register(function(
        name("replace_with_chain_which_contains_a_group"),
        plain(),
        Some(0),
        async |_, _, context: Context| {
            let group = Signature::group(&[sig("add", vec![json!(1)]), sig("add", vec![json!(1)])]);
            Err(context.replace(Signature::chain(&[add(json!(1), json!(2)), group])).await)
        },
    ))
    .register(function(name("add_to_all"), plain(), Some(2), async |args, kwargs, context: Context| {
        let call = Call::bind(&["nums", "val"], 2, args, kwargs)?;
        Err(context.replace(Signature::group(&each(&call.get("nums"), &call.get("val")))).await)
    }))
    .register(function(name("fail_replaced"), plain(), Some(1), async |args, _, context: Context| {
        Err(context.replace(sig("fail", args).immutable()).await)
    }))
    .register(function(name("replace_with_stamped_task"), plain(), Some(1), async |args, kwargs, context: Context| {
        let given = Call::bind(&["replace_with"], 0, args, kwargs)?.get("replace_with");
        let task = match given {
            Value::Null => sig("replaced_with_me", vec![]),
            given => serde_json::from_value(given).map_err(runtime)?,
        };
        let mut names = task.options.get("stamped_headers").and_then(Value::as_array).cloned().unwrap_or_default();
        names.push(json!("StampOnReplace"));
        let task = task.set("stamped_headers", names).set("StampOnReplace", "This is the replaced task");
        Err(context.replace(task).await)
    }))
    .register(function(name("add_to_all_to_chord"), plain(), Some(2), async |args, kwargs, context: Context| {
        let call = Call::bind(&["nums", "val"], 2, args, kwargs)?;
        for task in each(&call.get("nums"), &call.get("val")) {
            context.add_to_chord(task).await?;
        }
        Ok(json!(0))
    }))
    .register(function(name("add_chord_to_chord"), plain(), Some(2), async |args, kwargs, context: Context| {
        let call = Call::bind(&["nums", "val"], 2, args, kwargs)?;
        let header = each(&call.get("nums"), &call.get("val"));
        context.add_to_chord(Signature::chord(&header, &sig("tsum", vec![]))).await?;
        Ok(json!(0))
    }))
    .register(function(name("build_chain_inside_task"), plain(), Some(0), async |_, _, context: Context| {
        let one = |n: i64| sig("add", vec![json!(n)]);
        let chain = Signature::chain(&[add(json!(1), json!(1)), one(2), Signature::group(&[one(3), one(4)]), one(5)]);
        Ok(context.apply(chain).await.map_err(runtime)?.tuple())
    }))
    .register(function(name("chain_add"), plain(), Some(2), async |args, kwargs, context: Context| {
        let call = Call::bind(&["x", "y"], 2, args, kwargs)?;
        let chain = Signature::chain(&[add(call.get("x"), call.get("x")), sig("add", vec![call.get("y")])]);
        context.apply(chain).await.map_err(runtime)?;
        Ok(Value::Null)
    }))
    .register(function(name("chord_add"), plain(), Some(2), async |args, kwargs, context: Context| {
        let call = Call::bind(&["x", "y"], 2, args, kwargs)?;
        let chord = Signature::chord(&[add(call.get("x"), call.get("x"))], &sig("add", vec![call.get("y")]));
        context.apply(chord).await.map_err(runtime)?;
        Ok(Value::Null)
    }))
}
