//! `text.summarize`: a text in a few sentences.

use async_trait::async_trait;
use petiole_ai::extractive::{self, EXTRACTIVE};
use petiole_ai::prompts::{Prompts, SummarizePrompt};
use petiole_ai::structured::{self, Schema};
use petiole_storage::Event;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::registry::{EventHandler, HandlerError};
use super::text::{shown, text_of};
use crate::services::Services;

/// Sentences of a summary, unless the event says how many.
const SENTENCES: usize = 3;
/// The most that it may say.
const MOST: usize = 50;
/// Letters of a sentence, on the average.
const LETTERS: usize = 120;

/// What `text.summarize` takes: a text or a document's id.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SummarizeData {
    /// The text.
    #[serde(default)]
    pub text: Option<String>,
    /// The document whose text it is.
    #[serde(default)]
    pub document_id: Option<Uuid>,
    /// At most so many sentences; 3 if it does not say.
    #[serde(default)]
    pub sentences: Option<usize>,
}

/// A summary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The whole.
    pub summary: String,
    /// Its sentences.
    pub sentences: Vec<String>,
    /// What made it: a language model's name, or `extractive` for sentences of the text itself.
    pub model: String,
    /// The prompt it was made with; none without a language model.
    pub prompt: Option<String>,
}

/// Summarises a text: by the language model, or by the sentences that stand for the whole.
#[derive(Clone, Copy, Debug)]
pub struct TextSummarize;

#[async_trait]
impl EventHandler for TextSummarize {
    const TYPE: &'static str = "text.summarize";
    type Data = SummarizeData;
    type Output = Summary;

    async fn handle(&self, services: &Services, _: &Event, data: SummarizeData) -> Result<Summary, HandlerError> {
        summarize(services, data).await
    }
}

/// The work itself, for whoever needs it elsewhere.
///
/// # Errors
/// [`HandlerError`].
pub async fn summarize(services: &Services, data: SummarizeData) -> Result<Summary, HandlerError> {
    let count = data.sentences.unwrap_or(SENTENCES);
    if !(1..=MOST).contains(&count) {
        let reason = format!("sentences: must be from 1 to {MOST}, is {count}");
        return Err(HandlerError::Data { kind: TextSummarize::TYPE, reason });
    }
    let text = text_of(services, TextSummarize::TYPE, data.text, data.document_id).await?;
    let (sentences, model, prompt) = match &services.language.model {
        Some(model) => {
            let schema = json!({
                "type": "object", "required": ["sentences"], "additionalProperties": false,
                "properties": {"sentences": {
                    "type": "array", "minItems": 1, "maxItems": count, "items": {"type": "string", "minLength": 1},
                }},
            });
            let schema = Schema::new(&schema).map_err(HandlerError::Output)?;
            let text = reduced(services, text).await?;
            let prompt = SummarizePrompt { text: &text, sentences: count, schema: schema.text() };
            let messages = services.language.prompts.messages(&prompt)?;
            let value = structured::generate(model.as_ref(), &services.language.prompts, messages, &schema).await?;
            let sentences = serde_json::from_value(value["sentences"].clone());
            let label = Prompts::label::<SummarizePrompt<'_>>();
            (sentences.map_err(|error| HandlerError::Output(error.to_string()))?, model.model(), Some(label))
        }
        None => (extractive::summarize(services.embedder.as_ref(), &text, count).await?, EXTRACTIVE, None),
    };
    Ok(Summary { summary: sentences.join(" "), sentences, model: model.to_owned(), prompt })
}

/// A text that is too long for the model, reduced to its most telling sentences.
async fn reduced(services: &Services, text: String) -> Result<String, HandlerError> {
    let most = shown(services, &text).len();
    if most == text.len() {
        return Ok(text);
    }
    let sentences = extractive::summarize(services.embedder.as_ref(), &text, (most / LETTERS).max(1)).await?;
    let joined = sentences.join("\n");
    Ok(shown(services, &joined).to_owned())
}
