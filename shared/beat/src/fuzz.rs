//! What a beat reads of Redis, from damaged versions of what lies there (`petiole-fuzz`), and what it does next with it.
#![allow(clippy::unwrap_used)]

use chrono::{TimeDelta, Utc};
use petiole_client::ClientConfig;
use petiole_fuzz::{run, texts};
use petiole_protocol::serializer::from_json;
use petiole_protocol::time_zone::Zone;
use serde_json::Value;

use crate::entry::Entry;
use crate::message::message;
use crate::schedule::{Due, Schedule};
use crate::scheduler::{ran_of, text_of};

#[test]
fn fuzz_when_entries_ran() {
    let schedules = [
        Schedule::interval(30.0, false),
        Schedule::interval(86_400.0, true),
        Schedule::interval(90.0, true),
        Schedule::crontab("*/5 4 * * mon-fri", Some("Europe/Berlin")),
        Schedule::crontab("0 0 29 feb *", None),
    ]
    .map(Result::unwrap);
    let seeds = texts(&[
        r#"{"last_run_at":"2026-11-27T05:00:00.123456Z","total_run_count":7,"task_id":"4c0d5e1c-2f3a-4f6e-9d1b-5b1c8a7e6f00"}"#,
        r#"{"last_run_at":"1969-12-31T23:59:59Z","total_run_count":0}"#,
        r#"{"last_run_at":"+262142-12-31T23:59:59Z","total_run_count":1}"#,
        r#"{"last_run_at":"-262143-01-01T00:00:00Z","total_run_count":18446744073709551615}"#,
    ]);
    let new_york: Zone = "America/New_York".parse().unwrap();
    run("when entries ran", &seeds, |bytes| {
        let Some(ran) = ran_of(&String::from_utf8_lossy(bytes)) else { return };
        assert_eq!(ran_of(&text_of(&ran)).as_ref(), Some(&ran));
        let now = Utc::now();
        for schedule in &schedules {
            for deadline in [None, Some(TimeDelta::seconds(60))] {
                if let Due::Since(since) = schedule.due(ran.last_run_at, now, &new_york, deadline) {
                    let _ = ran.again(schedule.ran(ran.last_run_at, since, now), "id".into());
                }
            }
        }
    });
}

#[test]
fn fuzz_entries() {
    let seeds = texts(&[
        r#"{"add":{"task":"demo.add","schedule":30,"args":[1,2],"kwargs":{"z":3},"options":{"queue":"slow","priority":5,"expires":60,"headers":{"m":1}}}}"#,
        r#"{"line":{"task":"t","schedule":"0 4-22/3 * * mon,thu","timezone":"Europe/Berlin"}}"#,
        r#"{"fields":{"task":"t","schedule":{"minute":"*/10","hour":[1,2],"day_of_week":"mon-fri","day_of_month":"1-7","month_of_year":"jan"}}}"#,
        r#"{"hourly":{"task":"t","schedule":3600.0,"relative":true,"options":{"countdown":1.5,"time_limit":3}}}"#,
    ]);
    let lord_howe: Zone = "Australia/Lord_Howe".parse().unwrap();
    run("entries", &seeds, |bytes| {
        let Ok(Value::Object(map)) = from_json(bytes) else { return };
        let now = Utc::now();
        for entry in Entry::read_all(&map).into_iter().flatten() {
            let _ = (message(&entry, &ClientConfig::new("", ""), now, now).is_ok(), entry.schedule.to_string());
            let _ = entry.schedule.due(now - TimeDelta::days(400), now, &lord_howe, None);
        }
    });
}
