//! Trying again what may pass: a database that is away, a busy model server.

use petiole_engine::Fault;
use petiole_engine::task::{Failure, Retry, RetryAt};
use petiole_protocol::TaskException;

/// Retries of what may pass: with pauses of up to a minute, about half an hour.
pub(crate) const MAX_RETRIES: u32 = 40;
/// The longest pause before a retry, in seconds.
const LONGEST_PAUSE: f64 = 60.0;

/// Another try of a task that was tried again so often before, after a pause that grows.
pub(crate) fn retry(retries: u32, reason: String) -> Fault {
    let exception = TaskException::builtin("RuntimeError", reason);
    Fault::Retry(Box::new(Retry {
        exception: Some(Failure { exception, trail: vec![] }),
        when: Some(RetryAt::In(2_f64.powi(i32::try_from(retries.min(10)).unwrap_or(10)).min(LONGEST_PAUSE))),
        ..Retry::default()
    }))
}
