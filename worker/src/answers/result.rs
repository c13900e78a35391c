//! An answer and what it points to.

use petiole_storage::{Hit, Turn};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A passage that an answer points to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Citation {
    /// The number that stands for it in the answer: `[1]`.
    pub number: usize,
    /// The document it is of.
    pub document_id: Uuid,
    /// The passage.
    pub chunk_id: Uuid,
    /// The document's title.
    pub title: Option<String>,
    /// The passage's text.
    pub text: String,
    /// How well it fits the question; comparable only within one answer.
    pub score: f64,
}

impl Citation {
    pub(super) fn new(number: usize, hit: &Hit) -> Self {
        Self {
            number,
            document_id: hit.document_id,
            chunk_id: hit.chunk_id,
            title: hit.title.clone(),
            text: hit.text.clone(),
            score: hit.score,
        }
    }
}

/// What becomes of a question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The answer. `[1]` points to the citation of that number.
    pub answer: String,
    /// The passages it rests on; none when nothing is known.
    pub citations: Vec<Citation>,
    /// What answered: a language model's name, or `extractive`.
    pub model: String,
    /// Whether it was cut off at the limit of tokens.
    pub truncated: bool,
    /// The prompt it was made with, such as `answer/v1`; none without a language model.
    pub prompt: Option<String>,
    /// The conversation it belongs to.
    pub conversation_id: Option<Uuid>,
}

impl Answer {
    /// The answer that was stored with its conversation.
    pub(super) fn stored(conversation_id: Uuid, turn: Turn) -> Self {
        Self {
            answer: turn.answer,
            citations: serde_json::from_value(turn.citations).unwrap_or_default(),
            model: turn.model,
            truncated: false,
            prompt: None,
            conversation_id: Some(conversation_id),
        }
    }
}

/// The numbers in brackets that a text holds, each once.
pub(super) fn numbers(text: &str) -> Vec<usize> {
    let mut numbers = Vec::new();
    for part in text.split('[').skip(1) {
        let Some((inside, _)) = part.split_once(']') else { continue };
        // some models write [1, 2]
        for number in inside.split(',').filter_map(|number| number.trim().parse().ok()) {
            if !numbers.contains(&number) {
                numbers.push(number);
            }
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::numbers;

    #[test]
    fn marks_of_passages_are_found() {
        assert_eq!(numbers("Sharks [2] and rays [1][2], see [3, 10]."), [2, 1, 3, 10]);
        assert_eq!(numbers("a[i] = [x], [] [1"), [0_usize; 0]);
    }
}
