//! Warm and cold shutdown (celery.apps.worker: signal handlers).

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// How long the end of what has been ended may take.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(5);
/// How long a worker that goes waits for a Redis that is away.
const PATIENCE: Duration = Duration::from_secs(8);

/// What was asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shutdown {
    warm: CancellationToken,
    cold: CancellationToken,
    fetching: CancellationToken,
    settling: CancellationToken,
}

impl Shutdown {
    /// No more fetching; what runs may finish.
    pub(crate) fn warm(&self) {
        self.warm.cancel();
    }

    /// What runs is ended.
    pub(crate) fn cold(&self) {
        self.warm.cancel();
        self.cold.cancel();
    }

    /// Is one under way?
    pub(crate) fn begun(&self) -> bool {
        self.warm.is_cancelled()
    }

    /// Nothing more will be fetched.
    pub(crate) fn end_fetching(&self) {
        self.fetching.cancel();
    }

    /// Waits until nothing more is fetched.
    pub(crate) async fn wait_fetching(&self) {
        self.fetching.cancelled().await;
    }

    /// Nothing more will come to be settled.
    pub(crate) fn end_settling(&self) {
        self.settling.cancel();
    }

    /// Will nothing more come to be settled?
    pub(crate) fn settling_ended(&self) -> bool {
        self.settling.is_cancelled()
    }

    /// Waits until nothing more will come to be settled.
    pub(crate) async fn wait_settling(&self) {
        self.settling.cancelled().await;
    }

    /// Waits until one begins.
    pub(crate) async fn wait_warm(&self) {
        self.warm.cancelled().await;
    }

    /// Waits until a cold one begins.
    pub(crate) async fn wait_cold(&self) {
        self.cold.cancelled().await;
    }

    /// Waits for the end of something that needs Redis, for as long as a restart of Redis may take; after a cold shutdown has
    /// begun only a moment. False: it has not ended.
    pub(crate) async fn patiently(&self, end: impl Future<Output = ()>) -> bool {
        let impatient = async {
            self.wait_cold().await;
            tokio::time::sleep(LAST_WORDS).await;
        };
        tokio::select! {
            () = end => true,
            () = impatient => false,
            () = tokio::time::sleep(PATIENCE) => false,
        }
    }

    /// Listens to TERM and INT (warm; the second one cold) and QUIT (cold).
    pub(crate) fn listen(&self) -> std::io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut quit = signal(SignalKind::quit())?;
        let shutdown = self.clone();
        tokio::spawn(async move {
            loop {
                let cold = tokio::select! {
                    _ = terminate.recv() => false,
                    _ = interrupt.recv() => false,
                    _ = quit.recv() => true,
                };
                if cold || shutdown.begun() {
                    warn!("worker: Cold shutdown");
                    shutdown.cold();
                } else {
                    warn!("worker: Warm shutdown (a second signal ends running tasks)");
                    shutdown.warm();
                }
            }
        });
        Ok(())
    }
}
