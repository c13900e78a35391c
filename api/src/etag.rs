//! Answers that need not be sent again: `ETag` on reads, 304 for who has the answer already (RFC 9110, 13.1.2).

use poem::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use poem::{Endpoint, IntoResponse, Middleware, Request, Response};
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
}
