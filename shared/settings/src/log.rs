//! Settings of logging.

use std::str::FromStr;

use tracing_subscriber::EnvFilter;

use crate::reader::Reader;
use crate::settings::Role;

/// What is logged, and in which form.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// `RUST_LOG`, else `LOG_LEVEL`: directives as `tracing` takes them, such as `info,petiole_engine=debug`.
    pub filter: String,
    /// `LOG_FORMAT`.
    pub format: LogFormat,
}

/// The form of a line of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For eyes.
    Human,
    /// One JSON object a line.
    Json,
}

impl FromStr for LogFormat {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.to_ascii_lowercase().as_str() {
            "human" => Ok(Self::Human),
            "json" => Ok(Self::Json),
            _ => Err(()),
        }
    }
}

impl LogSettings {
    pub(crate) fn read(reader: &mut Reader, role: Role, default_format: LogFormat) -> Self {
        Self { filter: read_filter(reader, role), format: reader.get(&["LOG_FORMAT"], default_format, "human or json") }
    }
}

impl Default for LogSettings {
    /// What is used before the settings have been read.
    fn default() -> Self {
        Self { filter: filter_of("info"), format: LogFormat::Human }
    }
}

fn read_filter(reader: &mut Reader, role: Role) -> String {
    // `celery worker` is silent about what goes well unless told otherwise: two lines for every task have their price.
    let otherwise = match role {
        Role::Api => "info",
        Role::Worker => "warn",
    };
    let Some((name, text)) = reader.text(&["RUST_LOG", "LOG_LEVEL"]) else { return filter_of(otherwise) };
    let filter = if name == "LOG_LEVEL" { filter_of(&text) } else { text.clone() };
    if EnvFilter::builder().parse(&filter).is_err() {
        reader.problem(
            &name,
            Some(&text),
            "trace, debug, info, warn, error or off, or directives such as info,sqlx=warn",
        );
        return filter_of("info");
    }
    filter
}

/// Python's names of levels are understood too. At `info` a line for every SQL statement would drown the rest.
fn filter_of(level: &str) -> String {
    match level.to_ascii_lowercase().as_str() {
        "warning" => "warn".to_owned(),
        "critical" | "fatal" => "error".to_owned(),
        "info" => "info,sqlx=warn,sea_orm_migration=warn".to_owned(),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn levels_of_both_worlds_and_directives() {
        for (name, value, filter) in [
            ("LOG_LEVEL", "WARNING", "warn"),
            ("LOG_LEVEL", "DEBUG", "debug"),
            ("RUST_LOG", "info,petiole_engine=trace", "info,petiole_engine=trace"),
        ] {
            let mut reader = Reader::from_map([(name, value)]);
            assert_eq!(LogSettings::read(&mut reader, Role::Worker, LogFormat::Human).filter, filter);
            reader.finish().unwrap();
        }
    }

    #[test]
    fn a_worker_is_quiet_unless_told() {
        for (role, filter) in [(Role::Worker, "warn"), (Role::Api, filter_of("info").as_str())] {
            let mut reader = Reader::from_map([("LOG_FORMAT", "human")]);
            assert_eq!(LogSettings::read(&mut reader, role, LogFormat::Human).filter, filter);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let mut reader = Reader::from_map([("LOG_LEVEL", "info=loud=x"), ("LOG_FORMAT", "xml")]);
        LogSettings::read(&mut reader, Role::Worker, LogFormat::Json);
        assert_eq!(reader.problems().len(), 2);
    }
}
