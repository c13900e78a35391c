//! The Celery canvas that a graph becomes: chains, chords, and tasks that choose the way when they run.

use std::collections::BTreeMap;
use std::sync::Arc;

use petiole_client::Signature;
use serde_json::{Value, json};
use uuid::Uuid;

use super::flow::{Erased, Node};

/// Chooses the way of a branch.
pub(super) const ROUTE: &str = "workflows.route";
/// Stores the event's output.
pub(super) const FINISH: &str = "workflows.finish";
/// Notes that another worker's task begins.
pub(super) const BEGIN: &str = "workflows.begin";
/// Notes what another worker's task gave.
pub(super) const END: &str = "workflows.end";
/// Called when any of the tasks failed.
pub(super) const FAILED: &str = "workflows.failed";
/// What joins the results of a group into a list: a task that all of Celery's workers have.
const JOIN: &str = "celery.accumulate";

/// The graph of an event type.
#[derive(Clone)]
pub(crate) struct Plan {
    kind: &'static str,
    root: Arc<Node>,
}

/// What an event's work begins with.
pub(crate) struct Begun {
    /// All steps that there can be, with their tasks.
    pub(crate) steps: Vec<(String, String)>,
    /// The canvas.
    pub(crate) signature: Signature,
}

impl Plan {
    pub(crate) fn new(kind: &'static str, root: Node) -> Self {
        Self { kind, root: Arc::new(root) }
    }

    /// The steps and the canvas for an event with these data.
    pub(crate) fn begin(&self, event_id: Uuid, data: &Value) -> Begun {
        let mut steps = Vec::new();
        names(&self.root, &mut steps);
        let mut chain = Vec::new();
        self.add(&self.root, event_id, Some(data), &mut chain);
        chain.push(self.call(FINISH, event_id, None));
        Begun { steps, signature: Signature::chain(&chain) }
    }

    /// The way that a branch takes with this input: its name, its canvas, and the steps of the ways that it does not take.
    ///
    /// # Errors
    /// There is no such branch, or the router gives no way that there is.
    pub(super) fn route(&self, event_id: Uuid, name: &str, input: &Value) -> Result<Way, String> {
        let Some(Node::Branch { router, ways, .. }) = find(&self.root, name) else {
            return Err(format!("{} has no branch {name}", self.kind));
        };
        let chosen = router(input.clone())?;
        let mut skipped = Vec::new();
        ways.iter().filter(|(way, _)| *way != chosen).for_each(|(_, node)| names(node, &mut skipped));
        let Some((_, node)) = ways.iter().find(|(way, _)| *way == chosen) else {
            return Err(format!("{name} chose {chosen}, which is no way of it"));
        };
        let mut chain = Vec::new();
        self.add(node, event_id, Some(input), &mut chain);
        let signature = if chain.len() == 1 { chain.remove(0) } else { Signature::chain(&chain) };
        Ok(Way { chosen, signature, skipped: skipped.into_iter().map(|(name, _)| name).collect() })
    }

    /// The steps of this program, by their tasks' names.
    pub(super) fn collect(&self, into: &mut BTreeMap<String, Arc<dyn Erased>>) {
        collect(&self.root, into);
    }

    /// A task of the workflow's own, or a step, which knows for whom it works.
    fn call(&self, task: &str, event_id: Uuid, step: Option<&str>) -> Signature {
        let about = |signature: Signature| {
            let signature = signature.kwarg("event_id", json!(event_id));
            match step {
                Some(step) => signature.kwarg("step", step),
                None => signature,
            }
        };
        about(Signature::new(task, vec![])).link_error(about(Signature::new(FAILED, vec![])))
    }

    /// Adds a part to a chain. Its first task gets `input` as its argument, unless a task before it gives one.
    fn add(&self, node: &Node, event_id: Uuid, input: Option<&Value>, chain: &mut Vec<Signature>) {
        let given = |mut signature: Signature| {
            signature.args.extend(input.cloned());
            signature
        };
        match node {
            Node::Step { name, step } => {
                chain.push(given(self.call(&task_of(step.name()), event_id, Some(name))));
            }
            Node::Task { name, task, queue } => {
                chain.push(given(self.call(BEGIN, event_id, Some(name))));
                let failed =
                    Signature::new(FAILED, vec![]).kwarg("event_id", json!(event_id)).kwarg("step", name.as_str());
                let foreign = Signature::new(task.as_str(), vec![]).link_error(failed);
                chain.push(match queue {
                    Some(queue) => foreign.queue(queue),
                    None => foreign,
                });
                chain.push(self.call(END, event_id, Some(name)));
            }
            Node::Sequence(parts) => {
                for (n, part) in parts.iter().enumerate() {
                    self.add(part, event_id, input.filter(|_| n == 0), chain);
                }
            }
            Node::Parallel(parts) => {
                let header: Vec<_> = parts
                    .iter()
                    .map(|part| {
                        let mut member = Vec::new();
                        self.add(part, event_id, input, &mut member);
                        if member.len() == 1 { member.remove(0) } else { Signature::chain(&member) }
                    })
                    .collect();
                let failed = Signature::new(FAILED, vec![]).kwarg("event_id", json!(event_id));
                let join = Signature::new(JOIN, vec![]).kwarg("index", 0).link_error(failed);
                chain.push(Signature::chord(&header, &join));
            }
            Node::Branch { name, .. } => {
                chain.push(given(self.call(ROUTE, event_id, Some(name)).kwarg("workflow", self.kind)));
            }
        }
    }
}

/// A way that is taken.
pub(super) struct Way {
    pub(super) chosen: &'static str,
    pub(super) signature: Signature,
    pub(super) skipped: Vec<String>,
}

/// The task of a step of this program.
pub(super) fn task_of(step: &str) -> String {
    format!("steps.{step}")
}

/// The steps of a part and their tasks, in order.
fn names(node: &Node, into: &mut Vec<(String, String)>) {
    match node {
        Node::Step { name, step } => into.push((name.clone(), task_of(step.name()))),
        Node::Task { name, task, .. } => into.push((name.clone(), task.clone())),
        Node::Sequence(parts) | Node::Parallel(parts) => parts.iter().for_each(|part| names(part, into)),
        Node::Branch { name, ways, .. } => {
            into.push((name.clone(), ROUTE.to_owned()));
            ways.iter().for_each(|(_, way)| names(way, into));
        }
    }
}

fn find<'a>(node: &'a Node, branch: &str) -> Option<&'a Node> {
    match node {
        Node::Branch { name, .. } if name == branch => Some(node),
        Node::Branch { ways, .. } => ways.iter().find_map(|(_, way)| find(way, branch)),
        Node::Sequence(parts) | Node::Parallel(parts) => parts.iter().find_map(|part| find(part, branch)),
        Node::Step { .. } | Node::Task { .. } => None,
    }
}

fn collect(node: &Node, into: &mut BTreeMap<String, Arc<dyn Erased>>) {
    match node {
        Node::Step { step, .. } => {
            into.insert(task_of(step.name()), step.clone());
        }
        Node::Task { .. } => {}
        Node::Sequence(parts) | Node::Parallel(parts) => parts.iter().for_each(|part| collect(part, into)),
        Node::Branch { ways, .. } => ways.iter().for_each(|(_, way)| collect(way, into)),
    }
}
