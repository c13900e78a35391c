//! The trait that every language model implements, its errors, and the choice of a model by settings.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use petiole_settings::AiSettings;
use serde::{Deserialize, Serialize};

use crate::openai::OpenAiChat;

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// What the model is to be.
    System,
    /// Who asks.
    User,
    /// The model.
    Assistant,
}

/// One turn of a talk with the model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A turn.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into() }
    }
}

/// What the answer is to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// Text.
    #[default]
    Text,
    /// One JSON object; a server that knows no such mode is asked without it.
    Json,
}

/// A question to the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatRequest {
    /// The talk so far; the model speaks next.
    pub messages: Vec<Message>,
    /// The most tokens that the answer may have; none: the settings' `LANGUAGE_MAX_TOKENS`.
    pub max_tokens: Option<u32>,
    /// What the answer is to be.
    pub form: Form,
}

impl ChatRequest {
    /// A question for text, of the settings' length.
    pub fn new(messages: Vec<Message>) -> Self {
        Self { messages, max_tokens: None, form: Form::Text }
    }
}

/// A part of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// The next bit of text; never empty.
    Text(String),
    /// The end. An answer that ran into the limit of tokens is truncated.
    End {
        /// Whether it was cut off.
        truncated: bool,
    },
}

/// An answer as it is made. Without an error its last item is [`Piece::End`].
pub type Pieces = BoxStream<'static, Result<Piece, LanguageError>>;

/// A whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The text.
    pub text: String,
    /// Whether it was cut off at the limit of tokens.
    pub truncated: bool,
}

/// Writes text.
#[async_trait]
pub trait LanguageModel: Send + Sync {
    /// The model's name, shown with what it wrote.
    fn model(&self) -> &str;

    /// The answer, piece by piece as it is made. What may pass is tried again before the first piece, never after it.
    async fn stream(&self, request: ChatRequest) -> Result<Pieces, LanguageError>;

    /// The whole answer.
    async fn complete(&self, request: ChatRequest) -> Result<Completion, LanguageError> {
        let mut pieces = self.stream(request).await?;
        let mut completion = Completion { text: String::new(), truncated: false };
        while let Some(piece) = pieces.next().await {
            match piece? {
                Piece::Text(text) => completion.text.push_str(&text),
                Piece::End { truncated } => completion.truncated = truncated,
            }
        }
        Ok(completion)
    }
}

/// Why there is no text.
#[derive(Debug, thiserror::Error)]
pub enum LanguageError {
    /// The settings do not tell which model to use, or how.
    #[error("{0}")]
    Settings(String),
    /// The server answered with an error.
    #[error("the language model's server answered {status}: {message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What the server said, shortened.
        message: String,
        /// How long the server asked to wait.
        retry_after: Option<Duration>,
    },
    /// The server could not be reached, or did not answer in time.
    #[error("the language model's server cannot be reached: {0}")]
    Unreachable(String),
    /// The server's answer makes no sense.
    #[error("the language model's answer cannot be used: {0}")]
    Answer(String),
    /// The answer began and did not end.
    #[error("the language model's answer broke off: {0}")]
    Broken(String),
    /// The answer took longer than it may.
    #[error("the language model did not end within {} seconds (LANGUAGE_TIMEOUT)", .0.as_secs_f64())]
    TooSlow(Duration),
}

impl LanguageError {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Refused { status, .. } => crate::openai::may_pass(*status),
            _ => false,
        }
    }
}

/// The language model that the settings ask for; none where they name none.
///
/// # Errors
/// [`LanguageError::Settings`].
pub fn language_model_from(settings: &AiSettings) -> Result<Option<Arc<dyn LanguageModel>>, LanguageError> {
    match &settings.language_model {
        Some(model) => Ok(Some(Arc::new(OpenAiChat::from_settings(settings, model)?))),
        None => Ok(None),
    }
}
