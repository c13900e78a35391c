//! Embeddings of a server.

use async_trait::async_trait;
use backon::Retryable;
use petiole_settings::AiSettings;
use serde::{Deserialize, Serialize};

use super::server::{Server, ServerError, longer};
use crate::embedder::{EmbedError, Embedder};
use crate::vector::normalise;

/// Vector lengths of models that are often used; others are named by `EMBEDDING_DIMENSIONS`.
const KNOWN_DIMENSIONS: &[(&str, usize)] = &[
    ("text-embedding-3-small", 1536),
    ("text-embedding-3-large", 3072),
    ("text-embedding-ada-002", 1536),
    ("nomic-embed-text", 768),
    ("mxbai-embed-large", 1024),
    ("bge-m3", 1024),
    ("all-minilm", 384),
];

/// An embedding model on an OpenAI-compatible server.
#[derive(Debug)]
pub struct OpenAiEmbedder {
    server: Server,
    model: String,
    dimensions: usize,
    /// Sent only where the settings ask for a length: most servers refuse the field.
    shortened: bool,
    batch_size: usize,
}

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    input: &'a [String],
    encoding_format: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<usize>,
}

#[derive(Deserialize)]
struct Response {
    data: Vec<Embedding>,
}

#[derive(Deserialize)]
struct Embedding {
    index: usize,
    embedding: Vec<f32>,
}

impl From<ServerError> for EmbedError {
    fn from(error: ServerError) -> Self {
        match error {
            ServerError::Settings(what) => Self::Settings(what),
            ServerError::Refused { status, message, retry_after } => Self::Refused { status, message, retry_after },
            ServerError::Unreachable(reason) => Self::Unreachable(reason),
        }
    }
}

impl OpenAiEmbedder {
    /// The settings' model on the settings' server; on OpenAI's own when only a key is given.
    ///
    /// # Errors
    /// [`EmbedError::Settings`].
    pub fn from_settings(settings: &AiSettings) -> Result<Self, EmbedError> {
        let model = settings.embedding_model.clone();
        let server = Server::from_settings(settings, "EMBEDDING_MODEL", &model)?;
        let plain = model.split(':').next().unwrap_or(&model);
        let known = KNOWN_DIMENSIONS.iter().find(|(name, _)| *name == plain).map(|(_, dimensions)| *dimensions);
        let dimensions = settings.embedding_dimensions.or(known).ok_or_else(|| {
            EmbedError::Settings(format!(
                "the model {model:?} is not known here: set EMBEDDING_DIMENSIONS to its vectors' length"
            ))
        })?;
        Ok(Self {
            server,
            shortened: plain.starts_with("text-embedding-3") && known != Some(dimensions),
            model,
            dimensions,
            batch_size: settings.embedding_batch_size.max(1),
        })
    }

    async fn embed_batch(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, EmbedError> {
        let ask = || self.ask(texts);
        let vectors = ask
            .retry(self.server.retries())
            .when(EmbedError::is_transient)
            .adjust(|error, wait| match error {
                EmbedError::Refused { retry_after, .. } => longer(wait, *retry_after),
                _ => wait,
            })
            .notify(|error, wait| {
                tracing::warn!(%error, wait_ms = wait.as_millis() as u64, "embedding is tried again");
            })
            .await?;
        Ok(vectors)
    }

    async fn ask(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, EmbedError> {
        let request = Request {
            model: &self.model,
            input: texts,
            encoding_format: "float",
            dimensions: self.shortened.then_some(self.dimensions),
        };
        let response = self.server.post("embeddings", &request, None).await?;
        let body = response.bytes().await.map_err(|error| self.server.unreachable(error))?;
        let answer: Response = serde_json::from_slice(&body).map_err(|error| EmbedError::Answer(error.to_string()))?;
        self.vectors(answer, texts.len())
    }

    /// The vectors in the order of the texts: a server may answer in any.
    fn vectors(&self, answer: Response, count: usize) -> Result<Vec<Vec<f32>>, EmbedError> {
        let mut vectors: Vec<Option<Vec<f32>>> = vec![None; count];
        for Embedding { index, mut embedding } in answer.data {
            if embedding.len() != self.dimensions {
                let (model, expected, found) = (self.model.clone(), self.dimensions, embedding.len());
                return Err(EmbedError::Dimensions { model, expected, found });
            }
            if embedding.iter().any(|x| !x.is_finite()) {
                return Err(EmbedError::Answer("a vector holds what is not a number".to_owned()));
            }
            normalise(&mut embedding);
            match vectors.get_mut(index) {
                Some(place) => *place = Some(embedding),
                None => return Err(EmbedError::Answer(format!("it has a vector number {index} for {count} texts"))),
            }
        }
        let vectors: Option<Vec<_>> = vectors.into_iter().collect();
        vectors.ok_or_else(|| EmbedError::Answer(format!("it has fewer vectors than the {count} texts asked for")))
    }
}

#[async_trait]
impl Embedder for OpenAiEmbedder {
    fn model(&self) -> &str {
        &self.model
    }

    fn dimensions(&self) -> usize {
        self.dimensions
    }

    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, EmbedError> {
        let mut vectors = Vec::with_capacity(texts.len());
        for batch in texts.chunks(self.batch_size) {
            vectors.extend(self.embed_batch(batch).await?);
        }
        Ok(vectors)
    }
}
