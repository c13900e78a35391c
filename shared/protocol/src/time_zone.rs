//! Clocks on the wall: from an instant to what they show, and back (celery.utils.time: make_aware, localize).

use chrono::{DateTime, FixedOffset, MappedLocalTime, NaiveDateTime, Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

/// What a clock in `zone` shows. At the end of all time, where there is no such time, what one in UTC does.
pub fn wall(instant: DateTime<Utc>, zone: Tz) -> NaiveDateTime {
    let utc = instant.naive_utc();
    utc.checked_add_offset(zone.offset_from_utc_datetime(&utc).fix()).unwrap_or(utc)
}

fn instant(wall: NaiveDateTime, offset: FixedOffset) -> DateTime<Utc> {
    wall.checked_sub_offset(offset).unwrap_or(wall).and_utc()
}

/// The instants at which a clock shows this: twice the same, unless the hour is repeated. A time that is skipped is read by the
/// clock that was not put forward yet.
pub fn instants(wall: NaiveDateTime, zone: Tz) -> (DateTime<Utc>, DateTime<Utc>) {
    let quarter = TimeDelta::minutes(15);
    let mut before = wall;
    loop {
        match zone.offset_from_local_datetime(&before) {
            MappedLocalTime::Single(offset) => {
                let instant = instant(wall, offset.fix());
                return (instant, instant);
            }
            MappedLocalTime::Ambiguous(one, other) => {
                let (one, other) = (instant(wall, one.fix()), instant(wall, other.fix()));
                let (first, second) = (one.min(other), one.max(other));
                // Between a repeated hour and a skip: what holds at the skip is the later offset.
                return if before == wall { (first, second) } else { (second, second) };
            }
            MappedLocalTime::None => match before.checked_sub_signed(quarter) {
                Some(earlier) => before = earlier,
                None => return (wall.and_utc(), wall.and_utc()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn both(text: &str, zone: Tz) -> (String, String) {
        let (first, second) = instants(text.parse().unwrap(), zone);
        (first.format("%d %H:%M").to_string(), second.format("%d %H:%M").to_string())
    }

    #[test]
    fn skipped_and_repeated_times() {
        let pair = |first: &str, second: &str| (first.to_owned(), second.to_owned());
        let berlin = Tz::Europe__Berlin;
        assert_eq!(both("2024-03-31T01:59:00", berlin), pair("31 00:59", "31 00:59"));
        assert_eq!(both("2024-03-31T02:30:00", berlin), pair("31 01:30", "31 01:30"));
        assert_eq!(both("2024-10-27T02:30:00", berlin), pair("27 00:30", "27 01:30"));
        // the end of all time, which no clock east of Greenwich can show
        assert_eq!(wall(DateTime::<Utc>::MAX_UTC, berlin), DateTime::<Utc>::MAX_UTC.naive_utc());
        assert_eq!(instants(NaiveDateTime::MAX, Tz::America__New_York).0, DateTime::<Utc>::MAX_UTC);
        // a whole day that never was
        assert_eq!(both("2011-12-30T12:00:00", Tz::Pacific__Apia), pair("30 22:00", "30 22:00"));
    }
}
