//! Settings of the HTTP service.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use crate::reader::Reader;
use crate::secrets::{SHORTEST_API_KEY, weakness};

/// What the HTTP service needs to know.
#[derive(Clone, Debug)]
pub struct ApiSettings {
    /// `API_HOST`: the address to listen on; only this machine unless told otherwise.
    pub host: String,
    /// `API_PORT`: the port to listen on; 0 takes a free one.
    pub port: u16,
    /// `API_KEYS`: the keys that open the API; empty in development means that none is asked for.
    pub keys: Vec<ApiKey>,
    /// `API_BODY_LIMIT`: the largest JSON body, in bytes.
    pub body_limit: usize,
    /// `API_UPLOAD_LIMIT`: the largest upload, in bytes.
    pub upload_limit: usize,
    /// `ALLOWED_TASKS`: names of tasks, or patterns with `*`, that may be enqueued over HTTP.
    pub allowed_tasks: Vec<String>,
    /// `API_CORS_ORIGINS`: the origins whose pages may use the API from a browser, or `*`; none by default.
    pub cors_origins: Vec<String>,
    /// `API_RATE_LIMIT`: how many requests a minute each key may make; 0, the default: any number.
    pub rate_limit: u32,
    /// `API_DAILY_QUOTA`: how many requests a day (UTC) each key may make; 0, the default: any number.
    pub daily_quota: u32,
    /// `FLOWER_URL`: where the built-in page's link to Flower leads; unset: the page's own host, at `FLOWER_PORT`.
    pub flower_url: Option<String>,
    /// `FLOWER_PORT`: the port of Flower.
    pub flower_port: u16,
    /// `API_REQUEST_TIMEOUT`: how long one request may take, waiting and streaming left out.
    pub request_timeout: Duration,
    /// `API_SHUTDOWN_TIMEOUT`: how long requests under way may take to end once the service is told to stop.
    pub shutdown_timeout: Duration,
}

/// A key that opens the API, and how far.
#[derive(Clone, Debug)]
pub struct ApiKey {
    /// What the client sends.
    pub key: SecretString,
    /// What it opens.
    pub scope: KeyScope,
}

/// What a key opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyScope {
    /// Everything: a key written without a scope.
    All,
    /// Reading and searching.
    Read,
    /// Creating, changing and deleting.
    Write,
    /// Operating the service.
    Admin,
}

impl ApiSettings {
    pub(crate) fn read(reader: &mut Reader) -> Self {
        Self {
            host: reader.get(&["API_HOST"], "127.0.0.1".to_owned(), "a host name or address"),
            port: reader.number(&["API_PORT"], 8080, 0..=u16::MAX),
            keys: read_keys(reader),
            body_limit: reader.number(&["API_BODY_LIMIT"], 10 << 20, 1..=1 << 30),
            upload_limit: reader.number(&["API_UPLOAD_LIMIT"], 50 << 20, 1..=1 << 30),
            allowed_tasks: reader.list(&["ALLOWED_TASKS"]).unwrap_or_else(|| vec!["*".to_owned()]),
            cors_origins: read_origins(reader),
            rate_limit: reader.number(&["API_RATE_LIMIT"], 0, 0..=1_000_000_000),
            daily_quota: reader.number(&["API_DAILY_QUOTA"], 0, 0..=2_000_000_000),
            flower_url: read_flower_url(reader),
            flower_port: reader.number(&["FLOWER_PORT"], 5555, 1..=u16::MAX),
            request_timeout: reader.seconds(&["API_REQUEST_TIMEOUT"], Duration::from_secs(30)),
            shutdown_timeout: reader.seconds(&["API_SHUTDOWN_TIMEOUT"], Duration::from_secs(30)),
        }
    }

    /// Outside development there is at least one key, and none that can be guessed.
    pub(crate) fn refuse_weak_keys(&self, reader: &mut Reader) {
        if self.keys.is_empty() {
            reader.problem("API_KEYS", None, "set outside development: the keys of the API, separated by commas");
        }
        for (place, key) in self.keys.iter().enumerate() {
            if let Some(reason) = weakness(&key.key, SHORTEST_API_KEY) {
                let expects = format!("made of strong keys; key number {} must be {reason}", place + 1);
                reader.problem("API_KEYS", None, expects);
            }
        }
    }
}

