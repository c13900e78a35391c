//! The Redis side against a real Redis. Each test has a key prefix of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod broker;
mod commands;
mod fanout;
mod fixture;
mod handover;
mod idle;
mod long;
mod publish_once;
mod round_trip;
mod settle;
mod waiting;
