//! Beat's settings, by Celery's names in upper case, also with the prefix `CELERY_` (celery.app.defaults).

use std::time::Duration;

use chrono::TimeDelta;
use petiole_client::ClientConfig;
use petiole_protocol::time_zone::Zone;
use petiole_settings::{Reader, time_zone};
use serde_json::Value;

use crate::entry::Entry;

/// What beat is told by its environment; flags of the command line come on top.
#[derive(Debug, Clone)]
pub struct BeatConfig {
    /// `TIMEZONE`; without it UTC, or the system's with `ENABLE_UTC=0`.
    pub time_zone: Zone,
    /// `BEAT_MAX_LOOP_INTERVAL`, `--max-interval`: the longest sleep.
    pub max_interval: Duration,
    /// `BEAT_CRON_STARTING_DEADLINE`: what should have run longer ago than this is not caught up.
    pub cron_starting_deadline: Option<TimeDelta>,
    /// `BEAT_LOCK_TIMEOUT`: after so long a silence another beat takes over. Petiole's own.
    pub lock_timeout: Duration,
    /// `BEAT_KEY_PREFIX`: what the keys of lock and last runs begin with; beats of one prefix stand in for each other.
    /// Applications with schedules of their own on one Redis need one each. Petiole's own.
    pub key_prefix: String,
    /// `BEAT_ENABLE_REMOTE_CONTROL`, `--enable-remote-control`: answer `celery inspect ping`.
    pub remote_control: bool,
    /// `BEAT_REMOTE_CONTROL_MAX_TICK_AGE`: a beat that has not looked at its schedule for so long does not answer; 0: it always
    /// does. Without it twice `max_interval`, and at least a minute.
    pub max_tick_age: Option<Duration>,
    /// `--hostname`: the node name, `celerybeat@<host>` without it.
    pub node: Option<String>,
    /// `BEAT_SCHEDULE`: entries as JSON.
    pub schedule: Vec<Entry>,
    /// Where and how tasks are sent; without the broker's URL.
    pub sending: ClientConfig,
}

impl BeatConfig {
    /// Reads the settings; problems are the reader's.
    pub fn read(reader: &mut Reader) -> Self {
        let text = |reader: &mut Reader, name: &str| reader.text(&[name, &format!("CELERY_{name}")]);
        let seconds = |reader: &mut Reader, name: &str, default| {
            reader.seconds(&[name, &format!("CELERY_{name}")], Duration::from_secs(default))
        };
        let deadline = text(reader, "BEAT_CRON_STARTING_DEADLINE").is_some();
        let deadline = deadline.then(|| seconds(reader, "BEAT_CRON_STARTING_DEADLINE", 0));
        Self {
            time_zone: time_zone(reader),
            max_interval: seconds(reader, "BEAT_MAX_LOOP_INTERVAL", 300).max(Duration::from_millis(1)),
            cron_starting_deadline: deadline.and_then(|deadline| TimeDelta::from_std(deadline).ok()),
            lock_timeout: seconds(reader, "BEAT_LOCK_TIMEOUT", 15).max(Duration::from_millis(500)),
            key_prefix: text(reader, "BEAT_KEY_PREFIX").map_or_else(|| "petiole:beat:".into(), |(_, prefix)| prefix),
            remote_control: reader.boolean(&["BEAT_ENABLE_REMOTE_CONTROL", "CELERY_BEAT_ENABLE_REMOTE_CONTROL"], false),
            max_tick_age: text(reader, "BEAT_REMOTE_CONTROL_MAX_TICK_AGE")
                .is_some()
                .then(|| seconds(reader, "BEAT_REMOTE_CONTROL_MAX_TICK_AGE", 0)),
            node: None,
            schedule: schedule(reader),
            sending: ClientConfig::read(reader, "", ""),
        }
    }
}

fn schedule(reader: &mut Reader) -> Vec<Entry> {
    let Some((name, text)) = reader.text(&["BEAT_SCHEDULE", "CELERY_BEAT_SCHEDULE"]) else { return vec![] };
    let entries = match serde_json::from_str(&text) {
        Ok(Value::Object(map)) => Entry::read_all(&map).map_err(|error| error.to_string()),
        Ok(_) => Err("it is no object".to_owned()),
        Err(error) => Err(error.to_string()),
    };
    entries.unwrap_or_else(|reason| {
        let expects =
            format!("a JSON object of the form {{\"name\": {{\"task\": \"t\", \"schedule\": 30}}}}: {reason}");
        reader.problem(&name, None, expects);
        vec![]
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn celery_s_names_and_defaults() {
        let mut reader = Reader::from_map([
            ("CELERY_TIMEZONE", "Europe/Berlin"),
            ("BEAT_SCHEDULE", r#"{"add": {"task": "demo.add", "schedule": 30, "args": [1, 2]}}"#),
            ("BEAT_CRON_STARTING_DEADLINE", "60"),
        ]);
        let config = BeatConfig::read(&mut reader);
        reader.finish().unwrap();
        assert_eq!((config.time_zone.name(), config.max_interval.as_secs()), ("Europe/Berlin", 300));
        assert_eq!((config.schedule[0].name.as_str(), config.sending.default_queue.as_str()), ("add", "celery"));
        assert_eq!(config.cron_starting_deadline, Some(TimeDelta::seconds(60)));
        let config = BeatConfig::read(&mut Reader::from_map([("A", "b")]));
        assert_eq!((config.time_zone, config.cron_starting_deadline), (Zone::UTC, None));
    }

    #[test]
    fn a_bad_value_names_its_variable() {
        for (name, value, expected) in [
            ("TIMEZONE", "Mars", "TIMEZONE holds \"Mars\""),
            ("BEAT_SCHEDULE", r#"{"add": {"task": "t"}}"#, "add.schedule: is missing"),
            ("BEAT_SCHEDULE", "[", "BEAT_SCHEDULE must be a JSON object"),
        ] {
            let mut reader = Reader::from_map([(name, value)]);
            BeatConfig::read(&mut reader);
            let text = reader.finish().unwrap_err().to_string();
            assert!(text.contains(expected), "{text}");
        }
    }
}
