//! A connection for commands, shared by its clones, that comes back by itself: to one server, or to whichever is the master.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redis::aio::{ConnectionLike, ConnectionManager, MultiplexedConnection};
use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, Pipeline, ProtocolVersion, RedisFuture, RedisResult, ServerErrorKind, Value,
};
use tokio::sync::Mutex;

use crate::sentinel::Sentinels;

/// A connection for commands.
#[derive(Clone)]
pub struct Commands(Way);

#[derive(Clone)]
enum Way {
    Server(ConnectionManager),
    Master(Arc<Master>),
}

/// The connection to the server that Sentinel names.
struct Master {
    sentinels: Sentinels,
    config: AsyncConnectionConfig,
    /// With its number; none: to be made when it is needed.
    current: Mutex<Option<(u64, MultiplexedConnection)>>,
    made: AtomicU64,
}

impl From<ConnectionManager> for Commands {
    fn from(manager: ConnectionManager) -> Self {
        Self(Way::Server(manager))
    }
}

impl Commands {
    /// To the master that these Sentinels name.
    pub(crate) fn to_master(sentinels: Sentinels, config: AsyncConnectionConfig) -> Self {
        Self(Way::Master(Arc::new(Master { sentinels, config, current: Mutex::default(), made: AtomicU64::new(0) })))
    }
}

impl Master {
    async fn connection(&self) -> RedisResult<(u64, MultiplexedConnection)> {
        let mut current = self.current.lock().await;
        if let Some(connection) = current.as_ref() {
            return Ok(connection.clone());
        }
        let away = |error: crate::RedisError| redis::RedisError::from((ErrorKind::Io, "no master", error.to_string()));
        let client = self.sentinels.master(ProtocolVersion::RESP2).await.map_err(away)?;
        let connection = client.get_multiplexed_async_connection_with_config(&self.config).await?;
        let made = (self.made.fetch_add(1, Ordering::Relaxed), connection);
        *current = Some(made.clone());
        Ok(made)
    }

    /// After an error that another connection would not have, the next command looks for the master anew.
    async fn judge<T>(&self, number: u64, result: &RedisResult<T>) {
        let Err(error) = result else { return };
        let demoted = error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly);
        if demoted || error.is_unrecoverable_error() || error.is_io_error() {
            let mut current = self.current.lock().await;
            if current.as_ref().is_some_and(|(made, _)| *made == number) {
                *current = None;
            }
        }
    }
}

impl ConnectionLike for Commands {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match &mut self.0 {
            Way::Server(manager) => manager.req_packed_command(cmd),
            Way::Master(master) => Box::pin(async move {
                let (number, mut connection) = master.connection().await?;
                let result = connection.req_packed_command(cmd).await;
                master.judge(number, &result).await;
                result
            }),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match &mut self.0 {
            Way::Server(manager) => manager.req_packed_commands(pipeline, offset, count),
            Way::Master(master) => Box::pin(async move {
                let (number, mut connection) = master.connection().await?;
                let result = connection.req_packed_commands(pipeline, offset, count).await;
                master.judge(number, &result).await;
                result
            }),
        }
    }

    fn get_db(&self) -> i64 {
        match &self.0 {
            Way::Server(manager) => manager.get_db(),
            Way::Master(master) => master.sentinels.database(),
        }
    }
}
