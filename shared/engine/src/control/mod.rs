//! Remote control: requests come in by a channel, each command is one function (celery.worker.control, celery.worker.pidbox).

mod arguments;
mod conf;
mod custom;
mod inspect;
mod limits;
mod memory;
mod pool;
mod queues;
mod revoke;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use petiole_protocol::Map;
use petiole_protocol::pidbox::{self, Request};
use petiole_redis::RedisError;
use petiole_redis::fanout::{self, Heard};
use serde_json::{Value, json};
use tokio::time::Instant;
use tracing::{debug, error, warn};
use uuid::Uuid;

use crate::worker::Worker;
use arguments::type_error;
pub(crate) use arguments::{exception, signal_name};
pub(crate) use custom::Commands;
pub use custom::ControlState;
pub(crate) use queues::Exchange;

/// The version of Celery whose protocol this worker speaks; monitors show it.
pub(crate) const CELERY_VERSION: &str = "5.7.0";

/// How often it is looked whether the connection works, and how long its answer may take.
const LOOK: Duration = Duration::from_secs(5);

/// The exception that a command ends with, as Python would show it.
pub(crate) type Refusal = String;

/// Listens to requests, and with gossip to other workers, over all losses of connection.
pub(crate) async fn listen(worker: Arc<Worker>) {
    let mut pause = Duration::from_millis(50);
    loop {
        match connected(&worker, &mut pause).await {
            Ok(()) => warn!("pidbox: the connection has gone, connecting again"),
            Err(error) => warn!(%error, "pidbox: cannot listen, trying again in {pause:?}"),
        }
        tokio::time::sleep(pause.mul_f64(0.5 + rand::random::<f64>())).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

async fn connected(worker: &Arc<Worker>, pause: &mut Duration) -> Result<(), RedisError> {
    let channel = fanout::listen(&worker.connector, !worker.config.without_gossip).await?;
    let mailbox = mailbox(worker);
    worker.client.broker().bind_expiring(pidbox::EXCHANGE, "", "", &mailbox).await?;
    worker.events.emit("worker-online", crate::heartbeat::fields(worker));
    *pause = Duration::from_millis(50);
    let (mut sender, mut messages) = channel.split();
    let mut heard = Instant::now();
    let mut renew = tokio::time::interval(Duration::from_secs(1200));
    loop {
        let message = tokio::select! {
            message = messages.next() => message,
            // Half a connection says nothing, and would be listened to for ever. With gossip it says at least this worker's own events.
            () = tokio::time::sleep_until(heard + LOOK) => {
                heard = Instant::now();
                let pong = tokio::time::timeout(LOOK, sender.ping::<redis::Value>()).await;
                pong.map_err(|_| RedisError::Unavailable("no answer to a ping".into()))??;
                continue;
            }
            _ = renew.tick() => {
                worker.client.broker().bind_expiring(pidbox::EXCHANGE, "", "", &mailbox).await?;
                continue;
            }
        };
        heard = Instant::now();
        let Some(message) = message else { return Ok(()) };
        match fanout::heard(&worker.connector, &message) {
            Ok(Heard::Control(envelope)) => match Request::decode(&envelope, &worker.config.accept_content) {
                Ok(request) => {
                    let worker = worker.clone();
                    tokio::spawn(async move { handle(&worker, request).await });
                }
                Err(error) => error!(%error, "pidbox: a request cannot be read"),
            },
            Ok(Heard::Roll) => {}
            Ok(Heard::Event(envelope)) => crate::gossip::heard(worker, &envelope),
            Err(error) => warn!(%error, "pidbox: a message cannot be read"),
        }
    }
}

/// The mailbox goes when the worker does.
pub(crate) async fn close(worker: &Worker) -> Result<(), RedisError> {
    worker.client.broker().unbind(pidbox::EXCHANGE, "", "", &mailbox(worker)).await
}

fn mailbox(worker: &Worker) -> String {
    format!("{}.{}", worker.node, pidbox::EXCHANGE)
}

async fn handle(worker: &Arc<Worker>, request: Request) {
    worker.clock.forward();
    worker.clock.adjust(request.clock);
    match request.is_for(&worker.node) {
        Ok(true) => {}
        Ok(false) => return,
        Err(why) => return error!("pidbox: {why}"),
    }
    debug!(method = request.method, "pidbox received a command");
    let answer = AssertUnwindSafe(dispatch(worker, &request.method, request.arguments)).catch_unwind().await;
    let reply = match answer.unwrap_or_else(|_| Err("it panicked: the worker's log says where".into())) {
        Ok(Some(reply)) => reply,
        Ok(None) => return,
        Err(refusal) => {
            error!(method = request.method, "Control command error: {refusal}");
            json!({"error": refusal})
        }
    };
    let Some(to) = &request.reply_to else { return };
    let reply = pidbox::Reply {
        node: worker.node.clone(),
        body: reply,
        ticket: request.ticket,
        clock: worker.clock.forward(),
        serializer: request.serializer,
    };
    let envelope = pidbox::reply(reply, to, Uuid::new_v4().to_string());
    if let Err(error) = worker.client.broker().publish_direct(&envelope).await {
        error!(%error, method = request.method, "the reply cannot be sent");
    }
}

/// Runs a command, the application's own first. None: there is no reply.
async fn dispatch(worker: &Arc<Worker>, method: &str, arguments: Map) -> Result<Option<Value>, Refusal> {
    match worker.commands.get(method) {
        Some(command) => command(ControlState::new(worker.clone()), arguments).await.map(Some),
        None => builtin(worker, method, &arguments).await,
    }
}

async fn builtin(worker: &Arc<Worker>, method: &str, arguments: &Map) -> Result<Option<Value>, Refusal> {
    arguments::check(method, arguments)?;
    if matches!(
        method,
        "active" | "dump_active" | "reserved" | "dump_reserved" | "scheduled" | "dump_schedule" | "query_task"
    ) {
        // Who asks may have sent a task just before, on another connection.
        worker.look().await;
    }
    Ok(Some(match method {
        "ping" => json!({"ok": "pong"}),
        "clock" => json!({"clock": worker.clock.value()}),
        "report" => inspect::report(worker),
        "conf" | "dump_conf" => conf::conf(worker, arguments),
        "stats" => inspect::stats(worker),
        "active" | "dump_active" => inspect::active(worker, arguments),
        "reserved" | "dump_reserved" => inspect::reserved(worker),
        "scheduled" | "dump_schedule" => inspect::scheduled(worker).await,
        "revoked" | "dump_revoked" => json!(worker.state.revoked()),
        "registered" | "dump_tasks" => inspect::registered(worker, arguments),
        "query_task" => inspect::query_task(worker, arguments).await?,
        "memsample" => memory::sample(),
        "memdump" => memory::dump(arguments),
        // A graph of Python's objects: there are none.
        "objgraph" => return Err("ImportError('Requires the objgraph library')".into()),
        "election" => {
            election(worker, arguments);
            Value::Null
        }
        "hello" => inspect::hello(worker, arguments)?,
        "active_queues" => queues::active_queues(worker),
        "add_consumer" => queues::add_consumer(worker, arguments).await?,
        "cancel_consumer" => queues::cancel_consumer(worker, arguments)?,
        "revoke" => revoke::revoke(worker, arguments).await?,
        "terminate" => revoke::terminate(worker, arguments).await?,
        "revoke_by_stamped_headers" => revoke::by_stamped_headers(worker, arguments)?,
        "rate_limit" => limits::rate_limit(worker, arguments)?,
        "time_limit" => limits::time_limit(worker, arguments)?,
        "pool_restart" => pool::restart(worker)?,
        "autoscale" => pool::autoscale(worker, arguments)?,
        "pool_grow" => pool::grow(worker, arguments)?,
        "pool_shrink" => pool::shrink(worker, arguments)?,
        "enable_events" => events(worker, true),
        "disable_events" => events(worker, false),
        "heartbeat" => {
            worker.events.emit("worker-heartbeat", crate::heartbeat::fields(worker));
            Value::Null
        }
        "shutdown" => {
            warn!("Got shutdown from remote");
            worker.shutdown.warm();
            return Ok(None);
        }
        unknown => return Err(exception("KeyError", unknown)),
    }))
}

fn events(worker: &Worker, on: bool) -> Value {
    let word = if on { "enabled" } else { "disabled" };
    let changed = worker.events.switch_tasks(on);
    ok(format!("task events {}{word}", if changed { "" } else { "already " }))
}

fn election(worker: &Worker, arguments: &Map) {
    let argument = |name: &str| arguments.get(name).unwrap_or(&Value::Null);
    let id = argument("id").as_str().map_or_else(|| argument("id").to_string(), str::to_owned);
    if !worker.config.without_gossip {
        crate::election::call(worker, &id, argument("topic"), argument("action"));
    }
}

pub(crate) fn ok(text: impl Into<String>) -> Value {
    json!({"ok": text.into()})
}

/// An argument that must be there.
pub(crate) fn required<'a>(arguments: &'a Map, name: &str, command: &str) -> Result<&'a Value, Refusal> {
    arguments
        .get(name)
        .ok_or_else(|| type_error(format!("{command}() missing 1 required positional argument: '{name}'")))
}

/// One text or a list of texts.
pub(crate) fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect(),
        Value::String(one) => vec![one.clone()],
        _ => vec![],
    }
}
