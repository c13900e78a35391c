//! The whole API, in process, on a port of its own, against a real PostgreSQL (`TEST_DATABASE_URL`) and a real Redis
//! (`TEST_REDIS_URL`).
//!
//! Each test has two threads: the database is dropped while the test's own thread waits, and PostgreSQL waits for
//! connections that are just being opened by the other one.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod answers;
mod dead_letters;
mod documents;
mod errors;
mod events;
mod keys;
mod limits;
mod metrics;
mod page;
mod queues;
mod redis_away;
mod relay;
mod schedules;
mod server;
mod task_names;
mod tasks;
mod workflows;
