//! Time zones, and clocks on the wall: from an instant to what they show, and back (celery.utils.time: make_aware, localize).

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Datelike, NaiveDateTime, TimeDelta, Timelike, Utc};
use jiff::civil;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};

/// A time zone of the IANA database. The database is part of the program: containers often have none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone(TimeZone);

/// A name that is not in the time zone database.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{0:?} is not in the time zone database; a name such as Europe/Berlin is")]
pub struct UnknownZone(String);

impl Zone {
    /// The clock of Greenwich.
    pub const UTC: Self = Self(TimeZone::UTC);

    /// Its name in the database.
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }

    /// The names of all, sorted.
    pub fn names() -> Vec<String> {
        let mut names: Vec<String> = jiff::tz::db().available().map(|name| name.as_str().to_owned()).collect();
        names.sort_unstable();
        names
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Zone {
    type Err = UnknownZone;

    /// Reads a name, as it is written in the database.
    fn from_str(name: &str) -> Result<Self, UnknownZone> {
        let zone = TimeZone::get(name).ok().filter(|zone| zone.iana_name() == Some(name));
        zone.map(Self).ok_or_else(|| UnknownZone(name.to_owned()))
    }
}

/// What a clock in `zone` shows. At the end of all time, where there is no such time, what one in UTC does.
pub fn wall(instant: DateTime<Utc>, zone: &Zone) -> NaiveDateTime {
    let utc = instant.naive_utc();
    let Ok(timestamp) = jiff::Timestamp::from_second(instant.timestamp()) else { return utc };
    utc.checked_add_signed(ahead(zone.0.to_offset(timestamp))).unwrap_or(utc)
}

/// The instants at which a clock shows this: twice the same, unless the hour is repeated. A time that is skipped is read by the
/// clock that was not put forward yet.
pub fn instants(wall: NaiveDateTime, zone: &Zone) -> (DateTime<Utc>, DateTime<Utc>) {
    let instant = |offset| wall.checked_sub_signed(ahead(offset)).unwrap_or(wall).and_utc();
    let Some(time) = civil_time(wall) else { return (wall.and_utc(), wall.and_utc()) };
    match zone.0.to_ambiguous_timestamp(time).offset() {
        AmbiguousOffset::Unambiguous { offset } | AmbiguousOffset::Gap { before: offset, .. } => {
            (instant(offset), instant(offset))
        }
        AmbiguousOffset::Fold { before, after } => (instant(before), instant(after)),
    }
}

fn ahead(offset: Offset) -> TimeDelta {
    TimeDelta::seconds(offset.seconds().into())
}

/// None: a year that the database knows nothing of.
fn civil_time(wall: NaiveDateTime) -> Option<civil::DateTime> {
    let part = |number: u32| i8::try_from(number).ok();
    civil::DateTime::new(
        wall.year().try_into().ok()?,
        part(wall.month())?,
        part(wall.day())?,
        part(wall.hour())?,
        part(wall.minute())?,
        part(wall.second())?,
        0,
    )
    .ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn both(text: &str, zone: &Zone) -> (String, String) {
        let (first, second) = instants(text.parse().unwrap(), zone);
        (first.format("%d %H:%M").to_string(), second.format("%d %H:%M").to_string())
    }

    fn zone(name: &str) -> Zone {
        name.parse().unwrap()
    }

    #[test]
    fn names_are_those_of_the_database() {
        assert_eq!((zone("Asia/Kathmandu").name(), zone("UTC")), ("Asia/Kathmandu", Zone::UTC));
        for name in ["", "Mars", "europe/berlin", "../etc/passwd", "CEST"] {
            assert!(name.parse::<Zone>().is_err(), "{name}");
        }
        let names = Zone::names();
        assert!(names.len() > 500 && names.iter().all(|name| zone(name).name() == name), "{}", names.len());
    }

    #[test]
    fn skipped_and_repeated_times() {
        let pair = |first: &str, second: &str| (first.to_owned(), second.to_owned());
        let [berlin, new_york, apia] = ["Europe/Berlin", "America/New_York", "Pacific/Apia"].map(zone);
        assert_eq!(both("2024-03-31T01:59:00", &berlin), pair("31 00:59", "31 00:59"));
        assert_eq!(both("2024-03-31T02:30:00", &berlin), pair("31 01:30", "31 01:30"));
        assert_eq!(both("2024-10-27T02:30:00", &berlin), pair("27 00:30", "27 01:30"));
        // the end of all time, which no clock east of Greenwich can show
        assert_eq!(wall(DateTime::<Utc>::MAX_UTC, &berlin), DateTime::<Utc>::MAX_UTC.naive_utc());
        assert_eq!(instants(NaiveDateTime::MAX, &new_york).0, DateTime::<Utc>::MAX_UTC);
        // a whole day that never was
        assert_eq!(both("2011-12-30T12:00:00", &apia), pair("30 22:00", "30 22:00"));
    }
}
