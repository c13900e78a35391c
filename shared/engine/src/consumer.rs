//! Connection, fetching and receiving (celery.worker.consumer, celery.worker.strategy).

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures::FutureExt;
use petiole_protocol::{DecodeError, Embed, Envelope, TaskException, TaskMessage, serializer};
use petiole_redis::RedisError;
use petiole_redis::broker::GiveBack;
use petiole_redis::consumer::{Consumer, Delivery};
use petiole_redis::idle::Sign;
use petiole_redis::round_trip::Started;
use serde::Serialize;
use serde_json::json;
use tracing::{error, info, warn};

use crate::builtins::Unregistered;
use crate::lookahead::Lookahead;
use crate::pace::Turn;
use crate::request::{self, Phase, Request};
use crate::settling::Unsettled;
use crate::state::lock;
use crate::worker::Worker;

/// How often it is looked whether there is something, and the connection works: the sign may have been lost.
const LOOK: Duration = Duration::from_secs(2);

/// Consumes and settles until the worker is gone, over all losses of connection.
pub(crate) async fn consume(worker: Arc<Worker>, mut unsettled: Unsettled) {
    let mut pause = Duration::from_millis(50);
    loop {
        let error = match connected(&worker, &mut unsettled, &mut pause).await {
            Ok(()) => return,
            Err(error) => error,
        };
        worker.settling.connected(false);
        unsettled.broke();
        if worker.shutdown.settling_ended() && unsettled.is_empty() {
            return;
        }
        warn!(%error, "consumer: connection to broker lost, trying again in {pause:?}");
        if worker.shutdown.begun() {
            worker.shutdown.end_fetching();
        }
        tokio::select! {
            () = tokio::time::sleep(pause.mul_f64(0.5 + rand::random::<f64>())) => {}
            () = worker.shutdown.wait_warm(), if !worker.shutdown.begun() => {}
            () = worker.shutdown.wait_settling(), if !worker.shutdown.settling_ended() => {}
        }
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}

async fn connected(worker: &Arc<Worker>, unsettled: &mut Unsettled, pause: &mut Duration) -> Result<(), RedisError> {
    let mut consumer = Consumer::connect(worker.client.broker(), worker.client.backend(), &worker.owner).await?;
    let mut bound: Vec<String> = Vec::new();
    let held: Vec<String> = crate::heartbeat::held(worker).into_iter().collect();
    // Redis may have been away for longer than the visibility timeout: others must not take these for forgotten.
    worker.claims.renew(&held).await?;
    crate::heartbeat::keep_alive(worker).await?;
    restore_forgotten(worker).await?;
    info!("Connected to {}", petiole_redis::redacted(worker.connector.url()));
    worker.settling.connected(true);
    let mut queues = worker.queues();
    let (mut drained, mut other_queues) = (false, false);
    // When the other connection was last heard of.
    let mut seen = Instant::now();
    let mut lapses = worker.lapses.load(Ordering::Acquire);
    let mut ahead = Lookahead::new(worker);
    let mut under_way: Option<UnderWay> = None;
    // What this worker sends itself as JSON it may also take on itself.
    let accepts_json = serializer::accepts(&worker.config.accept_content, serializer::JSON);
    loop {
        let over = worker.shutdown.begun();
        // One more request goes beside the one under way, when nothing depends on what that brings.
        let alone = over || drained || !ahead.is_on() || !unsettled.goes_beside();
        if let Some(first) = under_way.take_if(|first| alone || !consumer.goes_beside(&first.started)) {
            *pause = Duration::from_millis(50);
            drained = first.finish(worker, &mut consumer, unsettled, &mut ahead, drained).await?;
            if !ahead.is_on() {
                ahead.receive(worker, !drained)?;
            }
            if !ahead.is_on() {
                hand_back(worker, ahead.surplus()).await?;
            }
        }
        // Looked at in every round: a busy worker never comes to wait for it.
        if std::mem::take(&mut other_queues) || worker.queues_changed().now_or_never().is_some() {
            queues = worker.queues();
            bound.retain(|queue| queues.contains(queue));
            drained = false;
        }
        for queue in &queues {
            if !bound.contains(queue) {
                let broker = worker.client.broker();
                broker.bind_queue(queue).await?;
                let to = worker.exchange_of(queue);
                if to.exchange != *queue {
                    broker.bind(&to.exchange, &to.routing_key, &to.pattern(), queue).await?;
                }
                bound.push(queue.clone());
            }
        }
        let nothing = unsettled.batch().is_empty();
        let room = worker.qos.room(unsettled.releases());
        // Redis is to give nothing by itself where that leaves no room, and before anybody is told what this worker has.
        let gone = consumer.waits_for().is_some_and(|queue| !queues.iter().any(|of| of == queue));
        let sign = if over {
            ahead.put(consumer.leave().await?, Instant::now())?;
            None
        } else if gone || unsettled.is_asked() || room == 0 || (room == 1 && !drained) {
            consumer.end_waiting().await?
        } else {
            consumer.given()?
        };
        if let Some(sign) = sign {
            drained &= given(worker, &mut ahead, sign)?;
        }
        if over {
            hand_back(worker, ahead.surplus()).await?;
            worker.shutdown.end_fetching();
        }
        let waits = consumer.is_waiting();
        let room = worker.qos.room(unsettled.releases()).saturating_sub(usize::from(waits));
        let free = if over || !drained || !accepts_json { 0 } else { room.min(worker.pool.free() + unsettled.ends()) };
        drained &= !unsettled.look(&queues, free);
        let room = if over || drained || queues.is_empty() {
            0
        } else {
            ahead.room(room, under_way.as_ref().map_or(0, |first| first.room))
        };
        if nothing && room == 0 && !ahead.is_empty() {
            ahead.receive(worker, !drained)?;
            if !ahead.is_on() {
                hand_back(worker, ahead.surplus()).await?;
            }
            continue;
        }
        if nothing && room == 0 && !consumer.is_unsure() {
            if worker.shutdown.settling_ended() {
                return Ok(());
            }
            // What would wait behind tasks that run here is left to those who have a slot for it.
            let can_run = worker.pool.free() > 0 && worker.qos.room(0) > 0;
            if drained && !over && can_run && crate::heartbeat::is_claim_fresh(worker) {
                if std::mem::replace(&mut lapses, worker.lapses.load(Ordering::Acquire)) != lapses {
                    consumer.lapsed();
                }
                drained = consumer.begin_waiting(&queues).await?;
                if !drained {
                    continue;
                }
            }
            let waits = consumer.is_waiting();
            tokio::select! {
                () = unsettled.wait() => {}
                () = worker.qos.changed(), if !over && !drained => {}
                sign = consumer.wait() => match sign? {
                    // The answer itself is a sign that Redis is there.
                    Sign::Nothing if seen.elapsed() < 3 * LOOK => {}
                    Sign::Nothing => {
                        drained &= !consumer.look(&queues).await?;
                        seen = Instant::now();
                    }
                    sign => drained &= given(worker, &mut ahead, sign)?,
                },
                () = worker.queues_changed() => other_queues = true,
                () = tokio::time::sleep(LOOK), if !waits => drained &= !consumer.look(&queues).await?,
                () = worker.shutdown.wait_warm(), if !over => {}
                () = worker.shutdown.wait_settling(), if over => {}
            }
            continue;
        }
        seen = Instant::now();
        let started = consumer.start(unsettled.start(), &queues, room).await?;
        let before = under_way.replace(UnderWay { started, asked: seen, room });
        // The request leaves when the connection has had its turn.
        tokio::task::yield_now().await;
        if let Some(before) = before {
            *pause = Duration::from_millis(50);
            drained = before.finish(worker, &mut consumer, unsettled, &mut ahead, drained).await?;
        }
        // What is at hand runs while Redis works.
        ahead.receive(worker, !drained)?;
    }
}

/// A request to Redis whose answer is still to come.
struct UnderWay {
    started: Started,
    /// When it was sent.
    asked: Instant,
    /// How many messages it asks for.
    room: usize,
}

impl UnderWay {
    /// Takes its answer. True: as far as is known there are no more messages.
    async fn finish(
        self,
        worker: &Arc<Worker>,
        consumer: &mut Consumer,
        unsettled: &mut Unsettled,
        ahead: &mut Lookahead,
        drained: bool,
    ) -> Result<bool, RedisError> {
        let exchange = consumer.finish(self.started, unsettled.started()).await?;
        unsettled.done(worker, exchange.settled);
        ahead.put(exchange.deliveries, self.asked)?;
        Ok((if exchange.looked { exchange.drained } else { drained }) && exchange.taken)
    }
}

/// Takes what Redis gave by itself: it runs before anything else is asked of Redis. True: as far as is known there is nothing more.
fn given(worker: &Arc<Worker>, ahead: &mut Lookahead, sign: Sign) -> Result<bool, RedisError> {
    let Sign::Message(delivery, asked) = sign else { return Ok(false) };
    ahead.put(vec![delivery], asked)?;
    // What comes when the shutdown has begun goes back.
    if !worker.shutdown.begun() {
        ahead.receive(worker, false)?;
    }
    Ok(true)
}

/// Gives messages back to the heads of their queues, as if they had never been fetched.
async fn hand_back(worker: &Worker, surplus: Vec<Delivery>) -> Result<(), RedisError> {
    let back: Vec<GiveBack> =
        surplus.into_iter().rev().map(|Delivery { tag, queue, text, .. }| GiveBack { tag, queue, text }).collect();
    worker.client.broker().hand_back(&worker.owner, &back).await?;
    Ok(())
}

/// Messages that were fetched just when the connection broke are this worker's without its knowledge: they go back.
async fn restore_forgotten(worker: &Worker) -> Result<(), RedisError> {
    let forgotten = worker.claims.forgotten(&crate::heartbeat::held(worker)).await?;
    let restored = worker.claims.restore(&worker.owner, &forgotten).await?;
    // Redis may still put one where the lost connection waited for it.
    let places = forgotten.into_iter().filter(|tag| petiole_redis::claims::is_place(tag));
    lock(&worker.given_up).extend(places.map(|tag| (tag, Instant::now())));
    if restored > 0 {
        info!("Restored {restored} message(s) that were fetched when the connection broke");
    }
    Ok(())
}

/// Takes one delivery: to the pool, to the timer, or away with it. What takes more than a moment goes on beside: this is the
/// task that settles. True: it has run already.
pub(crate) fn receive(worker: &Arc<Worker>, mut delivery: Delivery, turn: Option<&Turn>) -> bool {
    let read = match delivery.message.take() {
        Some(message) => Ok(*message),
        None => TaskMessage::read(&delivery.text, &worker.config.accept_content),
    };
    let message = match read {
        Ok(message) => message,
        Err(error) => {
            discard(worker, delivery, &error);
            return false;
        }
    };
    let times = match request::times(&message, &worker.config.time_zone) {
        Ok(times) => times,
        Err(what) => {
            discard(worker, delivery, &DecodeError::shape(what));
            return false;
        }
    };
    let sequence = worker.state.next_sequence();
    let Some(task) = worker.tasks.get(&message.task).cloned() else {
        unregistered(worker, message, delivery, sequence);
        return false;
    };
    let acks_late = task.options().acks_late.unwrap_or(worker.config.acks_late);
    let request = Arc::new(Request::new(message, delivery, task, times, acks_late, sequence));
    let now = worker.timer.now();
    if worker.state.is_revoked(&request) || request.is_expired(now) {
        conclude(worker, request, |worker, request| async move {
            crate::outcome::revoked(&worker, &request).await;
        });
        return false;
    }
    let eta = request.eta.filter(|eta| *eta > now);
    let elsewhere = eta.filter(|_| crate::timer::is_full(worker));
    let message = &request.message;
    if elsewhere.is_none() {
        worker.state.accept(&request);
        info!(task_id = request.id(), "Task {}[{}] received", message.shown_name(), request.id());
    }
    if worker.wants_event(&request) {
        worker.task_event(&request, "task-received", Received::of(message));
    } else {
        worker.count(&request, "task-received");
    }
    match (elsewhere, eta) {
        (Some(eta), _) => crate::timer::put_away(worker, request, eta),
        (None, Some(_)) => crate::timer::schedule(worker, request),
        (None, None) => {
            crate::trace::submit(worker, request.clone(), turn);
            return request.phase() == Phase::Ended;
        }
    }
    false
}

/// The fields of `task-received`.
#[derive(Serialize)]
struct Received<'a> {
    uuid: &'a str,
    name: &'a str,
    args: Cow<'a, str>,
    kwargs: Cow<'a, str>,
    root_id: Option<&'a str>,
    parent_id: Option<&'a str>,
    retries: u32,
    eta: Option<&'a str>,
    expires: Option<&'a str>,
}

