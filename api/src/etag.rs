//! Answers that need not be sent again: `ETag` on reads, 304 for who has the answer already (RFC 9110, 13.1.2). The same
//! tag in `If-Match` keeps a write from covering up another one: it is only done while the thing is as its writer has seen
//! it (13.1.1).

use poem::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use poem::{Endpoint, FromRequest, IntoResponse, Middleware, Request, RequestBody, Response};
use poem_openapi::types::ToJSON;
use sha2::{Digest, Sha256};

/// Tags JSON answers.
pub(crate) struct Tags;

impl<E: Endpoint> Middleware<E> for Tags {
    type Output = Tagged<E>;

    fn transform(&self, endpoint: E) -> Self::Output {
        Tagged { endpoint }
    }
}

/// An endpoint whose JSON answers are tagged.
pub(crate) struct Tagged<E> {
    endpoint: E,
}

impl<E: Endpoint> Endpoint for Tagged<E> {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        let known = request.headers().get(header::IF_NONE_MATCH).cloned();
        let mut response = self.endpoint.call(request).await?.into_response();
        let json = response.content_type().is_some_and(|kind| kind.starts_with("application/json"));
        if !reads || !json || response.status() != StatusCode::OK {
            return Ok(response);
        }
        // it lies in memory as a whole already
        let bytes = response.take_body().into_bytes().await?;
        let tag = tag(&bytes);
        if known.is_some_and(|known| holds(&known, &tag)) {
            let mut unchanged = Response::builder().status(StatusCode::NOT_MODIFIED).finish();
            note(unchanged.headers_mut(), &tag);
            return Ok(unchanged);
        }
        note(response.headers_mut(), &tag);
        response.set_body(bytes);
        Ok(response)
    }
}

fn tag(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let digits: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("\"{digits}\"")
}

/// What a write expects: the tags of its `If-Match`. It is not among the described parameters, as little as other headers
/// that HTTP itself gives a meaning.
pub(crate) struct IfMatch(Option<String>);

impl<'a> FromRequest<'a> for IfMatch {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> poem::Result<Self> {
        let mut given = request.headers().get_all(header::IF_MATCH).iter().peekable();
        // what is no text is no tag of ours either
        let text = |tags: &HeaderValue| tags.to_str().unwrap_or_default().to_owned();
        Ok(Self(given.peek().is_some().then(|| given.map(text).collect::<Vec<_>>().join(","))))
    }
}

impl IfMatch {
    /// Whether a write may go on that finds the thing as this view shows it.
    pub(crate) fn allows(&self, view: &impl ToJSON) -> bool {
        let Some(tags) = &self.0 else { return true };
        let tag = tag(view.to_json_string().as_bytes());
        tags.split(',').map(str::trim).any(|one| one == "*" || one == tag)
    }
}

/// Private, since it may depend on the key; to be asked for again each time.
fn note(headers: &mut HeaderMap, tag: &str) {
    if let Ok(tag) = HeaderValue::from_str(tag) {
        headers.insert(header::ETAG, tag);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
}

/// Whether a list of tags has this one; weak tags are as good.
fn holds(list: &HeaderValue, tag: &str) -> bool {
    let Ok(list) = list.to_str() else { return false };
    list.split(',').map(str::trim).any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_found_in_a_list() {
        for (list, found) in
            [("\"a\"", true), ("\"b\", W/\"a\"", true), ("*", true), ("\"b\"", false), ("a", false), ("", false)]
        {
            assert_eq!(holds(&HeaderValue::from_static(list), "\"a\""), found, "{list}");
        }
        assert_ne!(tag(b"1"), tag(b"2"));
    }

    #[test]
    fn a_write_goes_on_when_its_tag_is_the_one_of_now() {
        let seen = tag(7.to_json_string().as_bytes());
        let allows = |tags: Option<String>| IfMatch(tags).allows(&7);
        assert!(allows(None) && allows(Some("*".into())) && allows(Some(format!("\"x\", {seen}"))));
        // a weak tag is not sure enough for a write
        assert!(!allows(Some("\"x\"".into())) && !allows(Some(format!("W/{seen}"))) && !allows(Some(String::new())));
    }
}
