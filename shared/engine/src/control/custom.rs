//! Commands that an application adds (celery.worker.control: control_command, inspect_command).

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use petiole_client::Client;
use petiole_protocol::Map;
use serde_json::Value;

use crate::config::WorkerConfig;
use crate::worker::Worker;

/// What a command gets to know of the worker, and may do with it.
#[derive(Clone)]
pub struct ControlState {
    worker: Arc<Worker>,
}

impl ControlState {
    pub(crate) fn new(worker: Arc<Worker>) -> Self {
        Self { worker }
    }

    /// The worker's node name.
    pub fn hostname(&self) -> &str {
        &self.worker.node
    }

    /// The worker's settings.
    pub fn config(&self) -> &WorkerConfig {
        &self.worker.config
    }

    /// The client that the worker sends with.
    pub fn client(&self) -> &Client {
        &self.worker.client
    }

    /// The names of the tasks that are known.
    pub fn task_names(&self) -> impl Iterator<Item = &str> {
        self.worker.tasks.keys().map(String::as_str)
    }

    /// The queues that are consumed now.
    pub fn queues(&self) -> Vec<String> {
        self.worker.queues()
    }

    /// How many tasks run.
    pub fn active(&self) -> usize {
        self.worker.state.active()
    }

    /// How many tasks were accepted since the start.
    pub fn processed(&self) -> u64 {
        self.worker.state.processed()
    }

    /// Raises the prefetch count by so many, or lowers it.
    pub fn adjust_prefetch(&self, by: isize) {
        self.worker.qos.adjust(by);
    }

    /// The prefetch count now; 0: without limit.
    pub fn prefetch_count(&self) -> usize {
        self.worker.qos.prefetch_count()
    }

    /// Runs a command of Celery's own, as if it had been asked for. None: it has no reply.
    ///
    /// # Errors
    /// As it would reply: an exception, as Python's `repr`.
    pub async fn command(&self, method: &str, arguments: Map) -> Result<Option<Value>, String> {
        super::builtin(&self.worker, method, &arguments).await
    }
}

type Run = dyn Fn(ControlState, Map) -> Pin<Box<dyn Future<Output = Result<Value, String>> + Send>> + Send + Sync;

/// Commands by their names.
#[derive(Clone, Default)]
pub(crate) struct Commands(BTreeMap<String, Arc<Run>>);

impl Commands {
    pub(crate) fn add<F, R>(&mut self, name: String, function: F)
    where
        F: Fn(ControlState, Map) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Value, String>> + Send + 'static,
    {
        self.0.insert(name, Arc::new(move |state, arguments| Box::pin(function(state, arguments))));
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<Run>> {
        self.0.get(name).cloned()
    }
}
