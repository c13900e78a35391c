//! Steps of a workflow: tasks, chains, groups and chords in any nesting, and the canvas they become.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};

use petiole_client::Signature;
use poem_openapi::Object;
use poem_openapi::registry::{MetaSchema, MetaSchemaRef, Registry};
use poem_openapi::types::{ParseError, ParseFromJSON, ParseResult, ToJSON, Type};
use serde_json::{Value, json};

use crate::calls::TaskRequest;
use crate::problem::FieldError;
use crate::request_id::RequestId;

/// What joins the results of a group into a list: a task that Celery's workers all have, Python's and ours.
const JOIN: &str = "celery.accumulate";
/// The most bytes that the messages of one workflow may have together: each member of a chord carries the whole body.
const MOST: usize = 64 << 20;

/// A task as a step of a workflow.
#[derive(Clone, Debug, Object)]
pub(crate) struct TaskStep {
    /// The call.
    #[oai(flatten)]
    pub(crate) call: TaskRequest,
    /// Take only the arguments given here; else the result of the step before comes first.
    #[oai(default)]
    pub(crate) immutable: bool,
}

/// Steps one after the other, each with the result of the one before as its first argument.
#[derive(Clone, Debug, Object)]
pub(crate) struct ChainStep {
    /// The steps, in order.
    #[oai(validator(min_items = 1))]
    pub(crate) chain: Vec<Step>,
}

/// Steps side by side; the result is the list of their results.
#[derive(Clone, Debug, Object)]
pub(crate) struct GroupStep {
    /// The steps.
    #[oai(validator(min_items = 1))]
    pub(crate) group: Vec<Step>,
}

/// A group, and a step that gets the list of its results.
#[derive(Clone, Debug, Object)]
pub(crate) struct ChordStep {
    /// Its two parts.
    pub(crate) chord: ChordPartsStep,
}

/// The two parts of a chord.
#[derive(Clone, Debug, Object)]
pub(crate) struct ChordPartsStep {
    /// The steps that run side by side.
    #[oai(validator(min_items = 1))]
    pub(crate) header: Vec<Step>,
    /// What is called with the list of their results.
    pub(crate) body: Step,
}

/// One step of a workflow.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Task(Box<TaskStep>),
    Chain(ChainStep),
    Group(GroupStep),
    Chord(Box<ChordStep>),
}

/// A whole workflow: a step that is more than one task.
#[derive(Clone, Debug)]
pub(crate) struct WorkflowRequest(pub(crate) Step);

/// The schema of alternatives: `one_of` these, a step's own name in front.
fn alternatives(registry: &mut Registry, with_task: bool) -> Vec<MetaSchemaRef> {
    ChainStep::register(registry);
    GroupStep::register(registry);
    ChordStep::register(registry);
    let mut all = vec![ChainStep::schema_ref(), GroupStep::schema_ref(), ChordStep::schema_ref()];
    if with_task {
        TaskStep::register(registry);
        all.insert(0, TaskStep::schema_ref());
    }
    all
}

macro_rules! union {
    ($name:ident, $shown:literal, $description:literal, $with_task:literal, $example:expr) => {
        impl Type for $name {
            const IS_REQUIRED: bool = true;
            type RawValueType = Self;
            type RawElementValueType = Self;

            fn name() -> Cow<'static, str> {
                $shown.into()
            }

            fn schema_ref() -> MetaSchemaRef {
                MetaSchemaRef::Reference($shown.into())
            }

            fn register(registry: &mut Registry) {
                registry.create_schema::<Self, _>($shown.into(), |registry| MetaSchema {
                    description: Some($description),
                    one_of: alternatives(registry, $with_task),
                    example: $example,
                    ..MetaSchema::ANY
                });
            }

            fn as_raw_value(&self) -> Option<&Self::RawValueType> {
                Some(self)
            }

            fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self::RawElementValueType> + 'a> {
                Box::new(std::iter::once(self))
            }
        }
    };
}

union!(Step, "WorkflowStep", "A task, a chain, a group or a chord.", true, None);
union!(
    WorkflowRequest,
    "WorkflowRequest",
    "A chain, a group or a chord of steps.",
    false,
    Some(json!({"chain": [
        {"task": "demo.add", "args": [1, 2]},
        {"group": [{"task": "demo.add", "args": [10]}, {"task": "demo.add", "args": [20]}]},
        {"task": "demo.echo"}
    ]}))
);

impl ParseFromJSON for Step {
    fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
        let value = value.unwrap_or_default();
        let has = |name: &str| value.get(name).is_some();
        match (has("chain"), has("group"), has("chord")) {
            (true, ..) => ChainStep::parse_from_json(Some(value)).map(Self::Chain).map_err(ParseError::propagate),
            (_, true, _) => GroupStep::parse_from_json(Some(value)).map(Self::Group).map_err(ParseError::propagate),
            (.., true) => {
                let chord = ChordStep::parse_from_json(Some(value)).map_err(ParseError::propagate)?;
                Ok(Self::Chord(Box::new(chord)))
            }
            _ => {
                let task = TaskStep::parse_from_json(Some(value)).map_err(ParseError::propagate)?;
                Ok(Self::Task(Box::new(task)))
            }
        }
    }
}

impl ToJSON for Step {
    fn to_json(&self) -> Option<Value> {
        match self {
            Self::Task(step) => step.to_json(),
            Self::Chain(step) => step.to_json(),
            Self::Group(step) => step.to_json(),
            Self::Chord(step) => step.to_json(),
        }
    }
}

