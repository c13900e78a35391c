//! The relay: publishes what the outbox holds, within milliseconds when all is well, and as soon as Redis is back when not.

use std::time::Duration;

use petiole_client::Prepared;
use petiole_storage::{OutboxListener, OutboxMessage, Storage};
use tokio_util::sync::CancellationToken;

use crate::state::State;

/// Messages of one round; the round holds their rows meanwhile.
const ROUND: u64 = 100;
/// The outbox is looked at this often even when nothing announces a message.
const LOOK: Duration = Duration::from_secs(1);
/// How long publishing one message may take.
const PUBLISH: Duration = Duration::from_secs(5);
/// Pause after the first failure; it doubles up to the longest.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Idempotency keys are tidied up this often.
const TIDY: Duration = Duration::from_secs(600);

/// Publishes until told to stop. Many relays may run side by side.
pub async fn run(state: State, stop: CancellationToken) {
    stop.run_until_cancelled(async {
        tokio::join!(publish_for_ever(&state), tidy_for_ever(&state.storage));
    })
    .await;
}

async fn publish_for_ever(state: &State) {
    let State { storage, metrics, .. } = state;
    let (mut listener, mut pause) = (None::<OutboxListener>, PAUSE);
    loop {
        // listening begins before the outbox is looked at: what comes in between is announced
        if listener.is_none() {
            listener = storage.listen_outbox().await.ok();
        }
        match storage.relay(ROUND, |message| publish(state, message)).await {
            Ok(round) if round.failed => {
                metrics.relayed(round.published);
                metrics.relay_failed();
                tracing::warn!("a message could not be published; it stays in the outbox");
            }
            Ok(round) => {
                pause = PAUSE;
                metrics.relayed(round.published);
                if round.published > 0 {
                    tracing::debug!(published = round.published, "published from the outbox");
                }
                if round.published < ROUND as usize {
                    wait(&mut listener).await;
                }
                continue;
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

async fn publish(state: &State, message: OutboxMessage) -> Result<(), String> {
    let prepared: Prepared =
        serde_json::from_str(&message.message).map_err(|error| format!("not a message: {error}"))?;
    match tokio::time::timeout(PUBLISH, state.client.publish(&prepared)).await {
        Ok(Ok(())) => {
            state.recent.sent(&prepared.task_id, &prepared.name, &prepared.queue);
            Ok(())
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("Redis did not answer in time".into()),
    }
}

async fn tidy_for_ever(storage: &Storage) {
    loop {
        tokio::time::sleep(TIDY).await;
        if let Err(error) = storage.purge_idempotency_keys().await {
            tracing::warn!(%error, "old idempotency keys could not be removed");
        }
    }
}
