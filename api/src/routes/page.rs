//! The built-in page: one document, one style sheet, one script, all part of the program.

use poem::web::Data;
use poem_openapi::payload::{Html, PlainText};
use poem_openapi::{ApiResponse, OpenApi};

use crate::spec::KeysAre;
use crate::state::State;

const PAGE: &str = include_str!("../page/index.html");
const STYLE: &str = include_str!("../page/app.css");
const SCRIPT: &str = include_str!("../page/app.js");
/// Only what this service itself serves; no frame around the page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
    base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
/// Asked for anew after an update.
const CACHE: &str = "no-cache";

#[derive(Clone, Default)]
pub(crate) struct Page;

#[derive(ApiResponse)]
enum PageResponse {
    #[oai(status = 200)]
    Page(
        Html<String>,
        #[oai(header = "Content-Security-Policy")] String,
        #[oai(header = "Cache-Control")] String,
        #[oai(header = "Referrer-Policy")] String,
    ),
}

#[derive(ApiResponse)]
enum StyleResponse {
    #[oai(status = 200, content_type = "text/css; charset=utf-8")]
    Style(PlainText<&'static str>, #[oai(header = "Cache-Control")] String),
}

#[derive(ApiResponse)]
enum ScriptResponse {
    #[oai(status = 200, content_type = "text/javascript; charset=utf-8")]
    Script(PlainText<&'static str>, #[oai(header = "Cache-Control")] String),
}

#[OpenApi]
impl Page {
    #[oai(path = "/", method = "get", hidden)]
    async fn page(&self, state: Data<&State>) -> PageResponse {
        let (flower_url, flower_port) = &state.flower;
        let html = PAGE
            .replace("{{version}}", env!("CARGO_PKG_VERSION"))
            .replace("{{flower_url}}", &escaped(flower_url.as_deref().unwrap_or_default()))
            .replace("{{flower_port}}", &flower_port.to_string())
            .replace("{{key_hidden}}", if state.keys.are() == KeysAre::Needed { "" } else { "hidden" });
        PageResponse::Page(Html(html), POLICY.into(), CACHE.into(), "no-referrer".into())
    }

    #[oai(path = "/assets/app.css", method = "get", hidden)]
    async fn style(&self) -> StyleResponse {
        StyleResponse::Style(PlainText(STYLE), CACHE.into())
    }

    #[oai(path = "/assets/app.js", method = "get", hidden)]
    async fn script(&self) -> ScriptResponse {
        ScriptResponse::Script(PlainText(SCRIPT), CACHE.into())
    }
}

/// A text as it may stand in an attribute.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;")
}
