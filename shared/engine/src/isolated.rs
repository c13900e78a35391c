//! Tasks that run in a child process of the same program (celery.concurrency.prefork, billiard).
//!
//! What cannot be dropped (native code, endless loops) or may crash is declared `isolated`. The child gets the message over
//! a socket that is its standard input, runs the one task, and answers over the same socket. A time limit or `terminate`
//! kills it; when it dies by itself the task fails with `WorkerLostError`. The worker is not harmed by any of it.
//!
//! The child starts as the worker does, with its arguments and settings, up to [`App::run`](crate::App::run). It talks to
//! Redis by itself: a state, an event, or a task that is sent goes straight there.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures::FutureExt;
use petiole_protocol::serializer::from_json;
use petiole_protocol::{Envelope, Map, TaskException, TaskMessage};
use petiole_settings::trace_context;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tracing::{debug, warn};

use crate::context::Context;
use crate::request::Request;
use crate::settling::Unsettled;
use crate::task::{Failure, Fault, Retry, RetryAt, Task, TaskOptions};
use crate::worker::Worker;

/// Tells a child that it is one.
const CHILD: &str = "PETIOLE_ISOLATED_CHILD";
/// What the parent says when the soft time limit strikes.
const SOFT_LIMIT: &str = "soft time limit";

/// How long a child waits at its end for Redis.
const LAST_WORDS: Duration = Duration::from_secs(2);

static JOBS: AtomicU64 = AtomicU64::new(0);

/// Is this process a child, started for one task? Programs may leave out then what only a worker needs.
pub fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// A task that runs in a process of its own.
pub(crate) struct Isolated(pub(crate) Arc<dyn Task>);

#[async_trait]
impl Task for Isolated {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn options(&self) -> TaskOptions {
        self.0.options()
    }

    fn arity(&self) -> Option<usize> {
        self.0.arity()
    }

    async fn run(&self, args: Vec<Value>, kwargs: Map, context: Context) -> Result<Value, Fault> {
        if is_child() {
            return self.0.run(args, kwargs, context).await;
        }
        match run_child(&context).await {
            Ok(answer) => {
                answer.children.into_iter().for_each(|tuple| context.add_child(tuple));
                answer.end.into_result()
            }
            Err(lost) => Err(context.lost(lost)),
        }
    }
}

/// Starts a child, and waits for its answer or its end.
async fn run_child(context: &Context) -> Result<Answer, TaskException> {
    let job = JOBS.fetch_add(1, Ordering::Relaxed) + 1;
    let cannot = |error: std::io::Error| lost(format!("Worker could not be started: {error} Job: {job}."));
    let (ours, theirs) = UnixStream::pair().map_err(cannot)?;
    let theirs: OwnedFd =
        theirs.into_std().and_then(|socket| socket.set_nonblocking(false).map(|()| socket)).map_err(cannot)?.into();
    let program = std::env::current_exe().map_err(cannot)?;
    let mut child = Command::new(program)
        .args(std::env::args_os().skip(1))
        .env(CHILD, "1")
        .stdin(Stdio::from(theirs))
        // A signal to the worker's group, such as Ctrl-C, is not meant for a task that may finish.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(cannot)?;
    debug!(task_id = context.task_id(), pid = child.id(), "an isolated task has its process");
    let (from, mut to) = ours.into_split();
    let mut lines = BufReader::new(from).lines();
    let mut message = context.message().clone();
    // What the child does is a part of this run.
    message.custom.extend(trace_context::headers().into_iter().map(|(name, value)| (name.to_owned(), value.into())));
    let message = message.encode(String::from("isolated")).to_text();
    // A child that dies at once does not read it: its end tells.
    let _ = to.write_all(format!("{message}\n").as_bytes()).await;
    let line = tokio::select! {
        line = lines.next_line() => line,
        () = context.soft_time_limit() => {
            let _ = to.write_all(format!("{SOFT_LIMIT}\n").as_bytes()).await;
            lines.next_line().await
        }
    };
    if let Ok(Some(line)) = line
        && let Some(answer) = from_json(line.as_bytes()).ok().and_then(|value| serde_json::from_value(value).ok())
    {
        return Ok(answer);
    }
    Err(lost(format!("Worker exited prematurely: {} Job: {job}.", how_it_ended(&mut child).await)))
}

