//! Connections to one Redis.

use std::time::Duration;

use redis::aio::{MultiplexedConnection, PubSub};
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo, ProtocolVersion, PushInfo};
use tokio::sync::mpsc::UnboundedSender;

use crate::commands::{Commands, Way};
use crate::error::RedisError;
use crate::keys::Keys;
use crate::sentinel::{self, Sentinels};

/// How long a connection may take to come up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long an answer may take: longer than any command here, shorter than a caller's patience.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(4);

/// Makes connections to the Redis of one URL: `redis://`, `rediss://`, `unix://`, with user, password and database; or to the
/// master that the Sentinels of a `sentinel://` URL name.
#[derive(Clone)]
pub struct Connector {
    place: Place,
    keys: Keys,
    url: String,
}

#[derive(Clone)]
enum Place {
    Server { client: Box<Client>, resp3: Box<Client> },
    Master(Sentinels),
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").field("url", &redacted(&self.url)).finish()
    }
}

impl Connector {
    /// A connector for a URL. Connects to nothing yet.
    ///
    /// # Errors
    /// A URL that cannot be read; the error does not repeat its password.
    pub fn new(url: &str) -> Result<Self, RedisError> {
        // More than one provider of cryptography is compiled in by other crates: one must be chosen. Chosen before, it stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        if sentinel::is_sentinel(url) {
            let sentinels = Sentinels::new(url)
                .map_err(|why| RedisError::Url(format!("{:?} names no master: {why}", redacted(url))))?;
            let keys = Keys::new(sentinels.database());
            return Ok(Self { place: Place::Master(sentinels), keys, url: url.to_owned() });
        }
        let bad = |error: redis::RedisError| {
            RedisError::Url(format!(
                "{:?} is no Redis URL (redis://[user][:password]@host:port/database): {error}",
                redacted(url)
            ))
        };
        let info = url.into_connection_info().map_err(bad)?;
        let database = info.redis_settings().db();
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let resp3 = Client::open(info.clone().set_redis_settings(settings)).map_err(bad)?.into();
        let place = Place::Server { client: Client::open(info).map_err(bad)?.into(), resp3 };
        Ok(Self { place, keys: Keys::new(database), url: url.to_owned() })
    }

    /// The same with a `global_keyprefix`.
    pub fn with_prefix(mut self, prefix: &str) -> Self {
        self.keys.prefix = prefix.to_owned();
        self
    }

    /// The names of keys of this database.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Do both lead to one database of one server? By their addresses: two names of one server are two.
    pub fn is_same_database(&self, other: &Self) -> bool {
        match (&self.place, &other.place) {
            (Place::Server { client: mine, .. }, Place::Server { client: theirs, .. }) => {
                let (mine, theirs) = (mine.get_connection_info(), theirs.get_connection_info());
                mine.addr() == theirs.addr() && mine.redis_settings().db() == theirs.redis_settings().db()
            }
            (Place::Master(mine), Place::Master(theirs)) => mine == theirs,
            _ => false,
        }
    }

    /// The URL with its password.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A connection for commands, shared by its clones. It connects when it is first used and comes back by itself;
    /// meanwhile commands fail with [`RedisError::Unavailable`].
    ///
    /// # Errors
    /// Never for want of a Redis.
    pub fn commands(&self) -> Result<Commands, RedisError> {
        let way = match &self.place {
            Place::Server { resp3, .. } => Way::Server(resp3.clone()),
            Place::Master(sentinels) => Way::Master(sentinels.clone()),
        };
        Ok(Commands::new(way, timeouts()))
    }

    /// A connection of its own, that tells of pushes (invalidations, its end) to `pushes`.
    ///
    /// # Errors
    /// Redis is away or refuses.
    pub async fn with_pushes(&self, pushes: UnboundedSender<PushInfo>) -> Result<MultiplexedConnection, RedisError> {
        let client = match &self.place {
            Place::Server { resp3, .. } => Client::clone(resp3),
            Place::Master(sentinels) => sentinels.master(ProtocolVersion::RESP3).await?,
        };
        Ok(client.get_multiplexed_async_connection_with_config(&timeouts().set_push_sender(pushes)).await?)
    }

    /// A connection of its own for commands that wait: how long, its user looks to.
    ///
    /// # Errors
    /// Redis is away or refuses.
    pub(crate) async fn blocking(&self) -> Result<MultiplexedConnection, RedisError> {
        let client = match &self.place {
            Place::Server { client, .. } => Client::clone(client),
            Place::Master(sentinels) => sentinels.master(ProtocolVersion::RESP2).await?,
        };
        let patient = timeouts().set_response_timeout(None);
        Ok(client.get_multiplexed_async_connection_with_config(&patient).await?)
    }

    /// A connection for subscriptions.
    ///
    /// # Errors
    /// Redis is away or refuses.
    pub async fn subscriber(&self) -> Result<PubSub, RedisError> {
        let client = match &self.place {
            Place::Server { client, .. } => Client::clone(client),
            Place::Master(sentinels) => sentinels.master(ProtocolVersion::RESP2).await?,
        };
        match tokio::time::timeout(CONNECT_TIMEOUT, client.get_async_pubsub()).await {
            Ok(connection) => Ok(connection?),
            Err(_) => Err(RedisError::Unavailable(format!("no connection within {CONNECT_TIMEOUT:?}"))),
        }
    }
}

fn timeouts() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(RESPONSE_TIMEOUT))
}

/// A URL as it may be shown: its password replaced by `********`. Of several, separated by `;`, all.
pub fn redacted(url: &str) -> String {
    let (urls, query) = url.split_once('?').unwrap_or((url, ""));
    let urls: Vec<String> = urls.split(';').map(redacted_one).collect();
    let shown = |pair: &str| match pair.split_once('=') {
        Some((name, _)) if name.contains("password") => format!("{name}=********"),
        _ => pair.to_owned(),
    };
    let query: Vec<String> = query.split('&').filter(|pair| !pair.is_empty()).map(shown).collect();
    if query.is_empty() { urls.join(";") } else { format!("{}?{}", urls.join(";"), query.join("&")) }
}

fn redacted_one(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    match authority.rsplit_once('@') {
        Some((login, host)) => match login.split_once(':') {
            Some((user, _)) => format!("{scheme}://{user}:********@{host}{path}"),
            None => format!("{scheme}://{login}@{host}{path}"),
        },
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(redacted("redis://:s3cret@localhost:6379/0"), "redis://:********@localhost:6379/0");
        assert_eq!(redacted("redis://me:s3@cret@h/1"), "redis://me:********@h/1");
        assert_eq!(redacted("redis://localhost/0"), "redis://localhost/0");
        assert_eq!(
            redacted("sentinel://:a@h1:1/0;sentinel://h2?master_name=m&sentinel_password=b"),
            "sentinel://:********@h1:1/0;sentinel://h2?master_name=m&sentinel_password=********"
        );
        let error = Connector::new("redis://:s3cret@localhost:x/0").err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.contains("redis://") && !error.contains("s3cret"), "{error}");
    }
}
