//! `tracing`, set up once for the process: to standard error, with UTC timestamps.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::log::{LogFormat, LogSettings};

/// Starts logging. A second call changes nothing, so that tests may call it freely.
pub fn init(settings: &LogSettings) {
    let filter = EnvFilter::builder().parse(&settings.filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Failure means that a subscriber is there already.
    let _ = match settings.format {
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init(),
        LogFormat::Human => lines.with_ansi(std::io::stderr().is_terminal()).try_init(),
    };
}
