//! Against a real PostgreSQL: `TEST_DATABASE_URL` is the URL of a database whose role may create databases.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod api_keys;
mod away;
mod conversations;
mod database;
mod documents;
mod event_steps;
mod events;
mod outbox;
mod schedules;
mod schema;
mod search;
