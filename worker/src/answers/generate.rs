//! From a question to its answer.

use futures::StreamExt;
use petiole_ai::extractive::{self, EXTRACTIVE};
use petiole_ai::prompts::{AnswerPrompt, CondensePrompt, PromptError, PromptPassage, PromptTurn, Prompts};
use petiole_ai::{ChatRequest, EmbedError, LanguageError, LanguageModel, Message, Piece, RerankError, Role, reranker};
use petiole_storage::{Filter, Hit, NewTurn, SearchMode, SearchQuery, StorageError, Turn};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::result::{Answer, Citation, numbers};
use super::speaker::Speaker;
use crate::services::Services;

/// Passages that are looked at, unless the question says how many.
const TOP_K: u32 = 8;
/// The most passages that a question may ask for.
const MOST_PASSAGES: u32 = 1_000;
/// The longest question, in characters.
const LONGEST_QUESTION: usize = 8_192;
/// Sentences of an answer without a language model.
const SENTENCES: usize = 3;
/// English has about four letters to a token.
const LETTERS_PER_TOKEN: usize = 4;
/// The most tokens of a question that is made independent of its talk.
const CONDENSED_TOKENS: u32 = 256;
/// The answer where there is none.
const NOTHING: &str = "The documents hold nothing about this.";

/// A question.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerRequest {
    /// The question; not empty.
    pub question: String,
    /// How many passages are looked at; 8 if it does not say.
    #[serde(default)]
    pub top_k: Option<u32>,
    /// Only passages of this collection.
    #[serde(default)]
    pub collection: Option<String>,
    /// Only documents whose metadata are like this.
    #[serde(default)]
    pub filter: Option<Map<String, Value>>,
    /// The conversation that the question belongs to; it begins with its first question.
    #[serde(default)]
    pub conversation_id: Option<Uuid>,
    /// Whether the passages are re-ranked; the settings say it if it does not.
    #[serde(default)]
    pub rerank: Option<bool>,
}

impl AnswerRequest {
    /// What its types cannot say.
    ///
    /// # Errors
    /// The field, and what it may hold.
    pub fn check(&self) -> Result<(), String> {
        if self.question.trim().is_empty() {
            return Err("question: must not be empty".to_owned());
        }
        if self.question.chars().count() > LONGEST_QUESTION {
            return Err(format!("question: must have at most {LONGEST_QUESTION} characters"));
        }
        self.filter()?;
        if self.top_k.is_some_and(|top_k| !(1..=MOST_PASSAGES).contains(&top_k)) {
            return Err(format!("top_k: must be from 1 to {MOST_PASSAGES}"));
        }
        Ok(())
    }

