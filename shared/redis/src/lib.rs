//! Where Celery's documents live on Redis: kombu's keys and formats, made safe.
//!
//! | module | what it does | kombu's / Celery's own |
//! |---|---|---|
//! | [`Commands`] | a connection for commands | |
//! | `sentinel` | which of several servers is the master | kombu.transport.redis: SentinelChannel |
//! | [`connection`] | connections that come back by themselves | kombu.transport.redis: Channel |
//! | [`keys`] | names of lists, sets and channels | kombu.transport.redis |
//! | [`broker`] | publish, acknowledge, give back, bindings | Channel, QoS |
//! | [`publish_once`] | publish what an outbox holds, once | |
//! | [`consumer`] | fetch without a window in which a message is nowhere | Channel._brpop_start/_read |
//! | [`round_trip`] | one round trip of a consumer, in two steps | |
//! | [`idle`] | what a consumer does while its queues are empty | Channel._brpop_start |
//! | [`settle`] | result, follow-ups, chord count and acknowledgement in one | celery.app.trace, celery.worker.request |
//! | `blocking` | while a worker is idle, Redis gives it the next message by itself | |
//! | `ahead` | long texts that do not pass through the script | |
//! | [`handover`] | messages that a worker sends and takes on itself | |
//! | [`waiting`] | messages whose time is far off | celery.worker.strategy holds them in memory |
//! | `long` | long messages are fetched without a script | |
//! | [`dead`] | messages that no worker will run | |
//! | [`claims`] | who holds what, and what becomes of a dead worker's messages | QoS.restore_visible |
//! | [`roll`] | do other workers than Petiole's live | |
//! | [`backend`] | results | celery.backends.redis |
//! | [`tokens`] | what a task says while it runs | |
//! | [`chord`] | chord counting | celery.backends.redis |
//! | [`queues`] | which queues there are, and what waits in them | Channel._size |
//! | [`fanout`] | channels: events and remote control | kombu.pidbox, celery.events |

mod ahead;
pub mod backend;
mod blocking;
pub mod broker;
pub mod chord;
pub mod claims;
mod commands;
pub mod connection;
pub mod consumer;
pub mod dead;
mod declare;
mod error;
pub mod fanout;
#[cfg(test)]
mod fuzz;
pub mod handover;
pub mod idle;
pub mod keys;
mod long;
pub mod publish_once;
pub mod queues;
pub mod roll;
pub mod round_trip;
mod scripts;
mod sentinel;
pub mod settle;
pub mod tokens;
pub mod waiting;

pub use backend::Backend;
pub use broker::Broker;
pub use commands::Commands;
pub use connection::{Connector, redacted};
pub use error::RedisError;
pub use keys::Keys;
