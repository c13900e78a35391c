//! Spans of the program as spans of a trace, and the headers that carry it on.
//! <https://www.w3.org/TR/trace-context/>

use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::{Status, TraceContextExt};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use petiole_settings::trace_context::{Part, Tracer};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Names of headers that are ours to write.
const HEADERS: [&str; 2] = ["traceparent", "tracestate"];

/// The spans of `tracing`, as OpenTelemetry's.
#[derive(Default)]
pub(crate) struct Traces {
    context: TraceContextPropagator,
}

impl Tracer for Traces {
    fn begin(&self, span: &Span, part: Part, name: &str, header: &dyn Fn(&str) -> Option<String>) -> Option<String> {
        let came: Vec<_> = HEADERS.into_iter().filter_map(|name| Some((name, header(name)?))).collect();
        // A span that is filtered out has no parent either.
        let _ = span.set_parent(self.context.extract(&Came(came)));
        span.record("otel.name", name);
        span.record(
            "otel.kind",
            match part {
                Part::Server => "server",
                Part::Consumer => "consumer",
            },
        );
        let context = span.context();
        let context = context.span().span_context().clone();
        context.is_valid().then(|| context.trace_id().to_string())
    }

    fn headers(&self, span: &Span) -> Vec<(&'static str, String)> {
        let mut written = Written(Vec::new());
        self.context.inject_context(&span.context(), &mut written);
        written.0
    }

    fn attribute(&self, span: &Span, name: &'static str, value: String) {
        span.set_attribute(name, value);
    }

    fn failed(&self, span: &Span, why: &str) {
        span.set_status(Status::error(why.to_owned()));
    }
}

/// Headers that came.
struct Came(Vec<(&'static str, String)>);

impl Extractor for Came {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value.as_str())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| *name).collect()
    }
}

/// Headers to send.
struct Written(Vec<(&'static str, String)>);

impl Injector for Written {
    fn set(&mut self, key: &str, value: String) {
        // An empty state says nothing.
        if let Some(name) = HEADERS.into_iter().find(|name| *name == key && !value.is_empty()) {
            self.0.push((name, value));
        }
    }
}
