//! The loops of a worker (celery.bootsteps): none of them ends while the worker runs.

use futures::FutureExt;
use futures::future::select_all;
use tokio::task::JoinHandle;

/// The loops that run beside the consumer.
#[derive(Default)]
pub(crate) struct Bootsteps {
    running: Vec<(&'static str, JoinHandle<()>)>,
}

impl Bootsteps {
    /// Starts one.
    pub(crate) fn start(&mut self, name: &'static str, step: impl Future<Output = ()> + Send + 'static) {
        self.add(name, tokio::spawn(step));
    }

    /// Adds one that runs.
    pub(crate) fn add(&mut self, name: &'static str, step: JoinHandle<()>) {
        self.running.push((name, step));
    }

    /// Waits until one ends, which only a panic can cause, and names it.
    pub(crate) async fn ended(&mut self) -> &'static str {
        if self.running.is_empty() {
            return std::future::pending().await;
        }
        let (name, at, _) = select_all(self.running.iter_mut().map(|(name, step)| step.map(|_| *name))).await;
        self.running.swap_remove(at);
        name
    }

    /// Ends them all.
    pub(crate) fn stop(&self) {
        self.running.iter().for_each(|(_, step)| step.abort());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn the_loop_that_panics_is_named() {
        let mut steps = Bootsteps::default();
        steps.start("timer", std::future::pending());
        steps.start("heartbeat", async { panic!("as a mistake in it would") });
        steps.start("control", std::future::pending());
        assert_eq!(tokio::time::timeout(Duration::from_secs(5), steps.ended()).await, Ok("heartbeat"));
        // The others go on, and are waited for.
        assert!(tokio::time::timeout(Duration::from_millis(50), steps.ended()).await.is_err());
    }
}
