//! `tracing`, set up once for the process: to standard error, with UTC timestamps, and to a layer that somebody adds.

use std::cmp::max;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};

use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::log::{LogFormat, LogSettings};

/// Something that sees spans and events beside the log.
pub type Beside = Box<dyn Layer<Registry> + Send + Sync>;

static BESIDE: Mutex<Option<Beside>> = Mutex::new(None);

/// Adds a layer, which sees spans and events of the level info and whatever the log wants. To be called before [`init`].
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
        None => Registry::default().with(lines).with(filter).try_init(),
        Some(beside) => {
            let wanted: Targets = settings.filter.parse().unwrap_or_else(|_| Targets::new().with_default(Level::INFO));
            let most = wanted.iter().map(|(_, level)| level).chain(wanted.default_level()).fold(LevelFilter::INFO, max);
            Registry::default().with(vec![beside, Quiet { lines, wanted }.boxed()]).with(most).try_init()
        }
    };
}

/// The log among others: it knows all spans, for what is said within them, and writes the events that are wanted. Filters of
/// its own for each layer (`with_filter`) would now and then lose a span.
struct Quiet {
    lines: Beside,
    wanted: Targets,
}

impl Layer<Registry> for Quiet {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, Registry>) {
        self.lines.on_new_span(attributes, id, context);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, Registry>) {
        self.lines.on_record(id, values, context);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, Registry>) {
        if self.wanted.would_enable(event.metadata().target(), event.metadata().level()) {
            self.lines.on_event(event, context);
        }
    }
}
