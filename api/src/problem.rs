//! The one form of every error: a problem document (RFC 9457).

use petiole_ai::{EmbedError, RerankError};
use petiole_client::ClientError;
use petiole_storage::StorageError;
use poem::error::{MethodNotAllowedError, NotFoundError, ParseMultipartError, ReadBodyError, ResponseError};
use poem::http::{StatusCode, header};
use poem::{IntoResponse, Response};
use poem_openapi::Object;
use poem_openapi::error::{ContentTypeError, ParseParamError, ParsePathError};
use poem_openapi::types::{Example, ToJSON};

/// The media type of problem documents.
pub const CONTENT_TYPE: &str = "application/problem+json";
/// What clients are told to wait when something is away, in seconds.
const RETRY_AFTER: u32 = 2;

/// What is wrong with one field of a request.
#[derive(Clone, Debug, PartialEq, Eq, Object)]
pub struct FieldError {
    /// The field, with dots and brackets into what it holds: `data.text`, `args[2]`.
    pub field: String,
    /// What is wrong with it: what came, and what may come.
    pub message: String,
}

impl FieldError {
    pub(crate) fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// Why a request was not done (RFC 9457).
#[derive(Clone, Debug, Object)]
#[oai(rename = "Problem", example)]
pub(crate) struct Document {
    /// The kind of problem, as a URI; `about:blank` means that the status says it all.
    #[oai(rename = "type")]
    kind: String,
    /// The kind of problem in words.
    title: String,
    /// The HTTP status.
    status: u16,
    /// What went wrong this time.
    detail: String,
    /// The fields that are wrong, when fields are.
    #[oai(skip_serializing_if_is_none)]
    errors: Option<Vec<FieldError>>,
    /// The request's id, by which it is found in the logs.
    request_id: String,
}

impl Example for Document {
    fn example() -> Self {
        Self {
            kind: "about:blank".into(),
            title: "Unprocessable Entity".into(),
            status: 422,
            detail: "the request has 1 error: text is missing".into(),
            errors: Some(vec![FieldError::new("text", "is missing")]),
            request_id: "0199c1c4-6a5e-7c33-9a55-0242ac120002".into(),
        }
    }
}

/// An error on its way to the client.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{status}: {detail}")]
pub struct Problem {
    status: StatusCode,
    detail: String,
    errors: Vec<FieldError>,
    retry_after: Option<u32>,
    allow: Option<String>,
}

impl Problem {
    /// A problem of this status.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let retry_after = (status == StatusCode::SERVICE_UNAVAILABLE || status == StatusCode::TOO_MANY_REQUESTS)
            .then_some(RETRY_AFTER);
        Self { status, detail: detail.into(), errors: vec![], retry_after, allow: None }
    }

