//! The page that Prometheus reads.

use poem::web::Data;
use poem::{IntoResponse, Response};
use poem_openapi::payload::Payload;
use poem_openapi::registry::{MetaMediaType, MetaResponse, MetaResponses, MetaSchemaRef, Registry};
use poem_openapi::types::Type;
use poem_openapi::{ApiResponse, OpenApi};

use crate::failures::{Answer, Keyed};
use crate::routes::Group;
use crate::state::State;

#[derive(Clone, Default)]
pub(crate) struct MetricsPage;

/// A text of OpenMetrics.
pub(crate) struct OpenMetrics(String);

impl Payload for OpenMetrics {
    const CONTENT_TYPE: &'static str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    fn schema_ref() -> MetaSchemaRef {
        String::schema_ref()
    }
}

impl IntoResponse for OpenMetrics {
    fn into_response(self) -> Response {
        self.0.with_content_type(Self::CONTENT_TYPE).into_response()
    }
}

impl ApiResponse for OpenMetrics {
    fn meta() -> MetaResponses {
        let text = MetaMediaType { content_type: Self::CONTENT_TYPE, schema: Self::schema_ref() };
        MetaResponses {
            responses: vec![MetaResponse {
                description: "The figures of this moment.",
                status: Some(200),
                status_range: None,
                content: vec![text],
                headers: vec![],
            }],
        }
    }

    fn register(_: &mut Registry) {}
}

#[OpenApi]
impl MetricsPage {
    /// Figures for Prometheus
    ///
    /// Requests by route, method and status, their durations, those in flight; the outbox's backlog, the queues' lengths;
    /// connections and memory. In OpenMetrics' text format. What cannot be asked at the moment is left out, and
    /// `petiole_dependency_up` says so.
    #[oai(path = "/metrics", method = "get", operation_id = "getMetrics", tag = "Group::Health")]
    async fn metrics(&self, state: Data<&State>) -> Answer<OpenMetrics, Keyed> {
        Ok(OpenMetrics(state.metrics.text(&state).await))
    }
}
