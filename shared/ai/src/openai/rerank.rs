//! Re-ranking by a server: `POST …/rerank` as Jina, Cohere, vLLM and Text Embeddings Inference understand it.

use async_trait::async_trait;
use backon::Retryable;
use petiole_settings::AiSettings;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::server::{Server, ServerError, longer};
use crate::reranker::{RerankError, Reranker};

/// A re-ranking model on a server.
#[derive(Debug)]
pub struct RerankServer {
    server: Server,
    model: String,
}

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    query: &'a str,
    documents: &'a [String],
    /// The same under the name that Text Embeddings Inference gives it.
    texts: &'a [String],
    top_n: usize,
    return_documents: bool,
}

#[derive(Deserialize)]
struct Ranked {
    index: usize,
    #[serde(alias = "score")]
    relevance_score: f32,
}

impl From<ServerError> for RerankError {
    fn from(error: ServerError) -> Self {
        match error {
            ServerError::Settings(what) => Self::Settings(what),
            ServerError::Refused { status, message, retry_after } => Self::Refused { status, message, retry_after },
            ServerError::Unreachable(reason) => Self::Unreachable(reason),
        }
    }
}

impl RerankServer {
    /// The model on `RERANK_BASE_URL`, or on the OpenAI-compatible server when that is not set.
    ///
    /// # Errors
    /// [`RerankError::Settings`].
    pub fn from_settings(settings: &AiSettings, model: &str) -> Result<Self, RerankError> {
        let Some(base) = settings.rerank_base_url.as_ref().or(settings.openai_base_url.as_ref()) else {
            return Err(RerankError::Settings(format!(
                "RERANK_MODEL holds {model:?}, which does not run in process: set RERANK_BASE_URL to a server that has \
                 it, or unset RERANK_MODEL"
            )));
        };
        // the key of one server is no other's business
        let key = match settings.rerank_base_url {
            Some(_) => settings.rerank_api_key.clone(),
            None => settings.rerank_api_key.clone().or_else(|| settings.openai_api_key.clone()),
        };
        Ok(Self { server: Server::new(settings, base, key, "RERANK_API_KEY")?, model: model.to_owned() })
    }

    async fn ask(&self, question: &str, passages: &[String]) -> Result<Vec<f32>, RerankError> {
        let request = Request {
            model: &self.model,
            query: question,
            documents: passages,
            texts: passages,
            top_n: passages.len(),
            return_documents: false,
        };
        let response = self.server.post("rerank", &request, None).await?;
        let body = response.bytes().await.map_err(|error| self.server.unreachable(error))?;
        let unreadable = |error: serde_json::Error| RerankError::Answer(error.to_string());
        let mut answer: Value = serde_json::from_slice(&body).map_err(unreadable)?;
        // some servers give the list under a name, some give it bare
        let list = answer.get_mut("results").map(Value::take).unwrap_or(answer);
        let results: Vec<Ranked> = serde_json::from_value(list).map_err(unreadable)?;
        let mut scores = vec![None; passages.len()];
        for Ranked { index, relevance_score } in results {
            match scores.get_mut(index) {
                Some(place) if relevance_score.is_finite() => *place = Some(relevance_score),
                Some(_) => return Err(RerankError::Answer("a score is not a number".to_owned())),
                None => {
                    let count = passages.len();
                    return Err(RerankError::Answer(format!("it has a score number {index} for {count} passages")));
                }
            }
        }
        let scores: Option<Vec<f32>> = scores.into_iter().collect();
        scores.ok_or_else(|| RerankError::Answer("it has fewer scores than the passages asked for".to_owned()))
    }
}

#[async_trait]
impl Reranker for RerankServer {
    fn model(&self) -> &str {
        &self.model
    }

    async fn scores(&self, question: &str, passages: &[String]) -> Result<Vec<f32>, RerankError> {
        let ask = || self.ask(question, passages);
        ask.retry(self.server.retries())
            .when(RerankError::is_transient)
            .adjust(|error, wait| match error {
                RerankError::Refused { retry_after, .. } => longer(wait, *retry_after),
                _ => wait,
            })
            .notify(|error, wait| {
                tracing::warn!(%error, wait_ms = wait.as_millis() as u64, "re-ranking is tried again");
            })
            .await
    }
}