fn lost(message: String) -> TaskException {
    TaskException::billiard("WorkerLostError", vec![message.into()])
}

async fn how_it_ended(child: &mut Child) -> String {
    // It closed its socket without an answer: if it lives, it is of no use.
    let grace = tokio::time::timeout(Duration::from_secs(1), child.wait()).await;
    let status = match grace {
        Ok(status) => status,
        Err(_) => {
            let _ = child.start_kill();
            child.wait().await
        }
    };
    match status {
        Ok(status) => match (status.signal(), status.code()) {
            (Some(signal), _) => format!("signal {signal} ({})", crate::control::signal_name(signal)),
            (None, code) => format!("exitcode {}", code.unwrap_or(-1)),
        },
        Err(error) => error.to_string(),
    }
}

/// What a child answers.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    end: End,
    /// Result tuples of what the task sent.
    children: Vec<Value>,
}

/// How a task ended, as it goes over the socket.
#[derive(Debug, Serialize, Deserialize)]
enum End {
    Value(Value),
    Error(Raised),
    Retry {
        exception: Option<Raised>,
        in_seconds: Option<f64>,
        at: Option<DateTime<Utc>>,
        max_retries: Limit,
        args: Option<Vec<Value>>,
        kwargs: Option<Map>,
    },
    Ignore,
    Reject {
        reason: Value,
        requeue: bool,
    },
}

#[derive(Debug, Serialize, Deserialize)]
struct Raised {
    exception: TaskException,
    trail: Vec<String>,
}

/// How often a task may be retried.
#[derive(Debug, Serialize, Deserialize)]
enum Limit {
    AsDeclared,
    Endless,
    Times(u32),
}

impl From<Failure> for Raised {
    fn from(failure: Failure) -> Self {
        Self { exception: failure.exception, trail: failure.trail }
    }
}

impl From<Raised> for Failure {
    fn from(raised: Raised) -> Self {
        Self { exception: raised.exception, trail: raised.trail }
    }
}

impl From<Result<Value, Fault>> for End {
    fn from(result: Result<Value, Fault>) -> Self {
        match result {
            Ok(value) => Self::Value(value),
            Err(Fault::Error(failure)) => Self::Error(failure.into()),
            Err(Fault::Ignore) => Self::Ignore,
            Err(Fault::Reject { reason, requeue }) => Self::Reject { reason, requeue },
            Err(Fault::Retry(retry)) => {
                let (in_seconds, at) = match retry.when {
                    Some(RetryAt::In(seconds)) => (Some(seconds), None),
                    Some(RetryAt::At(at)) => (None, Some(at)),
                    None => (None, None),
                };
                let max_retries = match retry.max_retries {
                    None => Limit::AsDeclared,
                    Some(None) => Limit::Endless,
                    Some(Some(times)) => Limit::Times(times),
                };
                let exception = retry.exception.map(Raised::from);
                Self::Retry { exception, in_seconds, at, max_retries, args: retry.args, kwargs: retry.kwargs }
            }
        }
    }
}

impl End {
    fn into_result(self) -> Result<Value, Fault> {
        match self {
            Self::Value(value) => Ok(value),
            Self::Error(raised) => Err(Fault::Error(raised.into())),
            Self::Ignore => Err(Fault::Ignore),
            Self::Reject { reason, requeue } => Err(Fault::Reject { reason, requeue }),
            Self::Retry { exception, in_seconds, at, max_retries, args, kwargs } => {
                let max_retries = match max_retries {
                    Limit::AsDeclared => None,
                    Limit::Endless => Some(None),
                    Limit::Times(times) => Some(Some(times)),
                };
                let when = at.map(RetryAt::At).or(in_seconds.map(RetryAt::In));
                let exception = exception.map(Failure::from);
                Err(Fault::Retry(Box::new(Retry { exception, when, max_retries, args, kwargs })))
            }
        }
    }
}

