//! An application's tasks, and the run of a worker (celery.app, celery.apps.worker).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use petiole_client::{Client, ClientConfig, ClientError};
use petiole_protocol::Map;
use petiole_redis::broker::Side;
use petiole_redis::{Connector, RedisError};
use serde::Serialize;
use serde_json::Value;
use tracing::{info, warn};

use crate::bootsteps::Bootsteps;
use crate::config::WorkerConfig;
use crate::consumer_thread::ConsumerThread;
use crate::control::{Commands, ControlState};
use crate::events::Events;
use crate::isolated::{self, Isolated};
use crate::request::{Cancel, Phase};
use crate::rusty::{self, Rusty, SharedApp};
use crate::settling::{Settling, Unsettled};
use crate::shutdown::LAST_WORDS;
use crate::task::Task;
use crate::worker::{Parts, Worker};

/// Why a worker cannot start.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Two tasks of one name.
    #[error("two tasks are named {0:?}: give one of them another name")]
    TwoTasks(String),
    /// A URL that cannot be read.
    #[error(transparent)]
    Redis(#[from] RedisError),
    /// The same, by the client.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A state database that cannot be used.
    #[error(transparent)]
    StateDb(#[from] crate::statedb::StateDbError),
    /// `WORKER_METRICS_ADDRESS` cannot be listened at.
    #[error("WORKER_METRICS_ADDRESS {address}: cannot listen there: {source}")]
    Metrics {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// A loop that never ends has ended: a mistake of the worker, which must not live on as half of one.
    #[error(
        "the worker's {0} has ended by itself, most likely by the panic logged above: what it held runs again elsewhere"
    )]
    Ended(&'static str),
    /// Signals cannot be listened to, or no loopback socket can be had.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// An application: its tasks.
pub struct App {
    tasks: BTreeMap<String, Arc<dyn Task>>,
    commands: Commands,
    rusty: SharedApp,
}

/// Collects tasks and commands.
#[derive(Default)]
pub struct AppBuilder {
    tasks: Vec<Arc<dyn Task>>,
    commands: Commands,
    rusty: SharedApp,
}

impl AppBuilder {
    /// Adds a `#[celery::task]` function.
    pub fn task<T>(mut self) -> Self
    where
        T: celery::task::Task + 'static,
        T::Returns: Serialize,
    {
        self.tasks.push(Arc::new(Rusty::<T>::new(self.rusty.clone())));
        self
    }

    /// Adds a `#[celery::task]` function that runs in a process of its own, as a child of the worker. A time limit or
    /// `terminate` kills the process, and it may crash: the worker lives on.
    pub fn isolated<T>(mut self) -> Self
    where
        T: celery::task::Task + 'static,
        T::Returns: Serialize,
    {
        self.tasks.push(Arc::new(Isolated(Arc::new(Rusty::<T>::new(self.rusty.clone())))));
        self
    }

    /// Adds a task that implements the engine's own trait.
    pub fn register(mut self, task: impl Task) -> Self {
        self.tasks.push(if task.options().isolated { Arc::new(Isolated(Arc::new(task))) } else { Arc::new(task) });
        self
    }

    /// Adds a command of remote control that changes something: `celery control NAME` and `app.control.broadcast` call it.
    /// One of a name that Celery knows takes its place.
    ///
    /// ```
    /// # use petiole_engine::App;
    /// # use serde_json::{Value, json};
    /// App::builder().control_command("increase_prefetch_count", |state, arguments| async move {
    ///     let n = arguments.get("n").and_then(Value::as_i64).unwrap_or(1);
    ///     state.adjust_prefetch(isize::try_from(n).map_err(|error| error.to_string())?);
    ///     Ok(json!({"ok": "prefetch count incremented"}))
    /// });
    /// ```
    pub fn control_command<F, R>(mut self, name: impl Into<String>, command: F) -> Self
    where
        F: Fn(ControlState, Map) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Value, String>> + Send + 'static,
    {
        self.commands.add(name.into(), command);
        self
    }

    /// Adds a command of remote control that only looks: `celery inspect NAME` calls it.
    ///
    /// ```
    /// # use petiole_engine::App;
    /// # use serde_json::json;
    /// App::builder()
    ///     .inspect_command("current_prefetch_count", |state, _| async move { Ok(json!(state.prefetch_count())) });
    /// ```
    pub fn inspect_command<F, R>(self, name: impl Into<String>, command: F) -> Self
    where
        F: Fn(ControlState, Map) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Value, String>> + Send + 'static,
    {
        self.control_command(name, command)
    }

    /// The application.
    ///
    /// # Errors
    /// Two tasks of one name.
    pub fn build(self) -> Result<App, EngineError> {
        let mut tasks = BTreeMap::new();
        for task in self.tasks.into_iter().chain(crate::builtins::all()) {
            if tasks.insert(task.name().to_owned(), task.clone()).is_some() {
                return Err(EngineError::TwoTasks(task.name().to_owned()));
            }
        }
        Ok(App { tasks, commands: self.commands, rusty: self.rusty })
    }
}

impl App {
    /// Collects tasks.
    pub fn builder() -> AppBuilder {
        AppBuilder::default()
    }

    /// The names of the tasks.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tasks.keys().map(String::as_str)
    }

    /// Runs a worker until it is told to stop: by a signal, or by the control command `shutdown`.
    ///
    /// # Errors
    /// Settings with which it cannot start, or a part of it that panicked: then it stops at once, as by a kill, so that whoever
    /// started it starts it again. A Redis that is away is waited for.
    pub async fn run(self, config: WorkerConfig, broker_url: &str, result_backend: &str) -> Result<(), EngineError> {
        let (worker, unsettled) = self.worker(config, broker_url, result_backend).await?;
        crate::trace::watch_panics();
        if isolated::is_child() {
            return Ok(isolated::serve(worker, unsettled).await?);
        }
        crate::statedb::open(&worker)?;
        worker.declare_rate_limits();
        worker.shutdown.listen()?;
        banner(&worker);

        let mut beside = Bootsteps::default();
        beside.start("keeping of claims", crate::heartbeat::keep_claims(worker.clone()));
        beside.start("announcing of results", crate::announcer::announce(worker.clone()));
        beside.start("timer", crate::timer::bring_back(worker.clone()));
        if let Some(address) = worker.config.metrics_address {
            beside.add("port of figures", crate::metrics::serve(worker.clone(), address).await?);
        }
        if worker.config.enable_remote_control {
            beside.start("remote control", crate::control::listen(worker.clone()));
        }
        if worker.config.state_db.is_some() {
            beside.start("state database", crate::statedb::keep(worker.clone()));
        }
        if worker.config.purge {
            purge(&worker).await?;
        }
        if !worker.config.without_heartbeat {
            beside.start("heartbeat", crate::heartbeat::beat(worker.clone()));
        }
        if worker.autoscale.is_some() {
            beside.start("autoscaler", crate::autoscale::watch(worker.clone()));
        }
        // Before the first task: it may be one that others know to be revoked.
        if !worker.config.without_mingle {
            crate::gossip::mingle(&worker).await;
        }
        let (_thread, consumer) = ConsumerThread::start(crate::consumer::consume(worker.clone(), unsettled))?;
        let consumer = consumer.map(|ended| ended.is_ok()).shared();
        tokio::select! {
            biased;
            () = worker.shutdown.wait_warm() => {}
            _ = consumer.clone() => return Err(EngineError::Ended("consumer")),
            name = beside.ended() => return Err(EngineError::Ended(name)),
        }
        // What was fetched at the last moment must be known before it is given back.
        tokio::select! {
            () = worker.shutdown.wait_fetching() => {}
            _ = consumer.clone() => {}
        }
        finish(&worker).await;
        worker.concluding.close();
        let settled = async {
            worker.concluding.wait().await;
            worker.shutdown.end_settling();
            consumer.clone().await;
        };
        if !worker.shutdown.patiently(settled).await {
            warn!("Redis is away: what was not acknowledged will run again elsewhere");
        }
        beside.stop();
        say_goodbye(&worker).await;
        crate::statedb::save(&worker).await;
        info!("worker: {} is gone", worker.node);
        match consumer.now_or_never() {
            Some(false) => Err(EngineError::Ended("consumer")),
            _ => Ok(()),
        }
    }

    /// The parts of a worker, before it does anything.
    async fn worker(
        self,
        config: WorkerConfig,
        broker_url: &str,
        result_backend: &str,
    ) -> Result<(Arc<Worker>, Unsettled), EngineError> {
        let connector = Connector::new(broker_url)?.with_prefix(&config.global_keyprefix);
        let mut client_config = ClientConfig::new(broker_url, result_backend);
        client_config.default_queue.clone_from(&config.default_queue);
        client_config.routes.clone_from(&config.routes);
        client_config.result_expires = config.result_expires;
        client_config.chord_expires = config.chord_expires;
        client_config.global_keyprefix.clone_from(&config.global_keyprefix);
        client_config.serializer = config.task_serializer;
        client_config.compression = config.task_compression;
        client_config.result_format = config.result_format;
        client_config.send_sent_event = config.send_sent_event;
        let client = Client::new(client_config)?;
        let celery = rusty::app(&config.node_name(), &config.default_queue, client.clone()).await?;
        // Set only here, and run consumes the app: it cannot be there already.
        let _ = self.rusty.set(celery);
        let clock = Arc::default();
        let node = config.node_name();
        let events = Events::start(client.broker().clone(), &node, Arc::clone(&clock), config.send_task_events);
        let (settling, unsettled) = Settling::new();
        let worker = Worker::new(Parts {
            config,
            tasks: self.tasks,
            client,
            connector,
            clock,
            events,
            commands: self.commands,
            settling,
        });
        Ok((Arc::new(worker), unsettled))
    }
}

/// Empties the queues that are about to be consumed (`--purge`).
async fn purge(worker: &Worker) -> Result<(), EngineError> {
    for queue in worker.queues() {
        let erased = worker.client.broker().purge(&queue).await?;
        if erased > 0 {
            warn!("purge: Erased {erased} message(s) from the queue {queue}");
        }
    }
    Ok(())
}

/// What has not begun goes back to its queue; what runs may finish, or is ended.
async fn finish(worker: &Arc<Worker>) {
    worker.pool.clear();
    let mut waiting = worker.state.requests(|request| !request.is_settled());
    waiting.retain(|request| request.withdraw());
    if !waiting.is_empty() {
        info!("Restoring {} unacknowledged message(s)", waiting.len());
        let restored = crate::give_back::give_back(worker, &waiting, Side::Next);
        if !worker.shutdown.patiently(restored).await {
            warn!("Redis is away: {} message(s) will be restored by other workers", waiting.len());
        }
    }
    let all_done = async {
        while worker.pool.running() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = all_done => return,
        () = worker.shutdown.wait_cold() => {}
    }
    let running = || worker.state.requests(|request| matches!(request.phase(), Phase::Active(_)));
    let soft = worker.config.soft_shutdown_timeout;
    let mut left = running();
    if !soft.is_zero() && (!left.is_empty() || worker.config.soft_shutdown_on_idle) {
        warn!("Initiating Soft Shutdown, terminating in {} seconds", soft.as_secs_f64());
        wait_for_pool(worker, soft).await;
        left = running();
    }
    left.iter().for_each(|request| request.cancel(Cancel::Shutdown));
    wait_for_pool(worker, LAST_WORDS).await;
}

async fn wait_for_pool(worker: &Worker, at_most: Duration) {
    let until = tokio::time::Instant::now() + at_most;
    while worker.pool.running() > 0 && tokio::time::Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn say_goodbye(worker: &Worker) {
    worker.events.emit("worker-offline", crate::heartbeat::fields(worker));
    let goodbye = async {
        worker.events.flush(LAST_WORDS).await;
        worker.announcer.announce(worker).await;
        crate::control::close(worker).await?;
        worker.claims.leave().await
    };
    match tokio::time::timeout(LAST_WORDS, goodbye).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warn!(%error, "the worker could not take its leave"),
        Err(_) => warn!("the worker could not take its leave within {LAST_WORDS:?}"),
    }
}

fn banner(worker: &Worker) {
    let events = if worker.events.tasks_enabled() { "ON" } else { "OFF (enable -E to monitor tasks in this worker)" };
    let names: Vec<&str> =
        worker.tasks.keys().filter(|name| !name.starts_with("celery.")).map(String::as_str).collect();
    let banner = format!(
        "\n {} petiole {}\n\n[config]\n.> transport:   {}\n.> concurrency: {} (async)\n.> task events: {events}\n\n\
         [queues]\n.> {}\n\n[tasks]\n  . {}\n",
        worker.node,
        env!("CARGO_PKG_VERSION"),
        petiole_redis::redacted(worker.connector.url()),
        worker.pool.limit(),
        worker.queues().join("\n.> "),
        names.join("\n  . "),
    );
    // It is there at any level, as Celery's; among lines for machines it is one of them.
    if tracing::enabled!(tracing::Level::INFO) {
        info!("{banner}");
    } else {
        println!("{banner}");
    }
}
