//! What a task is (celery.app.task).

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use petiole_protocol::{Map, TaskException};
use serde_json::Value;

/// What a task declares. None: the worker's setting applies, and then Celery's default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TaskOptions {
    /// Acknowledge after the run instead of before (`task_acks_late`).
    pub acks_late: Option<bool>,
    /// With late acks: acknowledge also when it failed (`task_acks_on_failure_or_timeout`).
    pub acks_on_failure: Option<bool>,
    /// Store no result.
    pub ignore_result: Option<bool>,
    /// Store the state STARTED.
    pub track_started: Option<bool>,
    /// How often it may be retried; `Some(None)` is without end. Celery's default is 3.
    pub max_retries: Option<Option<u32>>,
    /// Seconds until a retry that says nothing else. Celery's default is 180.
    pub default_retry_delay: Option<f64>,
    /// Hard limit, seconds.
    pub time_limit: Option<f64>,
    /// Soft limit, seconds.
    pub soft_time_limit: Option<f64>,
    /// The queue its calls go to.
    pub queue: Option<String>,
    /// The priority of its calls.
    pub priority: Option<i64>,
    /// Seconds after which its calls expire.
    pub expires: Option<f64>,
    /// At most so many starts in a time: `10/s`, `10/m`, `10/h`. Per worker, evenly spaced.
    pub rate_limit: Option<String>,
    /// Run in a process of its own, which a time limit or `terminate` kills, and which may crash.
    pub isolated: bool,
    /// False: none of its events are sent.
    pub send_events: Option<bool>,
}

/// A run that does not end with a value.
#[derive(Debug, Clone)]
pub enum Fault {
    /// It failed.
    Error(Failure),
    /// It is to run again.
    Retry(Box<Retry>),
    /// No state is stored, nothing follows.
    Ignore,
    /// The message is refused: for good, or back to the queue.
    Reject {
        /// Why.
        reason: Value,
        /// Back to the queue, last in line.
        requeue: bool,
    },
}

/// An exception and where it came from.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The exception, as a Python caller gets it.
    pub exception: TaskException,
    /// Lines to stand in the traceback above the exception, the outermost first.
    pub trail: Vec<String>,
}

/// How a task is to run again.
#[derive(Debug, Clone, Default)]
pub struct Retry {
    /// The cause; stored with the state RETRY, and as the failure when there are no retries left.
    pub exception: Option<Failure>,
    /// When. None: after the task's default delay.
    pub when: Option<RetryAt>,
    /// Overrides the task's own; `Some(None)` is without end.
    pub max_retries: Option<Option<u32>>,
    /// New positional arguments.
    pub args: Option<Vec<Value>>,
    /// New keyword arguments.
    pub kwargs: Option<Map>,
}

/// When a retry is due.
#[derive(Debug, Clone, Copy)]
pub enum RetryAt {
    /// Seconds from now.
    In(f64),
    /// At a time.
    At(DateTime<Utc>),
}

impl Fault {
    /// A failure with an exception.
    pub fn exception(exception: TaskException) -> Self {
        Self::Error(Failure { exception, trail: vec![] })
    }

    /// Python's TypeError, for wrong arguments.
    pub fn type_error(message: impl Into<String>) -> Self {
        Self::exception(TaskException::builtin("TypeError", message))
    }
}

impl From<TaskException> for Fault {
    fn from(exception: TaskException) -> Self {
        Self::exception(exception)
    }
}

/// A task as the engine runs it. Functions with `#[celery::task]` come in by [`crate::rusty`]; implement this for tasks
/// that take `*args` or raw values.
#[async_trait]
pub trait Task: Send + Sync + 'static {
    /// The name under which it is called.
    fn name(&self) -> &str;

    /// What it declares.
    fn options(&self) -> TaskOptions {
        TaskOptions::default()
    }

    /// How many positional arguments it declares; `None`: any number. Tells new style errbacks, which take more than one
    /// (request, exception, traceback), from old style ones (the failed task's id).
    fn arity(&self) -> Option<usize> {
        Some(1)
    }

    /// Runs it. The same as [`crate::context()`] while it runs.
    async fn run(&self, args: Vec<Value>, kwargs: Map, context: crate::Context) -> Result<Value, Fault>;
}

/// A task made of an async function of its raw arguments. `arity` as in [`Task::arity`].
pub fn function<F, R>(name: String, options: TaskOptions, arity: Option<usize>, function: F) -> impl Task
where
    F: Fn(Vec<Value>, Map, crate::Context) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Value, Fault>> + Send + 'static,
{
    Function { name, options, arity, function }
}

struct Function<F> {
    name: String,
    options: TaskOptions,
    arity: Option<usize>,
    function: F,
}

#[async_trait]
impl<F, R> Task for Function<F>
where
    F: Fn(Vec<Value>, Map, crate::Context) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Value, Fault>> + Send + 'static,
{
    fn name(&self) -> &str {
        &self.name
    }

    fn options(&self) -> TaskOptions {
        self.options.clone()
    }

    fn arity(&self) -> Option<usize> {
        self.arity
    }

    async fn run(&self, args: Vec<Value>, kwargs: Map, context: crate::Context) -> Result<Value, Fault> {
        (self.function)(args, kwargs, context).await
    }
}
