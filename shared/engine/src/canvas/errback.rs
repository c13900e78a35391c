//! Errbacks: what is called when a task fails (celery.backends.base: _call_task_errbacks).

use std::sync::Arc;

use petiole_protocol::signature::Canvas;
use petiole_protocol::{Map, Signature, TaskException, TaskMessage, to_value};
use serde_json::{Value, json};
use tracing::{error, warn};

use crate::context::Context;
use crate::request::Request;
use crate::worker::{Parent, Worker};

/// Calls errbacks. New style ones, which take request, exception and traceback, run here and at once; old style ones,
/// which take the failed task's id, are sent as messages: gives the result tuple of their group, if there is one.
pub(crate) async fn call_errbacks(
    worker: &Arc<Worker>,
    failed: &TaskMessage,
    errbacks: &[Signature],
    exception: &TaskException,
    traceback: Option<&str>,
) -> Option<Value> {
    let (here, sent): (Vec<_>, Vec<_>) = errbacks.iter().partition(|errback| is_new_style(worker, errback));
    for errback in here {
        run_here(worker, failed, errback, exception, traceback).await;
    }
    if sent.is_empty() {
        return None;
    }
    let group = Signature::group(&sent.into_iter().cloned().collect::<Vec<_>>());
    let prefix = [Value::String(failed.id.clone())];
    let planned = worker.plan(&Parent::of(failed), group, &prefix, Map::new());
    let done = match planned {
        Ok(plan) => worker.execute(&plan).await.map(|()| plan.handle.tuple()),
        Err(error) => Err(error),
    };
    done.inspect_err(|error| warn!(task_id = failed.id, %error, "errbacks cannot be sent")).ok()
}

/// Whose failure it is when a member of a chord's body is never sent, and which errbacks are called then: a chord's result is
/// its body's, and so are its errbacks; a group's tasks bring theirs (celery.backends.base: _result_errbacks).
pub(crate) fn of_member(member: &Signature) -> (Option<String>, Vec<Signature>) {
    let mut errbacks = member.option_signatures("link_error");
    match member.canvas() {
        Ok(Canvas::Chord { body, .. }) => {
            let (id, of_body) = of_member(&body);
            errbacks.extend(of_body);
            return (id, errbacks);
        }
        Ok(Canvas::Group(tasks)) => tasks.iter().for_each(|task| errbacks.extend(of_member(task).1)),
        _ => {}
    }
    (member.option_text("task_id").map(str::to_owned), errbacks)
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(value: Value) -> Signature {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_chord_fails_as_its_body_does() {
        let task = |id: &str, errback: &str| json!({"task": "t", "options": {"task_id": id, "link_error": [{"task": errback}]}});
        let chord = json!({"task": "celery.chord", "subtask_type": "chord", "options": {"task_id": "c", "link_error": [{"task": "of chord"}]},
            "kwargs": {"header": {"task": "celery.group", "subtask_type": "group", "kwargs": {"tasks": [task("h", "of header")]}},
                       "body": task("b", "of body")}});
        let (id, errbacks) = of_member(&read(chord));
        assert_eq!(id.as_deref(), Some("b"));
        assert_eq!(errbacks.iter().map(|one| one.task.as_str()).collect::<Vec<_>>(), ["of chord", "of body"]);
        let group = json!({"task": "celery.group", "subtask_type": "group", "options": {"task_id": "g"},
            "kwargs": {"tasks": [task("1", "of one"), task("2", "of two")]}});
        let (id, errbacks) = of_member(&read(group));
        assert_eq!((id.as_deref(), errbacks.len()), (Some("g"), 2));
    }
}
