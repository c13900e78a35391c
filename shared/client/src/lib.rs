//! The producer's side of Celery: what `celery.Celery` is to a Python caller.
//!
//! | module | what it does | Celery's own |
//! |---|---|---|
//! | [`client`] | send tasks, read and await results | celery.app.base, celery.result |
//! | [`send`] | one call of a task, and the message it becomes | celery.app.task: apply_async |
//! | [`follow`] | what a task says while it runs, and its end | |
//! | [`canvas`] | chains, groups, chords: which messages they become | celery.canvas |
//! | [`apply`] | a whole canvas is sent at once | celery.canvas: apply_async |
//! | [`compose`] | chains, groups and chords in Rust: `chain!`, `group!`, `chord` | celery.canvas |
//! | [`control`] | ask and steer workers | celery.app.control |
//! | [`events`] | what workers tell of tasks | celery.events |
//! | [`limits`] | count requests in windows of time | |
//! | [`queues`] | which queues there are, and what waits in them | celery.bin.amqp |

pub mod apply;
mod async_result;
pub mod canvas;
mod carried;
pub mod client;
pub mod compose;
mod config;
pub mod control;
pub mod dead_letters;
mod error;
pub mod events;
pub mod follow;
#[cfg(test)]
mod fuzz;
pub mod limits;
mod node_name;
pub mod queues;
mod routes;
pub mod send;
mod sent_event;

pub use async_result::{AsyncResult, ResultError};
pub use canvas::{Handle, Plan, Planner, Step};
pub use carried::carrying;
pub use client::{Client, Prepared, SentTask};
pub use compose::{IntoSignature, chord, partial, sig};
pub use config::ClientConfig;
pub use error::ClientError;
pub use follow::{Follow, Update};
pub use node_name::node_name;
pub use petiole_protocol::compression::Compression;
pub use petiole_protocol::serializer::{ResultFormat, Serializer};
pub use petiole_protocol::{Map, Signature, State, TaskException, TaskMeta};
pub use petiole_redis::publish_once::{Once, PublishedOnce};
pub use routes::{Route, Routes};
pub use send::{Expires, TaskSend};