impl<'a> Received<'a> {
    fn of(message: &'a TaskMessage) -> Self {
        let shown = |given: &'a Option<String>, make: fn(&TaskMessage) -> String| match given {
            Some(text) => Cow::Borrowed(text.as_str()),
            None => Cow::Owned(make(message)),
        };
        Self {
            uuid: &message.id,
            name: message.shown_name(),
            args: shown(&message.argsrepr, TaskMessage::args_text),
            kwargs: shown(&message.kwargsrepr, TaskMessage::kwargs_text),
            root_id: message.root_id.as_deref(),
            parent_id: message.parent_id.as_deref(),
            retries: message.retries,
            eta: message.eta.as_deref(),
            expires: message.expires.as_deref(),
        }
    }
}

/// Ends a request that does not run, while other messages are received.
fn conclude<F: Future<Output = ()> + Send + 'static>(
    worker: &Arc<Worker>,
    request: Arc<Request>,
    end: impl FnOnce(Arc<Worker>, Arc<Request>) -> F,
) {
    worker.state.hold(&request);
    let ending = end(worker.clone(), request.clone());
    let of = worker.clone();
    worker.concluding.spawn(async move {
        ending.await;
        of.ended(&request);
    });
}

/// A task that nobody here knows: it fails, and with it what waits for it.
fn unregistered(worker: &Arc<Worker>, message: TaskMessage, delivery: Delivery, sequence: u64) {
    let name = message.task.clone();
    error!(task_id = message.id, "Received unregistered task of type {name:?}: known tasks are {}", known(worker));
    let unknown = Arc::new(Unregistered(name.clone()));
    let request = Arc::new(Request::new(message, delivery, unknown, (None, None), true, sequence));
    conclude(worker, request, |worker, request| async move {
        let exception = TaskException::celery("NotRegistered", vec![name.into()]);
        crate::outcome::record_failure(&worker, &request, &exception, None, vec![]).await;
        worker.task_event(&request, "task-failed", json!({"uuid": request.id(), "exception": exception.repr()}));
        worker.acknowledge(&request);
    });
}

