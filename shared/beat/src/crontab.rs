//! Crontabs (celery.schedules: crontab, crontab_parser).

use std::fmt;

use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveDateTime, NaiveTime, Timelike, Utc};
use petiole_protocol::time_zone::{self, Zone};

use crate::schedule::ScheduleError;

/// The longest that any valid day can be away: a 29th of February on a given weekday, across a century without a leap day.
const FARTHEST: Days = Days::new(366 * 41);
/// Days of each month, of February in a leap year.
const DAYS_IN_MONTH: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

/// Minutes at which something is due. A day must fit all three of day of the week, day of the month and month, as in
/// Celery and unlike in cron, where one of the two days is enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crontab {
    minute: Field,
    hour: Field,
    day_of_week: Field,
    day_of_month: Field,
    month_of_year: Field,
}

/// One field: as it was written, and the numbers it stands for, as bits.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Field {
    text: String,
    bits: u64,
}

/// What a field may hold.
struct Range {
    name: &'static str,
    first: u32,
    last: u32,
}

const MINUTE: Range = Range { name: "minute", first: 0, last: 59 };
const HOUR: Range = Range { name: "hour", first: 0, last: 23 };
const DAY_OF_WEEK: Range = Range { name: "day_of_week", first: 0, last: 6 };
const DAY_OF_MONTH: Range = Range { name: "day_of_month", first: 1, last: 31 };
const MONTH_OF_YEAR: Range = Range { name: "month_of_year", first: 1, last: 12 };

impl Crontab {
    /// A crontab of five fields, in the order of Celery's `crontab(…)`.
    ///
    /// ```
    /// # use petiole_beat::Crontab;
    /// let working_hours = Crontab::new("*/15", "8-17", "mon-fri", "*", "*")?;
    /// # Ok::<(), petiole_beat::ScheduleError>(())
    /// ```
    ///
    /// # Errors
    /// [`ScheduleError::Crontab`] with the field's name: what it holds is no list of numbers, names, ranges and steps, or is
    /// out of range, or no such day exists.
    pub fn new(
        minute: &str,
        hour: &str,
        day_of_week: &str,
        day_of_month: &str,
        month_of_year: &str,
    ) -> Result<Self, ScheduleError> {
        let crontab = Self {
            minute: Field::parse(&MINUTE, minute)?,
            hour: Field::parse(&HOUR, hour)?,
            day_of_week: Field::parse(&DAY_OF_WEEK, day_of_week)?,
            day_of_month: Field::parse(&DAY_OF_MONTH, day_of_month)?,
            month_of_year: Field::parse(&MONTH_OF_YEAR, month_of_year)?,
        };
        let exists = (1..=12).zip(DAYS_IN_MONTH).any(|(month, days)| {
            crontab.month_of_year.has(month) && (1..=days).any(|day| crontab.day_of_month.has(day))
        });
        if exists {
            return Ok(crontab);
        }
        Err(ScheduleError::Crontab {
            field: DAY_OF_MONTH.name,
            reason: format!("day {day_of_month:?} never occurs in month {month_of_year:?}"),
        })
    }

    /// Reads the usual line: minute, hour, day of the month, month, day of the week.
    ///
    /// ```
    /// # use petiole_beat::Crontab;
    /// assert_eq!(Crontab::from_line("0 4 * * mon")?, Crontab::new("0", "4", "mon", "*", "*")?);
    /// # Ok::<(), petiole_beat::ScheduleError>(())
    /// ```
    ///
    /// # Errors
    /// [`ScheduleError::Crontab`], also for another number of fields.
    pub fn from_line(line: &str) -> Result<Self, ScheduleError> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        match fields[..] {
            [minute, hour, day_of_month, month_of_year, day_of_week] => {
                Self::new(minute, hour, day_of_week, day_of_month, month_of_year)
            }
            _ => Err(ScheduleError::Crontab {
                field: "crontab",
                reason: format!(
                    "must be five fields (minute, hour, day of month, month, day of week), has {}",
                    fields.len()
                ),
            }),
        }
    }

    /// The first time after `after` that fits; none where there is none within forty years.
    ///
    /// Fields are matched against the clock on the wall. An hour that is repeated counts once (its first pass), and a time that
    /// is skipped is due as long after the skip as it was meant to be after the hour before it: all as in Celery. Unlike
    /// Celery's, the answer is always later than `after`.
    pub fn next_after(&self, after: DateTime<Utc>, zone: &Zone) -> Option<DateTime<Utc>> {
        let mut wall = time_zone::wall(after, zone);
        loop {
            wall = self.next_wall(wall)?;
            let (first, second) = time_zone::instants(wall, zone);
            if let Some(next) = [first, second].into_iter().find(|next| *next > after) {
                return Some(next);
            }
        }
    }

    /// The first minute that fits after the minute of `after`.
    fn next_wall(&self, after: NaiveDateTime) -> Option<NaiveDateTime> {
        let today = after.date();
        if self.fits_day(today)
            && let Some(time) = self.next_time(after.time())
        {
            return Some(today.and_time(time));
        }
        let last = today.checked_add_days(FARTHEST)?;
        let mut day = today.succ_opt()?;
        while day <= last {
            if self.fits_day(day) {
                return Some(day.and_time(NaiveTime::from_hms_opt(self.hour.first(), self.minute.first(), 0)?));
            }
            day = if self.month_of_year.has(day.month()) { day.succ_opt()? } else { next_month(day)? };
        }
        None
    }

    fn fits_day(&self, day: NaiveDate) -> bool {
        self.month_of_year.has(day.month())
            && self.day_of_month.has(day.day())
            && self.day_of_week.has(day.weekday().num_days_from_sunday())
    }

    fn next_time(&self, after: NaiveTime) -> Option<NaiveTime> {
        let minute = self.minute.after(after.minute()).filter(|_| self.hour.has(after.hour()));
        match minute {
            Some(minute) => NaiveTime::from_hms_opt(after.hour(), minute, 0),
            None => NaiveTime::from_hms_opt(self.hour.after(after.hour())?, self.minute.first(), 0),
        }
    }

    /// The usual line, which [`Crontab::from_line`] reads.
    pub fn line(&self) -> String {
        let fields = [&self.minute, &self.hour, &self.day_of_month, &self.month_of_year, &self.day_of_week];
        fields.map(|field| field.text.as_str()).join(" ")
    }
}

