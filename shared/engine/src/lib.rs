//! A Celery worker.
//!
//! | module | what it does | Celery's own |
//! |---|---|---|
//! | [`app`] | tasks and settings, and the run of a worker | celery.app, celery.apps.worker |
//! | [`task`] | what a task is: trait, options, how a run ends | celery.app.task |
//! | [`context`] | what a running task can do | celery.app.task: Task.request and methods |
//! | [`rusty`] | the door for `#[celery::task]` functions | |
//! | [`config`], [`cli`] | settings by Celery's names, flags of `celery worker` | celery.app.defaults, celery.bin.worker |
//! | `worker` | what all parts of a running worker share | celery.worker.worker |
//! | `consumer`, `lookahead` | connection, fetching | celery.worker.consumer |
//! | `consumer_thread` | where that runs | |
//! | `strategy` | what becomes of a message that was fetched | celery.worker.strategy |
//! | `settling` | outcomes and acknowledgements on their way to Redis | celery.worker.request |
//! | `announcer` | a second word about results, for those who listened too late | |
//! | `qos` | prefetch | kombu.transport.virtual: QoS |
//! | `request` | one delivery, from received to settled | celery.worker.request |
//! | `pool` | who runs when | celery.concurrency |
//! | `rate_limit` | so many starts in a time | celery.worker.consumer: task_buckets |
//! | `autoscale` | more slots, fewer slots | celery.worker.autoscale |
//! | `timer` | eta | kombu.asynchronous.timer |
//! | `pace` | which tasks run where they are received | |
//! | `trace` | run it, classify how it ended | celery.app.trace |
//! | `outcome` | what follows from how it ended | celery.backends.base, celery.worker.request |
//! | `retry` | the message of a retry | celery.app.task: Task.retry |
//! | `redelivery` | whether a message that comes again may run | celery.app.trace |
//! | `give_back` | messages go back to their queues | celery.worker.request |
//! | `canvas` | callbacks, chains, chords, errbacks | celery.app.trace, celery.backends |
//! | [`isolated`] | tasks in a process of their own | celery.concurrency.prefork |
//! | `metrics` | what Prometheus sees | |
//! | `events`, `heartbeat` | what monitors see | celery.events, celery.worker.heartbeat |
//! | [`control`] | remote control, one function a command | celery.worker.control |
//! | `election` | one of all workers does something | celery.worker.consumer.gossip |
//! | `statedb` | what survives a restart | celery.worker.state: Persistent |
//! | `gossip` | other workers: mingle, their clocks | celery.worker.consumer: mingle, gossip |
//! | `state` | requests at hand, revoked ids, totals | celery.worker.state |
//! | `shutdown` | warm and cold | celery.apps.worker |
//! | `builtins` | celery.map, starmap, chunks, accumulate, … | celery.app.builtins |

mod announcer;
pub mod app;
mod autoscale;
mod bootsteps;
mod builtins;
mod canvas;
pub mod cli;
mod clock;
pub mod config;
mod consumer;
mod consumer_thread;
pub mod context;
pub mod control;
mod election;
mod events;
mod give_back;
mod gossip;
mod heartbeat;
pub mod isolated;
mod lookahead;
mod metrics;
mod outcome;
mod pace;
mod pool;
mod qos;
mod rate_limit;
mod redelivery;
mod request;
mod retry;
pub mod rusty;
mod settling;
mod shutdown;
mod state;
mod statedb;
mod strategy;
pub mod task;
mod timer;
mod trace;
mod worker;

pub use app::{App, AppBuilder, EngineError};
pub use config::WorkerConfig;
pub use context::{Context, context, raise};
pub use control::ControlState;
pub use statedb::StateDbError;
pub use task::{Fault, Task, TaskOptions};
