//! `tracing`, set up once for the process: to standard error, with UTC timestamps, and to a layer that somebody adds.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::log::{LogFormat, LogSettings};

/// Something that sees spans and events beside the log.
pub type Beside = Box<dyn Layer<Registry> + Send + Sync>;

static BESIDE: Mutex<Option<Beside>> = Mutex::new(None);

/// Adds a layer, which sees what its own filter lets through. To be called before [`init`].
pub fn add(layer: Beside) {
    *BESIDE.lock().unwrap_or_else(PoisonError::into_inner) = Some(layer);
}

/// Starts logging. A second call changes nothing, so that tests may call it freely.
pub fn init(settings: &LogSettings) {
    let filter = EnvFilter::builder().parse(&settings.filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines: Beside = match settings.format {
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed(),
        LogFormat::Human => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
    };
    let beside = BESIDE.lock().unwrap_or_else(PoisonError::into_inner).take();
    // Failure means that a subscriber is there already.
    let _ = match beside {
        // One filter for all is asked once for each place in the program; filters of their own are asked each time.
        None => Registry::default().with(lines).with(filter).try_init(),
        Some(beside) => Registry::default().with(vec![beside, lines.with_filter(filter).boxed()]).try_init(),
    };
}
