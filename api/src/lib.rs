//! The HTTP service: requests become rows and Celery messages, results become answers.
//!
//! | module | holds |
//! |---|---|
//! | [`app`] | all routes and what surrounds them; serving until told to stop |
//! | [`state`] | what every request may use: storage, client, embedder, limits |
//! | [`routes`] | one file a resource of the contract |
//! | [`problem`] | the one form of every error (RFC 9457) |
//! | `failures` | which errors an operation may answer with, for the description and the compiler |
//! | [`auth`] | API keys and their scopes |
//! | [`command`] | the command line |
//! | [`keys`] | keys that are issued: made, found again, revoked |
//! | [`limits`] | how many requests a key may make |
//! | `cors`, `etag` | pages of other origins; answers that need not be sent again |
//! | [`request_id`] | one id a request: taken or made, returned, logged, passed on into the task |
//! | `body`, `schema_check` | reading a JSON body and saying exactly what is wrong with it |
//! | `event_types` | which events there are, and what data each takes: one line a type |
//! | `text_events` | the data of events about texts |
//! | `filter` | conditions on the metadata of documents |
//! | `upload` | documents sent as files |
//! | `calls`, `steps` | calls of tasks and steps of workflows as requests bring them |
//! | [`metrics`] | what Prometheus is told |
//! | `recent` | the tasks of late |
//! | `outbox` | messages that are stored with what causes them |
//! | [`relay`] | publishes what the outbox holds |
//! | `task_names` | which tasks may be sent, and which exist |
//! | `spec` | the OpenAPI document and its pages |

pub mod app;
pub mod auth;
mod body;
mod calls;
mod clock;
pub mod command;
mod cors;
mod etag;
mod event_types;
mod failures;
mod filter;
#[cfg(test)]
mod fuzz;
mod json;
pub mod keys;
mod language;
pub mod limits;
pub mod metrics;
mod outbox;
pub mod problem;
mod recent;
pub mod relay;
pub mod request_id;
pub mod routes;
mod schedules;
mod schema_check;
mod spec;
pub mod state;
mod steps;
mod task_names;
mod text_events;
mod upload;
