//! The shape of a canvas before it is sent (celery.canvas: _chain.prepare_steps, _chord._descend, maybe_unroll_group).

use petiole_protocol::signature::Canvas;
use petiole_protocol::{Map, Signature, to_value};
use serde_json::Value;

use super::canvas;
use crate::error::ClientError;

/// The steps of a chain as they are sent: nested chains flattened, empty groups dropped, a group of one unrolled, a group
/// with a step after it made a chord of both, and a chord whose body is a chain split.
pub(super) fn prepare(tasks: Vec<Signature>) -> Result<Vec<Signature>, ClientError> {
    let mut flat = Vec::with_capacity(tasks.len());
    for task in tasks {
        flatten(task, &mut flat)?;
    }
    let mut steps: Vec<Signature> = Vec::with_capacity(flat.len());
    for task in flat.into_iter().rev() {
        match steps.pop() {
            Some(next) if task.subtask_type.as_deref() == Some("group") => {
                let mut chord = Signature::chord(&[], &next);
                let body_id = next.options.get("task_id").cloned();
                chord.kwargs.insert("header".into(), to_value(&task));
                if let Some(id) = body_id {
                    chord.options.insert("task_id".into(), id);
                }
                steps.push(chord);
            }
            next => {
                steps.extend(next);
                steps.push(task);
            }
        }
    }
    steps.reverse();
    Ok(steps)
}

fn flatten(task: Signature, out: &mut Vec<Signature>) -> Result<(), ClientError> {
    match canvas(&task)? {
        Canvas::Chain(mut inner) => {
            let (link, link_error) = (task.options.get("link"), task.options.get("link_error"));
            if let Some(link_error) = link_error {
                inner.iter_mut().for_each(|task| extend_option(task, "link_error", link_error));
            }
            if let Some(last) = inner.last_mut() {
                if let Some(link) = link {
                    extend_option(last, "link", link);
                }
                hand_down(&task.options, &mut last.options);
            }
            for task in inner {
                flatten(task, out)?;
            }
        }
        Canvas::Group(mut members) => match members.len() {
            0 => {}
            1 => flatten(members.remove(0), out)?,
            _ => out.push(task),
        },
        Canvas::Chord { body, header_options, .. } => match canvas(&body)? {
            Canvas::Chain(mut steps) if steps.first().is_some_and(|first| first.subtask_type.is_none()) => {
                let mut chord = task;
                if let Some(last) = steps.last_mut() {
                    hand_down(&body.options, &mut last.options);
                    // Within a chain Celery writes the header's id on the chord: that one is not the last step's.
                    let header = header_options.get("task_id");
                    if header.is_some() && chord.options.get("task_id") == header {
                        chord.options.shift_remove("task_id");
                    }
                    hand_down(&chord.options, &mut last.options);
                    for link in [body.options.get("link"), chord.options.get("link")].into_iter().flatten() {
                        extend_option(last, "link", link);
                    }
                }
                let first = steps.remove(0);
                // These are the last step's now.
                for name in ["task_id", "group_id", "group_index", "chord", "link"] {
                    chord.options.shift_remove(name);
                }
                chord.kwargs.insert("body".into(), to_value(&first));
                out.push(chord);
                for step in steps {
                    flatten(step, out)?;
                }
            }
            _ => out.push(task),
        },
        Canvas::Task => out.push(task),
    }
    Ok(())
}

/// Copies what a composition was given to the part of it that reports. An id that the part has already is known to
/// somebody, and stays.
pub(super) fn hand_down(from: &Map, to: &mut Map) {
    for name in ["task_id", "group_id", "group_index", "chord"] {
        let own = name == "task_id" && to.get(name).is_some_and(Value::is_string);
        if let Some(value) = from.get(name).filter(|value| !value.is_null() && !own) {
            to.insert(name.to_owned(), value.clone());
        }
    }
}

/// Groups within a group are members of it.
pub(super) fn flatten_groups(tasks: Vec<Signature>) -> Result<Vec<Signature>, ClientError> {
    let mut flat = Vec::with_capacity(tasks.len());
    for task in tasks {
        match canvas(&task)? {
            Canvas::Group(inner) => flat.extend(flatten_groups(inner)?),
            _ => flat.push(task),
        }
    }
    Ok(flat)
}

/// How many parts of a chord a member of its header makes.
pub(super) fn size(task: &Signature) -> Result<usize, ClientError> {
    match canvas(task)? {
        Canvas::Task => Ok(1),
        Canvas::Group(members) => members.iter().map(size).sum(),
        Canvas::Chain(tasks) => prepare(tasks)?.last().map_or(Ok(0), size),
        Canvas::Chord { body, .. } => size(&body),
    }
}

/// Makes a member of a header report to the chord's body: by the part of it that ends last.
pub(super) fn attach_chord(task: &mut Signature, chord: &Signature) -> Result<(), ClientError> {
    match canvas(task)? {
        Canvas::Task => {
            task.options.insert("chord".into(), to_value(&chord));
        }
        Canvas::Chain(mut tasks) => {
            if let Some(last) = tasks.last_mut() {
                attach_chord(last, chord)?;
            }
            task.kwargs.insert("tasks".into(), to_value(&tasks));
        }
        Canvas::Group(mut members) => {
            members.iter_mut().try_for_each(|member| attach_chord(member, chord))?;
            task.kwargs.insert("tasks".into(), to_value(&members));
        }
        Canvas::Chord { mut body, .. } => {
            attach_chord(&mut body, chord)?;
            task.kwargs.insert("body".into(), to_value(&body));
        }
    }
    Ok(())
}

/// Adds to an option that is a list of signatures, each once.
pub(super) fn extend_option(task: &mut Signature, name: &str, more: &Value) {
    let list = |value: &Value| match value {
        Value::Null => vec![],
        Value::Array(items) => items.clone(),
        one => vec![one.clone()],
    };
    let mut items = task.options.get(name).map(list).unwrap_or_default();
    for item in list(more) {
        if !items.contains(&item) {
            items.push(item);
        }
    }
    task.options.insert(name.to_owned(), Value::Array(items));
}
