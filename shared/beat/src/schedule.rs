//! When something is due (celery.schedules).

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use petiole_protocol::time_zone::{UnknownZone, Zone};
use serde_json::Value;

use crate::crontab::Crontab;
use crate::interval::Interval;

/// Why a schedule is none.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ScheduleError {
    /// A field of a crontab.
    #[error("{field} {reason}")]
    Crontab {
        /// `minute`, `hour`, `day_of_month`, `month_of_year`, `day_of_week`, or `crontab` for the whole.
        field: &'static str,
        /// What it held and what it may hold.
        reason: String,
    },
    /// The length of an interval.
    #[error("interval {0}")]
    Interval(String),
    /// A time zone that nobody knows.
    #[error("timezone {0}")]
    Zone(#[from] UnknownZone),
    /// Another kind of schedule.
    #[error("{0}")]
    Kind(String),
    /// A field of an entry.
    #[error("{field}: {reason}")]
    Entry {
        /// The field.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// When something is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schedule {
    /// At certain minutes, by the clock of a time zone; none: by the application's (`TIMEZONE`).
    Crontab(Crontab, Option<Zone>),
    /// Every so often.
    Interval(Interval),
}

/// Whether something is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Yes, since then.
    Since(DateTime<Utc>),
    /// Not before then; none: never again.
    At(Option<DateTime<Utc>>),
}

impl Schedule {
    /// A crontab's line, on the clock of the time zone of this name.
    ///
    /// # Errors
    /// [`ScheduleError::Crontab`], [`ScheduleError::Zone`].
    pub fn crontab(line: &str, zone: Option<&str>) -> Result<Self, ScheduleError> {
        Ok(Self::Crontab(Crontab::from_line(line)?, zone.map(time_zone).transpose()?))
    }

    /// Every so many seconds, see [`Interval::new`].
    ///
    /// # Errors
    /// [`ScheduleError::Interval`].
    pub fn interval(seconds: f64, relative: bool) -> Result<Self, ScheduleError> {
        Interval::new(seconds, relative).map(Self::Interval)
    }

    /// The first time after `after`; none: there is none within forty years.
    pub fn next_after(&self, after: DateTime<Utc>, zone: &Zone) -> Option<DateTime<Utc>> {
        match self {
            Self::Crontab(crontab, own) => crontab.next_after(after, own.as_ref().unwrap_or(zone)),
            Self::Interval(interval) => interval.next_after(after, zone),
        }
    }

    /// Is it due at `now`, when it last ran at `last`? With a `deadline` (`beat_cron_starting_deadline`), a crontab that should
    /// have run longer ago than that is not caught up.
    pub fn due(&self, last: DateTime<Utc>, now: DateTime<Utc>, zone: &Zone, deadline: Option<TimeDelta>) -> Due {
        let next = self.next_after(last, zone);
        let Some(since) = next.filter(|next| *next <= now) else { return Due::At(next) };
        let in_time = match (self, deadline) {
            (Self::Crontab(..), Some(deadline)) if since < now => {
                let from = now - deadline - TimeDelta::microseconds(1);
                self.next_after(from, zone).is_some_and(|next| next <= now)
            }
            _ => true,
        };
        if in_time { Due::Since(since) } else { Due::At(self.next_after(now, zone)) }
    }

    /// What counts as the last run of a run at `now` that was due since `since`. An interval keeps its pace, however late the
    /// run is; what was missed in between is not made up for.
    pub fn ran(&self, last: DateTime<Utc>, since: DateTime<Utc>, now: DateTime<Utc>) -> DateTime<Utc> {
        match self {
            Self::Interval(interval) if !interval.is_relative() => interval.last_due(last, now).unwrap_or(since),
            _ => now.max(since),
        }
    }

    /// Reads a schedule as it is written in JSON: a number of seconds, a crontab's line, or an object with the fields of
    /// Celery's `crontab(…)`.
    ///
    /// # Errors
    /// [`ScheduleError`]; solar schedules are refused.
    pub fn from_json(value: &Value, relative: bool) -> Result<Self, ScheduleError> {
        match value {
            Value::Number(number) => Ok(Self::Interval(Interval::new(number.as_f64().unwrap_or(f64::NAN), relative)?)),
            Value::String(line) => Ok(Self::Crontab(Crontab::from_line(line)?, None)),
            Value::Object(fields) => {
                const KNOWN: [&str; 5] = ["minute", "hour", "day_of_week", "day_of_month", "month_of_year"];
                if fields.keys().any(|name| ["solar", "event", "lat", "lon"].contains(&name.as_str())) {
                    return Err(Self::solar());
                }
                if let Some(other) = fields.keys().find(|name| !KNOWN.contains(&name.as_str())) {
                    let reason = format!("is not a field of a crontab; these are {}", KNOWN.join(", "));
                    return Err(ScheduleError::Entry { field: other.clone(), reason });
                }
                let field = |name: &str| match fields.get(name) {
                    None | Some(Value::Null) => "*".to_owned(),
                    Some(Value::String(text)) => text.clone(),
                    Some(Value::Array(items)) => items.iter().map(Value::to_string).collect::<Vec<_>>().join(","),
                    Some(other) => other.to_string(),
                };
                let [minute, hour, day_of_week, day_of_month, month_of_year] = KNOWN.map(field);
                Ok(Self::Crontab(Crontab::new(&minute, &hour, &day_of_week, &day_of_month, &month_of_year)?, None))
            }
            _ => Err(ScheduleError::Kind(
                "a schedule must be a number of seconds, a crontab's line or its fields".to_owned(),
            )),
        }
    }

    fn solar() -> ScheduleError {
        ScheduleError::Kind("solar schedules are not supported: use a crontab or an interval".to_owned())
    }
}

/// A time zone by its name, such as `Europe/Berlin`.
///
/// # Errors
/// [`ScheduleError::Zone`].
pub fn time_zone(name: &str) -> Result<Zone, ScheduleError> {
    Ok(name.parse()?)
}

/// As Celery shows it.
impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crontab(crontab, _) => crontab.fmt(f),
            Self::Interval(interval) => interval.fmt(f),
        }
    }
}
