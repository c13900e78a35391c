//! What Celery answers (`data/generate.py` asked it), and what is answered here.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};
use petiole_beat::{Crontab, Due, Interval, Schedule, Zone, time_zone};
use serde_json::Value;

/// Texts in which Celery reads the beginning and drops the rest, or which Python's `int` takes: refused here.
const REFUSED: [&str; 8] = ["1-5-9", "*/5-10", "1-5/2/3", "1-5 /2", "mon tue", "+1", "1_0", "\u{661}"];
/// Blanks beside a comma, which Celery takes around numbers only.
const TAKEN: [&str; 1] = ["mon, tue"];

fn cases(kind: &str) -> Vec<Vec<Value>> {
    let lines = include_str!("data/celery-answers.jsonl").lines();
    let cases: Vec<Vec<Value>> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    cases.into_iter().filter(|case| case[0] == kind).collect()
}

fn instant(value: &Value) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(value.as_i64().unwrap()).unwrap()
}

fn crontab(fields: &Value) -> Crontab {
    let field = |at: usize| fields[at].as_str().unwrap();
    Crontab::new(field(0), field(1), field(2), field(3), field(4)).unwrap()
}

/// Whether it is due, and how long it is to the next time, as Celery's `is_due` says it.
fn is_due(schedule: &Schedule, last: DateTime<Utc>, now: DateTime<Utc>, zone: &Zone) -> (bool, TimeDelta) {
    match schedule.due(last, now, zone, None) {
        Due::At(next) => (false, next.unwrap() - now),
        Due::Since(_) => (true, schedule.next_after(now, zone).unwrap() - now),
    }
}

#[test]
fn fields() {
    let names = ["minute", "hour", "day_of_week", "day_of_month", "month_of_year"];
    let (mut seen, mut otherwise) = (0, HashSet::new());
    for case in cases("parse") {
        let (maximum, minimum, text) =
            (case[1].as_u64().unwrap(), case[2].as_u64().unwrap(), case[3].as_str().unwrap());
        let mut fields = ["*"; 5];
        let at = match (maximum, minimum) {
            (60, 0) => 0,
            (24, 0) => 1,
            (7, 0) => 2,
            (31, 1) => 3,
            _ => 4,
        };
        fields[at] = text;
        let ours = Crontab::new(fields[0], fields[1], fields[2], fields[3], fields[4]);
        match (&case[4], ours) {
            (Value::Null, Err(error)) => assert!(error.to_string().starts_with(names[at]), "{text:?}: {error}"),
            (Value::Null, Ok(_)) => {
                assert!(TAKEN.contains(&text), "{} {text:?} is taken", names[at]);
                otherwise.insert(text.to_owned());
            }
            (_, Err(error)) => {
                assert!(REFUSED.contains(&text), "{} {text:?}: {error}", names[at]);
                otherwise.insert(text.to_owned());
            }
            (Value::Array(numbers), Ok(ours)) => {
                let mut whole = ["*"; 5];
                let list = numbers.iter().map(Value::to_string).collect::<Vec<_>>().join(",");
                whole[at] = &list;
                let same = Crontab::new(whole[0], whole[1], whole[2], whole[3], whole[4]).unwrap();
                assert_eq!(times(&ours), times(&same), "{} {text:?}", names[at]);
                seen += 1;
            }
            (other, _) => panic!("{other}"),
        }
    }
    assert!(seen > 200, "only {seen} texts were compared");
    let listed: HashSet<String> = REFUSED.iter().chain(&TAKEN).map(|text| (*text).to_owned()).collect();
    assert_eq!(otherwise, listed);
}

/// So many times that every number of every field shows.
fn times(crontab: &Crontab) -> Vec<DateTime<Utc>> {
    let mut time = instant(&946_684_799_000_000_i64.into());
    let mut all = vec![];
    while let Some(next) = crontab.next_after(time, &Zone::UTC)
        && all.len() < 120
    {
        all.push(next);
        time = next;
    }
    all
}

#[test]
fn crontabs() {
    let mut wrong = vec![];
    let cases = cases("crontab");
    for case in &cases {
        let zone = time_zone(case[2].as_str().unwrap()).unwrap();
        let (last, now) = (instant(&case[3]), instant(&case[4]));
        let schedule = Schedule::Crontab(crontab(&case[1]), None);
        let ours = is_due(&schedule, last, now, &zone);
        let celerys = (case[5].as_bool().unwrap(), TimeDelta::microseconds(case[6].as_i64().unwrap()));
        if ours != celerys {
            wrong.push(format!("{} in {zone}, last {last}, now {now}: {ours:?}, Celery: {celerys:?}", case[1]));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert!(cases.len() > 2000);
}

#[test]
fn intervals() {
    let mut wrong = vec![];
    let cases = cases("interval");
    for case in &cases {
        let zone = time_zone(case[3].as_str().unwrap()).unwrap();
        let (last, now) = (instant(&case[4]), instant(&case[5]));
        let interval = Interval::new(case[1].as_f64().unwrap(), case[2].as_bool().unwrap()).unwrap();
        let ours = is_due(&Schedule::Interval(interval), last, now, &zone);
        let celerys = (case[6].as_bool().unwrap(), TimeDelta::microseconds(case[7].as_i64().unwrap()));
        if ours != celerys {
            wrong.push(format!(
                "{} {} in {zone}, last {last}, now {now}: {ours:?}, Celery: {celerys:?}",
                case[1], case[2]
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert!(cases.len() > 500);
}

#[test]
fn where_celery_stays_behind_the_next_time_is_later() {
    for case in cases("behind") {
        let (zone, last) = (time_zone(case[2].as_str().unwrap()).unwrap(), instant(&case[3]));
        assert!(crontab(&case[1]).next_after(last, &zone).unwrap() > last, "{case:?}");
    }
}

proptest::proptest! {
    /// Whatever the field texts, the zone and the time: the next time is later, and the fields read back are the same.
    #[test]
    fn the_next_time_is_later(
        fields in proptest::array::uniform5("(\\*|\\*/[1-9]|[0-9]{1,2}|[0-9]-[0-9]|[1-9]-[1-5]/2)(,[1-9])?"),
        zone in proptest::sample::select(Zone::names()),
        seconds in 0_i64..4_000_000_000,
        every in 0.001_f64..1e6,
        relative in proptest::bool::ANY,
    ) {
        let zone: Zone = zone.parse().unwrap();
        let after = DateTime::from_timestamp(seconds, 123_456_000).unwrap();
        if let Ok(crontab) = Crontab::new(&fields[0], &fields[1], &fields[2], &fields[3], &fields[4])
            && let Some(next) = crontab.next_after(after, &zone)
        {
            proptest::prop_assert!(next > after);
            proptest::prop_assert_eq!(Crontab::from_line(&crontab.line()).unwrap(), crontab);
        }
        let interval = Interval::new(every, relative).unwrap();
        let next = interval.next_after(after, &zone).unwrap();
        proptest::prop_assert!(next > after, "{} after {}", next, after);
        // A day on the calendar lasts up to 25 hours; one that never was adds itself.
        proptest::prop_assert!((next - after).as_seconds_f64() <= every + 90_000.0);
    }
}
