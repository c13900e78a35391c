//! Running a task and classifying how it ended (celery.app.trace).

use std::cell::RefCell;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use chrono::Utc;
use futures::FutureExt;
use petiole_protocol::{Map, State, TaskException, time};
use petiole_settings::trace_context::{self, Part};
use serde_json::{Value, json};
use tracing::Instrument;
use tracing::field::Empty;

use crate::context::Context;
use crate::pace::{Pace, Turn};
use crate::request::{Cancel, Request};
use crate::task::{Failure, Fault};
use crate::worker::Worker;

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// How a run ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// With a value.
    Value(Value),
    /// Otherwise, by the task's own doing.
    Fault(Fault),
    /// The hard time limit, in seconds.
    HardLimit(f64),
    /// From outside.
    Cancelled(Cancel),
}

/// Remembers where panics happen, so that the failure can tell.
pub(crate) fn watch_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if crate::context().is_none() {
            return before(info);
        }
        let place = info.location().map(|at| format!("File \"{}\", line {}", at.file(), at.line()));
        PANIC.with(|last| *last.borrow_mut() = place);
    }));
}

/// Starts a request, or lets it wait for its rate limit and a slot. A quick task runs at once, when the caller is the consumer
/// and has a turn for it.
pub(crate) fn submit(worker: &Arc<Worker>, request: Arc<Request>, turn: Option<&Turn>) {
    let wait = if worker.config.disable_rate_limits { None } else { worker.rate_limits.wait(&request.message.task) };
    match wait {
        None => enter(worker, request, turn),
        Some(wait) => {
            let worker = worker.clone();
            tokio::spawn(async move {
                tokio::select! {
                    () = tokio::time::sleep(wait) => enter(&worker, request, None),
                    // It goes back to its queue with all that have not begun.
                    () = worker.shutdown.wait_warm() => {}
                }
            });
        }
    }
}

fn enter(worker: &Arc<Worker>, request: Arc<Request>, turn: Option<&Turn>) {
    match (worker.pool.enter(request), &worker.autoscale) {
        (Some(request), _) => start(worker, request, turn),
        (None, Some(autoscale)) => autoscale.grow(worker),
        (None, None) => {}
    }
}

/// Starts requests that have a slot.
pub(crate) fn start_all(worker: &Arc<Worker>, requests: Vec<Arc<Request>>) {
    requests.into_iter().for_each(|request| start(worker, request, None));
}

/// Runs a request, and in its slot those that wait in line.
fn start(worker: &Arc<Worker>, request: Arc<Request>, turn: Option<&Turn>) {
    let mut next = Some(request);
    // The slot goes from one to the next without being free in between.
    while let Some(request) = next {
        let quick = worker.paces.of(&request.message.task).is_some_and(Pace::is_quick);
        let mut run = Box::pin(run_in_slot(worker.clone(), request));
        if !quick || turn.is_none_or(Turn::is_over) || !ends_at_once(&mut run) {
            tokio::spawn(run_line(worker.clone(), run));
            return;
        }
        next = worker.pool.leave();
    }
}

/// A run, and what follows from it.
type Run = Pin<Box<dyn Future<Output = ()> + Send>>;

fn run_in_slot(worker: Arc<Worker>, request: Arc<Request>) -> impl Future<Output = ()> + Send {
    let (span, carried) = (span_of(&request), carried_by(&request));
    let run = async move {
        execute(&worker, &request).await;
        worker.ended(&request);
    };
    petiole_client::carrying(carried, run).instrument(span)
}

/// Does a run end in one step? Otherwise it is to be spawned: then it is looked at again, and woken by what it waits for.
fn ends_at_once(run: &mut (impl Future<Output = ()> + Unpin)) -> bool {
    let mut run = std::pin::pin!(tokio::task::unconstrained(run));
    let step = || run.as_mut().poll(&mut std::task::Context::from_waker(Waker::noop()));
    // A panic of the engine's own must not end the consumer; the task's are caught before.
    std::panic::catch_unwind(AssertUnwindSafe(step)).is_ok_and(|step| step.is_ready())
}

/// Goes on with a run, and then in its slot with those that wait in line.
async fn run_line(worker: Arc<Worker>, run: Run) {
    run.await;
    // At shutdown the line has been cleared: nobody is next.
    while let Some(request) = worker.pool.leave() {
        run_in_slot(worker.clone(), request).await;
    }
}

/// The id of the HTTP request, or whatever else began it, that all tasks after it have, too.
const REQUEST_ID: &str = "request_id";

/// What the log lines and the trace of a run have in common.
fn span_of(request: &Request) -> tracing::Span {
    let message = &request.message;
    let header = |name: &str| message.custom.get(name).and_then(Value::as_str);
    let span = tracing::info_span!(
        "task",
        task_id = request.id(),
        task_name = message.task,
        request_id = header(REQUEST_ID),
        trace_id = Empty,
        otel.name = Empty,
        otel.kind = Empty,
    );
    // OpenTelemetry's name for it in Python's Celery
    let name = || format!("run/{}", message.task);
    trace_context::begin(&span, Part::Consumer, name, |name| header(name).map(str::to_owned));
    span
}

