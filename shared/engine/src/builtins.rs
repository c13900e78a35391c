//! Celery's own tasks (celery.app.builtins).

use std::sync::Arc;

use async_trait::async_trait;
use petiole_protocol::{Map, Signature, to_value};
use serde_json::Value;

use crate::context::Context;
use crate::task::{Fault, Task};

/// A task that is not known here: what a message with an unknown name is shown as.
pub(crate) struct Unregistered(pub(crate) String);

#[async_trait]
impl Task for Unregistered {
    fn name(&self) -> &str {
        &self.0
    }

    async fn run(&self, _: Vec<Value>, _: Map, _: Context) -> Result<Value, Fault> {
        Err(petiole_protocol::TaskException::celery("NotRegistered", vec![self.0.as_str().into()]).into())
    }
}

/// `celery.accumulate(*args, index=None)`: all arguments, or the one at `index`.
pub(crate) struct Accumulate;

#[async_trait]
impl Task for Accumulate {
    fn name(&self) -> &str {
        "celery.accumulate"
    }

    fn arity(&self) -> Option<usize> {
        None
    }

    async fn run(&self, args: Vec<Value>, kwargs: Map, _: Context) -> Result<Value, Fault> {
        match kwargs.get("index").and_then(Value::as_u64) {
            None => Ok(Value::Array(args)),
            Some(index) => args.into_iter().nth(index as usize).ok_or_else(|| {
                petiole_protocol::TaskException::builtin("IndexError", "tuple index out of range").into()
            }),
        }
    }
}

/// `celery.map(task, it)` and `celery.starmap(task, it)`: the task's function for every item, in this process.
pub(crate) struct MapTask {
    /// Each item is a list of arguments.
    star: bool,
}

#[async_trait]
impl Task for MapTask {
    fn name(&self) -> &str {
        if self.star { "celery.starmap" } else { "celery.map" }
    }

    fn arity(&self) -> Option<usize> {
        Some(2)
    }

    async fn run(&self, args: Vec<Value>, kwargs: Map, context: Context) -> Result<Value, Fault> {
        let mut args = args.into_iter();
        let task = args.next().or_else(|| kwargs.get("task").cloned()).unwrap_or(Value::Null);
        let items = args.next().or_else(|| kwargs.get("it").cloned()).unwrap_or(Value::Null);
        let task: Signature = serde_json::from_value(task).map_err(|error| Fault::type_error(error.to_string()))?;
        let Value::Array(items) = items else { return Err(Fault::type_error("it must be a list")) };
        let function = context.task(&task.task).ok_or_else(|| {
            Fault::from(petiole_protocol::TaskException::celery("NotRegistered", vec![task.task.as_str().into()]))
        })?;
        let mut results = Vec::with_capacity(items.len());
        for item in items {
            let args = match (self.star, item) {
                (true, Value::Array(items)) => items,
                (true, _) => return Err(Fault::type_error("starmap wants a list of argument lists")),
                (false, one) => vec![one],
            };
            results.push(function.run(args, Map::new(), context.clone()).await?);
        }
        Ok(to_value(&results))
    }
}

/// `celery.chunks(task, it, n)`: sends a group of starmaps of n items each.
pub(crate) struct Chunks;

#[async_trait]
impl Task for Chunks {
    fn name(&self) -> &str {
        "celery.chunks"
    }

    fn arity(&self) -> Option<usize> {
        Some(3)
    }

    async fn run(&self, args: Vec<Value>, kwargs: Map, context: Context) -> Result<Value, Fault> {
        let take = |at: usize, name: &str| args.get(at).or_else(|| kwargs.get(name)).cloned().unwrap_or(Value::Null);
        let (task, items, n) = (take(0, "task"), take(1, "it"), take(2, "n"));
        let (Value::Array(items), Some(n)) = (items, n.as_u64().filter(|n| *n > 0)) else {
            return Err(Fault::type_error("chunks wants a list and a size above 0"));
        };
        let part = |items: &[Value]| {
            let mut map = Signature::new("celery.starmap", vec![]).immutable();
            map.kwargs.insert("task".into(), task.clone());
            map.kwargs.insert("it".into(), to_value(&items));
            map
        };
        let parts: Vec<Signature> = items.chunks(n as usize).map(part).collect();
        let handle = context.apply(Signature::group(&parts)).await;
        handle.map(|handle| handle.tuple()).map_err(|error| Fault::type_error(error.to_string()))
    }
}

/// `celery.backend_cleanup()`: nothing to do, results on Redis expire by themselves.
pub(crate) struct BackendCleanup;

#[async_trait]
impl Task for BackendCleanup {
    fn name(&self) -> &str {
        "celery.backend_cleanup"
    }

    async fn run(&self, _: Vec<Value>, _: Map, _: Context) -> Result<Value, Fault> {
        Ok(Value::Null)
    }
}

/// All of them.
pub(crate) fn all() -> Vec<Arc<dyn Task>> {
    vec![
        Arc::new(Accumulate),
        Arc::new(MapTask { star: false }),
        Arc::new(MapTask { star: true }),
        Arc::new(Chunks),
        Arc::new(BackendCleanup),
    ]
}
