//! Which errors an operation may answer with. The description lists them; the type keeps both together.

use std::marker::PhantomData;

use poem::http::StatusCode;
use poem_openapi::ApiResponse;
use poem_openapi::registry::{
    MetaHeader, MetaMediaType, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry,
};
use poem_openapi::types::Type;

use crate::problem::{CONTENT_TYPE, Document, Problem};

/// A set of statuses.
pub(crate) trait Statuses: Send + Sync + 'static {
    /// The statuses, in order.
    const LIST: &'static [u16];
}

/// A problem whose status is one of `S`, or of those that every operation has.
#[derive(Debug)]
pub(crate) struct Failure<S>(Problem, PhantomData<S>);

/// The result of an operation.
pub(crate) type Answer<T, S> = Result<T, Failure<S>>;

macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = [$($status:literal),*];)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub(crate) struct $name;
        impl Statuses for $name {
            const LIST: &'static [u16] = &[$($status),*];
        }
    )*};
}

statuses! {
    /// Health: nothing goes wrong.
    Open = [];
    /// Readiness.
    Ready = [503];
    /// One thing by its id.
    One = [401, 403, 404, 422, 503];
    /// One thing that is to go.
    Remove = [401, 403, 404, 412, 422, 503];
    /// A page of a list.
    List = [401, 403, 422, 503];
    /// What always works, for who has a key.
    Keyed = [401, 403];
    /// A page of what is in memory.
    Seen = [401, 403, 422];
    /// A look at something that takes no parameters.
    Look = [401, 403, 503];
    /// A body to be stored.
    Create = [400, 401, 403, 413, 415, 422, 503];
    /// A body to be stored, once a key.
    CreateOnce = [400, 401, 403, 409, 413, 415, 422, 503];
    /// A body for a thing that is there.
    Replace = [400, 401, 403, 404, 409, 412, 413, 415, 422, 503];
    /// A task to be sent: it may be one that is unknown.
    SendTask = [400, 401, 403, 404, 413, 415, 422, 503];
    /// Something with a name of its own about a task: either may be one that does not do.
    NamedTask = [400, 401, 403, 404, 409, 413, 415, 422, 503];
    /// The same for a thing that is there.
    ReplaceNamedTask = [400, 401, 403, 404, 409, 412, 413, 415, 422, 503];
}

impl<S, E: Into<Problem>> From<E> for Failure<S> {
    fn from(error: E) -> Self {
        Self(error.into(), PhantomData)
    }
}

impl<S> std::fmt::Display for Failure<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl<S: std::fmt::Debug> std::error::Error for Failure<S> {}

impl<S> From<Failure<S>> for poem::Error {
    fn from(failure: Failure<S>) -> Self {
        failure.0.into()
    }
}

impl<S: Statuses> ApiResponse for Failure<S> {
    fn meta() -> MetaResponses {
        MetaResponses { responses: S::LIST.iter().map(|status| described(*status)).collect() }
    }

    fn register(registry: &mut Registry) {
        Document::register(registry);
    }
}

fn described(status: u16) -> MetaResponse {
    let description = match status {
        400 => "What came cannot be read.",
        401 => "A key is needed, and none or a wrong one came.",
        403 => "The key does not reach this far, or the task is not allowed.",
        404 => "There is no such thing.",
        409 => "It contradicts what is stored.",
        412 => "It is not as `If-Match` says: it has changed meanwhile.",
        413 => "The body is too large.",
        415 => "A body of this media type is not taken.",
        422 => "Fields are wrong; `errors` names them.",
        _ => "Something that is needed is away; try again after `Retry-After` seconds.",
    };
    let headers = match StatusCode::from_u16(status) {
        Ok(StatusCode::SERVICE_UNAVAILABLE) => {
            vec![header("Retry-After", "Seconds to wait before the next try.", "integer")]
        }
        Ok(StatusCode::UNAUTHORIZED) => vec![header("WWW-Authenticate", "`Bearer`.", "string")],
        _ => vec![],
    };
    MetaResponse {
        description,
        status: Some(status),
        status_range: None,
        content: vec![MetaMediaType { content_type: CONTENT_TYPE, schema: Document::schema_ref() }],
        headers,
    }
}

fn header(name: &str, description: &str, ty: &'static str) -> MetaHeader {
    MetaHeader {
        name: name.into(),
        description: Some(description.into()),
        required: true,
        deprecated: false,
        schema: MetaSchemaRef::Inline(Box::new(MetaSchema::new(ty))),
    }
}
