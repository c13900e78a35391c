//! What all parts of a running worker share (celery.worker.worker: WorkController).

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use petiole_client::canvas::SendDefaults;
use petiole_client::{Client, ClientError, Plan, Planner};
use petiole_protocol::{Map, Signature, TaskMessage, TimeLimits};
use petiole_redis::claims::Claims;
use petiole_redis::{Connector, RedisError};
use serde::Serialize;
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::announcer::Announcer;
use crate::autoscale::Autoscale;
use crate::clock::Clock;
use crate::config::{WorkerConfig, direct_queue};
use crate::control::{Commands, Exchange};
use crate::election::Elections;
use crate::events::Events;
use crate::metrics::Figures;
use crate::pace::Paces;
use crate::pool::Pool;
use crate::qos::Qos;
use crate::rate_limit::RateLimits;
use crate::request::Request;
use crate::settling::Settling;
use crate::shutdown::Shutdown;
use crate::state::{Locked, State, lock};
use crate::task::Task;
use crate::timer::Timer;

/// A running worker.
pub(crate) struct Worker {
    pub(crate) config: WorkerConfig,
    /// The node name.
    pub(crate) node: String,
    /// The name of its claims: new for every start.
    pub(crate) owner: String,
    pub(crate) tasks: BTreeMap<String, Arc<dyn Task>>,
    pub(crate) client: Client,
    pub(crate) connector: Connector,
    pub(crate) claims: Claims,
    pub(crate) clock: Arc<Clock>,
    pub(crate) events: Events,
    pub(crate) state: State,
    pub(crate) pool: Pool,
    pub(crate) paces: Paces,
    /// None: the number of slots is fixed.
    pub(crate) autoscale: Option<Autoscale>,
    pub(crate) qos: Qos,
    pub(crate) rate_limits: RateLimits,
    pub(crate) elections: Elections,
    /// Commands of the application's own.
    pub(crate) commands: Commands,
    pub(crate) shutdown: Shutdown,
    pub(crate) timer: Timer,
    pub(crate) settling: Settling,
    pub(crate) announcer: Announcer,
    /// Where tasks run that do not end at once, and all that is no part of consuming.
    pub(crate) runtime: Handle,
    /// Conclusions that are drawn while their slot runs the next task.
    pub(crate) concluding: TaskTracker,
    pub(crate) started: Instant,
    /// When this worker last began to say, with success, that it lives.
    pub(crate) said_alive: Locked<Option<Instant>>,
    /// How often its claim was found to have lapsed.
    pub(crate) lapses: AtomicU64,
    /// Delivery tags that came with a connection which was lost, and when that was found.
    pub(crate) given_up: Locked<Vec<(String, Instant)>>,
    /// None: nobody asks for them.
    pub(crate) figures: Option<Figures>,
    time_limits: Locked<HashMap<String, TimeLimits>>,
    queues: Locked<Vec<String>>,
    queues_changed: Notify,
    /// What queues are bound to beside an exchange of their own name.
    exchanges: Locked<HashMap<String, Exchange>>,
}

/// The task that sends another.
pub(crate) struct Parent<'a> {
    /// The first task of the tree.
    pub(crate) root_id: &'a str,
    /// The task itself.
    pub(crate) id: &'a str,
    /// The priority of its message, where it is at hand.
    pub(crate) priority: Option<i64>,
}

impl<'a> Parent<'a> {
    /// The task of a message.
    pub(crate) fn of(message: &'a TaskMessage) -> Self {
        Self { root_id: message.root(), id: &message.id, priority: Some(message.properties.priority) }
    }
}

/// The parts a worker is made of.
pub(crate) struct Parts {
    pub(crate) config: WorkerConfig,
    pub(crate) tasks: BTreeMap<String, Arc<dyn Task>>,
    pub(crate) client: Client,
    pub(crate) connector: Connector,
    pub(crate) clock: Arc<Clock>,
    pub(crate) events: Events,
    pub(crate) commands: Commands,
    pub(crate) settling: Settling,
}

