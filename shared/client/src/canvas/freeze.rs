//! Freezing: giving every part of a canvas its id before anything is sent (celery.canvas: Signature.freeze and kin).

use petiole_protocol::signature::Canvas;
use petiole_protocol::{Map, Signature, result, to_value};
use serde_json::Value;
use uuid::Uuid;

use super::{canvas, steps};
use crate::error::ClientError;

/// What a caller waits for: a task or a group, and what came before it.
#[derive(Debug, Clone, PartialEq)]
pub struct Handle {
    /// The id of the task or the group.
    pub id: String,
    /// The step before.
    pub parent: Option<Box<Handle>>,
    /// The members, where it is a group.
    pub children: Option<Vec<Handle>>,
}

impl Handle {
    /// Python's tuple form, as `AsyncResult.as_tuple()`.
    pub fn tuple(&self) -> Value {
        let parent = self.parent.as_ref().map(|parent| parent.tuple());
        match &self.children {
            None => result::task_tuple(&self.id, parent),
            Some(members) => result::group_tuple(&self.id, parent, members.iter().map(Handle::tuple).collect()),
        }
    }

    /// Puts a handle before the first step.
    fn rooted(mut self, root: Handle) -> Self {
        self.parent = Some(Box::new(match self.parent {
            Some(parent) => parent.rooted(root),
            None => root,
        }));
        self
    }
}

/// Gives ids to everything in a signature. Its options `task_id`, `group_id`, `group_index` and `chord` go to the part
/// that reports: the last step of a chain, the members of a group, the body of a chord. Twice changes nothing.
pub(crate) fn freeze(signature: &mut Signature) -> Result<Handle, ClientError> {
    match canvas(signature)? {
        Canvas::Task => Ok(Handle { id: own_id(&mut signature.options), parent: None, children: None }),
        Canvas::Chain(tasks) => {
            let mut tasks = steps::prepare(tasks)?;
            let Some(last) = tasks.last_mut() else {
                return Err(ClientError::invalid("chain", "an empty chain cannot be sent"));
            };
            steps::hand_down(&signature.options, &mut last.options);
            let mut before: Option<Handle> = None;
            for task in &mut tasks {
                let handle = freeze(task)?;
                before = Some(match before {
                    Some(root) => handle.rooted(root),
                    None => handle,
                });
            }
            signature.kwargs.insert("tasks".into(), to_value(&tasks));
            let handle = before.ok_or_else(|| ClientError::invalid("chain", "an empty chain cannot be sent"))?;
            signature.options.insert("task_id".into(), handle.id.as_str().into());
            Ok(handle)
        }
        Canvas::Group(tasks) => {
            let id = own_id(&mut signature.options);
            let outer = signature.options.get("group_id").filter(|v| !v.is_null()).cloned();
            let chord = signature.options.get("chord").filter(|v| !v.is_null()).cloned();
            let (tasks, children) = members(tasks, outer.unwrap_or_else(|| id.as_str().into()), chord.as_ref())?;
            signature.kwargs.insert("tasks".into(), to_value(&tasks));
            Ok(Handle { id, parent: None, children: Some(children) })
        }
        Canvas::Chord { header, mut header_options, mut body } => {
            let group_id = own_id(&mut header_options);
            let (header, children) = members(header, group_id.as_str().into(), None)?;
            let mut group = Signature::group(&header);
            group.options = header_options;
            steps::hand_down(&signature.options, &mut body.options);
            if !body.options.contains_key("group_id") {
                body.options.insert("group_id".into(), group_id.as_str().into());
            }
            let handle = freeze(&mut body)?;
            signature.options.insert("task_id".into(), handle.id.as_str().into());
            signature.kwargs.insert("header".into(), to_value(&group));
            signature.kwargs.insert("body".into(), to_value(&body));
            Ok(handle.rooted(Handle { id: group_id, parent: None, children: Some(children) }))
        }
    }
}

/// The members of a group: nested groups flattened, each with its group, its place, its id.
fn members(
    tasks: Vec<Signature>,
    group_id: Value,
    chord: Option<&Value>,
) -> Result<(Vec<Signature>, Vec<Handle>), ClientError> {
    let mut tasks = steps::flatten_groups(tasks)?;
    let mut handles = Vec::with_capacity(tasks.len());
    for (at, task) in tasks.iter_mut().enumerate() {
        task.options.insert("group_id".into(), group_id.clone());
        task.options.insert("group_index".into(), at.into());
        if let Some(chord) = chord {
            task.options.insert("chord".into(), chord.clone());
        }
        handles.push(freeze(task)?);
    }
    Ok((tasks, handles))
}

/// The id of a part: its own, or a new one.
fn own_id(options: &mut Map) -> String {
    match options.get("task_id") {
        Some(Value::String(id)) => id.clone(),
        _ => {
            let id = Uuid::new_v4().to_string();
            options.insert("task_id".into(), id.as_str().into());
            id
        }
    }
}
