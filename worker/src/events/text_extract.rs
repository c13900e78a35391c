//! `text.extract`: data out of a text.

use async_trait::async_trait;
use petiole_ai::patterns::{self, Item, Kind};
use petiole_ai::prompts::{ExtractPrompt, Prompts};
use petiole_ai::structured::{self, Schema};
use petiole_storage::Event;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::registry::{EventHandler, HandlerError};
use super::text::{shown, text_of};
use crate::services::Services;

/// The most finds.
const MOST_ITEMS: usize = 1_000;
/// What finds by form, shown where a language model's name would be.
const PATTERNS: &str = "patterns";

/// What `text.extract` takes: a text or a document's id, and what is wanted.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExtractData {
    /// The text.
    #[serde(default)]
    pub text: Option<String>,
    /// The document whose text it is.
    #[serde(default)]
    pub document_id: Option<Uuid>,
    /// Which typed data are wanted; all of them if neither this nor a schema is given.
    #[serde(default)]
    pub kinds: Option<Vec<Kind>>,
    /// A JSON schema of the data that a language model is to find.
    #[serde(default)]
    pub schema: Option<Value>,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Extraction {
    /// Typed data, in the order of the text.
    pub items: Vec<Item>,
    /// Data of the schema that was given; null without one.
    pub data: Option<Value>,
    /// What found the data: a language model's name, or `patterns` where none was asked.
    pub model: String,
    /// The prompt they were found with; none without a language model.
    pub prompt: Option<String>,
}

/// Takes data out of a text: dates, addresses, amounts by their form, or whatever a JSON schema asks of a language model.
#[derive(Clone, Copy, Debug)]
pub struct TextExtract;

#[async_trait]
impl EventHandler for TextExtract {
    const TYPE: &'static str = "text.extract";
    type Data = ExtractData;
    type Output = Extraction;

    async fn handle(&self, services: &Services, _: &Event, data: ExtractData) -> Result<Extraction, HandlerError> {
        extract(services, data).await
    }
}

/// The work itself, for whoever needs it elsewhere.
///
/// # Errors
/// [`HandlerError`].
pub async fn extract(services: &Services, data: ExtractData) -> Result<Extraction, HandlerError> {
    let wrong = |reason: &str| HandlerError::Data { kind: TextExtract::TYPE, reason: reason.to_owned() };
    let text = text_of(services, TextExtract::TYPE, data.text, data.document_id).await?;
    // a bad schema is told before anything is looked for
    let schema = data.schema.map(|schema| Schema::new(&schema)).transpose();
    let schema = schema.map_err(|reason| wrong(&format!("schema: {reason}")))?;
    let kinds = match (&schema, data.kinds) {
        (_, Some(kinds)) => kinds,
        (Some(_), None) => vec![],
        (None, None) => Kind::ALL.to_vec(),
    };
    let (mut found, mut model, mut prompt) = (None, PATTERNS, None);
    if let Some(schema) = schema {
        let Some(language) = &services.language.model else {
            return Err(wrong(
                "schema: needs a language model; set LANGUAGE_MODEL, OPENAI_BASE_URL and OPENAI_API_KEY",
            ));
        };
        let asked = ExtractPrompt { text: shown(services, &text), schema: schema.text() };
        let messages = services.language.prompts.messages(&asked)?;
        found = Some(structured::generate(language.as_ref(), &services.language.prompts, messages, &schema).await?);
        (model, prompt) = (language.model(), Some(Prompts::label::<ExtractPrompt<'_>>()));
    }
    let items = tokio::task::spawn_blocking(move || patterns::find(&text, &kinds, MOST_ITEMS));
    let items = items.await.map_err(|error| HandlerError::Output(error.to_string()))?;
    Ok(Extraction { items, data: found, model: model.to_owned(), prompt })
}