impl Worker {
    /// Of these parts, on the runtime that calls.
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { config, tasks, client, connector, clock, events, commands, settling } = parts;
        let node = config.node_name();
        let owner = format!("{node}:{}", uuid::Uuid::new_v4());
        let autoscale = config.autoscale.map(|(max, min)| Autoscale::new(min, max));
        // A pool that may grow fetches for its largest size.
        let (slots, most) = config.autoscale.map_or((config.slots(), config.slots()), |(max, min)| (min, max));
        Self {
            autoscale,
            time_limits: Locked::default(),
            claims: Claims::new(client.broker().clone(), &owner),
            pool: Pool::new(slots),
            paces: Paces::new(&tasks),
            qos: Qos::new(most * config.multiplier()),
            queues: Locked::new(config.consumed_queues()),
            queues_changed: Notify::new(),
            exchanges: Locked::new(if config.direct {
                HashMap::from([(direct_queue(&node), Exchange::direct(&node))])
            } else {
                HashMap::new()
            }),
            shutdown: Shutdown::default(),
            timer: Timer::default(),
            state: State::default(),
            rate_limits: RateLimits::default(),
            elections: Elections::default(),
            commands,
            settling,
            announcer: Announcer::default(),
            runtime: Handle::current(),
            concluding: TaskTracker::new(),
            started: Instant::now(),
            said_alive: Locked::default(),
            lapses: AtomicU64::default(),
            given_up: Locked::default(),
            figures: config.metrics_address.map(|_| Figures::new()),
            config,
            node,
            owner,
            tasks,
            client,
            connector,
            clock,
            events,
        }
    }

    /// Changes the time limits of a task, for calls that give none.
    pub(crate) fn set_time_limits(&self, task: &str, soft: Option<f64>, hard: Option<f64>) {
        lock(&self.time_limits).insert(task.to_owned(), TimeLimits { hard, soft });
    }

    /// The time limits of a task: as they were changed, or as it declares them.
    pub(crate) fn time_limits(&self, task: &dyn Task) -> TimeLimits {
        let changed = lock(&self.time_limits).get(task.name()).copied();
        changed.unwrap_or_else(|| {
            let options = task.options();
            TimeLimits { hard: options.time_limit, soft: options.soft_time_limit }
        })
    }

    /// Sets the rate limits that tasks declare, or all of them have by default.
    pub(crate) fn declare_rate_limits(&self) {
        for (name, task) in &self.tasks {
            let declared = task.options().rate_limit.or_else(|| self.config.default_rate_limit.clone());
            let Some(rate) = declared.filter(|_| !name.starts_with("celery.")) else { continue };
            if let Err(error) = self.rate_limits.set(name, Some(&rate)) {
                warn!("the rate limit {rate:?} of {name} is left out: {error}");
            }
        }
    }

    /// The queues that are consumed now.
    pub(crate) fn queues(&self) -> Vec<String> {
        lock(&self.queues).clone()
    }

    /// What a queue is bound to.
    pub(crate) fn exchange_of(&self, queue: &str) -> Exchange {
        lock(&self.exchanges).get(queue).cloned().unwrap_or_else(|| Exchange::own(queue))
    }

    /// Notes what a queue is bound to.
    pub(crate) fn bind_to(&self, queue: &str, exchange: Exchange) {
        lock(&self.exchanges).insert(queue.to_owned(), exchange);
    }

    /// Changes the queues that are consumed.
    pub(crate) fn change_queues(&self, change: impl FnOnce(&mut Vec<String>)) {
        change(&mut lock(&self.queues));
        self.queues_changed.notify_one();
    }

    /// Waits until the queues were changed.
    pub(crate) async fn queues_changed(&self) {
        self.queues_changed.notified().await;
    }

    /// Plans a signature that a task sends.
    pub(crate) fn plan(
        &self,
        parent: &Parent<'_>,
        signature: Signature,
        prefix: &[Value],
        extra: Map,
    ) -> Result<Plan, ClientError> {
        self.planning(parent, |planner| planner.plan(signature, prefix, extra))
    }

    /// Plans what a task sends.
    pub(crate) fn planning<T>(&self, parent: &Parent<'_>, plan: impl FnOnce(Planner<'_>) -> T) -> T {
        let defaults = |name: &str| {
            let route = self.config.routes.of(name).cloned().unwrap_or_default();
            let Some(task) = self.tasks.get(name) else {
                return Some(SendDefaults {
                    queue: route.queue,
                    priority: route.priority.map(i64::from),
                    ..SendDefaults::default()
                });
            };
            let options = task.options();
            Some(SendDefaults {
                queue: options.queue.or(route.queue),
                priority: options.priority.or(route.priority.map(i64::from)),
                ignore_result: Some(options.ignore_result.unwrap_or(self.config.ignore_result)),
                expires: options.expires,
            })
        };
        let inherited = parent.priority.filter(|_| self.config.inherit_parent_priority);
        let planner = Planner {
            default_queue: &self.config.default_queue,
            now: self.timer.now(),
            root_id: Some(parent.root_id.to_owned()),
            parent_id: Some(parent.id.to_owned()),
            priority: inherited.or(self.config.default_priority),
            defaults: &defaults,
        };
        plan(planner)
    }

    /// Are results of this request stored?
    pub(crate) fn stores_result(&self, request: &Request) -> bool {
        let declared = request.task.options().ignore_result.unwrap_or(self.config.ignore_result);
        !request.message.ignore_result.unwrap_or(declared)
    }

    /// Are failures of this request stored?
    pub(crate) fn stores_errors(&self, request: &Request) -> bool {
        self.stores_result(request) || self.config.store_errors_even_if_ignored
    }

    /// Would an event about a request be sent?
    pub(crate) fn wants_event(&self, request: &Request) -> bool {
        self.events.tasks_enabled() && request.task.options().send_events != Some(false)
    }

    /// Counts what has become of a request, and sends an event about it.
    pub(crate) fn task_event(&self, request: &Request, kind: &str, fields: impl Serialize) {
        self.count(request, kind);
        if request.task.options().send_events != Some(false) {
            self.events.emit(kind, fields);
        }
    }
}

/// Something that tells whether trying again may help.
pub(crate) trait MayPass: std::fmt::Display {
    /// True when the same call may succeed later.
    fn may_pass(&self) -> bool;
}

impl MayPass for RedisError {
    fn may_pass(&self) -> bool {
        self.is_unavailable()
    }
}

impl MayPass for ClientError {
    fn may_pass(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

/// Calls until it succeeds or fails for good, with growing pauses.
pub(crate) async fn until_done<T, E: MayPass, F: Future<Output = Result<T, E>>>(
    what: &str,
    mut call: impl FnMut() -> F,
) -> Result<T, E> {
    let mut pause = Duration::from_millis(20);
    let mut tries = 0_u32;
    loop {
        match call().await {
            Err(error) if error.may_pass() => {
                if tries == 0 {
                    warn!(%error, "cannot {what} now, trying again");
                }
                tries += 1;
                tokio::time::sleep(pause.mul_f64(0.5 + rand::random::<f64>())).await;
                pause = (pause * 2).min(Duration::from_secs(1));
            }
            other => return other,
        }
    }
}
