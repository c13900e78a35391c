//! Connections to one Redis.

use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig, MultiplexedConnection, PubSub};
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo, ProtocolVersion, PushInfo};
use tokio::sync::mpsc::UnboundedSender;

use crate::error::RedisError;
use crate::keys::Keys;

/// How long a connection may take to come up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long an answer may take: longer than any command here, shorter than a caller's patience.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(4);

/// Makes connections to the Redis of one URL: `redis://`, `rediss://`, `unix://`, with user, password and database.
#[derive(Clone)]
pub struct Connector {
    client: Client,
    resp3: Client,
    keys: Keys,
    url: String,
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
        let bad = |error: redis::RedisError| {
            RedisError::Url(format!(
                "{:?} is no Redis URL (redis://[user][:password]@host:port/database): {error}",
                redacted(url)
            ))
        };
        let info = url.into_connection_info().map_err(bad)?;
        // More than one provider of cryptography is compiled in by other crates: one must be chosen. Chosen before, it stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let database = info.redis_settings().db();
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let resp3 = Client::open(info.clone().set_redis_settings(settings)).map_err(bad)?;
        Ok(Self { client: Client::open(info).map_err(bad)?, resp3, keys: Keys::new(database), url: url.to_owned() })
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
        let (mine, theirs) = (self.client.get_connection_info(), other.client.get_connection_info());
        mine.addr() == theirs.addr() && mine.redis_settings().db() == theirs.redis_settings().db()
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
    pub fn commands(&self) -> Result<ConnectionManager, RedisError> {
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(1)
            .set_min_delay(Duration::from_millis(50))
            .set_max_delay(Duration::from_secs(1))
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT));
        Ok(self.client.get_connection_manager_lazy(config)?)
    }

    /// A connection of its own, that tells of pushes (invalidations, its end) to `pushes`.
    ///
    /// # Errors
    /// Redis is away or refuses.
    pub async fn with_pushes(&self, pushes: UnboundedSender<PushInfo>) -> Result<MultiplexedConnection, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT))
            .set_push_sender(pushes);
        Ok(self.resp3.get_multiplexed_async_connection_with_config(&config).await?)
    }

    /// A connection for subscriptions.
    ///
    /// # Errors
    /// Redis is away or refuses.
    pub async fn subscriber(&self) -> Result<PubSub, RedisError> {
        match tokio::time::timeout(CONNECT_TIMEOUT, self.client.get_async_pubsub()).await {
            Ok(connection) => Ok(connection?),
            Err(_) => Err(RedisError::Unavailable(format!("no connection within {CONNECT_TIMEOUT:?}"))),
        }
    }
}

/// A URL as it may be shown: its password replaced by `********`.
pub fn redacted(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
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
        let error = Connector::new("redis://:s3cret@localhost:x/0").err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.contains("redis://") && !error.contains("s3cret"), "{error}");
    }
}