    fn filter(&self) -> Result<Filter, String> {
        let Some(map) = &self.filter else { return Ok(Filter::default()) };
        Filter::parse(map).map_err(|errors| {
            let list = errors.into_iter().map(|error| format!("filter.{}: {}", error.path, error.message));
            list.collect::<Vec<_>>().join("; ")
        })
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// The question cannot be asked like this.
    #[error("{0}")]
    Request(String),
    /// The question could not be embedded.
    #[error(transparent)]
    Embed(#[from] EmbedError),
    /// The language model.
    #[error(transparent)]
    Language(#[from] LanguageError),
    /// The passages could not be re-ranked.
    #[error(transparent)]
    Rerank(#[from] RerankError),
    /// A prompt of `PROMPTS_DIR`.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// The database.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl AnswerError {
    /// Whether the same call may succeed later without anybody changing anything. Models were asked again already: whoever
    /// waits for an answer is told what the server says.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Storage(error) => matches!(error, StorageError::Unavailable(_) | StorageError::Conflict(_)),
            Self::Request(_) | Self::Embed(_) | Self::Language(_) | Self::Rerank(_) | Self::Prompt(_) => false,
        }
    }
}

/// Answers a question from the documents, and remembers it with its conversation. `task_id` is the task that does it: run
/// twice, it gives the answer that was stored. What is there of the answer is said to `speaker` at once; together that is
/// the answer.
///
/// # Errors
/// [`AnswerError`].
pub async fn generate(
    services: &Services,
    request: &AnswerRequest,
    task_id: &str,
    speaker: Option<&Speaker>,
) -> Result<Answer, AnswerError> {
    request.check().map_err(AnswerError::Request)?;
    let turns = match request.conversation_id {
        // one more than needed: it may be this very task's
        Some(id) => services.storage.last_turns(id, services.language.turns.saturating_add(1)).await?,
        None => vec![],
    };
    if let (Some(id), Some(done)) = (request.conversation_id, turns.iter().find(|turn| turn.task_id == task_id)) {
        let answer = Answer::stored(id, done.clone());
        say(speaker, &answer.answer).await;
        return Ok(answer);
    }
    let turns = &turns[turns.len().saturating_sub(services.language.turns as usize)..];
    let asked = standalone(services, &request.question, turns).await?;
    let vector = services.embedder.embed(std::slice::from_ref(&asked)).await?.remove(0);
    let top_k = request.top_k.unwrap_or(TOP_K);
    let reranks = request.rerank.unwrap_or(services.reranking.by_default);
    let query = SearchQuery {
        text: asked,
        mode: SearchMode::Hybrid(vector.clone()),
        top_k: if reranks { top_k.max(services.reranking.candidates) } else { top_k },
        collection: request.collection.clone(),
        filter: request.filter().map_err(AnswerError::Request)?,
    };
    let mut hits = services.storage.search(&query).await?;
    if reranks {
        hits = reranked(services, &query.text, hits).await?;
        hits.truncate(usize::try_from(top_k).unwrap_or(usize::MAX));
    }
    let mut answer = match &services.language.model {
        Some(model) if !hits.is_empty() => {
            written(services, model.as_ref(), &request.question, turns, &hits, speaker).await?
        }
        _ => {
            let answer = extracted(services, &vector, &hits).await?;
            say(speaker, &answer.answer).await;
            answer
        }
    };
    answer.conversation_id = request.conversation_id;
    if let Some(conversation_id) = request.conversation_id {
        let turn = NewTurn {
            conversation_id,
            task_id: task_id.to_owned(),
            question: request.question.clone(),
            answer: answer.answer.clone(),
            citations: json!(answer.citations),
            model: answer.model.clone(),
        };
        services.storage.add_turn(turn).await?;
    }
    Ok(answer)
}

/// The passages in the order of the re-ranker.
async fn reranked(services: &Services, question: &str, hits: Vec<Hit>) -> Result<Vec<Hit>, AnswerError> {
    let mut hits: Vec<Option<Hit>> = hits.into_iter().map(Some).collect();
    let texts: Vec<String> = hits.iter().flatten().map(|hit| hit.text.clone()).collect();
    let order = reranker::order(services.reranking.reranker.as_ref(), question, &texts).await?;
    Ok(order.into_iter().filter_map(|(place, _)| hits.get_mut(place)?.take()).collect())
}

async fn say(speaker: Option<&Speaker>, text: &str) {
    if let Some(speaker) = speaker {
        speaker.say(text).await;
    }
}

/// The question as it can be understood without the talk before it.
async fn standalone(services: &Services, question: &str, turns: &[Turn]) -> Result<String, AnswerError> {
    let Some(last) = turns.last() else { return Ok(question.to_owned()) };
    let Some(model) = &services.language.model else {
        return Ok(format!("{} {question}", last.question));
    };
    let talk: Vec<_> = turns.iter().map(|turn| PromptTurn { question: &turn.question, answer: &turn.answer }).collect();
    let messages = services.language.prompts.messages(&CondensePrompt { turns: &talk, question })?;
    let request = ChatRequest { max_tokens: Some(CONDENSED_TOKENS), ..ChatRequest::new(messages) };
    let condensed = model.complete(request).await?.text.trim().to_owned();
    Ok(if condensed.is_empty() || condensed.contains('\0') { question.to_owned() } else { condensed })
}

/// The sentences that answer.
async fn extracted(services: &Services, question: &[f32], hits: &[Hit]) -> Result<Answer, AnswerError> {
    let passages: Vec<&str> = hits.iter().map(|hit| hit.text.as_str()).collect();
    let found = extractive::answer(services.embedder.as_ref(), question, &passages, SENTENCES).await?;
    let mut citations: Vec<(usize, Citation)> = Vec::new();
    let mut parts = Vec::new();
    for sentence in found {
        let number = match citations.iter().find(|(passage, _)| *passage == sentence.passage) {
            Some((_, citation)) => citation.number,
            None => {
                let number = citations.len() + 1;
                let score = f64::from(sentence.score);
                citations
                    .push((sentence.passage, Citation { score, ..Citation::new(number, &hits[sentence.passage]) }));
                number
            }
        };
        parts.push(format!("{} [{number}]", sentence.text));
    }
    Ok(Answer {
        answer: if parts.is_empty() { NOTHING.to_owned() } else { parts.join(" ") },
        citations: citations.into_iter().map(|(_, citation)| citation).collect(),
        model: EXTRACTIVE.to_owned(),
        truncated: false,
        prompt: None,
        conversation_id: None,
    })
}

/// What the language model writes from the passages.
async fn written(
    services: &Services,
    model: &dyn LanguageModel,
    question: &str,
    turns: &[Turn],
    hits: &[Hit],
    speaker: Option<&Speaker>,
) -> Result<Answer, AnswerError> {
    let budget = services.language.context_tokens * LETTERS_PER_TOKEN;
    let talk = talk(turns, budget / 4);
    let left = budget.saturating_sub(talk.iter().map(|message| message.content.len()).sum());
    let hits = fitting(hits, left);
    let passages: Vec<_> = hits
        .iter()
        .enumerate()
        .map(|(n, hit)| PromptPassage { number: n + 1, title: hit.title.as_deref(), text: &hit.text })
        .collect();
    let mut messages = services.language.prompts.messages(&AnswerPrompt { question, passages: &passages })?;
    // between what the model is to be and the question
    messages.splice(1..1, talk);
    let mut pieces = model.stream(ChatRequest::new(messages)).await?;
    let (mut text, mut truncated) = (String::new(), false);
    while let Some(piece) = pieces.next().await {
        match piece? {
            Piece::Text(piece) => {
                say(speaker, &piece).await;
                text.push_str(&piece);
            }
            Piece::End { truncated: cut } => truncated = cut,
        }
    }
    if text.trim().is_empty() {
        return Err(LanguageError::Answer("it is empty".to_owned()).into());
    }
    let cited = numbers(&text);
    let all = hits.iter().enumerate().map(|(n, hit)| Citation::new(n + 1, hit));
    let mut citations: Vec<Citation> = all.clone().filter(|citation| cited.contains(&citation.number)).collect();
    if citations.is_empty() {
        // a model that does not point to passages used those it was shown
        citations = all.collect();
    }
    let prompt = Some(Prompts::label::<AnswerPrompt<'_>>());
    let model = model.model().to_owned();
    Ok(Answer { answer: text, citations, model, truncated, prompt, conversation_id: None })
}

/// The last turns that fit, as messages.
fn talk(turns: &[Turn], letters: usize) -> Vec<Message> {
    let mut sum = 0;
    let mut fitting: Vec<_> = turns
        .iter()
        .rev()
        .take_while(|turn| {
            sum += turn.question.len() + turn.answer.len();
            sum <= letters
        })
        .collect();
    fitting.reverse();
    let said = |turn: &Turn| {
        [Message::new(Role::User, turn.question.clone()), Message::new(Role::Assistant, turn.answer.clone())]
    };
    fitting.into_iter().flat_map(said).collect()
}

/// The first passages that fit together, and the first one in any case.
fn fitting(hits: &[Hit], letters: usize) -> &[Hit] {
    let mut sum = 0;
    let count = hits.iter().take_while(|hit| {
        sum += hit.text.len();
        sum <= letters
    });
    &hits[..count.count().max(1).min(hits.len())]
}