    /// 422: these fields are wrong.
    pub fn fields(errors: Vec<FieldError>) -> Self {
        let list: Vec<_> = errors.iter().map(|error| format!("{} {}", error.field, error.message)).collect();
        let count = if errors.len() == 1 { "1 error".to_owned() } else { format!("{} errors", errors.len()) };
        let detail = format!("the request has {count}: {}", list.join("; "));
        Self { errors, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail) }
    }

    /// 422: this field is wrong.
    pub fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::fields(vec![FieldError::new(field, message)])
    }

    /// 422 unless there is nothing wrong.
    ///
    /// # Errors
    /// The problem that names these fields, when there are any.
    pub fn refuse(errors: Vec<FieldError>) -> Result<(), Self> {
        if errors.is_empty() { Ok(()) } else { Err(Self::fields(errors)) }
    }

    /// 400: what came cannot be read.
    pub fn unreadable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// 404.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// 503: something that is needed is away.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    }

    /// The same problem with these fields named.
    #[must_use]
    pub fn with_errors(mut self, errors: Vec<FieldError>) -> Self {
        self.errors = errors;
        self
    }

    /// The same problem with the seconds to wait before the next try.
    #[must_use]
    pub fn with_retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// The same problem with the list of allowed methods.
    #[must_use]
    pub fn with_allow(mut self, allow: String) -> Self {
        self.allow = Some(allow);
        self
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The problem that an error of the framework, or of ours, stands for.
    pub fn from_error(error: &poem::Error) -> Self {
        if let Some(problem) = error.downcast_ref::<Self>() {
            return problem.clone();
        }
        if let Some(error) = error.downcast_ref::<ParseParamError>() {
            return Self::field(error.name, error.reason.clone());
        }
        if let Some(error) = error.downcast_ref::<ParsePathError>() {
            // the framework numbers them (`param0`); the one that our paths have is the id
            return Self::field("id", error.reason.clone());
        }
        if error.is::<NotFoundError>() {
            return Self::not_found("there is nothing at this path");
        }
        if error.is::<MethodNotAllowedError>() {
            return Self::new(StatusCode::METHOD_NOT_ALLOWED, "this path does not take this method");
        }
        if let Some(error) = error.downcast_ref::<ReadBodyError>() {
            return match error {
                ReadBodyError::PayloadTooLarge => Self::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large"),
                _ => Self::unreadable("the body could not be read to its end"),
            };
        }
        if let Some(error) = error.downcast_ref::<ContentTypeError>() {
            return Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, error.to_string());
        }
        if let Some(error) = error.downcast_ref::<ParseMultipartError>() {
            return Self::unreadable(format!("the form cannot be read: {error}"));
        }
        let status = error.status();
        if status.is_server_error() {
            tracing::error!(%error, "a request failed");
            return Self::new(StatusCode::INTERNAL_SERVER_ERROR, "something went wrong here; the logs know more");
        }
        Self::new(status, status.canonical_reason().unwrap_or("the request was refused"))
    }

    /// The document, for the request of this id.
    pub(crate) fn document(&self, request_id: &str) -> Document {
        Document {
            kind: "about:blank".into(),
            title: self.status.canonical_reason().unwrap_or("Error").into(),
            status: self.status.as_u16(),
            detail: self.detail.clone(),
            errors: (!self.errors.is_empty()).then(|| self.errors.clone()),
            request_id: request_id.to_owned(),
        }
    }

    /// The answer, for the request of this id.
    pub fn response(&self, request_id: &str) -> Response {
        let document = self.document(request_id);
        let mut response = Response::builder().status(self.status).header(header::CONTENT_TYPE, CONTENT_TYPE);
        if let Some(seconds) = self.retry_after {
            response = response.header(header::RETRY_AFTER, seconds);
        }
        if let Some(allow) = &self.allow {
            response = response.header(header::ALLOW, allow);
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response = response.header(header::WWW_AUTHENTICATE, "Bearer realm=\"petiole\"");
        }
        response.body(document.to_json_string()).into_response()
    }
}

impl ResponseError for Problem {
    fn status(&self) -> StatusCode {
        self.status
    }
}

impl From<StorageError> for Problem {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Unavailable(reason) => {
                tracing::warn!(reason, "PostgreSQL is away");
                Self::unavailable("the database is not available; try again soon")
            }
            StorageError::NotFound { what, id } => Self::not_found(format!("there is no {what} {id}")),
            error @ StorageError::Changed { .. } => Self::new(
                StatusCode::PRECONDITION_FAILED,
                format!("{error}: read it again, and send the write with its new ETag in If-Match"),
            ),
            StorageError::Conflict(detail) => Self::new(StatusCode::CONFLICT, detail),
            StorageError::Invalid { field, message } => Self::field(field, message),
            error @ (StorageError::EmbeddingModel { .. } | StorageError::Database(_)) => {
                tracing::error!(%error, "the database refused");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "something went wrong here; the logs know more")
            }
        }
    }
}

impl From<ClientError> for Problem {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Unavailable(error) => {
                tracing::warn!(%error, "Redis is away");
                Self::unavailable("Redis is not available; try again soon")
            }
            ClientError::Invalid { field, message } => Self::field(field, message),
            ClientError::Redis(error) => {
                tracing::error!(%error, "Redis refused");
                Self::unavailable("Redis refuses; try again soon")
            }
        }
    }
}

impl From<EmbedError> for Problem {
    fn from(error: EmbedError) -> Self {
        tracing::error!(%error, "the query could not be embedded");
        Self::unavailable("the embedding model is not available; keyword search works without it")
    }
}

impl From<RerankError> for Problem {
    fn from(error: RerankError) -> Self {
        tracing::error!(%error, "the hits could not be re-ranked");
        Self::unavailable("the re-ranking model is not available; search works without it")
    }
}

/// Storage speaks of the column; the client knows another name.
pub(crate) fn renamed(error: StorageError, from: &str, to: &str) -> Problem {
    match error {
        StorageError::Invalid { field, message } if field == from => Problem::field(to, message),
        other => other.into(),
    }
}
