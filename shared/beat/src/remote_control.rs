//! A beat's mailbox: it answers `ping`, so that it can be asked whether it is well, and nothing else (celery.beat: BeatPidbox).
//!
//! A beat that has not looked at its schedule for too long is silent: `celery inspect ping -d celerybeat@host` then fails, as it
//! does for one that is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use petiole_client::Client;
use petiole_protocol::pidbox::{self, Request};
use petiole_redis::RedisError;
use petiole_redis::fanout::{self, Heard};
use serde_json::json;
use tokio::time::Instant;
use tracing::{debug, info, warn};
use uuid::Uuid;

/// Before it connects again.
const PAUSE: Duration = Duration::from_secs(1);
/// How often its binding is renewed: it expires after an hour.
const RENEW: Duration = Duration::from_secs(1200);

/// When the schedule was looked at last.
#[derive(Debug, Clone)]
pub(crate) struct Ticks {
    since: Instant,
    /// Milliseconds after `since`.
    last: Arc<AtomicU64>,
}

impl Ticks {
    /// Begins now: a beat that never ticks becomes silent, too.
    pub(crate) fn new() -> Self {
        Self { since: Instant::now(), last: Arc::default() }
    }

    /// The schedule is being looked at, or another's lock.
    pub(crate) fn tick(&self) {
        self.last.store(self.since.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    fn age(&self) -> Duration {
        self.since.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }
}

/// The mailbox of one beat.
pub(crate) struct Mailbox {
    client: Client,
    node: String,
    accept: Vec<String>,
    ticks: Ticks,
    /// After so long without a tick it is silent; zero: never.
    max_age: Duration,
}

impl Mailbox {
    pub(crate) fn new(client: Client, node: String, ticks: Ticks, max_age: Duration) -> Self {
        Self { client, node, accept: vec!["json".to_owned()], ticks, max_age }
    }

    /// Answers over all losses of connection.
    pub(crate) async fn listen(self) {
        info!("beat: {} answers to ping", self.node);
        loop {
            if let Err(error) = self.connected().await {
                debug!(%error, "beat pidbox: connection lost, trying again");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn connected(&self) -> Result<(), RedisError> {
        let connector = self.client.broker().connector();
        let mut channel = fanout::listen(connector, false).await?;
        let mailbox = format!("{}.{}", self.node, pidbox::EXCHANGE);
        let mut messages = channel.on_message();
        let mut renew = tokio::time::interval(RENEW);
        loop {
            tokio::select! {
                _ = renew.tick() => self.client.broker().bind_expiring(pidbox::EXCHANGE, "", "", &mailbox).await?,
                message = messages.next() => {
                    let Some(message) = message else { return Ok(()) };
                    let Ok(Heard::Control(envelope)) = fanout::heard(connector, &message) else { continue };
                    if let Ok(request) = Request::decode(&envelope, &self.accept) {
                        self.answer(request).await?;
                    }
                }
            }
        }
    }

    /// Commands that are for workers are left to them: an error would stand among their answers.
    async fn answer(&self, request: Request) -> Result<(), RedisError> {
        if request.method != "ping" || !request.is_for(&self.node).unwrap_or(false) {
            return Ok(());
        }
        let age = self.ticks.age();
        if !self.max_age.is_zero() && age > self.max_age {
            warn!(
                "beat pidbox: not answering ping, the scheduler has not ticked for {:.1}s (over the {}s limit).",
                age.as_secs_f64(),
                self.max_age.as_secs_f64()
            );
            return Ok(());
        }
        let Some(to) = &request.reply_to else { return Ok(()) };
        let reply = pidbox::Reply {
            node: self.node.clone(),
            body: json!({"ok": "pong"}),
            ticket: request.ticket,
            clock: request.clock.saturating_add(1),
            serializer: request.serializer,
        };
        self.client.broker().publish_direct(&pidbox::reply(reply, to, Uuid::new_v4().to_string())).await?;
        Ok(())
    }
}
