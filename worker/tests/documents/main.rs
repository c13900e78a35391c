//! Documents and events against a real PostgreSQL and the real model. `TEST_DATABASE_URL` is the URL of a database whose
//! role may create databases; the model is where `docker/fetch-models.sh` puts it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod database;
mod events;
mod ingest;
