//! The body of `POST /v1/documents`: JSON, or a form with a file.

use poem::http::StatusCode;
use poem::web::Multipart;
use poem::{Body as PoemBody, FromRequest, Request, RequestBody};
use poem_openapi::registry::{MetaMediaType, MetaRequest, MetaSchema, MetaSchemaRef, Registry};
use poem_openapi::types::Type;
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};
use serde_json::{Map, Value};

use crate::body::{self, Body, content_type, media_type};
use crate::json::JsonObject;
use crate::problem::{FieldError, Problem};
use crate::routes::documents::DocumentRequest;
use crate::state::State;

/// The form's fields beside the file; each is a field of the JSON body.
const FIELDS: &[&str] = &["title", "metadata", "collection", "language"];
/// The longest title that is made from a file's name.
const LONGEST_NAME: usize = 200;

/// A document however it came.
pub(crate) struct DocumentBody {
    pub(crate) request: DocumentRequest,
    /// What its text is: `text/plain`, `text/markdown`.
    pub(crate) media_type: String,
}

impl<'a> ApiExtractor<'a> for DocumentBody {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        DocumentRequest::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        let json = MetaMediaType { content_type: "application/json", schema: DocumentRequest::schema_ref() };
        let form = MetaMediaType { content_type: "multipart/form-data", schema: form_schema() };
        Some(MetaRequest {
            description: Some("The text as JSON, or a file in a form."),
            content: vec![json, form],
            required: true,
        })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        if body::is_json(request) {
            let Body(request) = Body::<DocumentRequest>::from_request(request, body, options).await?;
            return Ok(Self { request, media_type: "text/plain".into() });
        }
        if content_type(request).as_deref() != Some("multipart/form-data") {
            return Err(media_type(request, "application/json or multipart/form-data").into());
        }
        let limit = request.data::<State>().map_or(0, |state| state.limits.upload);
        let bytes = body::read(request, body, limit).await?;
        Ok(read_form(request, bytes).await?)
    }
}

fn form_schema() -> MetaSchemaRef {
    let text = |format: Option<&'static str>, description: &'static str| {
        MetaSchemaRef::Inline(Box::new(MetaSchema {
            format,
            description: Some(description),
            ..MetaSchema::new("string")
        }))
    };
    MetaSchemaRef::Inline(Box::new(MetaSchema {
        required: vec!["file"],
        properties: vec![
            ("file", text(Some("binary"), "The document: a text or Markdown file in UTF-8.")),
            ("title", text(None, "A title; the file's name when missing.")),
            (
                "metadata",
                JsonObject::schema_ref().merge(MetaSchema {
                    description: Some("Fields of your own, as the text of a JSON object."),
                    ..MetaSchema::ANY
                }),
            ),
            ("collection", text(None, "The collection it belongs to.")),
            ("language", text(None, "The language of the text, for keyword search.")),
        ],
        ..MetaSchema::new("object")
    }))
}

async fn read_form(request: &Request, bytes: Vec<u8>) -> Result<DocumentBody, Problem> {
    let unreadable = |error: poem::Error| Problem::from_error(&error);
    let mut whole = RequestBody::new(PoemBody::from(bytes));
    let mut form = <Multipart as FromRequest>::from_request(request, &mut whole).await.map_err(unreadable)?;
    let (mut fields, mut file, mut unknown) = (Map::new(), None, Vec::new());
    while let Some(field) = form.next_field().await.map_err(|error| unreadable(error.into()))? {
        let name = field.name().unwrap_or_default().to_owned();
        if name == "file" {
            let (kind, file_name) = (field.content_type().map(str::to_owned), field.file_name().map(str::to_owned));
            let bytes = field.bytes().await.map_err(|error| unreadable(error.into()))?;
            file = Some(text_of(kind.as_deref(), file_name.as_deref(), bytes)?);
            if let Some(title) = file_name.as_deref().and_then(title_of) {
                fields.entry("title").or_insert(title.into());
            }
            continue;
        }
        if !FIELDS.contains(&name.as_str()) {
            let message = format!("is not known here; known are file, {}", FIELDS.join(", "));
            unknown.push(FieldError::new(name, message));
            continue;
        }
        let text = field.text().await.map_err(|error| unreadable(error.into()))?;
        let value = match name.as_str() {
            "metadata" => serde_json::from_str(&text)
                .map_err(|error| Problem::field("metadata", format!("is not JSON: {error}")))?,
            // an empty field of a form is a field that was not filled in
            _ if text.is_empty() => continue,
            _ => Value::from(text),
        };
        fields.insert(name, value);
    }
    if file.is_none() {
        unknown.push(FieldError::new("file", "is missing"));
    }
    let Some((text, media_type)) = file.filter(|_| unknown.is_empty()) else { return Err(Problem::fields(unknown)) };
    if text.trim().is_empty() {
        return Err(Problem::field("file", "holds no text"));
    }
    fields.insert("text".into(), text.into());
    Ok(DocumentBody { request: body::parse(Value::Object(fields), "")?, media_type })
}