fn read_origins(reader: &mut Reader) -> Vec<String> {
    let origins = reader.list(&["API_CORS_ORIGINS"]).unwrap_or_default();
    let is_origin = |text: &String| {
        text == "*"
            || text
                .split_once("://")
                .is_some_and(|(scheme, host)| !scheme.is_empty() && !host.is_empty() && !host.contains('/'))
    };
    if let Some(wrong) = origins.iter().find(|origin| !is_origin(origin)) {
        reader.problem(
            "API_CORS_ORIGINS",
            Some(wrong),
            "* or origins such as https://app.example.org, separated by commas",
        );
    }
    origins
}

/// Only an address of the web: the page makes a link of it.
fn read_flower_url(reader: &mut Reader) -> Option<String> {
    let (name, url) = reader.text(&["FLOWER_URL"])?;
    if url.starts_with("http://") || url.starts_with("https://") {
        return Some(url);
    }
    reader.problem(&name, Some(&crate::redacted_url(&url)), "a URL that begins with http:// or https://");
    None
}

fn read_keys(reader: &mut Reader) -> Vec<ApiKey> {
    let Some((name, text)) = reader.named_secret(&["API_KEYS"]) else { return Vec::new() };
    let entries = text.expose_secret().split([',', '\n']).map(str::trim).filter(|entry| !entry.is_empty());
    let mut keys = Vec::new();
    for (place, entry) in entries.enumerate() {
        let (key, scope) = match entry.rsplit_once(':') {
            None => (entry, KeyScope::All),
            Some((key, "read")) => (key, KeyScope::Read),
            Some((key, "write")) => (key, KeyScope::Write),
            Some((key, "admin")) => (key, KeyScope::Admin),
            Some(_) => ("", KeyScope::All),
        };
        if key.is_empty() {
            let expects = format!(
                "a list of KEY, KEY:read, KEY:write or KEY:admin, separated by commas; entry {} is none of these",
                place + 1
            );
            reader.problem(&name, None, expects);
            continue;
        }
        keys.push(ApiKey { key: SecretString::from(key), scope });
    }
    keys
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn defaults() {
        let mut reader = Reader::from_map([("", "")]);
        let api = ApiSettings::read(&mut reader);
        reader.finish().unwrap();
        assert_eq!((api.host.as_str(), api.port), ("127.0.0.1", 8080));
        assert_eq!((api.body_limit, api.upload_limit), (10_485_760, 52_428_800));
        assert_eq!(api.allowed_tasks, ["*"]);
        assert!(api.keys.is_empty());
        assert!(api.cors_origins.is_empty());
        assert_eq!((api.rate_limit, api.daily_quota), (0, 0));
    }

    #[test]
    fn origins_are_origins() {
        let read = |text: &str| {
            let mut reader = Reader::from_map([("API_CORS_ORIGINS", text)]);
            let origins = ApiSettings::read(&mut reader).cors_origins;
            reader.finish().map(|()| origins).map_err(|error| error.to_string())
        };
        assert_eq!(read("https://a.example, http://localhost:3000").unwrap().len(), 2);
        assert_eq!(read("*").unwrap(), ["*"]);
        for wrong in ["a.example", "https://a.example/app", "https://"] {
            assert!(read(wrong).unwrap_err().contains("API_CORS_ORIGINS"), "{wrong}");
        }
    }

    #[test]
    fn keys_have_scopes_and_a_bad_entry_is_named_by_its_place() {
        let mut reader = Reader::from_map([("API_KEYS", "one, two:read,three:write,four:admin,five:all,:read")]);
        let scopes: Vec<_> = ApiSettings::read(&mut reader).keys.iter().map(|key| key.scope).collect();
        assert_eq!(scopes, [KeyScope::All, KeyScope::Read, KeyScope::Write, KeyScope::Admin]);
        let text = reader.finish().unwrap_err().to_string();
        assert!(text.contains("entry 5") && text.contains("entry 6") && !text.contains("five"), "{text}");
    }
}
