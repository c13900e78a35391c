//! Traces for OpenTelemetry, when `OTEL_EXPORTER_OTLP_ENDPOINT` names a collector; nothing at all otherwise.
//!
//! | module | holds |
//! |---|---|
//! | `client` | the way to the collector |
//! | `tracer` | spans of the program as spans of a trace, and the headers between programs |
//!
//! Settings are OpenTelemetry's own: `OTEL_EXPORTER_OTLP_ENDPOINT` (also `…_TRACES_ENDPOINT`, `…_HEADERS`, `…_TIMEOUT`),
//! `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER`, `OTEL_BSP_…`; `OTEL_SDK_DISABLED=true` and
//! `OTEL_TRACES_EXPORTER=none` switch it off. The protocol is `http/protobuf`.
//! <https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/>

mod client;
mod tracer;

use std::sync::OnceLock;
use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use petiole_settings::{telemetry, trace_context};
use tracing_subscriber::Layer;

use crate::client::Client;
use crate::tracer::Traces;

/// How long the end of the program waits for the collector.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Never dropped: what it holds must not end within the runtime.
static PROVIDER: OnceLock<SdkTracerProvider> = OnceLock::new();

/// Why traces cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum OtelError {
    /// A setting that cannot be used.
    #[error("traces cannot be exported by the settings OTEL_…: {0}")]
    Settings(#[from] ExporterBuildError),
    /// What sends them cannot be had.
    #[error("traces cannot be exported: {0}")]
    Client(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Starts to export when the settings name a collector. To be called before logging is started. `service`: the name of the
/// program in traces, where `OTEL_SERVICE_NAME` gives none.
///
/// # Errors
/// Settings that cannot be used.
pub fn start(service: &'static str) -> Result<(), OtelError> {
    if !is_wanted(|name| std::env::var(name).ok()) || PROVIDER.get().is_some() {
        return Ok(());
    }
    let client = Client::new().map_err(OtelError::Client)?;
    let exporter = SpanExporter::builder().with_http().with_http_client(client).build()?;
    let resource = Resource::builder_empty()
        .with_service_name(service)
        .with_detectors(&[
            Box::new(opentelemetry_sdk::resource::TelemetryResourceDetector),
            Box::new(opentelemetry_sdk::resource::EnvResourceDetector::new()),
        ])
        .with_attributes(std::env::var("OTEL_SERVICE_NAME").ok().filter(|name| !name.is_empty()).map(named))
        .build();
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("petiole"))
        .with_context_activation(false)
        .with_tracked_inactivity(false)
        .with_location(false)
        .with_threads(false)
        .with_target(false);
    telemetry::add(layer.boxed());
    trace_context::set(Box::new(Traces::default()));
    let _ = PROVIDER.set(provider);
    Ok(())
}

/// Sends what has not been sent yet. To be called at the end of the program.
pub fn stop() {
    if let Some(provider) = PROVIDER.get() {
        // The collector is away, and the client has said so.
        let _ = provider.shutdown_with_timeout(LAST_WORDS);
    }
}

fn named(name: String) -> opentelemetry::KeyValue {
    opentelemetry::KeyValue::new("service.name", name)
}

/// Do the settings want traces?
fn is_wanted(setting: impl Fn(&str) -> Option<String>) -> bool {
    let is = |name: &str, value: &str| setting(name).is_some_and(|given| given.trim().eq_ignore_ascii_case(value));
    let has = |name: &str| setting(name).is_some_and(|given| !given.trim().is_empty());
    let endpoint = has("OTEL_EXPORTER_OTLP_ENDPOINT") || has("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
    endpoint && !is("OTEL_SDK_DISABLED", "true") && !is("OTEL_TRACES_EXPORTER", "none")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_exported_unless_an_endpoint_is_named() {
        let wanted = |settings: &[(&str, &str)]| {
            is_wanted(|name| settings.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
        };
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");
        assert!(wanted(&[endpoint]));
        assert!(wanted(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://collector:4318/v1/traces")]));
        assert!(!wanted(&[]) && !wanted(&[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")]));
        assert!(!wanted(&[endpoint, ("OTEL_SDK_DISABLED", "True")]));
        assert!(!wanted(&[endpoint, ("OTEL_TRACES_EXPORTER", "none")]));
    }
}