fn known(worker: &Worker) -> String {
    worker.tasks.keys().filter(|name| !name.starts_with("celery.")).cloned().collect::<Vec<_>>().join(", ")
}

/// A message that cannot run. It goes with a word in the log; when its id can be read, whoever waits is told as well.
fn discard(worker: &Arc<Worker>, delivery: Delivery, why: &DecodeError) {
    let envelope = Envelope::parse(delivery.text.as_bytes()).ok();
    let (task, id) = envelope.as_ref().map(TaskMessage::peek).unwrap_or_default();
    let begin: String = delivery.text.chars().take(200).collect();
    error!(
        queue = delivery.queue,
        task,
        task_id = id,
        message = begin,
        "Rejected a message that cannot be read: {why}"
    );
    let exception = match (task, id) {
        (Some(_), Some(_)) => {
            let name = if why.is_reject() { "ContentDisallowed" } else { "DecodeError" };
            Some(TaskException::new("kombu.exceptions", name, vec![why.to_string().into()]))
        }
        _ => None,
    };
    let reason = format!("cannot be read: {why}");
    let unknown = Arc::new(Unregistered(task.unwrap_or_default().to_owned()));
    let message = TaskMessage {
        embed: Embed::default(),
        properties: envelope.as_ref().map(|envelope| envelope.properties.clone()).unwrap_or_default(),
        ..TaskMessage::new(task.unwrap_or_default(), id.unwrap_or_default(), vec![], petiole_protocol::Map::new())
    };
    let request = Arc::new(Request::new(message, delivery, unknown, (None, None), true, worker.state.next_sequence()));
    conclude(worker, request, |worker, request| async move {
        if let Some(exception) = exception {
            crate::outcome::record_failure(&worker, &request, &exception, None, vec![]).await;
            worker.task_event(&request, "task-failed", json!({"uuid": request.id(), "exception": exception.repr()}));
        }
        worker.settle(&request, vec![crate::redelivery::dead_letter(&worker, &request, reason, 0)]);
    });
}
