//! The connection: fetching messages, and settling them (celery.worker.consumer).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures::FutureExt;
use petiole_protocol::serializer;
use petiole_redis::RedisError;
use petiole_redis::broker::GiveBack;
use petiole_redis::consumer::{Consumer, Delivery};
use petiole_redis::idle::Sign;
use petiole_redis::round_trip::Started;
use tracing::{info, warn};

use crate::lookahead::Lookahead;
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
    let mut other_queues = false;
    // When the other connection was last heard of.
    let mut seen = Instant::now();
    let mut lapses = worker.lapses.load(Ordering::Acquire);
    let mut ahead = Lookahead::new(worker);
    let mut under_way: Option<UnderWay> = None;
    // What this worker sends itself as JSON it may also take on itself.
    let accepts_json = serializer::accepts(&worker.config.accept_content, serializer::JSON);
    loop {
        // One more request goes beside the one under way, when nothing depends on what that brings.
        let alone = worker.shutdown.begun() || ahead.drained || !ahead.is_on() || !unsettled.goes_beside();
        if let Some(first) = under_way.take_if(|first| alone || !consumer.goes_beside(&first.started)) {
            *pause = Duration::from_millis(50);
            first.finish(worker, &mut consumer, unsettled, &mut ahead).await?;
            // What comes when the shutdown has begun goes back.
            if !ahead.is_on() && !worker.shutdown.begun() {
                ahead.receive(worker)?;
            }
            if !ahead.is_on() {
                hand_back(worker, ahead.surplus()).await?;
            }
        }
        let over = worker.shutdown.begun();
        // Looked at in every round: a busy worker never comes to wait for it.
        if std::mem::take(&mut other_queues) || worker.queues_changed().now_or_never().is_some() {
            queues = worker.queues();
            bound.retain(|queue| queues.contains(queue));
            ahead.drained = false;
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
        } else if gone || unsettled.is_asked() || room == 0 || (room == 1 && !ahead.drained) {
            consumer.end_waiting().await?
        } else {
            consumer.given()?
        };
        if let Some(sign) = sign {
            given(worker, &mut ahead, sign)?;
        }
        if over {
            hand_back(worker, ahead.surplus()).await?;
            worker.shutdown.end_fetching();
        }
        let waits = consumer.is_waiting();
        let room = worker.qos.room(unsettled.releases()).saturating_sub(usize::from(waits));
        let free =
            if over || !ahead.drained || !accepts_json { 0 } else { room.min(worker.pool.free() + unsettled.ends()) };
        ahead.drained &= !unsettled.look(&queues, free);
        let room = if over || ahead.drained || queues.is_empty() {
            0
        } else {
            ahead.room(room, under_way.as_ref().map_or(0, |first| first.room))
        };
        if nothing && room == 0 && !ahead.is_empty() {
            ahead.receive(worker)?;
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
            if ahead.drained && !over && can_run && crate::heartbeat::is_claim_fresh(worker) {
                if std::mem::replace(&mut lapses, worker.lapses.load(Ordering::Acquire)) != lapses {
                    consumer.lapsed();
                }
                ahead.drained = consumer.begin_waiting(&queues).await?;
                if !ahead.drained {
                    continue;
                }
            }
            let waits = consumer.is_waiting();
            tokio::select! {
                () = unsettled.wait() => {}
                () = worker.qos.changed(), if !over && !ahead.drained => {}
                sign = consumer.wait() => match sign? {
                    // The answer itself is a sign that Redis is there.
                    Sign::Nothing if seen.elapsed() < 3 * LOOK => {}
                    Sign::Nothing => {
                        ahead.drained &= !consumer.look(&queues).await?;
                        seen = Instant::now();
                    }
                    sign => given(worker, &mut ahead, sign)?,
                },
                () = worker.queues_changed() => other_queues = true,
                () = tokio::time::sleep(LOOK), if !waits => ahead.drained &= !consumer.look(&queues).await?,
                () = worker.shutdown.wait_warm(), if !over => {}
                () = worker.shutdown.wait_settling(), if over => {}
            }
            continue;
        }
        worker.events.keep_up().await;
        seen = Instant::now();
        let started = consumer.start(unsettled.start(), &queues, room).await?;
        let before = under_way.replace(UnderWay { started, asked: seen, room });
        // The request leaves when the connection has had its turn.
        tokio::task::yield_now().await;
        if let Some(before) = before {
            *pause = Duration::from_millis(50);
            before.finish(worker, &mut consumer, unsettled, &mut ahead).await?;
        }
        // What is at hand runs while Redis works.
        ahead.receive(worker)?;
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
    /// Takes its answer.
    async fn finish(
        self,
        worker: &Arc<Worker>,
        consumer: &mut Consumer,
        unsettled: &mut Unsettled,
        ahead: &mut Lookahead,
    ) -> Result<(), RedisError> {
        let exchange = consumer.finish(self.started, unsettled.started()).await?;
        unsettled.done(worker, exchange.settled);
        ahead.put(exchange.deliveries, self.asked)?;
        if exchange.looked {
            ahead.drained = exchange.drained;
        }
        ahead.drained &= exchange.taken;
        Ok(())
    }
}

/// Takes what Redis gave by itself: it runs before anything else is asked of Redis.
fn given(worker: &Arc<Worker>, ahead: &mut Lookahead, sign: Sign) -> Result<(), RedisError> {
    let Sign::Message(delivery, asked) = sign else {
        ahead.drained = false;
        return Ok(());
    };
    ahead.put(vec![delivery], asked)?;
    // What comes when the shutdown has begun goes back.
    if !worker.shutdown.begun() {
        ahead.receive(worker)?;
    }
    Ok(())
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
