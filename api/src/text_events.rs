//! The data of events about texts: summarised, classified, taken data out of. The text is the event's own or a document's.

use poem_openapi::{Enum, Object, Union};
use uuid::Uuid;

use crate::event_types::EventData;
use crate::json::{JsonObject, Text};

/// A text to be summarised.
#[derive(Clone, Debug, Object)]
pub(crate) struct SummarizeTextRequest {
    /// The text.
    text: Text,
    /// At most so many sentences; 3 when missing.
    #[oai(validator(minimum(value = "1"), maximum(value = "50")))]
    sentences: Option<u32>,
}

/// A document to be summarised.
#[derive(Clone, Debug, Object)]
pub(crate) struct SummarizeDocumentRequest {
    /// The document.
    document_id: Uuid,
    /// At most so many sentences; 3 when missing.
    #[oai(validator(minimum(value = "1"), maximum(value = "50")))]
    sentences: Option<u32>,
}

/// What is to be summarised.
#[derive(Clone, Debug, Union)]
#[oai(one_of)]
pub(crate) enum SummarizeRequest {
    Text(SummarizeTextRequest),
    Document(SummarizeDocumentRequest),
}

impl EventData for SummarizeRequest {}

/// A text to be classified.
#[derive(Clone, Debug, Object)]
pub(crate) struct ClassifyTextRequest {
    /// The text.
    text: Text,
    /// The labels: words that say what a text may be about.
    #[oai(validator(min_items = 2, max_items = 100, unique_items))]
    labels: Vec<Text>,
}

/// A document to be classified.
#[derive(Clone, Debug, Object)]
pub(crate) struct ClassifyDocumentRequest {
    /// The document.
    document_id: Uuid,
    /// The labels: words that say what a text may be about.
    #[oai(validator(min_items = 2, max_items = 100, unique_items))]
    labels: Vec<Text>,
}

/// What is to be classified.
#[derive(Clone, Debug, Union)]
#[oai(one_of)]
pub(crate) enum ClassifyRequest {
    Text(ClassifyTextRequest),
    Document(ClassifyDocumentRequest),
}

impl EventData for ClassifyRequest {}

/// What is found by its form.
#[derive(Clone, Copy, Debug, Enum)]
#[oai(rename_all = "lowercase")]
pub(crate) enum ExtractKind {
    /// A day.
    Date,
    /// An e-mail address.
    Email,
    /// A web address.
    Url,
    /// An amount of money.
    Amount,
    /// A telephone number.
    Phone,
}

/// A text to take data out of.
#[derive(Clone, Debug, Object)]
pub(crate) struct ExtractTextRequest {
    /// The text.
    text: Text,
    /// Which typed data are wanted; all of them when neither this nor a schema is given.
    kinds: Option<Vec<ExtractKind>>,
    /// A JSON schema of the data that a language model is to find.
    schema: Option<JsonObject>,
}

/// A document to take data out of.
#[derive(Clone, Debug, Object)]
pub(crate) struct ExtractDocumentRequest {
    /// The document.
    document_id: Uuid,
    /// Which typed data are wanted; all of them when neither this nor a schema is given.
    kinds: Option<Vec<ExtractKind>>,
    /// A JSON schema of the data that a language model is to find.
    schema: Option<JsonObject>,
}

/// What to take data out of.
#[derive(Clone, Debug, Union)]
#[oai(one_of)]
pub(crate) enum ExtractRequest {
    Text(ExtractTextRequest),
    Document(ExtractDocumentRequest),
}

impl EventData for ExtractRequest {}

/// A text to be digested.
#[derive(Clone, Debug, Object)]
pub(crate) struct DigestTextRequest {
    /// The text.
    text: Text,
    /// What it may be about; a list of common subjects when missing.
    #[oai(validator(min_items = 2, max_items = 100, unique_items))]
    labels: Option<Vec<Text>>,
}

/// A document to be digested.
#[derive(Clone, Debug, Object)]
pub(crate) struct DigestDocumentRequest {
    /// The document.
    document_id: Uuid,
    /// What it may be about; a list of common subjects when missing.
    #[oai(validator(min_items = 2, max_items = 100, unique_items))]
    labels: Option<Vec<Text>>,
}

/// What is summarised, classified and taken data out of, all at once: a workflow.
#[derive(Clone, Debug, Union)]
#[oai(one_of)]
pub(crate) enum DigestRequest {
    Text(DigestTextRequest),
    Document(DigestDocumentRequest),
}

impl EventData for DigestRequest {}
