//! Documents, events and answers against a real PostgreSQL, a real Redis (`TEST_REDIS_URL`) and the real model. `TEST_DATABASE_URL` is the URL of a database whose
//! role may create databases; the model is where `docker/fetch-models.sh` puts it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod answers;
mod database;
mod events;
mod files;
mod ingest;
mod texts;
