//! Reading a JSON body: unreadable is 400, too large 413, another media type 415, and what does not fit its schema 422
//! with every field named.

use std::time::Duration;

use poem::http::{StatusCode, header};
use poem::{Request, RequestBody};
use poem_openapi::registry::{MetaMediaType, MetaRequest, Registry};
use poem_openapi::types::ParseFromJSON;
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};
use serde_json::Value;

use crate::problem::Problem;
use crate::schema_check;
use crate::state::State;

/// How long a client may take to send its body.
const PATIENCE: Duration = Duration::from_secs(60);

/// A JSON body of type `T`.
pub(crate) struct Body<T>(pub(crate) T);

impl<'a, T: ParseFromJSON + 'static> ApiExtractor<'a> for Body<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        let json = MetaMediaType { content_type: "application/json", schema: T::schema_ref() };
        Some(MetaRequest { description: None, content: vec![json], required: true })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        if !is_json(request) {
            return Err(media_type(request, "application/json").into());
        }
        let limit = request.data::<State>().map_or(0, |state| state.limits.body);
        let value = read_json(&read(request, body, limit).await?)?;
        Ok(Self(parse(value, "")?))
    }
}

/// A `T` out of JSON; its fields are prefixed by `path` in errors.
pub(crate) fn parse<T: ParseFromJSON + 'static>(value: Value, path: &str) -> Result<T, Problem> {
    let errors = schema_check::check::<T>(&value, path);
    if !errors.is_empty() {
        return Err(Problem::fields(errors));
    }
    T::parse_from_json(Some(value))
        .map_err(|error| Problem::field(if path.is_empty() { "body" } else { path }, error.into_message()))
}

/// Whether the body claims to be JSON.
pub(crate) fn is_json(request: &Request) -> bool {
    content_type(request).is_some_and(|kind| {
        kind == "application/json" || kind.strip_prefix("application/").is_some_and(|rest| rest.ends_with("+json"))
    })
}

/// The media type of the body, without parameters, in lower case.
pub(crate) fn content_type(request: &Request) -> Option<String> {
    let kind = request.content_type()?.split(';').next()?;
    Some(kind.trim().to_ascii_lowercase())
}

/// 415, saying what is taken.
pub(crate) fn media_type(request: &Request, taken: &str) -> Problem {
    let detail = match content_type(request) {
        Some(kind) => format!("the body is {kind}; taken is {taken}"),
        None => format!("there is no Content-Type; taken is {taken}"),
    };
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
}

/// The whole body, of at most `limit` bytes.
pub(crate) async fn read(request: &Request, body: &mut RequestBody, limit: usize) -> Result<Vec<u8>, Problem> {
    if let Some(encoding) = request.headers().get(header::CONTENT_ENCODING)
        && !encoding.as_bytes().eq_ignore_ascii_case(b"identity")
    {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "a compressed body is not taken: send it as it is",
        ));
    }
    let too_large = || Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than {limit} bytes"));
    let declared =
        request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    // refused before a byte of it is read
    if declared.is_some_and(|declared| declared > limit as u64) {
        return Err(too_large());
    }
    let body = body.take().map_err(|error| Problem::from_error(&error.into()))?;
    match tokio::time::timeout(PATIENCE, body.into_bytes_limit(limit)).await {
        Err(_) => Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time")),
        Ok(Err(poem::error::ReadBodyError::PayloadTooLarge)) => Err(too_large()),
        Ok(Err(error)) => Err(Problem::from_error(&error.into())),
        Ok(Ok(bytes)) => Ok(bytes.to_vec()),
    }
}

fn read_json(bytes: &[u8]) -> Result<Value, Problem> {
    serde_json::from_slice(bytes).map_err(|error| Problem::unreadable(format!("the body is not JSON: {error}")))
}
