//! The trait that every embedding model implements, its errors, and the choice of a model by settings.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use petiole_settings::AiSettings;

use crate::local::is_local_embedding_model;
use crate::minilm::MiniLm;
use crate::openai::OpenAiEmbedder;

/// Turns texts into vectors whose cosine tells how close their meanings are.
#[async_trait]
pub trait Embedder: Send + Sync {
    /// The model's name, kept beside every vector: vectors of two models cannot be compared.
    fn model(&self) -> &str;

    /// The length of every vector.
    fn dimensions(&self) -> usize;

    /// One vector of length 1 for each text, in the order of the texts. Any number of texts may be given; the embedder
    /// makes batches of its own. A text longer than the model's window counts by its beginning.
    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, EmbedError>;
}

/// Why there are no vectors.
#[derive(Debug, thiserror::Error)]
pub enum EmbedError {
    /// A local model's files are not where they should be.
    #[error(
        "the model {model} is not in {}: run docker/fetch-models.sh (or set MODEL_DIR to where it is), or use an \
         OpenAI-compatible server by OPENAI_BASE_URL, OPENAI_API_KEY and EMBEDDING_MODEL",
        dir.display()
    )]
    ModelMissing {
        /// The model's name.
        model: String,
        /// The folder it should be in.
        dir: PathBuf,
    },
    /// A local model's files are there but cannot be used.
    #[error("the model {model} cannot be used: {reason}; docker/fetch-models.sh fetches it anew if it is not whole")]
    ModelBroken {
        /// The model's name.
        model: String,
        /// What its loader said.
        reason: String,
    },
    /// The local model failed on these texts.
    #[error("the model {model} failed: {reason}")]
    ModelFailed {
        /// The model's name.
        model: String,
        /// What went wrong.
        reason: String,
    },
    /// The settings do not tell which model to use, or how.
    #[error("{0}")]
    Settings(String),
    /// The server answered with an error.
    #[error("the embedding server answered {status}: {message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What the server said, shortened.
        message: String,
        /// How long the server asked to wait.
        retry_after: Option<Duration>,
    },
    /// The server could not be reached, or did not answer in time.
    #[error("the embedding server cannot be reached: {0}")]
    Unreachable(String),
    /// The server's answer makes no sense.
    #[error("the embedding server's answer cannot be used: {0}")]
    Answer(String),
    /// The model's vectors do not have the length that the settings speak of.
    #[error("the model {model} gives vectors of length {found}, not {expected}; set EMBEDDING_DIMENSIONS={found}")]
    Dimensions {
        /// The model's name.
        model: String,
        /// The length in the settings.
        expected: usize,
        /// The length that came.
        found: usize,
    },
}

impl EmbedError {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Refused { status, .. } => crate::openai::may_pass(*status),
            _ => false,
        }
    }
}

/// The embedder that the settings ask for: all-MiniLM-L6-v2 in this process, or the OpenAI-compatible server's model.
/// A local model is loaded at its first use, so this costs nothing.
///
/// # Errors
/// [`EmbedError::ModelMissing`] and [`EmbedError::Settings`].
pub fn embedder_from(settings: &AiSettings) -> Result<Arc<dyn Embedder>, EmbedError> {
    if is_local_embedding_model(&settings.embedding_model) {
        Ok(Arc::new(MiniLm::from_settings(settings)?))
    } else {
        Ok(Arc::new(OpenAiEmbedder::from_settings(settings)?))
    }
}
