//! `text.digest`: what a text says in short, what it is about, and the data in it. The workflow that ships, and the example of one:
//! a sequence, a branch by the text's length, and three steps side by side.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Flow, Step, Workflow};
use crate::events::text::text_of;
use crate::events::{
    Classification, ClassifyData, ExtractData, Extraction, HandlerError, SummarizeData, Summary, classify, extract,
    summarize,
};
use crate::services::Services;

/// A text of more letters than this is reduced before it is summarised.
const LONG: usize = 20_000;
/// Sentences that a long text is reduced to.
const REDUCED: usize = 50;
/// What a text may be about, unless the event says it.
const LABELS: [&str; 8] =
    ["technology", "business", "law", "science", "health", "politics", "art and culture", "everyday life"];

/// What `text.digest` takes: a text or a document's id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DigestData {
    /// The text.
    #[serde(default)]
    pub text: Option<String>,
    /// The document whose text it is.
    #[serde(default)]
    pub document_id: Option<Uuid>,
    /// What the text may be about; a list of subjects of our own if it does not say.
    #[serde(default)]
    pub labels: Option<Vec<String>>,
}

/// A text on its way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Loaded {
    /// The text.
    pub text: String,
    /// What it may be about.
    pub labels: Vec<String>,
}

/// A digest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Digest {
    /// The text in short.
    pub summary: Summary,
    /// The data in it.
    pub extraction: Extraction,
    /// What it is about.
    pub classification: Classification,
}

/// The workflow `text.digest`.
#[derive(Clone, Copy, Debug)]
pub struct TextDigest;

impl Workflow for TextDigest {
    const TYPE: &'static str = "text.digest";
    type Data = DigestData;
    type Output = Digest;

    fn flow(&self) -> Flow<DigestData, Digest> {
        let summary = Flow::branch(
            "by_length",
            |loaded: &Loaded| if loaded.text.chars().count() > LONG { "long" } else { "short" },
            [
                ("short", Flow::step(Summarize)),
                ("long", Flow::step(Reduce).then(Flow::step(Summarize).named("summarize_reduced"))),
            ],
        );
        Flow::step(Load).then(Flow::three(summary, Flow::step(Extract), Flow::step(Classify))).then(Flow::step(Join))
    }
}

/// Gets the text.
struct Load;

#[async_trait]
impl Step for Load {
    const NAME: &'static str = "load";
    type Input = DigestData;
    type Output = Loaded;

    async fn run(&self, services: &Services, data: DigestData) -> Result<Loaded, HandlerError> {
        let text = text_of(services, TextDigest::TYPE, data.text, data.document_id).await?;
        Ok(Loaded { text, labels: data.labels.unwrap_or_else(|| LABELS.map(str::to_owned).to_vec()) })
    }
}

/// Reduces a long text to its most telling sentences.
struct Reduce;

#[async_trait]
impl Step for Reduce {
    const NAME: &'static str = "reduce";
    type Input = Loaded;
    type Output = Loaded;

    async fn run(&self, services: &Services, loaded: Loaded) -> Result<Loaded, HandlerError> {
        let sentences = petiole_ai::extractive::summarize(services.embedder.as_ref(), &loaded.text, REDUCED).await?;
        Ok(Loaded { text: sentences.join("\n"), ..loaded })
    }
}

/// The text in a few sentences.
struct Summarize;

#[async_trait]
impl Step for Summarize {
    const NAME: &'static str = "summarize";
    type Input = Loaded;
    type Output = Summary;

    async fn run(&self, services: &Services, loaded: Loaded) -> Result<Summary, HandlerError> {
        summarize(services, SummarizeData { text: Some(loaded.text), document_id: None, sentences: None }).await
    }
}

/// The data in it.
struct Extract;

#[async_trait]
impl Step for Extract {
    const NAME: &'static str = "extract";
    type Input = Loaded;
    type Output = Extraction;

    async fn run(&self, services: &Services, loaded: Loaded) -> Result<Extraction, HandlerError> {
        let data = ExtractData { text: Some(loaded.text), document_id: None, kinds: None, schema: None };
        extract(services, data).await
    }
}

/// What it is about.
struct Classify;

#[async_trait]
impl Step for Classify {
    const NAME: &'static str = "classify";
    type Input = Loaded;
    type Output = Classification;

    async fn run(&self, services: &Services, loaded: Loaded) -> Result<Classification, HandlerError> {
        classify(services, ClassifyData { text: Some(loaded.text), document_id: None, labels: loaded.labels }).await
    }
}

/// All of it in one.
struct Join;

#[async_trait]
impl Step for Join {
    const NAME: &'static str = "join";
    type Input = (Summary, Extraction, Classification);
    type Output = Digest;

    async fn run(
        &self,
        _: &Services,
        (summary, extraction, classification): Self::Input,
    ) -> Result<Digest, HandlerError> {
        Ok(Digest { summary, extraction, classification })
    }
}
