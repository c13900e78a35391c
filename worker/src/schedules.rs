//! The application's own schedule (`beat_schedule`). Adding a periodic task: one line.
//!
//! Schedules that operators change while all runs are kept in PostgreSQL (`/v1/schedules`), those of one installation in the
//! setting `BEAT_SCHEDULE`.

use petiole_beat::{Entry, ScheduleError};

/// What is sent when, wherever this application runs.
///
/// ```
/// # use petiole_beat::Entry;
/// # use serde_json::json;
/// Entry::every("add-every-30-seconds", 30.0, "demo.add")?.args([json!(1), json!(2)]);
/// Entry::crontab("greet-on-mondays", "30 7 * * mon", "demo.echo")?.args([json!("Good morning")]).expires(3600.0);
/// # Ok::<(), petiole_beat::ScheduleError>(())
/// ```
///
/// # Errors
/// A schedule that is none.
pub fn schedules() -> Result<Vec<Entry>, ScheduleError> {
    Ok(vec![])
}