/// The headers of a request that go on with the messages that it sends.
pub(crate) fn carried_by(request: &Request) -> Map {
    let id = request.message.custom.get(REQUEST_ID);
    id.map(|id| (REQUEST_ID.to_owned(), id.clone())).into_iter().collect()
}

async fn execute(worker: &Arc<Worker>, request: &Arc<Request>) {
    if request.is_settled() {
        return;
    }
    // Much may have happened while it waited.
    if worker.state.is_revoked(request) || request.is_expired(worker.timer.now()) {
        return crate::outcome::revoked(worker, request).await;
    }
    let (began, since) = (Instant::now(), time::epoch(Utc::now()));
    // A shutdown may just have given it back.
    if !request.begin(since) {
        return;
    }
    if request.acks_late && request.message.redelivered {
        if worker.config.deduplicate && crate::redelivery::has_succeeded_before(worker, request).await {
            return;
        }
        if crate::redelivery::has_killed_workers(worker, request).await {
            return;
        }
    }
    if !request.acks_late {
        // Before the run. What the task ends with comes after it on the same way, so that it need not be confirmed; but while
        // Redis is away it cannot be sent, and a run that nobody knows of would come again.
        if worker.config.acks_confirmed || !worker.settling.is_connected() {
            worker.settle_and_hear(request, vec![]).await;
        } else {
            worker.acknowledge(request);
        }
    }
    if worker.wants_event(request) {
        worker.task_event(request, "task-started", json!({"uuid": request.id()}));
    } else {
        worker.count(request, "task-started");
    }
    let track = request.task.options().track_started.unwrap_or(worker.config.track_started);
    if track && worker.stores_result(request) {
        let meta = json!({"pid": std::process::id(), "hostname": worker.node});
        let started = crate::outcome::meta(worker, request, &State::Started, meta, None, vec![]);
        worker.begins(request, vec![worker.result(&started)]);
    }
    let context = Context::new(worker.clone(), request.clone());
    let ended = run(worker, request, &context).await;
    crate::outcome::conclude(worker, request, &context, ended, began.elapsed().as_secs_f64()).await;
}

/// Runs the task to its end, its limits, or its cancellation.
async fn run(worker: &Arc<Worker>, request: &Arc<Request>, context: &Context) -> Ended {
    let (soft, hard) = limits(worker, request);
    let message = &request.message;
    let task = request.task.run(message.args.clone(), message.kwargs.clone(), context.clone());
    let mut task = std::pin::pin!(AssertUnwindSafe(context.clone().scope(task)).catch_unwind());
    let mut pace = worker.paces.of(&message.task);
    let mut task = std::future::poll_fn(|step| {
        let Some(pace) = pace.take() else { return task.as_mut().poll(step) };
        let began = Instant::now();
        let polled = task.as_mut().poll(step);
        pace.record(began.elapsed(), polled.is_ready());
        polled
    });
    let never = Duration::from_secs(u32::MAX.into());
    let mut soft_limit = std::pin::pin!(tokio::time::sleep(soft.unwrap_or(never)));
    let mut hard_limit = std::pin::pin!(tokio::time::sleep(hard.unwrap_or(never)));
    let mut struck = false;
    loop {
        tokio::select! {
            biased;
            ended = &mut task => {
                return match ended {
                    Ok(Ok(value)) => Ended::Value(value),
                    Ok(Err(fault)) => Ended::Fault(fault),
                    Err(panic) => Ended::Fault(Fault::Error(panicked(&request.message.task, panic.as_ref()))),
                };
            }
            () = request.cancel.cancelled() => {
                return Ended::Cancelled(request.cancel_cause().unwrap_or(Cancel::Shutdown));
            }
            () = &mut hard_limit, if hard.is_some() => {
                return Ended::HardLimit(hard.unwrap_or_default().as_secs_f64());
            }
            () = &mut soft_limit, if soft.is_some() && !struck => {
                struck = true;
                if !context.strike_soft_limit() {
                    return Ended::Fault(TaskException::billiard("SoftTimeLimitExceeded", vec![]).into());
                }
            }
        }
    }
}

/// Soft and hard limit: the message's, else the task's, else the worker's.
fn limits(worker: &Worker, request: &Request) -> (Option<Duration>, Option<Duration>) {
    let declared = worker.time_limits(request.task.as_ref());
    let seconds = |of_message: Option<f64>, of_task: Option<f64>, of_worker: Option<Duration>| {
        of_message.or(of_task).and_then(|s| Duration::try_from_secs_f64(s).ok()).or(of_worker).filter(|d| !d.is_zero())
    };
    let message = request.message.timelimit;
    (
        seconds(message.soft, declared.soft, worker.config.soft_time_limit),
        seconds(message.hard, declared.hard, worker.config.time_limit),
    )
}

/// The failure that a panic is.
pub(crate) fn panicked(task: &str, panic: &(dyn std::any::Any + Send)) -> Failure {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panicked".to_owned());
    let place = PANIC.with(|last| last.borrow_mut().take());
    let trail = place.map(|place| format!("{place}, in {task}")).into_iter().collect();
    Failure { exception: TaskException::builtin("RuntimeError", format!("panicked: {text}")), trail }
}
