//! Flows: graphs of steps whose types fit together, checked by the compiler.
//!
//! ```
//! # use async_trait::async_trait;
//! # use petiole_worker::Services;
//! # use petiole_worker::events::HandlerError;
//! use petiole_worker::workflows::{Flow, Step};
//!
//! struct Length;
//!
//! #[async_trait]
//! impl Step for Length {
//!     const NAME: &'static str = "length";
//!     type Input = String;
//!     type Output = usize;
//!     async fn run(&self, _: &Services, text: String) -> Result<usize, HandlerError> {
//!         Ok(text.len())
//!     }
//! }
//!
//! // The length, and what a Python worker says of the text; side by side.
//! let flow: Flow<String, (usize, f64)> =
//!     Flow::both(Flow::step(Length), Flow::task("mood", "proj.mood").queue("python"));
//! # drop(flow);
//! ```

use std::any::TypeId;
use std::marker::PhantomData;
use std::sync::Arc;

use async_trait::async_trait;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::events::HandlerError;
use crate::services::Services;

/// One step: a function of its input, which runs as a task of its own.
///
/// It may run twice (a worker that dies after the work, before it could say so), and is tried again by itself when its
/// error may pass.
#[async_trait]
pub trait Step: Send + Sync + 'static {
    /// Its name. Its task is `steps.NAME`.
    const NAME: &'static str;
    /// What goes in.
    type Input: Serialize + DeserializeOwned + Send;
    /// What comes out.
    type Output: Serialize + DeserializeOwned + Send;

    /// Does the work.
    async fn run(&self, services: &Services, input: Self::Input) -> Result<Self::Output, HandlerError>;
}

/// A step without its types.
#[async_trait]
pub(crate) trait Erased: Send + Sync {
    fn name(&self) -> &'static str;
    fn kind(&self) -> TypeId;
    async fn run(&self, services: &Services, input: Value) -> Result<Value, HandlerError>;
}

#[async_trait]
impl<S: Step> Erased for S {
    fn name(&self) -> &'static str {
        S::NAME
    }

    fn kind(&self) -> TypeId {
        TypeId::of::<S>()
    }

    async fn run(&self, services: &Services, input: Value) -> Result<Value, HandlerError> {
        let input = serde_json::from_value(input)
            .map_err(|error| HandlerError::Data { kind: S::NAME, reason: error.to_string() })?;
        let output = Step::run(self, services, input).await?;
        serde_json::to_value(output).map_err(|error| HandlerError::Output(error.to_string()))
    }
}

/// Says which way a value goes.
pub(crate) type Router = Arc<dyn Fn(Value) -> Result<&'static str, String> + Send + Sync>;

/// A part of a graph.
#[derive(Clone)]
pub(crate) enum Node {
    /// A step of this program.
    Step { name: String, step: Arc<dyn Erased> },
    /// A task that any worker has.
    Task { name: String, task: String, queue: Option<String> },
    /// One after the other.
    Sequence(Vec<Node>),
    /// Side by side; the output is the list of their outputs.
    Parallel(Vec<Node>),
    /// One of these, by what goes in.
    Branch { name: String, router: Router, ways: Vec<(&'static str, Node)> },
}

/// A graph of steps that turns an `I` into an `O`.
pub struct Flow<I, O> {
    pub(crate) node: Node,
    types: PhantomData<fn(I) -> O>,
}

impl<I, O> Flow<I, O> {
    fn new(node: Node) -> Self {
        Self { node, types: PhantomData }
    }

    /// One step.
    pub fn step<S: Step<Input = I, Output = O>>(step: S) -> Self {
        Self::new(Node::Step { name: S::NAME.to_owned(), step: Arc::new(step) })
    }

    /// A task by its name, which may live in another worker, a Python one too: `name` is the step's name. It is called with
    /// the input as its only argument.
    pub fn task(name: &str, task: &str) -> Self
    where
        I: Serialize,
        O: DeserializeOwned,
    {
        Self::new(Node::Task { name: name.to_owned(), task: task.to_owned(), queue: None })
    }

    /// The queue of a [`task`](Self::task).
    #[must_use]
    pub fn queue(mut self, name: &str) -> Self {
        if let Node::Task { queue, .. } = &mut self.node {
            *queue = Some(name.to_owned());
        }
        self
    }

    /// Another name for a step that occurs more than once.
    #[must_use]
    pub fn named(mut self, other: &str) -> Self {
        if let Node::Step { name, .. } | Node::Task { name, .. } = &mut self.node {
            *name = other.to_owned();
        }
        self
    }

    /// This, and then another with its output.
    #[must_use]
    pub fn then<P>(self, next: Flow<O, P>) -> Flow<I, P> {
        let parts = |node| match node {
            Node::Sequence(parts) => parts,
            one => vec![one],
        };
        let mut all = parts(self.node);
        all.extend(parts(next.node));
        Flow::new(Node::Sequence(all))
    }

    /// One of several ways, chosen by `router`, which gives the name of one of them.
    pub fn branch<R>(name: &str, router: R, ways: impl IntoIterator<Item = (&'static str, Self)>) -> Self
    where
        I: DeserializeOwned,
        R: Fn(&I) -> &'static str + Send + Sync + 'static,
    {
        let router: Router = Arc::new(move |input| {
            serde_json::from_value(input).map(|input: I| router(&input)).map_err(|error| error.to_string())
        });
        let ways = ways.into_iter().map(|(way, flow)| (way, flow.node)).collect();
        Self::new(Node::Branch { name: name.to_owned(), router, ways })
    }
}

impl<I, A, B> Flow<I, (A, B)> {
    /// Two at the same time, with the same input.
    pub fn both(a: Flow<I, A>, b: Flow<I, B>) -> Self {
        Self::new(Node::Parallel(vec![a.node, b.node]))
    }
}

impl<I, A, B, C> Flow<I, (A, B, C)> {
    /// Three at the same time, with the same input.
    pub fn three(a: Flow<I, A>, b: Flow<I, B>, c: Flow<I, C>) -> Self {
        Self::new(Node::Parallel(vec![a.node, b.node, c.node]))
    }
}

impl<I, O> Flow<I, Vec<O>> {
    /// Any number at the same time, with the same input.
    pub fn all(flows: Vec<Flow<I, O>>) -> Self {
        Self::new(Node::Parallel(flows.into_iter().map(|flow| flow.node).collect()))
    }
}
