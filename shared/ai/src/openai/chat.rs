//! Chat completions of a server, streamed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use backon::Retryable;
use futures::StreamExt;
use petiole_settings::AiSettings;
use reqwest::Response;
use reqwest::header::CONTENT_TYPE;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::server::{Server, ServerError, longer};
use super::sse::Events;
use crate::language_model::{ChatRequest, Form, LanguageError, LanguageModel, Message, Piece, Pieces};

/// No answer is longer, whatever a server sends.
const LONGEST: usize = 1 << 20;

/// A language model on an OpenAI-compatible server.
#[derive(Clone, Debug)]
pub struct OpenAiChat(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    server: Server,
    model: String,
    max_tokens: u32,
    temperature: Option<f64>,
    /// For the whole answer.
    limit: Duration,
    /// Between two pieces of it.
    silence: Duration,
    /// Servers differ in what they take; what one refused is not sent to it again.
    without_max_tokens: AtomicBool,
    without_json_mode: AtomicBool,
}

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    messages: &'a [Message],
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<ResponseFormat>,
}

#[derive(Serialize)]
struct ResponseFormat {
    r#type: &'static str,
}

/// A chunk of a stream, or a whole answer where a server does not stream.
#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    #[serde(default)]
    error: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default, alias = "message")]
    delta: Option<Delta>,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Delta {
    #[serde(default)]
    content: Option<String>,
}

impl From<ServerError> for LanguageError {
    fn from(error: ServerError) -> Self {
        match error {
            ServerError::Settings(what) => Self::Settings(what),
            ServerError::Refused { status, message, retry_after } => Self::Refused { status, message, retry_after },
            ServerError::Unreachable(reason) => Self::Unreachable(reason),
        }
    }
}

impl OpenAiChat {
    /// The model on the settings' server; on OpenAI's own when only a key is given.
    ///
    /// # Errors
    /// [`LanguageError::Settings`].
    pub fn from_settings(settings: &AiSettings, model: &str) -> Result<Self, LanguageError> {
        Ok(Self(Arc::new(Inner {
            server: Server::from_settings(settings, "LANGUAGE_MODEL", model)?,
            model: model.to_owned(),
            max_tokens: settings.language_max_tokens,
            temperature: settings.language_temperature,
            limit: settings.language_timeout,
            silence: settings.timeout,
            without_max_tokens: AtomicBool::new(false),
            without_json_mode: AtomicBool::new(false),
        })))
    }
}

