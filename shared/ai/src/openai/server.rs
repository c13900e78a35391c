//! A server: how it is asked, what its refusals say, when it is asked again.

use std::time::Duration;

use backon::ExponentialBuilder;
use petiole_settings::{AiSettings, redacted_url};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

const OPENAI: &str = "https://api.openai.com/v1";
/// The longest wait that a server may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How much of a server's error message is passed on.
const MESSAGE_LENGTH: usize = 300;

/// A server and its key.
#[derive(Debug)]
pub(super) struct Server {
    client: reqwest::Client,
    base: String,
    key: Option<SecretString>,
    retries: ExponentialBuilder,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum ServerError {
    /// The settings do not tell which server to ask, or how.
    Settings(String),
    /// The server answered with an error.
    Refused { status: u16, message: String, retry_after: Option<Duration> },
    /// It could not be reached, or did not answer in time.
    Unreachable(String),
}

impl Server {
    /// The settings' server; OpenAI's own when only a key is given. `setting` is the variable that names the model.
    pub(super) fn from_settings(settings: &AiSettings, setting: &str, model: &str) -> Result<Self, ServerError> {
        let base = match (&settings.openai_base_url, &settings.openai_api_key) {
            (Some(url), _) => url.as_str(),
            (None, Some(_)) => OPENAI,
            (None, None) => {
                return Err(ServerError::Settings(format!(
                    "{setting} holds {model:?}, which does not run in process: set OPENAI_BASE_URL to a server that \
                     has it, or unset {setting}"
                )));
            }
        };
        Self::new(settings, base, settings.openai_api_key.clone(), "OPENAI_API_KEY")
    }

    /// The server at `base` with this key, which stands in the variable `key_setting`.
    pub(super) fn new(
        settings: &AiSettings,
        base: &str,
        key: Option<SecretString>,
        key_setting: &str,
    ) -> Result<Self, ServerError> {
        Ok(Self {
            client: client(settings, key.as_ref(), key_setting)?,
            base: base.trim_end_matches('/').to_owned(),
            key,
            retries: ExponentialBuilder::default()
                .with_jitter()
                .with_min_delay(Duration::from_millis(250))
                .with_max_delay(Duration::from_secs(20))
                .with_max_times(settings.max_retries),
        })
    }

    /// When a request is sent again.
    pub(super) fn retries(&self) -> ExponentialBuilder {
        self.retries
    }

    /// Sends one request, once. The whole answer has to come within `limit`, or within the settings' timeout.
    pub(super) async fn post(
        &self,
        path: &str,
        body: &impl Serialize,
        limit: Option<Duration>,
    ) -> Result<reqwest::Response, ServerError> {
        let mut request = self.client.post(format!("{}/{path}", self.base)).json(body);
        if let Some(limit) = limit {
            request = request.timeout(limit);
        }
        let response = request.send().await.map_err(|error| self.unreachable(error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let retry_after = wait_asked_for(response.headers());
        let body = response.text().await.unwrap_or_default();
        Err(ServerError::Refused { status: status.as_u16(), message: self.message(&body), retry_after })
    }

    /// The address of an error could hold a password, so it is put back without one.
    pub(super) fn unreachable(&self, error: reqwest::Error) -> ServerError {
        let what = if error.is_timeout() { "no answer in time" } else { "no connection" };
        let mut reason = format!("{what} from {}", redacted_url(&self.base));
        let error = error.without_url();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            reason = format!("{reason}: {cause}");
            source = cause.source();
        }
        ServerError::Unreachable(self.without_key(&reason))
    }

    /// What the server said, as one short line, without the key that some servers repeat.
    pub(super) fn message(&self, body: &str) -> String {
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
            Some(key) => text.replace(key.expose_secret().trim(), "***"),
            None => text.to_owned(),
        }
    }
}

/// The wait before the next try: what the server asked for, if that is longer.
pub(super) fn longer(wait: Option<Duration>, asked: Option<Duration>) -> Option<Duration> {
    wait.map(|wait| asked.unwrap_or_default().max(wait))
}

/// Statuses that may pass.
pub(crate) fn may_pass(status: u16) -> bool {
    matches!(status, 408 | 429 | 500..=599)
}

fn client(
    settings: &AiSettings,
    key: Option<&SecretString>,
    key_setting: &str,
) -> Result<reqwest::Client, ServerError> {
    let mut headers = HeaderMap::new();
    if let Some(key) = key {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose_secret().trim()))
            .map_err(|_| ServerError::Settings(format!("{key_setting} holds characters that no key has")))?;
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
        .map_err(|error| ServerError::Settings(format!("no HTTP client: {}", error.without_url())))
}

fn wait_asked_for(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse::<f64>().ok()?;
    Duration::try_from_secs_f64(seconds).ok().map(|wait| wait.min(LONGEST_WAIT))
}
