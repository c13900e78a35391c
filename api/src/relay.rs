//! The relay: publishes what the outbox holds, within milliseconds when all is well, and as soon as Redis is back when not. What
//! Redis loses afterwards is published again, as long as its work has not ended.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use petiole_client::{Once, Prepared};
use petiole_storage::{OutboxListener, OutboxMessage, Relayed, Storage};
use tokio_util::sync::CancellationToken;

use crate::state::State;

/// Messages of one round, published in one round trip; the round holds their rows meanwhile.
const ROUND: u64 = 200;
/// The outbox is looked at this often even when nothing announces a message.
const LOOK: Duration = Duration::from_secs(1);
/// How long publishing them may take.
const PUBLISH: Duration = Duration::from_secs(5);
/// Pause after the first failure; it doubles up to the longest.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Old idempotency keys, and messages whose work has ended, are tidied up this often.
const TIDY: Duration = Duration::from_secs(600);

/// Publishes until told to stop. Many relays may run side by side.
pub async fn run(state: State, stop: CancellationToken) {
    stop.run_until_cancelled(async {
        tokio::join!(publish_for_ever(&state), tidy_for_ever(&state.storage));
    })
    .await;
}

/// What Redis is known to have been given.
struct Given {
    /// Its last count of rounds. It only grows, unless Redis lost something: all, or the last moments before a crash.
    count: AtomicU64,
    /// Has it? At a start nobody knows.
    lost: AtomicBool,
}

impl Given {
    fn new() -> Self {
        Self { count: AtomicU64::new(0), lost: AtomicBool::new(true) }
    }

    fn counts(&self, count: u64) {
        if self.count.swap(count, Ordering::Relaxed) > count {
            self.lost.store(true, Ordering::Relaxed);
        }
    }

    /// Has what was published before to be published again? What Redis still holds stays as it is.
    async fn restore(&self, state: &State) {
        if !self.lost.swap(false, Ordering::Relaxed) {
            return;
        }
        match state.storage.reopen_outbox().await {
            Ok(0) => {}
            Ok(messages) => tracing::info!(messages, "what Redis may have lost is published again"),
            Err(error) => {
                self.lost.store(true, Ordering::Relaxed);
                tracing::warn!(%error, "what Redis may have lost cannot be published again yet");
            }
        }
    }
}

async fn publish_for_ever(state: &State) {
    let State { storage, metrics, client, .. } = state;
    let given = &Given::new();
    let (mut listener, mut pause) = (None::<OutboxListener>, PAUSE);
    loop {
        given.restore(state).await;
        // listening begins before the outbox is looked at: what comes in between is announced
        if listener.is_none() {
            listener = storage.listen_outbox().await.ok();
        }
        match storage.relay(ROUND, |messages| publish(state, given, messages)).await {
            Ok(Relayed { failure: None, published, refused }) => {
                metrics.relayed(published);
                if published > 0 {
                    tracing::debug!(published, "published from the outbox");
                }
                if refused > 0 {
                    metrics.relay_failed();
                    tracing::warn!(refused, "messages were refused; they stay in the outbox");
                } else {
                    pause = PAUSE;
                }
                // what was refused waits with the rest for the next look
                if published + refused < ROUND as usize || published == 0 {
                    wait(&mut listener).await;
                }
                if published + refused == 0
                    && let Ok(count) = client.broker().count_published_once().await
                {
                    given.counts(count);
                }
                continue;
            }
            Ok(Relayed { failure: Some(reason), .. }) => {
                metrics.relay_failed();
                tracing::warn!(reason, "nothing could be published; it stays in the outbox");
            }
            Err(error) => {
                metrics.relay_failed();
                tracing::warn!(%error, "the outbox cannot be read");
                listener = None;
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn wait(listener: &mut Option<OutboxListener>) {
    match listener {
        Some(listening) => {
            if listening.wait(LOOK).await.is_err() {
                *listener = None;
            }
        }
        None => tokio::time::sleep(LOOK).await,
    }
}

/// Gives the rows whose messages were refused, and why.
async fn publish(state: &State, given: &Given, rows: Vec<OutboxMessage>) -> Result<Vec<(i64, String)>, String> {
    let (mut ids, mut messages, mut refused) = (vec![], vec![], vec![]);
    for row in rows {
        match serde_json::from_str::<Prepared>(&row.message) {
            Ok(message) => {
                ids.push(row.id);
                messages.push(message);
            }
            Err(error) => refused.push((row.id, format!("not a message: {error}"))),
        }
    }
    let answers = match tokio::time::timeout(PUBLISH, state.client.publish_once(&messages)).await {
        Ok(Ok(published)) => {
            given.counts(published.count);
            published.messages
        }
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_) => return Err("Redis did not answer in time".into()),
    };
    for ((id, message), answer) in ids.into_iter().zip(&messages).zip(answers) {
        match answer {
            Once::Refused(why) => refused.push((id, why)),
            Once::Published | Once::Before => state.recent.sent(&message.task_id, &message.name, &message.queue),
        }
    }
    Ok(refused)
}

async fn tidy_for_ever(storage: &Storage) {
    loop {
        tokio::time::sleep(TIDY).await;
        if let Err(error) = storage.purge_idempotency_keys().await {
            tracing::warn!(%error, "old idempotency keys could not be removed");
        }
        if let Err(error) = storage.purge_outbox().await {
            tracing::warn!(%error, "messages whose work has ended could not be removed from the outbox");
        }
    }
}
