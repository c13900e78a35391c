//! Periodic tasks: what `celery beat` does, by several at once if need be.
//!
//! | module | what it does | Celery's own |
//! |---|---|---|
//! | [`Crontab`], [`Interval`], [`Schedule`] | when something is due | celery.schedules |
//! | [`Entry`] | what is to be sent when | celery.beat: ScheduleEntry |
//! | [`Source`] | where entries come from that may change | django-celery-beat |
//! | [`options`] | options of a call, written as JSON | celery.app.task: apply_async |
//! | `message` | the message of a periodic task | celery.beat: Scheduler.apply_async |
//! | `scheduler` | what is due, and sending it | celery.beat: Scheduler |
//! | `store` | the lock and the last runs, on Redis | celery.beat: PersistentScheduler |
//! | [`Beat`] | its run | celery.beat: Service |
//! | [`cli`], [`BeatConfig`] | flags and settings | celery.bin.beat, celery.apps.beat |

pub mod cli;
mod config;
mod crontab;
mod entry;
#[cfg(test)]
mod fuzz;
mod interval;
mod message;
pub mod options;
mod remote_control;
mod schedule;
mod scheduler;
mod service;
mod source;
mod store;

pub use config::BeatConfig;
pub use crontab::Crontab;
pub use entry::{Entry, Ran};
pub use interval::Interval;
pub use petiole_protocol::time_zone::Zone;
pub use schedule::{Due, Schedule, ScheduleError, time_zone};
pub use service::Beat;
pub use source::{Source, SourceError};
