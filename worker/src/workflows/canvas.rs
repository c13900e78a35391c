//! The Celery canvas that a graph becomes: chains, chords, and tasks that choose the way when they run.

use std::any::TypeId;
use std::collections::{BTreeMap, BTreeSet};
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
    /// # Panics
    /// Two steps of one name: one would be taken for the other.
    pub(crate) fn new(kind: &'static str, root: Node) -> Self {
        let mut steps = Vec::new();
        names(&root, &mut steps);
        let mut seen = BTreeSet::new();
        for (name, _) in &steps {
            assert!(seen.insert(name), "{kind} has two steps {name}: call one of them otherwise (Flow::named)");
        }
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

    /// The steps of this program, by their tasks' names. Two types of one name are two, so that the worker refuses them.
    pub(super) fn collect(&self, into: &mut BTreeMap<(String, TypeId), Arc<dyn Erased>>) {
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

fn collect(node: &Node, into: &mut BTreeMap<(String, TypeId), Arc<dyn Erased>>) {
    match node {
        Node::Step { step, .. } => {
            into.insert((task_of(step.name()), step.kind()), step.clone());
        }
        Node::Task { .. } => {}
        Node::Sequence(parts) | Node::Parallel(parts) => parts.iter().for_each(|part| collect(part, into)),
        Node::Branch { ways, .. } => ways.iter().for_each(|(_, way)| collect(way, into)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, missing_docs)]
    use super::*;
    use crate::workflows::Flow;

    fn plan(flow: Flow<i64, i64>) -> Plan {
        Plan::new("test", flow.node)
    }

    fn tasks(chain: &Signature) -> Vec<&str> {
        chain.kwargs["tasks"].as_array().unwrap().iter().map(|task| task["task"].as_str().unwrap()).collect()
    }

    #[test]
    fn a_task_of_another_worker_stands_between_two_that_keep_its_input_and_output() {
        let id = Uuid::new_v4();
        let twice: Flow<i64, i64> = Flow::task("twice", "proj.double").queue("python");
        let plan = plan(twice.then(Flow::task("again", "proj.double")));
        let Begun { steps, signature } = plan.begin(id, &json!(21));
        let double = "proj.double".to_owned();
        assert_eq!(steps, [("twice".to_owned(), double.clone()), ("again".to_owned(), double)]);
        assert_eq!(tasks(&signature), [BEGIN, "proj.double", END, BEGIN, "proj.double", END, FINISH]);
        let [begin, foreign, end, again, ..] = signature.kwargs["tasks"].as_array().unwrap().as_slice() else {
            panic!()
        };
        let about = json!({"event_id": id, "step": "twice"});
        assert_eq!(
            (&begin["args"], &begin["kwargs"], &end["args"], &end["kwargs"]),
            (&json!([21]), &about, &json!([]), &about)
        );
        // it is called as any task is: nothing but its input, which the task before gives
        assert_eq!(
            (&foreign["args"], &foreign["kwargs"], &foreign["immutable"]),
            (&json!([]), &json!({}), &json!(false))
        );
        assert_eq!(foreign["options"]["queue"], "python");
        let errback = &foreign["options"]["link_error"];
        let errback = errback.get(0).unwrap_or(errback);
        assert_eq!((&errback["task"], &errback["kwargs"]), (&json!(FAILED), &about));
        assert_eq!((&again["args"], &again["kwargs"]["step"]), (&json!([]), &json!("again")));
    }

    #[test]
    fn a_branch_becomes_the_way_that_its_router_chooses() {
        let ways = [
            ("small", Flow::task("keep", "proj.keep")),
            ("big", Flow::<i64, i64>::task("halve", "proj.halve").then(Flow::task("check", "proj.check"))),
            ("never", Flow::task("drop", "proj.drop")),
        ];
        let router = |n: &i64| match n {
            0 => "no way",
            1..10 => "small",
            _ => "big",
        };
        let plan = plan(Flow::branch("by_size", router, ways));
        let id = Uuid::new_v4();
        assert_eq!(tasks(&plan.begin(id, &json!(5)).signature), [ROUTE, FINISH]);
        let way = plan.route(id, "by_size", &json!(5)).unwrap();
        assert_eq!((way.chosen, tasks(&way.signature)), ("small", vec![BEGIN, "proj.keep", END]));
        assert_eq!(way.skipped, ["halve", "check", "drop"]);
        let way = plan.route(id, "by_size", &json!(50)).unwrap();
        assert_eq!(tasks(&way.signature), [BEGIN, "proj.halve", END, BEGIN, "proj.check", END]);
        assert_eq!(way.skipped, ["keep", "drop"]);
        for (branch, input) in [("by_size", json!(0)), ("by_size", json!("x")), ("keep", json!(5))] {
            assert!(plan.route(id, branch, &input).is_err(), "{branch} {input}");
        }
    }

    #[test]
    #[should_panic(expected = "two steps twice")]
    fn steps_of_one_name_are_refused() {
        plan(Flow::<i64, i64>::task("twice", "proj.double").then(Flow::task("twice", "proj.double")));
    }
}
