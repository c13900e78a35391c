//! Errbacks: what is called when a task fails (celery.backends.base: _call_task_errbacks).

use std::sync::Arc;

use petiole_protocol::{Map, Signature, TaskException, TaskMessage, to_value};
use serde_json::{Value, json};
use tracing::{error, warn};

use crate::context::Context;
use crate::request::Request;
use crate::worker::{Parent, Worker};

/// Calls errbacks. New style ones, which take request, exception and traceback, run here and at once; old style ones,
/// which take the failed task's id, are sent as messages.
pub(crate) async fn call_errbacks(
    worker: &Arc<Worker>,
    failed: &TaskMessage,
    errbacks: &[Signature],
    exception: &TaskException,
    traceback: Option<&str>,
) {
    let (here, sent): (Vec<_>, Vec<_>) = errbacks.iter().partition(|errback| is_new_style(worker, errback));
    for errback in here {
        run_here(worker, failed, errback, exception, traceback).await;
    }
    if sent.is_empty() {
        return;
    }
    let group = Signature::group(&sent.into_iter().cloned().collect::<Vec<_>>());
    let prefix = [Value::String(failed.id.clone())];
    let planned = worker.plan(&Parent::of(failed), group, &prefix, Map::new());
    let done = match planned {
        Ok(plan) => worker.execute(&plan).await,
        Err(error) => Err(error),
    };
    if let Err(error) = done {
        warn!(task_id = failed.id, %error, "errbacks cannot be sent");
    }
}

/// Known here, not immutable, and still lacking more than one positional argument.
fn is_new_style(worker: &Worker, errback: &Signature) -> bool {
    let Some(task) = worker.tasks.get(&errback.task) else { return false };
    !errback.immutable
        && task.arity().is_none_or(|arity| arity.saturating_sub(errback.args.len() + errback.kwargs.len()) > 1)
}

async fn run_here(
    worker: &Arc<Worker>,
    failed: &TaskMessage,
    errback: &Signature,
    exception: &TaskException,
    traceback: Option<&str>,
) {
    let Some(task) = worker.tasks.get(&errback.task).cloned() else { return };
    let mut request = json!({
        "id": failed.id, "task": failed.task, "args": null, "kwargs": null, "root_id": failed.root(),
        "parent_id": failed.parent_id, "group": failed.group, "retries": failed.retries,
    });
    request["args"] = Value::Array(failed.args.clone());
    request["kwargs"] = Value::Object(failed.kwargs.clone());
    let mut args = vec![request, to_value(exception), json!(traceback)];
    args.extend(errback.args.iter().cloned());
    let message = TaskMessage::new(&errback.task, &failed.id, args.clone(), errback.kwargs.clone());
    let context = Context::new(worker.clone(), Arc::new(Request::in_process(message, task.clone())));
    let run = context.clone().scope(task.run(args, errback.kwargs.clone(), context));
    if let Err(fault) = run.await {
        error!(task_id = failed.id, errback = errback.task, ?fault, "the errback failed");
    }
}
