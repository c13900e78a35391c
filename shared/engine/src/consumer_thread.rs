//! The thread of the connection that consumes.
//!
//! What a message goes through between two waits for Redis takes microseconds. On a runtime of several threads each answer of
//! Redis would wake a second one, for a part of that, and the two would hand each other the work: so this is a runtime of one
//! thread. Tasks that do not end at once run on the worker's own runtime.

use std::future::Future;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// It ends with this value.
pub(crate) struct ConsumerThread(Option<Runtime>);

impl ConsumerThread {
    /// Starts it with something to run.
    ///
    /// # Errors
    /// The system has no more threads or files to give.
    pub(crate) fn start<F>(work: F) -> std::io::Result<(Self, JoinHandle<F::Output>)>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        // Of the kind for several threads, since a task that runs here may call `block_in_place`.
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("consumer").enable_all().build()?;
        let running = runtime.spawn(work);
        Ok((Self(Some(runtime)), running))
    }
}

impl Drop for ConsumerThread {
    fn drop(&mut self) {
        // A runtime may wait for its thread only where waiting is allowed, and here it is not.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
