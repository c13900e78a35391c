//! Celery's documents, as types. Pure: no I/O, no clock, no runtime.
//!
//! | module | what it holds | Celery's / kombu's own |
//! |---|---|---|
//! | [`envelope`] | what lies in a Redis list or travels on a channel | kombu.transport.virtual.base |
//! | [`serializer`] | content types, JSON as Python writes and reads it | kombu.serialization |
//! | [`compression`] | compressed bodies | kombu.compression |
//! | [`message`] | a task message, protocol 1 and 2 | celery.app.amqp, celery.worker.request |
//! | [`chain`] | the rest of a chain, as it travels | celery.canvas |
//! | [`signature`] | a task to be called: the canvas' building block | celery.canvas |
//! | [`result`] | what the result backend stores | celery.backends.base |
//! | [`exception`] | an exception, such that Python gets its class back | celery.utils.serialization |
//! | [`event`] | what Flower listens to | celery.events |
//! | [`pidbox`] | remote control: requests and replies | kombu.pidbox |
//! | [`repr`] | Python's notation of values, for logs and monitors | celery.utils.saferepr |
//! | [`time`] | eta and expires | celery.utils.iso8601 |
//! | [`time_zone`] | clocks on the wall | celery.utils.time |

mod body_encoding;
pub mod chain;
pub mod compression;
pub mod envelope;
pub mod event;
pub mod exception;
pub mod message;
pub mod pidbox;
pub mod repr;
pub mod result;
pub mod serializer;
pub mod signature;
mod task_reader;
pub mod time;
pub mod time_zone;

pub use chain::Chain;
pub use envelope::{Envelope, Properties};
pub use exception::TaskException;
pub use message::{Embed, TaskMessage, TimeLimits};
pub use result::{State, TaskMeta};
pub use serializer::DecodeError;
pub use signature::{Signature, to_value};

/// A JSON object, in the order of its keys.
pub type Map = serde_json::Map<String, serde_json::Value>;
