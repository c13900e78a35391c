//! `text.classify`: which of some labels fits a text.

use async_trait::async_trait;
use petiole_ai::TextKind;
use petiole_ai::extractive::{self, EXTRACTIVE};
use petiole_ai::prompts::{ClassifyPrompt, Prompts};
use petiole_ai::structured::{self, Schema};
use petiole_storage::Event;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::registry::{EventHandler, HandlerError};
use super::text::{shown, text_of};
use crate::services::Services;

/// The most labels.
const MOST_LABELS: usize = 100;
/// Passages of a long text that are looked at.
const MOST_PASSAGES: usize = 64;

/// What `text.classify` takes: a text or a document's id, and labels.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassifyData {
    /// The text.
    #[serde(default)]
    pub text: Option<String>,
    /// The document whose text it is.
    #[serde(default)]
    pub document_id: Option<Uuid>,
    /// The labels: words that say what a text may be about.
    pub labels: Vec<String>,
}

/// How well one label fits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelScore {
    /// The label.
    pub label: String,
    /// From 0 to 1.
    pub score: f64,
}

/// The labels by how well they fit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Classification {
    /// The one that fits best.
    pub label: String,
    /// All of them, best first.
    pub scores: Vec<LabelScore>,
    /// What decided: a language model's name, or `extractive` for the meanings of text and labels.
    pub model: String,
    /// The prompt it was made with; none without a language model.
    pub prompt: Option<String>,
}

/// Gives a text its label: by the language model, or by the label whose meaning is nearest.
#[derive(Clone, Copy, Debug)]
pub struct TextClassify;

#[async_trait]
impl EventHandler for TextClassify {
    const TYPE: &'static str = "text.classify";
    type Data = ClassifyData;
    type Output = Classification;

    async fn handle(&self, services: &Services, _: &Event, data: ClassifyData) -> Result<Classification, HandlerError> {
        classify(services, data).await
    }
}

/// The work itself, for whoever needs it elsewhere.
///
/// # Errors
/// [`HandlerError`].
pub async fn classify(services: &Services, data: ClassifyData) -> Result<Classification, HandlerError> {
    let labels = data.labels;
    check(&labels).map_err(|reason| HandlerError::Data { kind: TextClassify::TYPE, reason })?;
    let text = text_of(services, TextClassify::TYPE, data.text, data.document_id).await?;
    let (scores, model, prompt) = match &services.language.model {
        Some(model) => {
            let scores: serde_json::Map<_, _> = labels
                .iter()
                .map(|label| (label.clone(), json!({"type": "number", "minimum": 0, "maximum": 1})))
                .collect();
            let schema = json!({
                "type": "object", "properties": scores, "required": labels, "additionalProperties": false,
            });
            let schema = Schema::new(&schema).map_err(HandlerError::Output)?;
            let prompt = ClassifyPrompt { text: shown(services, &text), labels: &labels, schema: schema.text() };
            let messages = services.language.prompts.messages(&prompt)?;
            let value = structured::generate(model.as_ref(), &services.language.prompts, messages, &schema).await?;
            let scores = labels.iter().map(|label| value[label].as_f64().unwrap_or_default()).collect();
            (scores, model.model(), Some(Prompts::label::<ClassifyPrompt<'_>>()))
        }
        None => {
            let chunker = services.chunker.clone();
            let cut = tokio::task::spawn_blocking(move || chunker.chunk(&text, TextKind::Plain));
            let passages = cut.await.map_err(|error| HandlerError::Output(error.to_string()))?;
            let passages: Vec<_> = passages.into_iter().take(MOST_PASSAGES).map(|chunk| chunk.text).collect();
            (extractive::classify(services.embedder.as_ref(), &passages, &labels).await?, EXTRACTIVE, None)
        }
    };
    let mut scores: Vec<_> = labels.into_iter().zip(scores).map(|(label, score)| LabelScore { label, score }).collect();
    scores.sort_by(|a, b| b.score.total_cmp(&a.score));
    let label = scores.first().map(|best| best.label.clone()).unwrap_or_default();
    Ok(Classification { label, scores, model: model.to_owned(), prompt })
}

fn check(labels: &[String]) -> Result<(), String> {
    if !(2..=MOST_LABELS).contains(&labels.len()) {
        return Err(format!("labels: must be from 2 to {MOST_LABELS}, are {}", labels.len()));
    }
    let mut seen = std::collections::HashSet::new();
    match labels.iter().find(|label| label.trim().is_empty() || !seen.insert(label.as_str())) {
        Some(label) => Err(format!("labels: {label:?} is empty or there twice")),
        None => Ok(()),
    }
}
