//! Re-ranking: the best of what a search found are read again, each together with the question, and put in order by that.
//! An index compares whole passages; here each sentence counts, or a model that reads question and passage as one.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use petiole_settings::AiSettings;
use unicode_segmentation::UnicodeSegmentation;

use crate::embedder::{EmbedError, Embedder};
use crate::openai::RerankServer;
use crate::sentences::sentences;
use crate::vector::cosine;

/// The name of the re-ranker that needs no model of its own.
pub const SENTENCES: &str = "sentences";
/// Sentences of one passage that are compared with the question.
const MOST_SENTENCES: usize = 24;
/// What the question's words count beside the meaning of the best sentence.
const WORDS: f32 = 0.15;
/// What the meaning of the passage as a whole counts.
const WHOLE: f32 = 0.25;

/// Tells how well passages answer a question.
#[async_trait]
pub trait Reranker: Send + Sync {
    /// Its name.
    fn model(&self) -> &str;

    /// One score for each passage, in their order: the higher, the better. Comparable only within one call.
    async fn scores(&self, question: &str, passages: &[String]) -> Result<Vec<f32>, RerankError>;
}

/// Why there is no order.
#[derive(Debug, thiserror::Error)]
pub enum RerankError {
    /// The embedding model, which compares sentences.
    #[error(transparent)]
    Embed(#[from] EmbedError),
    /// The settings do not tell which server to ask.
    #[error("{0}")]
    Settings(String),
    /// The server answered with an error.
    #[error("the re-ranking server answered {status}: {message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What the server said, shortened.
        message: String,
        /// How long the server asked to wait.
        retry_after: Option<Duration>,
    },
    /// The server could not be reached, or did not answer in time.
    #[error("the re-ranking server cannot be reached: {0}")]
    Unreachable(String),
    /// The server's answer makes no sense.
    #[error("the re-ranking server's answer cannot be used: {0}")]
    Answer(String),
}

impl RerankError {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Embed(error) => error.is_transient(),
            Self::Unreachable(_) => true,
            Self::Refused { status, .. } => crate::openai::may_pass(*status),
            Self::Settings(_) | Self::Answer(_) => false,
        }
    }
}

/// The re-ranker of the settings: `RERANK_MODEL` on its server, or by sentences with this embedder.
///
/// # Errors
/// [`RerankError::Settings`].
pub fn reranker_from(settings: &AiSettings, embedder: &Arc<dyn Embedder>) -> Result<Arc<dyn Reranker>, RerankError> {
    match settings.rerank_model.as_deref() {
        None | Some(SENTENCES) => Ok(Arc::new(BySentences::new(embedder.clone()))),
        Some(model) => Ok(Arc::new(RerankServer::from_settings(settings, model)?)),
    }
}

/// The order in which a re-ranker puts passages: their places and scores, best first. Equals stay as they were.
///
/// # Errors
/// [`RerankError`].
pub async fn order(
    reranker: &dyn Reranker,
    question: &str,
    passages: &[String],
) -> Result<Vec<(usize, f32)>, RerankError> {
    if passages.is_empty() {
        return Ok(vec![]);
    }
    let scores = reranker.scores(question, passages).await?;
    if scores.len() != passages.len() {
        let (found, expected) = (scores.len(), passages.len());
        return Err(RerankError::Answer(format!("{found} scores for {expected} passages")));
    }
    let mut order: Vec<_> = scores.into_iter().enumerate().collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1));
    Ok(order)
}

/// By the sentence of each passage that is nearest to the question in meaning, and by the question's rarer words.
pub struct BySentences {
    embedder: Arc<dyn Embedder>,
}

impl BySentences {
    /// With this embedder.
    pub fn new(embedder: Arc<dyn Embedder>) -> Self {
        Self { embedder }
    }
}

#[async_trait]
impl Reranker for BySentences {
    fn model(&self) -> &str {
        SENTENCES
    }

    async fn scores(&self, question: &str, passages: &[String]) -> Result<Vec<f32>, RerankError> {
        let mut texts = vec![question.to_owned()];
        texts.extend(passages.iter().cloned());
        let mut of = Vec::new();
        for (n, passage) in passages.iter().enumerate() {
            for sentence in sentences(passage).into_iter().take(MOST_SENTENCES) {
                of.push(n);
                texts.push(sentence);
            }
        }
        let vectors = self.embedder.embed(&texts).await?;
        let Some((question_vector, vectors)) = vectors.split_first() else { return Ok(vec![]) };
        let (whole, parts) = vectors.split_at(passages.len().min(vectors.len()));
        let whole: Vec<f32> = whole.iter().map(|vector| cosine(question_vector, vector)).collect();
        let mut best = whole.clone();
        for (n, vector) in of.into_iter().zip(parts) {
            best[n] = best[n].max(cosine(question_vector, vector));
        }
        let words = shares_of_words(question, passages);
        Ok((0..passages.len()).map(|n| best[n] + WHOLE * whole[n] + WORDS * words[n]).collect())
    }
}

/// Which share of the question's words each passage has, rare ones among the passages counting for more.
fn shares_of_words(question: &str, passages: &[String]) -> Vec<f32> {
    let asked = words(question);
    let held: Vec<HashSet<String>> = passages.iter().map(|passage| words(passage)).collect();
    let count = passages.len() as f32;
    let weights: HashMap<&String, f32> = asked
        .iter()
        .map(|word| {
            let with = held.iter().filter(|held| held.contains(word)).count() as f32;
            // the weight of BM25, which is never negative
            (word, (1.0 + (count - with + 0.5) / (with + 0.5)).ln())
        })
        .collect();
    let all: f32 = weights.values().sum();
    let share = |held: &HashSet<String>| {
        let sum: f32 = weights.iter().filter(|(word, _)| held.contains(**word)).map(|(_, weight)| weight).sum();
        if all > 0.0 { sum / all } else { 0.0 }
    };
    held.iter().map(share).collect()
}

/// Words of more than two letters, and numbers.
fn words(text: &str) -> HashSet<String> {
    text.unicode_words()
        .map(str::to_lowercase)
        .filter(|word| word.chars().count() > 2 || word.chars().all(char::is_numeric))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rare_words_count_for_more() {
        let passages = ["the red boat", "the blue boat", "the red house", "nothing"].map(str::to_owned);
        let shares = shares_of_words("The red BOAT house?", &passages);
        assert!(shares[2] > shares[0] && shares[0] > shares[1] && shares[1] > shares[3], "{shares:?}");
        assert_eq!(shares_of_words("a", &passages), [0.0; 4]);
    }
}
