//! Intervals (celery.schedules: schedule; celery.utils.time: remaining).

use std::fmt;

use chrono::{DateTime, NaiveDateTime, NaiveTime, TimeDelta, Timelike, Utc};
use petiole_protocol::time_zone::{self, Zone};

use crate::schedule::ScheduleError;

/// The shortest interval.
const SHORTEST: f64 = 0.001;
/// The longest interval: a hundred years.
const LONGEST: f64 = 100.0 * 366.0 * 86_400.0;

/// Every so often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interval {
    every: TimeDelta,
    relative: bool,
}

impl Interval {
    /// Every so many seconds. `relative` rounds down to the interval's unit on the clock: an hourly one is due at full
    /// hours, one of a minute or more at full minutes, one of days at midnight.
    ///
    /// # Errors
    /// [`ScheduleError::Interval`]: less than a millisecond, more than a hundred years, or no number.
    pub fn new(seconds: f64, relative: bool) -> Result<Self, ScheduleError> {
        if !(SHORTEST..=LONGEST).contains(&seconds) {
            return Err(ScheduleError::Interval(format!(
                "must be a number of seconds from {SHORTEST} to {LONGEST}, is {seconds}"
            )));
        }
        Ok(Self { every: TimeDelta::microseconds((seconds * 1e6).round() as i64), relative })
    }

    /// Seconds from one time to the next.
    pub fn seconds(&self) -> f64 {
        self.every.num_microseconds().unwrap_or(i64::MAX) as f64 / 1e6
    }

    /// Is it rounded to its unit on the clock?
    pub fn is_relative(&self) -> bool {
        self.relative
    }

    /// The first time after `after`.
    pub fn next_after(&self, after: DateTime<Utc>, zone: &Zone) -> Option<DateTime<Utc>> {
        if self.relative { self.next_rounded(after, zone) } else { after.checked_add_signed(self.every) }
    }

    /// The times that were due from `after` to `now` lie one interval apart; this is the last of them.
    pub fn last_due(&self, after: DateTime<Utc>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let (passed, every) = ((now - after).num_microseconds()?, self.every.num_microseconds()?);
        let whole = passed.checked_div(every).filter(|count| *count > 0)?;
        after.checked_add_signed(TimeDelta::microseconds(whole.checked_mul(every)?))
    }

    /// Rounds down what is one interval after `after`, never to `after` or before it.
    fn next_rounded(&self, after: DateTime<Utc>, zone: &Zone) -> Option<DateTime<Utc>> {
        let wall = time_zone::wall(after, zone);
        let end = after.checked_add_signed(self.every)?;
        if self.every >= TimeDelta::days(1) {
            // Whole days are counted on the calendar, however long they are.
            let end_wall = wall.checked_add_signed(self.every)?;
            let (first, second) = time_zone::instants(self.rounded(end_wall), zone);
            let later = [first, second].into_iter().find(|time| *time > after);
            return Some(later.unwrap_or_else(|| time_zone::instants(end_wall, zone).0));
        }
        let mut found = self.occurrences(time_zone::wall(end, zone), zone);
        let best = latest(&found, |time| time <= end).or_else(|| earliest(&found, |_| true))?;
        if best > after {
            return Some(best);
        }
        if self.every < TimeDelta::minutes(1) {
            // Less than a second cannot be rounded to one.
            return Some(end);
        }
        // Clocks that are put back by less than the unit can round to before the start.
        let unit = if self.every >= TimeDelta::hours(1) { TimeDelta::hours(1) } else { TimeDelta::minutes(1) };
        let later = [time_zone::wall(end, zone).checked_add_signed(unit), wall.checked_add_signed(self.every)];
        found.extend(later.into_iter().flatten().flat_map(|wall| self.occurrences(wall, zone)));
        latest(&found, |time| time > after && time <= end)
            .or_else(|| earliest(&found, |time| time > after))
            .or(Some(end))
    }

    fn occurrences(&self, wall: NaiveDateTime, zone: &Zone) -> Vec<DateTime<Utc>> {
        let (first, second) = time_zone::instants(self.rounded(wall), zone);
        vec![first, second]
    }

    fn rounded(&self, wall: NaiveDateTime) -> NaiveDateTime {
        let (hour, minute, second) = (wall.hour(), wall.minute(), wall.second());
        let time = match self.every {
            every if every >= TimeDelta::days(1) => NaiveTime::from_hms_opt(0, 0, 0),
            every if every >= TimeDelta::hours(1) => NaiveTime::from_hms_opt(hour, 0, 0),
            every if every >= TimeDelta::minutes(1) => NaiveTime::from_hms_opt(hour, minute, 0),
            _ => NaiveTime::from_hms_opt(hour, minute, second),
        };
        wall.date().and_time(time.unwrap_or_default())
    }
}

fn latest(times: &[DateTime<Utc>], fits: impl Fn(DateTime<Utc>) -> bool) -> Option<DateTime<Utc>> {
    times.iter().copied().filter(|time| fits(*time)).max()
}

fn earliest(times: &[DateTime<Utc>], fits: impl Fn(DateTime<Utc>) -> bool) -> Option<DateTime<Utc>> {
    times.iter().copied().filter(|time| fits(*time)).min()
}

/// As Celery shows it.
impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<freq: {}>", humanize_seconds(self.seconds()))
    }
}

/// `30.00 seconds`, `5.00 minutes`, `1.00 day` (celery.utils.time).
pub(crate) fn humanize_seconds(seconds: f64) -> String {
    for (unit, size) in [("day", 86_400.0), ("hour", 3600.0), ("minute", 60.0), ("second", 1.0)] {
        if seconds >= size {
            let count = seconds / size;
            return format!("{count:.2} {unit}{}", if count == 1.0 { "" } else { "s" });
        }
    }
    if seconds > 0.0 { format!("{seconds:.2} seconds") } else { "now".to_owned() }
}