impl ParseFromJSON for WorkflowRequest {
    fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
        Step::parse_from_json(value).map(Self).map_err(ParseError::propagate)
    }
}

impl ToJSON for WorkflowRequest {
    fn to_json(&self) -> Option<Value> {
        self.0.to_json()
    }
}

/// What is known of a workflow before it is sent.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// What is wrong that the schema cannot say.
    pub(crate) errors: Vec<FieldError>,
    /// The names of all its tasks.
    pub(crate) names: BTreeSet<String>,
    ids: HashSet<uuid::Uuid>,
}

impl WorkflowRequest {
    /// Looks at every step.
    pub(crate) fn survey(&self) -> Survey {
        let mut survey = Survey::default();
        survey.visit(&self.0, "");
        if survey.errors.is_empty() {
            let bytes = self.0.messages(0);
            if bytes > MOST {
                let message = format!("becomes {} MiB of messages; at most {} are taken", bytes >> 20, MOST >> 20);
                survey.errors.push(FieldError::new(self.0.kind(), message));
            }
        }
        survey
    }

    /// The canvas. A group at its end is joined by a last task, so that the workflow has one task whose result is the list.
    pub(crate) fn into_signature(self, request_id: &RequestId) -> Signature {
        joined(self.0).into_signature(request_id)
    }
}

impl Survey {
    fn visit(&mut self, step: &Step, path: &str) {
        let inner = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        let mut all = |steps: &[Step], name: &str| {
            steps.iter().enumerate().for_each(|(n, step)| self.visit(step, &format!("{}[{n}]", inner(name))));
        };
        match step {
            Step::Chain(step) => all(&step.chain, "chain"),
            Step::Group(step) => all(&step.group, "group"),
            Step::Chord(step) => {
                all(&step.chord.header, "chord.header");
                self.visit(&step.chord.body, &inner("chord.body"));
            }
            Step::Task(step) => {
                self.errors.extend(step.call.check(path));
                if let Some(id) = step.call.task_id
                    && !self.ids.insert(id)
                {
                    self.errors.push(FieldError::new(inner("task_id"), "is another step's, too"));
                }
                self.names.extend(step.call.names().map(str::to_owned));
            }
        }
    }
}

/// The step with its last group made a chord of the group and the task that joins it.
fn joined(step: Step) -> Step {
    match step {
        Step::Group(GroupStep { group }) => {
            let mut call = TaskRequest::named(JOIN);
            call.kwargs.0.insert("index".into(), json!(0));
            let body = Step::Task(Box::new(TaskStep { call, immutable: false }));
            Step::Chord(Box::new(ChordStep { chord: ChordPartsStep { header: group, body } }))
        }
        Step::Chain(ChainStep { mut chain }) => {
            let last = chain.pop().map(joined);
            chain.extend(last);
            Step::Chain(ChainStep { chain })
        }
        Step::Chord(mut step) => {
            step.chord.body = joined(step.chord.body);
            Step::Chord(step)
        }
        task @ Step::Task(_) => task,
    }
}

impl Step {
    fn kind(&self) -> &'static str {
        match self {
            Self::Task(_) => "task",
            Self::Chain(_) => "chain",
            Self::Group(_) => "group",
            Self::Chord(_) => "chord",
        }
    }

    fn into_signature(self, request_id: &RequestId) -> Signature {
        let all = |steps: Vec<Step>| -> Vec<Signature> {
            steps.into_iter().map(|step| step.into_signature(request_id)).collect()
        };
        match self {
            Self::Task(step) => {
                let mut signature = step.call.into_signature(request_id);
                signature.immutable = step.immutable;
                signature
            }
            Self::Chain(step) => Signature::chain(&all(step.chain)),
            Self::Group(step) => Signature::group(&all(step.group)),
            Self::Chord(step) => {
                let ChordPartsStep { header, body } = step.chord;
                Signature::chord(&all(header), &body.into_signature(request_id))
            }
        }
    }

    /// About how many bytes its messages have that are sent at one time, when each carries `tail` bytes of what follows.
    fn messages(&self, tail: usize) -> usize {
        match self {
            Self::Task(_) => self.bytes().saturating_add(tail),
            Self::Chain(step) => {
                let (mut tail, mut most) = (tail, 0_usize);
                for step in step.chain.iter().rev() {
                    most = most.max(step.messages(tail));
                    tail = tail.saturating_add(step.bytes());
                }
                most
            }
            Self::Group(step) => sum(step.group.iter().map(|step| step.messages(tail))),
            Self::Chord(step) => {
                let body = step.chord.body.bytes().saturating_add(tail);
                let header = sum(step.chord.header.iter().map(|step| step.messages(body)));
                header.max(step.chord.body.messages(tail))
            }
        }
    }

    /// About how many bytes it has in a message.
    fn bytes(&self) -> usize {
        // ids and options that are added on the way
        const OWN: usize = 400;
        let parts = |steps: &[Step]| sum(steps.iter().map(Self::bytes));
        match self {
            Self::Task(step) => OWN + step.call.to_json_string().len(),
            Self::Chain(step) => OWN + parts(&step.chain),
            Self::Group(step) => OWN + parts(&step.group),
            Self::Chord(step) => OWN + parts(&step.chord.header) + step.chord.body.bytes(),
        }
    }
}

fn sum(sizes: impl Iterator<Item = usize>) -> usize {
    sizes.fold(0, usize::saturating_add)
}
