//! What a running task can do (celery.app.task: Task.request, update_state, send_event, replace, add_to_chord).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use petiole_client::{ClientError, Handle};
use petiole_protocol::{Map, Signature, State, TaskException, TaskMessage};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::request::Request;
use crate::state::{Locked, lock};
use crate::task::{Failure, Fault};
use crate::worker::{Parent, Worker};

tokio::task_local! {
    static CONTEXT: Context;
}

/// The running task's context; none outside of a task.
pub fn context() -> Option<Context> {
    CONTEXT.try_with(Clone::clone).ok()
}

/// Makes an error for a `#[celery::task]` function that a Python caller gets as this exception.
///
/// ```
/// # use petiole_protocol::TaskException;
/// fn check(age: i64) -> celery::task::TaskResult<i64> {
///     if age < 0 {
///         return Err(petiole_engine::raise(TaskException::builtin("ValueError", "age must not be negative")));
///     }
///     Ok(age)
/// }
/// assert!(check(-1).is_err_and(|error| error.to_string().contains("age must not be negative")));
/// ```
pub fn raise(exception: TaskException) -> celery::error::TaskError {
    let text = exception.message();
    if let Some(context) = context() {
        *lock(&context.inner.raised) = Some(exception);
    }
    celery::error::TaskError::UnexpectedError(text)
}

/// A running task's request and what it can do. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    inner: Arc<Inner>,
}

struct Inner {
    worker: Arc<Worker>,
    request: Arc<Request>,
    children: Locked<Vec<Value>>,
    raised: Locked<Option<TaskException>>,
    soft_limit: CancellationToken,
    soft_limit_awaited: AtomicBool,
}

impl Context {
    pub(crate) fn new(worker: Arc<Worker>, request: Arc<Request>) -> Self {
        let inner = Inner {
            worker,
            request,
            children: Locked::default(),
            raised: Locked::default(),
            soft_limit: CancellationToken::new(),
            soft_limit_awaited: AtomicBool::new(false),
        };
        Self { inner: Arc::new(inner) }
    }

    pub(crate) async fn scope<F: Future>(self, task: F) -> F::Output {
        CONTEXT.scope(self, task).await
    }

    /// The message: id, root, parent, group, headers, arguments, retries, …
    pub fn message(&self) -> &TaskMessage {
        &self.inner.request.message
    }

    /// The task's id.
    pub fn task_id(&self) -> &str {
        self.inner.request.id()
    }

    /// The queue the message came from.
    pub fn queue(&self) -> &str {
        &self.inner.request.delivery.queue
    }

    /// The worker's node name.
    pub fn hostname(&self) -> &str {
        &self.inner.worker.node
    }

    /// Stores a state of the application's own, such as `PROGRESS`, with its meta.
    pub async fn update_state(&self, state: &str, meta: Value) {
        let (worker, request) = (&self.inner.worker, &self.inner.request);
        let meta = crate::outcome::meta(worker, request, &State::from(state), meta, None, self.children());
        worker.store(&meta).await;
    }

    /// Sends an event of the application's own, such as `task-progress`.
    pub fn send_event(&self, kind: &str, mut fields: Map) {
        fields.insert("uuid".into(), self.task_id().into());
        self.inner.worker.task_event(&self.inner.request, kind, Value::Object(fields));
    }

    /// Calls a signature; this task is its parent.
    ///
    /// # Errors
    /// A signature that cannot be sent.
    pub async fn apply(&self, signature: Signature) -> Result<Handle, ClientError> {
        let (worker, message) = (&self.inner.worker, self.message());
        let plan = worker.plan(&Parent::of(message), signature, &[], Map::new())?;
        worker.execute(&plan).await?;
        lock(&self.inner.children).push(plan.handle.tuple());
        Ok(plan.handle)
    }

    /// Puts another signature in this task's place: it takes over its id, group, chord, chain and callbacks. Return what
    /// it gives: `return Err(context.replace(signature).await)`.
    pub async fn replace(&self, signature: Signature) -> Fault {
        match crate::canvas::replace(&self.inner.worker, self.message(), signature).await {
            Ok(handle) => {
                lock(&self.inner.children).push(handle.tuple());
                Fault::Ignore
            }
            Err(fault) => fault,
        }
    }

    /// Adds a task to the chord whose header this one is a member of.
    ///
    /// # Errors
    /// This task is in no chord, or the signature cannot be sent.
    pub async fn add_to_chord(&self, signature: Signature) -> Result<Handle, Fault> {
        crate::canvas::add_to_chord(&self.inner.worker, self.message(), signature).await
    }

    /// The process of an isolated task was lost: a failure, or back to the queue where that is wished and can be.
    pub(crate) fn lost(&self, exception: TaskException) -> Fault {
        let (worker, request) = (&self.inner.worker, &self.inner.request);
        if request.acks_late && worker.config.reject_on_worker_lost {
            return Fault::Reject { reason: exception.message().into(), requeue: true };
        }
        exception.into()
    }

    /// Waits for the soft time limit. A task that waits for it is not ended by it, and may clean up until the hard one.
    pub async fn soft_time_limit(&self) {
        self.inner.soft_limit_awaited.store(true, Ordering::Relaxed);
        self.inner.soft_limit.cancelled().await;
    }

    /// The soft limit strikes. True: the task takes care of it.
    pub(crate) fn strike_soft_limit(&self) -> bool {
        self.inner.soft_limit.cancel();
        self.inner.soft_limit_awaited.load(Ordering::Relaxed)
    }

    /// Another task of this worker, to be run within this one.
    pub(crate) fn task(&self, name: &str) -> Option<Arc<dyn crate::task::Task>> {
        self.inner.worker.tasks.get(name).cloned()
    }

    /// Result tuples of what the task sent so far.
    pub(crate) fn children(&self) -> Vec<Value> {
        lock(&self.inner.children).clone()
    }

    pub(crate) fn add_child(&self, tuple: Value) {
        lock(&self.inner.children).push(tuple);
    }

    /// What [`raise`] left for this error, or an exception for its plain text. A task may have dropped an error that it
    /// raised, and failed with another.
    pub(crate) fn take_raised(&self, otherwise: TaskException) -> Failure {
        let raised = lock(&self.inner.raised).take().filter(|raised| raised.message() == otherwise.message());
        Failure { exception: raised.unwrap_or(otherwise), trail: vec![] }
    }
}