/// The child's side: runs the one task that comes over standard input.
///
/// # Errors
/// Standard input is no socket, or nothing comes over it.
pub(crate) async fn serve(worker: Arc<Worker>, unsettled: Unsettled) -> std::io::Result<()> {
    // It settles what the task stores and sends, and without queues fetches nothing.
    worker.change_queues(Vec::clear);
    tokio::spawn(crate::consumer::consume(worker.clone(), unsettled));
    let socket = std::os::unix::net::UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    socket.set_nonblocking(true)?;
    let (from, mut to) = UnixStream::from_std(socket)?.into_split();
    let mut lines = BufReader::new(from).lines();
    let bad = |why: String| std::io::Error::new(std::io::ErrorKind::InvalidData, why);
    let text = lines.next_line().await?.ok_or_else(|| bad("no task came".to_owned()))?;
    let envelope = Envelope::parse(text.as_bytes()).map_err(|error| bad(error.to_string()))?;
    let message = TaskMessage::decode(&envelope, &["json".to_owned()]).map_err(|error| bad(error.to_string()))?;
    let task = worker.tasks.get(&message.task).cloned().ok_or_else(|| bad(format!("{:?} is no task", message.task)))?;
    let (args, kwargs) = (message.args.clone(), message.kwargs.clone());
    let name = message.task.clone();
    let mut request = Request::in_process(message, task.clone());
    request.delivery.queue = request.message.properties.routing_key.clone();
    let context = Context::new(worker.clone(), Arc::new(request));
    // On a thread of its own: a task that never waits must not keep the runtime's threads from hearing the parent.
    let (own, runtime) = (context.clone(), tokio::runtime::Handle::current());
    let (done, mut run) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let run = own.clone().scope(task.run(args, kwargs, own));
        let _ = done.send(runtime.block_on(std::panic::AssertUnwindSafe(run).catch_unwind()));
    });
    let result = loop {
        tokio::select! {
            result = &mut run => break match result {
                Ok(Ok(result)) => result,
                Ok(Err(panic)) => Err(Fault::Error(crate::trace::panicked(&name, panic.as_ref()))),
                Err(_) => Err(TaskException::builtin("RuntimeError", "the task's thread is gone").into()),
            },
            line = lines.next_line() => match line {
                Ok(Some(line)) if line == SOFT_LIMIT => {
                    if !context.strike_soft_limit() {
                        break Err(TaskException::billiard("SoftTimeLimitExceeded", vec![]).into());
                    }
                }
                Ok(Some(_)) => {}
                // The worker is gone: nobody waits for the answer.
                Ok(None) | Err(_) => return Ok(()),
            },
        }
    };
    // What was only put in line goes out before the process does.
    let _ = tokio::time::timeout(LAST_WORDS, worker.write(vec![])).await;
    worker.events.flush(LAST_WORDS).await;
    let answer = Answer { end: result.into(), children: context.children() };
    match serde_json::to_string(&answer) {
        Ok(text) => to.write_all(format!("{text}\n").as_bytes()).await,
        Err(error) => {
            warn!("the answer of an isolated task cannot be written: {error}");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use serde_json::json;

    fn across(result: Result<Value, Fault>) -> Result<Value, Fault> {
        let text = serde_json::to_string(&Answer { end: result.into(), children: vec![] }).unwrap();
        let answer: Answer = serde_json::from_value(from_json(text.as_bytes()).unwrap()).unwrap();
        answer.end.into_result()
    }

    #[test]
    fn every_end_goes_over_the_socket() {
        assert_eq!(across(Ok(json!({"a": [1, null]}))).unwrap(), json!({"a": [1, null]}));
        let retry = Retry {
            when: Some(RetryAt::In(1.5)),
            max_retries: Some(None),
            args: Some(vec![json!(1)]),
            ..Retry::default()
        };
        match across(Err(Fault::Retry(Box::new(retry)))) {
            Err(Fault::Retry(retry)) => {
                assert!(matches!(retry.when, Some(RetryAt::In(seconds)) if seconds == 1.5));
                assert_eq!((retry.max_retries, retry.args), (Some(None), Some(vec![json!(1)])));
            }
            other => panic!("{other:?}"),
        }
        match across(Err(TaskException::builtin("ValueError", "no\nline").into())) {
            Err(Fault::Error(failure)) => assert_eq!(failure.exception.last_line(), "ValueError: no\nline"),
            other => panic!("{other:?}"),
        }
        assert!(matches!(across(Err(Fault::Ignore)), Err(Fault::Ignore)));
        assert!(matches!(
            across(Err(Fault::Reject { reason: json!("r"), requeue: true })),
            Err(Fault::Reject { requeue: true, .. })
        ));
    }
}
