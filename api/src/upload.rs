//! The body of `POST /v1/documents` and `PUT /v1/documents/{id}`: JSON, or a form with a file.

use petiole_storage::NewDocument;
use poem::http::StatusCode;
use poem::web::Multipart;
use poem::{Body as PoemBody, FromRequest, Request, RequestBody};
use poem_openapi::registry::{MetaMediaType, MetaRequest, MetaSchema, MetaSchemaRef, Registry};
use poem_openapi::types::Type;
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::body::{self, Body, content_type, media_type};
use crate::json::{JsonObject, STORABLE};
use crate::language;
use crate::problem::{FieldError, Problem};
use crate::routes::documents::DocumentRequest;
use crate::state::State;

/// The form's fields beside the file; each is a field of the JSON body.
const FIELDS: &[&str] = &["title", "metadata", "collection", "language"];
/// The longest title that is made from a file's name.
const LONGEST_NAME: usize = 200;

/// A document however it came.
pub(crate) struct DocumentBody {
    request: DocumentRequest,
    /// What it is: `text/plain`, `text/markdown`, `text/html`, …
    media_type: String,
    /// The file, where a worker has to take the text out; the request's text then means nothing.
    file: Option<Vec<u8>>,
}

impl DocumentBody {
    /// The document under this id, to be worked on by this task.
    pub(crate) fn into_new(self, id: Uuid, task_id: String) -> NewDocument {
        let Self { request, media_type, file } = self;
        NewDocument {
            id,
            title: request.title,
            collection: request.collection,
            metadata: request.metadata.0,
            language: request.language.0,
            media_type,
            // the worker takes the text out of a file
            content: if file.is_some() { String::new() } else { request.text.0 },
            file,
            task_id,
        }
    }
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
            return Ok(Self { request, media_type: "text/plain".into(), file: None });
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
    let bounded = |description: &'static str, most: usize| {
        MetaSchemaRef::Inline(Box::new(MetaSchema {
            description: Some(description),
            max_length: Some(most),
            pattern: Some(STORABLE.into()),
            ..MetaSchema::new("string")
        }))
    };
    MetaSchemaRef::Inline(Box::new(MetaSchema {
        required: vec!["file"],
        properties: vec![
            ("file", text(Some("binary"), "The document: text or Markdown in UTF-8, HTML, PDF or DOCX.")),
            ("title", bounded("A title; the file's name when missing.", 500)),
            (
                "metadata",
                JsonObject::schema_ref().merge(MetaSchema {
                    description: Some("Fields of your own, as the text of a JSON object."),
                    ..MetaSchema::ANY
                }),
            ),
            ("collection", bounded("The collection it belongs to.", 200)),
            (
                "language",
                MetaSchemaRef::Inline(Box::new(MetaSchema {
                    description: Some("The language of the text, for keyword search."),
                    // a field that was not filled in
                    enum_items: language::KNOWN.into_iter().chain([""]).map(Value::from).collect(),
                    ..MetaSchema::new("string")
                })),
            ),
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
            file = Some(read_file(kind.as_deref(), file_name.as_deref(), bytes)?);
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
    let Some((content, kind)) = file.filter(|_| unknown.is_empty()) else { return Err(Problem::fields(unknown)) };
    let (text, file) = match content {
        Content::Text(text) => (text, None),
        Content::File(file) => ("its text is in the file".to_owned(), Some(file)),
    };
    fields.insert("text".into(), text.into());
    Ok(DocumentBody { request: body::parse(Value::Object(fields), "")?, media_type: kind.to_owned(), file })
}

/// What a file holds.
#[derive(Debug, PartialEq)]
enum Content {
    /// Text.
    Text(String),
    /// Text that has to be taken out.
    File(Vec<u8>),
}

/// The types of files that are taken.
pub(crate) const TAKEN: [&str; 5] = ["text/plain", "text/markdown", "text/html", PDF, DOCX];
const PDF: &str = "application/pdf";
const DOCX: &str = "application/vnd.openxmlformats-officedocument.wordprocessingml.document";

/// The content of a file and what kind it is, by what its sender says or by its name.
fn read_file(kind: Option<&str>, name: Option<&str>, bytes: Vec<u8>) -> Result<(Content, &'static str), Problem> {
    let extension = name.and_then(|name| name.rsplit_once('.')).map(|(_, extension)| extension.to_ascii_lowercase());
    let declared = kind.and_then(|kind| kind.split(';').next()).map(|kind| kind.trim().to_ascii_lowercase());
    let by_name = match extension.as_deref() {
        Some("md" | "markdown") => Some("text/markdown"),
        Some("txt" | "text" | "rst") => Some("text/plain"),
        Some("html" | "htm" | "xhtml") => Some("text/html"),
        Some("pdf") => Some(PDF),
        Some("docx") => Some(DOCX),
        _ => None,
    };
    let kind = match (declared.as_deref(), by_name) {
        (Some("text/markdown" | "text/x-markdown"), _) => "text/markdown",
        (Some("text/html" | "application/xhtml+xml"), _) => "text/html",
        (Some("application/pdf"), _) => PDF,
        (Some(DOCX), _) => DOCX,
        (Some("text/plain"), Some("text/markdown")) => "text/markdown",
        (Some("text/plain"), _) => "text/plain",
        (Some("application/octet-stream") | None, Some(kind)) => kind,
        (None, None) if extension.is_none() => "text/plain",
        (declared, _) => {
            let declared = declared.unwrap_or("unknown");
            let detail =
                format!("a file of the type {declared} is not taken; taken are text, Markdown, HTML, PDF and DOCX");
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
        }
    };
    // what is no text, or not what it says it is, is told by who reads it: the document fails with that reason
    let content = match (kind, String::from_utf8(bytes)) {
        ("text/plain" | "text/markdown", Ok(text)) if !text.trim().is_empty() => {
            Content::Text(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
        }
        (_, Ok(text)) => Content::File(text.into_bytes()),
        (_, Err(error)) => Content::File(error.into_bytes()),
    };
    Ok((content, kind))
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
        let read = |kind, name, bytes: &[u8]| {
            read_file(kind, name, bytes.to_vec()).map(|(_, kind)| kind).map_err(|problem| problem.status().as_u16())
        };
        let kind = |kind, name| read(kind, name, b"x");
        assert_eq!(kind(Some("text/plain; charset=utf-8"), Some("a.txt")).unwrap(), "text/plain");
        assert_eq!(kind(Some("text/plain"), Some("a.md")).unwrap(), "text/markdown");
        assert_eq!(kind(Some("application/octet-stream"), Some("a.md")).unwrap(), "text/markdown");
        assert_eq!(kind(None, Some("A.TXT")).unwrap(), "text/plain");
        assert_eq!(kind(None, Some("a.htm")).unwrap(), "text/html");
        assert_eq!(kind(Some("text/html"), None).unwrap(), "text/html");
        assert_eq!(read(None, Some("a.pdf"), b"\n%PDF-1.7\n").unwrap(), PDF);
        assert_eq!(read(Some(DOCX), None, b"PK\x03\x04").unwrap(), DOCX);
        assert_eq!(kind(Some("image/png"), Some("a.txt")), Err(415));
        assert_eq!(kind(Some("application/octet-stream"), Some("a.exe")), Err(415));
        assert_eq!(kind(None, Some("a.exe")), Err(415));
        // whoever reads them says what is wrong with them
        for (kind, bytes) in [(Some(PDF), &b"x"[..]), (Some(DOCX), b""), (None, &[0xff]), (None, b" ")] {
            assert_eq!(read_file(kind, None, bytes.to_vec()).unwrap().0, Content::File(bytes.to_vec()));
        }
        assert_eq!(read_file(None, None, "\u{feff}x".into()).unwrap().0, Content::Text("x".into()));
    }

    #[test]
    fn a_title_is_the_last_part_of_a_name() {
        assert_eq!(title_of("../../etc/passwd.txt").unwrap(), "passwd.txt");
        assert_eq!(title_of("a\\b.txt").unwrap(), "b.txt");
        assert_eq!(title_of(&"x".repeat(300)).unwrap().len(), 200);
        assert_eq!(title_of("a/"), None);
    }
}