/// As Celery shows it.
impl fmt::Display for Crontab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<crontab: {} (m/h/dM/MY/d)>", self.line())
    }
}

fn next_month(day: NaiveDate) -> Option<NaiveDate> {
    match day.month() {
        12 => NaiveDate::from_ymd_opt(day.year() + 1, 1, 1),
        month => NaiveDate::from_ymd_opt(day.year(), month + 1, 1),
    }
}

impl Field {
    fn parse(range: &Range, text: &str) -> Result<Self, ScheduleError> {
        let mut bits = 0;
        for part in text.split(',') {
            bits |= part_bits(range, part.trim()).map_err(|reason| ScheduleError::Crontab {
                field: range.name,
                reason: format!("{text:?}: {reason}"),
            })?;
        }
        // Blanks would make more than five fields of the line.
        Ok(Self { text: text.split_whitespace().collect(), bits })
    }

    fn has(&self, number: u32) -> bool {
        self.bits >> number & 1 == 1
    }

    fn first(&self) -> u32 {
        self.bits.trailing_zeros()
    }

    fn after(&self, number: u32) -> Option<u32> {
        let later = self.bits & (!1_u64 << number);
        (later != 0).then(|| later.trailing_zeros())
    }
}

/// One part of a field: `*`, `*/2`, `5`, `mon`, `1-5`, `22-2/3`.
fn part_bits(range: &Range, part: &str) -> Result<u64, String> {
    let (numbers, step) = match part.split_once('/') {
        Some((numbers, step)) => (numbers, Some(step)),
        None => (part, None),
    };
    let step = match step {
        None => 1,
        // A single number has no steps to take.
        Some(_) if numbers != "*" && !numbers.contains('-') => {
            return Err(format!("steps need a range or *, {part:?} has neither"));
        }
        Some(text) => match digits(text) {
            Some(step) if step > 0 => step as usize,
            _ => return Err(format!("a step must be a number from 1, is {text:?}")),
        },
    };
    let values: Vec<u32> = match numbers.split_once('-') {
        _ if numbers == "*" => (range.first..=range.last).collect(),
        None => vec![number(range, numbers)?],
        Some((from, to)) => {
            let (from, to) = (number(range, from)?, number(range, to)?);
            match from <= to {
                true => (from..=to).collect(),
                // through the end and on from the beginning
                false => (from..=range.last).chain(range.first..=to).collect(),
            }
        }
    };
    Ok(values.into_iter().step_by(step).fold(0, |bits, value| bits | 1 << value))
}

fn number(range: &Range, text: &str) -> Result<u32, String> {
    let Some(number) = digits(text).or_else(|| name(text)) else {
        return Err(match text {
            "" => "a number is missing".to_owned(),
            _ => format!("{text:?} is neither a number nor the name of a day or month"),
        });
    };
    match (range.first..=range.last).contains(&number) {
        true => Ok(number),
        false => Err(format!("must be from {} to {}, is {text}", range.first, range.last)),
    }
}

fn digits(text: &str) -> Option<u32> {
    // Parsing alone would also take a sign.
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// Days and months are known by their first three letters: `mon`, `Monday`, `thurs`.
fn name(text: &str) -> Option<u32> {
    if !text.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return None;
    }
    let short = text.get(..3)?.to_ascii_lowercase();
    let position = |names: &[&str]| names.iter().position(|name| *name == short);
    let month = position(&MONTHS).map(|at| at as u32 + 1);
    month.or_else(|| position(&WEEKDAYS).map(|at| at as u32))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn errors_name_the_field_and_what_is_wrong() {
        for (line, expected) in [
            ("61 * * * *", "minute \"61\": must be from 0 to 59, is 61"),
            ("* 1-x * * *", "hour \"1-x\": \"x\" is neither a number nor the name of a day or month"),
            ("* * */0 * *", "day_of_month \"*/0\": a step must be a number from 1, is \"0\""),
            ("* * * 13 *", "month_of_year \"13\": must be from 1 to 12, is 13"),
            ("* * * * 7", "day_of_week \"7\": must be from 0 to 6, is 7"),
            ("5/10 * * * *", "minute \"5/10\": steps need a range or *, \"5/10\" has neither"),
            ("1, * * * *", "minute \"1,\": a number is missing"),
            ("0 0 30 feb *", "day_of_month day \"30\" never occurs in month \"feb\""),
            ("* * * *", "crontab must be five fields (minute, hour, day of month, month, day of week), has 4"),
        ] {
            assert_eq!(Crontab::from_line(line).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn the_line_comes_back() {
        let crontab = Crontab::new("1, 2", "*/3", "mon", "1-7", "jan").unwrap();
        assert_eq!(crontab.line(), "1,2 */3 1-7 jan mon");
        assert_eq!(Crontab::from_line(&crontab.line()).unwrap(), crontab);
    }
}
