//! The trace that work belongs to, carried by headers from one program to the next (W3C Trace Context). Whoever exports
//! traces sets a [`Tracer`]; without one all of this does nothing.

use std::sync::OnceLock;

use tracing::Span;

/// Which part of a trace a span is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A request is answered.
    Server,
    /// A message is worked on.
    Consumer,
}

/// What exports traces.
pub trait Tracer: Send + Sync {
    /// Gives a span that has not begun its name and its parent, by the headers that came with the work. Gives the trace's id.
    fn begin(&self, span: &Span, part: Part, name: &str, header: &dyn Fn(&str) -> Option<String>) -> Option<String>;

    /// Gives the headers by which the next program goes on with the trace of a span.
    fn headers(&self, span: &Span) -> Vec<(&'static str, String)>;

    /// Adds what is known of a span.
    fn attribute(&self, span: &Span, name: &'static str, value: String);

    /// The work of a span has failed.
    fn failed(&self, span: &Span, why: &str);
}

static TRACER: OnceLock<Box<dyn Tracer>> = OnceLock::new();

/// Sets what exports traces. The first one counts.
pub fn set(tracer: Box<dyn Tracer>) {
    let _ = TRACER.set(tracer);
}

/// Is anything exported?
pub fn is_exported() -> bool {
    TRACER.get().is_some()
}

/// A span that has just been made is a part of the trace that the headers tell of, or begins one. Its field `trace_id`, if it
/// has one, leads from the log to the trace.
pub fn begin(span: &Span, part: Part, name: impl FnOnce() -> String, header: impl Fn(&str) -> Option<String>) {
    if let Some(tracer) = TRACER.get()
        && let Some(trace_id) = tracer.begin(span, part, &name(), &header)
    {
        span.record("trace_id", trace_id);
    }
}

/// The headers by which the next program goes on with the trace of the current span; none where nothing is exported.
pub fn headers() -> Vec<(&'static str, String)> {
    TRACER.get().map(|tracer| tracer.headers(&Span::current())).unwrap_or_default()
}

/// Adds what is known of the current span.
pub fn attribute(name: &'static str, value: impl ToString) {
    if let Some(tracer) = TRACER.get() {
        tracer.attribute(&Span::current(), name, value.to_string());
    }
}

/// The work of the current span has failed.
pub fn failed(why: impl FnOnce() -> String) {
    if let Some(tracer) = TRACER.get() {
        tracer.failed(&Span::current(), &why());
    }
}
