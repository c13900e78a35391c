//! Embeddings of any OpenAI-compatible server: OpenAI itself, vLLM, Ollama, llama.cpp and many more.

use std::time::Duration;

use async_trait::async_trait;
use backon::{ExponentialBuilder, Retryable};
use petiole_settings::{AiSettings, redacted_url};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::embedder::{EmbedError, Embedder};
use crate::vector::normalise;

const OPENAI: &str = "https://api.openai.com/v1";
/// The longest wait that a server may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How much of a server's error message is passed on.
const MESSAGE_LENGTH: usize = 300;

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

/// A model on an OpenAI-compatible server.
#[derive(Debug)]
pub struct OpenAiEmbedder {
    client: reqwest::Client,
    url: String,
    key: Option<SecretString>,
    model: String,
    dimensions: usize,
    /// Sent only where the settings ask for a length: most servers refuse the field.
    shortened: bool,
    batch_size: usize,
    retries: ExponentialBuilder,
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

impl OpenAiEmbedder {
    /// The settings' model on the settings' server; on OpenAI's own when only a key is given.
    ///
    /// # Errors
    /// [`EmbedError::Settings`].
    pub fn from_settings(settings: &AiSettings) -> Result<Self, EmbedError> {
        let model = settings.embedding_model.clone();
        let base = match (&settings.openai_base_url, &settings.openai_api_key) {
            (Some(url), _) => url.as_str(),
            (None, Some(_)) => OPENAI,
            (None, None) => {
                let what = format!(
                    "EMBEDDING_MODEL holds {model:?}, which does not run in process: set OPENAI_BASE_URL to a server \
                     that has it, or unset EMBEDDING_MODEL"
                );
                return Err(EmbedError::Settings(what));
            }
        };
        let plain = model.split(':').next().unwrap_or(&model);
        let known = KNOWN_DIMENSIONS.iter().find(|(name, _)| *name == plain).map(|(_, dimensions)| *dimensions);
        let dimensions = settings.embedding_dimensions.or(known).ok_or_else(|| {
            EmbedError::Settings(format!(
                "the model {model:?} is not known here: set EMBEDDING_DIMENSIONS to its vectors' length"
            ))
        })?;
        Ok(Self {
            client: client(settings)?,
            url: format!("{}/embeddings", base.trim_end_matches('/')),
            key: settings.openai_api_key.clone(),
            shortened: plain.starts_with("text-embedding-3") && known != Some(dimensions),
            model,
            dimensions,
            batch_size: settings.embedding_batch_size.max(1),
            retries: ExponentialBuilder::default()
                .with_jitter()
                .with_min_delay(Duration::from_millis(250))
                .with_max_delay(Duration::from_secs(20))
                .with_max_times(settings.max_retries),
        })
    }

    async fn embed_batch(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, EmbedError> {
        let ask = || self.ask(texts);
        let vectors = ask
            .retry(self.retries)
            .when(EmbedError::is_transient)
            .adjust(|error, wait| match (error, wait) {
                (EmbedError::Refused { retry_after: Some(asked), .. }, Some(wait)) => Some((*asked).max(wait)),
                (_, wait) => wait,
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
        let response =
            self.client.post(&self.url).json(&request).send().await.map_err(|error| self.unreachable(error))?;
        let status = response.status();
        if !status.is_success() {
            let retry_after = wait_asked_for(response.headers());
            let body = response.text().await.unwrap_or_default();
            return Err(EmbedError::Refused { status: status.as_u16(), message: self.message(&body), retry_after });
        }
        let body = response.bytes().await.map_err(|error| self.unreachable(error))?;
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

    /// The address of an error could hold a password, so it is put back without one.
    fn unreachable(&self, error: reqwest::Error) -> EmbedError {
        let what = if error.is_timeout() { "no answer in time" } else { "no connection" };
        let mut reason = format!("{what} from {}", redacted_url(&self.url));
        let error = error.without_url();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            reason = format!("{reason}: {cause}");
            source = cause.source();
        }
        EmbedError::Unreachable(self.without_key(&reason))
    }

    /// What the server said, as one short line, without the key that some servers repeat.
    fn message(&self, body: &str) -> String {
        let parsed = serde_json::from_str::<serde_json::Value>(body).ok();
        let said = parsed.as_ref().and_then(|body| {
            let error = body.get("error").unwrap_or(body);
            error.get("message").or(error.get("detail")).unwrap_or(error).as_str()
        });
        let line = said.unwrap_or(body).split_whitespace().collect::<Vec<_>>().join(" ");
        self.without_key(&line).chars().take(MESSAGE_LENGTH).collect()
    }

    fn without_key(&self, text: &str) -> String {
        match &self.key {
            Some(key) => text.replace(key.expose_secret(), "***"),
            None => text.to_owned(),
        }
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

fn client(settings: &AiSettings) -> Result<reqwest::Client, EmbedError> {
    let mut headers = HeaderMap::new();
    if let Some(key) = &settings.openai_api_key {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose_secret().trim()))
            .map_err(|_| EmbedError::Settings("OPENAI_API_KEY holds characters that no key has".to_owned()))?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    reqwest::Client::builder()
        .default_headers(headers)
        .timeout(settings.timeout)
        .connect_timeout(settings.connect_timeout)
        // A key goes where the settings say and nowhere else.
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| EmbedError::Settings(format!("no HTTP client: {}", error.without_url())))
}

fn wait_asked_for(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse::<f64>().ok()?;
    Duration::try_from_secs_f64(seconds).ok().map(|wait| wait.min(LONGEST_WAIT))
}
