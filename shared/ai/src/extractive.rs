//! Work on texts by the meanings of their sentences alone, without a language model: answers, summaries, classes.

use crate::embedder::{EmbedError, Embedder};
use crate::sentences::sentences;
use crate::vector::{cosine, normalise};

/// The name of what answers here, shown where a language model's would be.
pub const EXTRACTIVE: &str = "extractive";

/// A sentence less like the question than this says nothing about it.
const ABOUT: f32 = 0.3;
/// A further sentence is taken only if it is this near to the best one.
const NEARLY_AS_GOOD: f32 = 0.75;
/// Two sentences this alike say the same.
const SAME: f32 = 0.92;
/// Sentences that one question is compared with.
const MOST_COMPARED: usize = 400;
/// Sentences of one text that are weighed against each other.
const MOST_WEIGHED: usize = 2_000;
/// How sharply similarities become probabilities: cosines of sentence embeddings lie close together.
const SHARPNESS: f32 = 20.0;

/// A sentence that answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Which of the passages it is of, from 0.
    pub passage: usize,
    /// The sentence.
    pub text: String,
    /// The cosine of its meaning and the question's.
    pub score: f32,
}

/// The sentences of `passages` that answer the question, best first, at most so many; none when none is about it.
///
/// # Errors
/// [`EmbedError`].
pub async fn answer(
    embedder: &dyn Embedder,
    question: &[f32],
    passages: &[&str],
    at_most: usize,
) -> Result<Vec<Found>, EmbedError> {
    let all =
        passages.iter().enumerate().flat_map(|(passage, text)| sentences(text).into_iter().map(move |s| (passage, s)));
    let (places, texts): (Vec<usize>, Vec<String>) = all.take(MOST_COMPARED).unzip();
    let vectors = embedder.embed(&texts).await?;
    let mut ranked: Vec<(Found, &Vec<f32>)> = places
        .into_iter()
        .zip(texts)
        .zip(&vectors)
        .map(|((passage, text), vector)| (Found { passage, text, score: cosine(question, vector) }, vector))
        // a question is no answer
        .filter(|(found, _)| found.score >= ABOUT && !found.text.ends_with('?'))
        .collect();
    ranked.sort_by(|a, b| b.0.score.total_cmp(&a.0.score));
    let enough = ranked.first().map_or(0.0, |(best, _)| best.score * NEARLY_AS_GOOD);
    let mut taken: Vec<(Found, &Vec<f32>)> = Vec::new();
    for (found, vector) in ranked.into_iter().take_while(|(found, _)| found.score >= enough) {
        if taken.len() < at_most && taken.iter().all(|(_, other)| cosine(vector, other) < SAME) {
            taken.push((found, vector));
        }
    }
    Ok(taken.into_iter().map(|(found, _)| found).collect())
}

/// The sentences that stand for the whole text, in its order, at most so many: those nearest to the mean of all, each
/// about something that the ones before it are not.
///
/// # Errors
/// [`EmbedError`].
pub async fn summarize(embedder: &dyn Embedder, text: &str, at_most: usize) -> Result<Vec<String>, EmbedError> {
    let mut texts = sentences(text);
    if texts.len() > MOST_WEIGHED {
        // evenly from the whole text
        let step = texts.len().div_ceil(MOST_WEIGHED);
        texts = texts.into_iter().step_by(step).collect();
    }
    if texts.len() <= at_most {
        return Ok(texts);
    }
    let vectors = embedder.embed(&texts).await?;
    // the mean of a sentence's cosines with all others is its cosine with their mean
    let mean = mean(&vectors);
    let central: Vec<f32> = vectors.iter().map(|vector| cosine(vector, &mean)).collect();
    let mut taken: Vec<usize> = Vec::new();
    let mut alike = vec![0.0_f32; vectors.len()];
    while taken.len() < at_most {
        // maximal marginal relevance
        let worth = |n: &usize| 0.7 * central[*n] - 0.3 * alike[*n];
        let next = (0..vectors.len()).filter(|n| !taken.contains(n)).max_by(|a, b| worth(a).total_cmp(&worth(b)));
        let Some(next) = next else { break };
        taken.push(next);
        for (n, vector) in vectors.iter().enumerate() {
            alike[n] = alike[n].max(cosine(vector, &vectors[next]));
        }
    }
    taken.sort_unstable();
    Ok(taken.into_iter().map(|n| std::mem::take(&mut texts[n])).collect())
}

/// How well each label fits the text, in the order of the labels: shares that add up to 1.
///
/// # Errors
/// [`EmbedError`].
pub async fn classify(embedder: &dyn Embedder, passages: &[String], labels: &[String]) -> Result<Vec<f64>, EmbedError> {
    let mut texts = passages.to_vec();
    texts.extend(labels.iter().map(|label| format!("This text is about {label}.")));
    let vectors = embedder.embed(&texts).await?;
    let (passages, labels) = vectors.split_at(passages.len());
    let text = mean(passages);
    let weights: Vec<f64> = labels.iter().map(|label| f64::from(SHARPNESS * cosine(&text, label)).exp()).collect();
    let sum: f64 = weights.iter().sum();
    Ok(weights.into_iter().map(|weight| weight / sum).collect())
}

/// The mean direction.
fn mean(vectors: &[Vec<f32>]) -> Vec<f32> {
    let mut mean = vec![0.0; vectors.first().map_or(0, Vec::len)];
    for vector in vectors {
        mean.iter_mut().zip(vector).for_each(|(sum, x)| *sum += x);
    }
    normalise(&mut mean);
    mean
}
