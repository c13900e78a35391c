//! A worker in this process against a real Redis. Each test has a queue, a node name and a key prefix of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod control;
mod delivery;
mod eta;
mod events;
mod metrics;
mod outcomes;
mod stand;
mod tasks;