/// The text of a file and what kind of text it is, by what its sender says or by its name.
fn text_of(kind: Option<&str>, name: Option<&str>, bytes: Vec<u8>) -> Result<(String, String), Problem> {
    let extension = name.and_then(|name| name.rsplit_once('.')).map(|(_, extension)| extension.to_ascii_lowercase());
    let declared = kind.and_then(|kind| kind.split(';').next()).map(|kind| kind.trim().to_ascii_lowercase());
    let kind = match (declared.as_deref(), extension.as_deref()) {
        (Some("text/markdown" | "text/x-markdown"), _) => "text/markdown",
        (Some("text/plain" | "application/octet-stream") | None, Some("md" | "markdown")) => "text/markdown",
        (Some("text/plain"), _) | (Some("application/octet-stream") | None, Some("txt" | "text" | "rst")) => {
            "text/plain"
        }
        (None, None) => "text/plain",
        (declared, _) => {
            let detail = format!(
                "a file of the type {} is not taken; taken are text and Markdown",
                declared.unwrap_or("unknown")
            );
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
        }
    };
    let text = String::from_utf8(bytes).map_err(|_| Problem::field("file", "is not text in UTF-8"))?;
    let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
    Ok((text, kind.to_owned()))
}

/// The last part of a file's name, as a title.
fn title_of(name: &str) -> Option<String> {
    let last = name.rsplit(['/', '\\']).next()?.trim();
    let title: String = last.chars().filter(|c| !c.is_control()).take(LONGEST_NAME).collect();
    (!title.is_empty()).then_some(title)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn files_are_known_by_type_or_name() {
        let kind = |kind, name| {
            text_of(kind, name, b"x".to_vec()).map(|(_, kind)| kind).map_err(|problem| problem.status().as_u16())
        };
        assert_eq!(kind(Some("text/plain; charset=utf-8"), Some("a.txt")).unwrap(), "text/plain");
        assert_eq!(kind(Some("text/plain"), Some("a.md")).unwrap(), "text/markdown");
        assert_eq!(kind(Some("application/octet-stream"), Some("a.md")).unwrap(), "text/markdown");
        assert_eq!(kind(None, Some("A.TXT")).unwrap(), "text/plain");
        assert_eq!(kind(Some("image/png"), Some("a.txt")), Err(415));
        assert_eq!(kind(Some("application/octet-stream"), Some("a.exe")), Err(415));
        assert_eq!(text_of(None, None, vec![0xff]).unwrap_err().status().as_u16(), 422);
        assert_eq!(text_of(None, None, "\u{feff}x".into()).unwrap().0, "x");
    }

    #[test]
    fn a_title_is_the_last_part_of_a_name() {
        assert_eq!(title_of("../../etc/passwd.txt").unwrap(), "passwd.txt");
        assert_eq!(title_of("a\\b.txt").unwrap(), "b.txt");
        assert_eq!(title_of(&"x".repeat(300)).unwrap().len(), 200);
        assert_eq!(title_of("a/"), None);
    }
}