impl Inner {
    /// One request, once more for every field that the server does not take.
    async fn ask(&self, request: &ChatRequest) -> Result<Response, LanguageError> {
        loop {
            let most = Some(request.max_tokens.unwrap_or(self.max_tokens));
            let newer = self.without_max_tokens.load(Ordering::Relaxed);
            let json = request.form == Form::Json && !self.without_json_mode.load(Ordering::Relaxed);
            let body = Request {
                model: &self.model,
                messages: &request.messages,
                stream: true,
                max_tokens: most.filter(|_| !newer),
                max_completion_tokens: most.filter(|_| newer),
                temperature: self.temperature,
                response_format: json.then_some(ResponseFormat { r#type: "json_object" }),
            };
            let error = match self.server.post("chat/completions", &body, Some(self.limit)).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            let refused = match &error {
                ServerError::Refused { status: 400 | 422, message, .. } => message.as_str(),
                _ => "",
            };
            let field = if !newer && refused.contains("max_completion_tokens") {
                &self.without_max_tokens
            } else if json && refused.contains("response_format") {
                &self.without_json_mode
            } else {
                return Err(error.into());
            };
            field.store(true, Ordering::Relaxed);
        }
    }

    /// What a chunk holds.
    fn read(&self, data: &str) -> Result<Vec<Piece>, LanguageError> {
        let chunk: Chunk = serde_json::from_str(data).map_err(|error| LanguageError::Answer(error.to_string()))?;
        if chunk.error.is_some() {
            return Err(LanguageError::Broken(self.server.message(data)));
        }
        // a chunk of usage has no choice
        let Some(choice) = chunk.choices.into_iter().next() else { return Ok(vec![]) };
        let text = choice.delta.and_then(|delta| delta.content).filter(|text| !text.is_empty());
        let end = choice.finish_reason.map(|reason| Piece::End { truncated: reason == "length" });
        Ok(text.map(Piece::Text).into_iter().chain(end).collect())
    }
}

#[async_trait]
impl LanguageModel for OpenAiChat {
    fn model(&self) -> &str {
        &self.0.model
    }

    async fn stream(&self, request: ChatRequest) -> Result<Pieces, LanguageError> {
        let until = Instant::now() + self.0.limit;
        let ask = || self.0.ask(&request);
        let asked = ask
            .retry(self.0.server.retries())
            .when(LanguageError::is_transient)
            .adjust(|error, wait| match error {
                LanguageError::Refused { retry_after, .. } => longer(wait, *retry_after),
                _ => wait,
            })
            .notify(|error, wait| {
                tracing::warn!(%error, wait_ms = wait.as_millis() as u64, "the language model is asked again");
            });
        let response =
            tokio::time::timeout_at(until, asked).await.map_err(|_| LanguageError::TooSlow(self.0.limit))??;
        let streams = response
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok())
            .is_none_or(|kind| !kind.starts_with("application/json"));
        let reading = Reading {
            model: self.0.clone(),
            response: Some(response),
            streams,
            events: Events::default(),
            whole: Vec::new(),
            ready: VecDeque::new(),
            length: 0,
            until,
        };
        Ok(futures::stream::unfold(reading, Reading::next).boxed())
    }
}

/// A response on its way in.
struct Reading {
    model: Arc<Inner>,
    /// None once the answer has ended.
    response: Option<Response>,
    /// Otherwise the body is one JSON document.
    streams: bool,
    events: Events,
    whole: Vec<u8>,
    ready: VecDeque<Piece>,
    length: usize,
    until: Instant,
}

impl Reading {
    async fn next(mut self) -> Option<(Result<Piece, LanguageError>, Self)> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                match &piece {
                    // nothing after the end
                    Piece::End { .. } => {
                        self.response = None;
                        self.ready.clear();
                    }
                    Piece::Text(text) => self.length += text.len(),
                }
                if self.length > LONGEST {
                    self.response = None;
                    self.ready.clear();
                    return Some((Err(LanguageError::Answer("it is longer than any answer may be".into())), self));
                }
                return Some((Ok(piece), self));
            }
            self.response.as_ref()?;
            if let Err(error) = self.fill().await {
                self.response = None;
                return Some((Err(error), self));
            }
        }
    }

    /// Reads until something is there.
    async fn fill(&mut self) -> Result<(), LanguageError> {
        let Some(response) = &mut self.response else { return Ok(()) };
        let silence = Instant::now() + self.model.silence;
        let read = tokio::time::timeout_at(self.until.min(silence), response.chunk()).await;
        let chunk = match read {
            Err(_) if self.until <= silence => return Err(LanguageError::TooSlow(self.model.limit)),
            Err(_) => return Err(LanguageError::Broken(format!("nothing came for {:?}", self.model.silence))),
            Ok(Err(error)) => {
                let ServerError::Unreachable(reason) = self.model.server.unreachable(error) else {
                    return Err(LanguageError::Broken("the connection ended".into()));
                };
                return Err(LanguageError::Broken(reason));
            }
            Ok(Ok(chunk)) => chunk,
        };
        let datas = match chunk {
            Some(bytes) if self.streams => {
                self.events.push(&bytes).map_err(|_| LanguageError::Answer("a line of it has no end".into()))?
            }
            Some(bytes) => {
                if self.whole.len() + bytes.len() > 8 * LONGEST {
                    return Err(LanguageError::Answer("it is longer than any answer may be".into()));
                }
                self.whole.extend_from_slice(&bytes);
                return Ok(());
            }
            None => return self.end(),
        };
        for data in datas {
            self.take(&data)?;
        }
        Ok(())
    }

    fn take(&mut self, data: &str) -> Result<(), LanguageError> {
        if data.trim() == "[DONE]" {
            // usually the end was told already, and this is not read any more
            self.ready.push_back(Piece::End { truncated: false });
        } else {
            self.ready.extend(self.model.read(data)?);
        }
        Ok(())
    }

    /// The body has ended: whoever did not say so before broke off.
    fn end(&mut self) -> Result<(), LanguageError> {
        self.response = None;
        if !self.streams {
            let whole = std::mem::take(&mut self.whole);
            let pieces = self.model.read(&String::from_utf8_lossy(&whole))?;
            if pieces.is_empty() {
                return Err(LanguageError::Answer("it holds no text".into()));
            }
            self.ready.extend(pieces);
        } else if let Some(data) = self.events.end() {
            self.take(&data)?;
        }
        if !self.ready.iter().any(|piece| matches!(piece, Piece::End { .. })) {
            return Err(LanguageError::Broken("the server closed the stream before its end".into()));
        }
        Ok(())
    }
}
