//! Which of several servers is the master: Sentinel knows (kombu.transport.redis: SentinelChannel).
//!
//! kombu's URL: `sentinel://[user][:password]@host:26379/database;sentinel://host:26379;…`, user, password and database being the
//! master's. The master's name, in kombu a transport option, is the query of the last: `?master_name=mymaster`, and the Sentinels'
//! own login `&sentinel_username=…&sentinel_password=…`.

use std::sync::Arc;
use std::time::Duration;

use redis::sentinel::{Sentinel, SentinelNodeConnectionInfo};
use redis::{Client, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo};
use tokio::sync::Mutex;

use crate::error::RedisError;

/// How long it may take to find the master: longer than one Sentinel that does not answer.
const TIMEOUT: Duration = Duration::from_secs(3);
/// The query of a URL without one.
const NO_MASTER: &str = "a sentinel:// URL needs the master's name: BROKER_TRANSPORT_OPTIONS={\"master_name\": \"…\"}, or \
                         ?master_name=… at its end";

/// The Sentinels of one master.
#[derive(Clone)]
pub(crate) struct Sentinels {
    sentinels: Arc<Mutex<Sentinel>>,
    addresses: Vec<String>,
    name: String,
    settings: RedisConnectionInfo,
}

/// Is it a URL of Sentinels?
pub(crate) fn is_sentinel(url: &str) -> bool {
    url.starts_with("sentinel://")
}

impl Sentinels {
    /// Reads a URL. The error is a reason, without any part of the URL.
    pub(crate) fn new(url: &str) -> Result<Self, String> {
        let (urls, query) = url.split_once('?').unwrap_or((url, ""));
        let option = |wanted: &str| {
            let mut options = query.split('&').filter_map(|pair| pair.split_once('='));
            options.find(|(name, _)| *name == wanted).map(|(_, value)| percent_decoded(value))
        };
        let name = option("master_name").filter(|name| !name.is_empty()).ok_or(NO_MASTER)?;
        let mut infos = Vec::new();
        for one in urls.split(';').filter(|one| !one.is_empty()) {
            let rest = one.strip_prefix("sentinel://").ok_or("every one of its URLs must begin with sentinel://")?;
            let (place, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let port = if has_port(place) { "" } else { ":26379" };
            let info: ConnectionInfo =
                format!("redis://{place}{port}{path}").into_connection_info().map_err(|error| error.to_string())?;
            infos.push(info);
        }
        // As in kombu the login and the database are the master's, wherever in the list they are given.
        let mut settings = RedisConnectionInfo::default();
        for given in infos.iter().map(ConnectionInfo::redis_settings) {
            if settings.password().is_none() {
                settings = given.username().into_iter().fold(settings, |settings, user| settings.set_username(user));
                settings = given.password().into_iter().fold(settings, |settings, word| settings.set_password(word));
            }
            if settings.db() == 0 {
                settings = settings.set_db(given.db());
            }
        }
        let mut login = RedisConnectionInfo::default();
        login = option("sentinel_username").into_iter().fold(login, |login, user| login.set_username(user));
        login = option("sentinel_password").into_iter().fold(login, |login, word| login.set_password(word));
        let addresses = infos.iter().map(|info| info.addr().to_string()).collect();
        let infos = infos.into_iter().map(|info| info.set_redis_settings(login.clone())).collect();
        let sentinels = Sentinel::build(infos).map_err(|error| error.to_string())?;
        Ok(Self { sentinels: Arc::new(Mutex::new(sentinels)), addresses, name, settings })
    }

    /// The database of the URL.
    pub(crate) fn database(&self) -> i64 {
        self.settings.db()
    }

    /// The way to the server that is the master now, by the Sentinels' word and its own.
    pub(crate) async fn master(&self, protocol: ProtocolVersion) -> Result<Client, RedisError> {
        let node = SentinelNodeConnectionInfo::default()
            .set_redis_connection_info(self.settings.clone().set_protocol(protocol));
        let find = async { self.sentinels.lock().await.async_master_for(&self.name, Some(&node)).await };
        match tokio::time::timeout(TIMEOUT, find).await {
            Ok(Ok(client)) => Ok(client),
            Ok(Err(error)) => Err(RedisError::Unavailable(format!("no master {:?} by Sentinel: {error}", self.name))),
            Err(_) => Err(RedisError::Unavailable(format!("no Sentinel told of {:?} within {TIMEOUT:?}", self.name))),
        }
    }
}

impl PartialEq for Sentinels {
    fn eq(&self, other: &Self) -> bool {
        self.addresses == other.addresses && self.name == other.name && self.settings.db() == other.settings.db()
    }
}

/// Does `[user:password@]host[:port]` have a port? An address in brackets has colons of its own.
fn has_port(place: &str) -> bool {
    let host = place.rsplit_once('@').map_or(place, |(_, host)| host);
    host.rsplit_once(']').map_or(host, |(_, rest)| rest).contains(':')
}

fn percent_decoded(text: &str) -> String {
    let (bytes, mut decoded, mut at) = (text.as_bytes(), Vec::with_capacity(text.len()), 0);
    while at < bytes.len() {
        let code = text.get(at + 1..at + 3).and_then(|code| u8::from_str_radix(code, 16).ok());
        let (byte, step) = match (bytes[at], code) {
            (b'%', Some(byte)) => (byte, 3),
            (byte, _) => (byte, 1),
        };
        decoded.push(byte);
        at += step;
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn kombu_s_urls() {
        let url =
            "sentinel://me:s3@cret@a:1/2;sentinel://b;sentinel://[::1]:3?master_name=my%20master&sentinel_password=p";
        let sentinels = Sentinels::new(url).unwrap();
        assert_eq!(sentinels.addresses, ["a:1", "b:26379", "::1:3"]);
        assert_eq!((sentinels.name.as_str(), sentinels.database()), ("my master", 2));
        assert_eq!((sentinels.settings.username(), sentinels.settings.password()), (Some("me"), Some("s3@cret")));
        assert!(Sentinels::new("sentinel://a;sentinel://b").err().unwrap().contains("master_name"));
        let late = Sentinels::new("sentinel://a;sentinel://:word@b/4?master_name=m").unwrap();
        assert_eq!((late.settings.password(), late.database()), (Some("word"), 4));
    }
}
