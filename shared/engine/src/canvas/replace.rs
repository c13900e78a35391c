//! Tasks that put another in their place, or add to their chord (celery.app.task: replace, add_to_chord).

use petiole_client::Handle;
use petiole_protocol::signature::Canvas;
use petiole_protocol::{Map, Signature, TaskException, TaskMessage, to_value};
use serde_json::Value;

use crate::task::Fault;
use crate::worker::{Parent, Worker, until_done};

/// Puts a signature in a running task's place.
pub(crate) async fn replace(worker: &Worker, message: &TaskMessage, signature: Signature) -> Result<Handle, Fault> {
    let wrong = |text: &str| Fault::from(TaskException::celery("ImproperlyConfigured", vec![text.into()]));
    let unreadable = |error: serde_json::Error| wrong(&error.to_string());
    if signature.options.get("chord").is_some_and(|chord| !chord.is_null()) {
        return Err(wrong("A signature replacing a task must not be part of a chord"));
    }
    let canvas = signature.canvas().map_err(unreadable)?;
    let mut steps = match canvas {
        Canvas::Chain(steps) if steps.is_empty() => return Err(wrong("Cannot replace with an empty chain")),
        Canvas::Chain(mut steps) => {
            // What was said of the chain as a whole: the last step calls back, any step may fail.
            let link = signature.option_signatures("link");
            let link_error = signature.option_signatures("link_error");
            steps.iter_mut().for_each(|step| add(step, "link_error", &link_error));
            if let Some(last) = steps.last_mut() {
                add(last, "link", &link);
            }
            steps
        }
        _ => vec![signature],
    };
    // A group has no single result: its list is collected by a body.
    if let Some(group) = steps.pop_if(|last| last.subtask_type.as_deref() == Some("group")) {
        let mut collect = Signature::new("celery.accumulate", vec![]);
        collect.kwargs.insert("index".into(), 0.into());
        let mut chord = Signature::chord(&[], &collect);
        chord.kwargs.insert("header".into(), to_value(&group));
        steps.push(chord);
    }
    let nesting = message.replaced_task_nesting + 1;
    for step in &mut steps {
        step.options.insert("replaced_task_nesting".into(), nesting.into());
        add(step, "link_error", &message.embed.errbacks);
    }
    if let Some(last) = steps.last_mut() {
        add(last, "link", &message.embed.callbacks);
    }
    let mut whole = if steps.len() == 1 { steps.remove(0) } else { Signature::chain(&steps) };
    let mut options = Map::new();
    options.insert("task_id".into(), message.id.as_str().into());
    options.insert("root_id".into(), message.root().into());
    if let Some(chord) = &message.embed.chord {
        options.insert("chord".into(), to_value(&chord));
    }
    if let Some(group) = &message.group {
        options.insert("group_id".into(), group.as_str().into());
    }
    if let Some(index) = message.group_index {
        options.insert("group_index".into(), index.into());
    }
    let rest = message.embed.chain.signatures().map_err(unreadable)?;
    let rest: Vec<Signature> = rest.into_iter().map(|step| step.set("replaced_task_nesting", nesting)).collect();
    if !rest.is_empty() {
        options.insert("chain".into(), to_value(&rest));
    }
    if let Some(ignore) = message.ignore_result {
        options.insert("ignore_result".into(), ignore.into());
    }
    whole.options.extend(options);
    let plan = worker.plan(&Parent::of(message), whole, &[], Map::new()).map_err(|error| wrong(&error.to_string()))?;
    worker.execute(&plan).await.map_err(|error| wrong(&error.to_string()))?;
    Ok(plan.handle)
}

fn add(step: &mut Signature, option: &str, more: &[Signature]) {
    if more.is_empty() {
        return;
    }
    let mut all: Vec<Value> = step.option_signatures(option).iter().map(to_value).collect();
    all.extend(more.iter().map(to_value));
    step.options.insert(option.to_owned(), Value::Array(all));
}

/// Adds a signature to the chord that a running task is a part of.
pub(crate) async fn add_to_chord(
    worker: &Worker,
    message: &TaskMessage,
    signature: Signature,
) -> Result<Handle, Fault> {
    let wrong = |text: String| Fault::from(TaskException::builtin("ValueError", text));
    let (Some(group), Some(chord)) = (&message.group, &message.embed.chord) else {
        return Err(wrong("Current task is not member of any chord".into()));
    };
    let mut options = Map::new();
    options.insert("group_id".into(), group.as_str().into());
    options.insert("chord".into(), to_value(&chord));
    options.insert("root_id".into(), message.root().into());
    if let Some(index) = message.group_index {
        options.insert("group_index".into(), index.into());
    }
    let mut signature = signature;
    signature.options.extend(options);
    let plan =
        worker.plan(&Parent::of(message), signature, &[], Map::new()).map_err(|error| wrong(error.to_string()))?;
    let backend = worker.client.backend();
    until_done("add to a chord", || backend.add_chord_member(group, 1))
        .await
        .map_err(|error| wrong(error.to_string()))?;
    worker.execute(&plan).await.map_err(|error| wrong(error.to_string()))?;
    Ok(plan.handle)
}
