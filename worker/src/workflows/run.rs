//! The tasks of workflows: steps, the choice of a way, the end, and what is done when one of them failed.
//!
//! All acknowledge late and may run twice: a step that is done gives the output that is stored.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::BoxFuture;
use petiole_engine::{Context, Fault, Task, TaskOptions};
use petiole_protocol::{Map, TaskException};
use petiole_storage::{Storage, StorageError};
use serde_json::{Value, json};
use uuid::Uuid;

use super::canvas::{BEGIN, END, FAILED, FINISH, Plan, ROUTE};
use super::flow::Erased;
use crate::retry::{MAX_RETRIES, retry};
use crate::services::{self, Services};

/// All tasks that these workflows need.
pub(crate) fn tasks(plans: &'static BTreeMap<&'static str, Plan>) -> Vec<WorkflowTask> {
    let mut steps = BTreeMap::new();
    plans.values().for_each(|plan| plan.collect(&mut steps));
    let mut tasks = vec![
        WorkflowTask::new(ROUTE, move |call| route(plans, call)),
        WorkflowTask::new(FINISH, finish),
        WorkflowTask::new(BEGIN, begin),
        WorkflowTask::new(END, end),
        WorkflowTask::new(FAILED, failed),
    ];
    for ((name, _), step) in steps {
        tasks.push(WorkflowTask::new(&name, move |call| run_step(step.clone(), call)));
    }
    tasks
}

/// A task of a workflow.
pub(crate) struct WorkflowTask {
    name: String,
    work: Box<dyn Fn(Call) -> BoxFuture<'static, Result<Value, Fault>> + Send + Sync>,
}

impl WorkflowTask {
    fn new<F, R>(name: &str, work: F) -> Self
    where
        F: Fn(Call) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Value, Fault>> + Send + 'static,
    {
        Self { name: name.to_owned(), work: Box::new(move |call| Box::pin(work(call))) }
    }
}

#[async_trait]
impl Task for WorkflowTask {
    fn name(&self) -> &str {
        &self.name
    }

    fn options(&self) -> TaskOptions {
        TaskOptions { acks_late: Some(true), max_retries: Some(Some(MAX_RETRIES)), ..TaskOptions::default() }
    }

    async fn run(&self, args: Vec<Value>, kwargs: Map, context: Context) -> Result<Value, Fault> {
        (self.work)(Call::read(args, &kwargs, context)?).await
    }
}

/// What such a task is called with.
struct Call {
    input: Value,
    event_id: Uuid,
    step: Option<String>,
    workflow: Option<String>,
    context: Context,
}

impl Call {
    fn read(args: Vec<Value>, kwargs: &Map, context: Context) -> Result<Self, Fault> {
        let text = |name: &str| kwargs.get(name).and_then(Value::as_str).map(str::to_owned);
        let event_id = text("event_id").and_then(|id| Uuid::parse_str(&id).ok());
        let event_id = event_id.ok_or_else(|| Fault::type_error("event_id: a UUID is wanted"))?;
        let input = args.into_iter().next().unwrap_or(Value::Null);
        Ok(Self { input, event_id, step: text("step"), workflow: text("workflow"), context })
    }

    fn step(&self) -> Result<&str, Fault> {
        self.step.as_deref().ok_or_else(|| Fault::type_error("step: the step's name is wanted"))
    }

    /// What may pass is tried again; what may not fails the step and the event.
    async fn fail(&self, storage: Option<&Storage>, reason: String, may_pass: bool) -> Fault {
        let retries = self.context.message().retries;
        let again = may_pass && retries < MAX_RETRIES;
        if let Some(storage) = storage
            && let Err(error) = note_failure(storage, self.event_id, self.step.as_deref(), &reason, !again).await
        {
            // when there is no hope, the errback notes it
            tracing::warn!(event_id = %self.event_id, step = self.step, reason, %error, "the failure of a step cannot be recorded");
        }
        if again { retry(retries, reason) } else { TaskException::builtin("RuntimeError", reason).into() }
    }

