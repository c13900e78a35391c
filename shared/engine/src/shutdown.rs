//! Warm and cold shutdown (celery.apps.worker: signal handlers).

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// What was asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shutdown {
    warm: CancellationToken,
    cold: CancellationToken,
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

    /// Waits until one begins.
    pub(crate) async fn wait_warm(&self) {
        self.warm.cancelled().await;
    }

    /// Waits until a cold one begins.
    pub(crate) async fn wait_cold(&self) {
        self.cold.cancelled().await;
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