    async fn storage(&self) -> Result<&'static Storage, Fault> {
        match services::storage().await {
            Ok(storage) => Ok(storage),
            Err(error) => Err(self.fail(None, error.to_string(), true).await),
        }
    }

    async fn stored<T>(&self, done: Result<T, StorageError>) -> Result<T, Fault> {
        match done {
            Ok(value) => Ok(value),
            Err(error) => {
                let may_pass = matches!(error, StorageError::Unavailable(_) | StorageError::Conflict(_));
                Err(self.fail(services::storage().await.ok(), error.to_string(), may_pass).await)
            }
        }
    }
}

/// Notes with a step, and with its event when there is no hope, why it failed.
async fn note_failure(
    storage: &Storage,
    event_id: Uuid,
    step: Option<&str>,
    reason: &str,
    for_good: bool,
) -> Result<(), StorageError> {
    if let Some(step) = step {
        storage.fail_event_step(event_id, step, reason, for_good).await?;
    }
    if for_good {
        let reason = step.map_or_else(|| reason.to_owned(), |step| format!("step {step}: {reason}"));
        // the first failure is the event's; a late one changes nothing
        storage.fail(event_id, &reason).await?;
    }
    Ok(())
}

async fn run_step(step: Arc<dyn Erased>, call: Call) -> Result<Value, Fault> {
    let name = call.step()?;
    let storage = call.storage().await?;
    let begun = storage.begin_event_step(call.event_id, name, call.context.task_id(), call.input.clone()).await;
    if let Some(output) = call.stored(begun).await? {
        return Ok(output);
    }
    let services: Services = match services::shared().await {
        Ok(services) => services,
        Err(error) => return Err(call.fail(Some(storage), error.to_string(), false).await),
    };
    match step.run(&services, call.input.clone()).await {
        Ok(output) => {
            call.stored(storage.end_event_step(call.event_id, name, output.clone()).await).await?;
            Ok(output)
        }
        Err(error) => Err(call.fail(Some(storage), error.to_string(), error.is_transient()).await),
    }
}

async fn route(plans: &'static BTreeMap<&'static str, Plan>, call: Call) -> Result<Value, Fault> {
    let name = call.step()?;
    let storage = call.storage().await?;
    let begun = storage.begin_event_step(call.event_id, name, call.context.task_id(), call.input.clone()).await;
    call.stored(begun).await?;
    let way = call
        .workflow
        .as_deref()
        .and_then(|kind| plans.get(kind))
        .ok_or_else(|| format!("there is no workflow {:?}", call.workflow))
        .and_then(|plan| plan.route(call.event_id, name, &call.input));
    let way = match way {
        Ok(way) => way,
        Err(reason) => return Err(call.fail(Some(storage), reason, false).await),
    };
    call.stored(storage.skip_event_steps(call.event_id, &way.skipped).await).await?;
    call.stored(storage.end_event_step(call.event_id, name, json!(way.chosen)).await).await?;
    Err(call.context.replace(way.signature).await)
}

async fn finish(call: Call) -> Result<Value, Fault> {
    let storage = call.storage().await?;
    call.stored(storage.succeed(call.event_id, call.input.clone()).await).await?;
    tracing::info!(event_id = %call.event_id, "workflow succeeded");
    Ok(call.input)
}

async fn begin(call: Call) -> Result<Value, Fault> {
    let storage = call.storage().await?;
    let name = call.step()?;
    let begun = storage.begin_event_step(call.event_id, name, call.context.task_id(), call.input.clone()).await;
    call.stored(begun).await?;
    Ok(call.input)
}

async fn end(call: Call) -> Result<Value, Fault> {
    let storage = call.storage().await?;
    let name = call.step()?;
    call.stored(storage.end_event_step(call.event_id, name, call.input.clone()).await).await?;
    Ok(call.input)
}

/// The input is the id of the task that failed.
async fn failed(call: Call) -> Result<Value, Fault> {
    let storage = call.storage().await?;
    let task_id = call.input.as_str().unwrap_or_default();
    let stored = match services::backend() {
        Ok(backend) => backend.get(task_id).await.ok().flatten(),
        Err(_) => None,
    };
    let reason = stored
        .as_ref()
        .and_then(|meta| meta.exception())
        .map(|exception| format!("{}: {}", exception.exc_type, exception.message()));
    let reason = reason.unwrap_or_else(|| format!("task {task_id} failed"));
    let noted = note_failure(storage, call.event_id, call.step.as_deref(), &reason, true).await;
    call.stored(noted).await?;
    Ok(Value::Null)
}
