//! A connection for commands, shared by its clones, that comes back by itself: to one server, or to whichever is the master.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, Pipeline, ProtocolVersion, PushInfo, PushKind, RedisFuture,
    RedisResult, ServerErrorKind, Value,
};
use tokio::runtime::Handle;
use tokio::sync::Mutex;

use crate::sentinel::Sentinels;

/// A connection for commands. It is made when it is first used, and anew when it has ended, so that the first command after a
/// restart of Redis finds a living one; and after an error that another one would not have: also when an answer does not come in
/// time, for half a connection says nothing and does not end by itself. The runtime on which this was made drives it, whichever uses
/// it: one whose threads are blocked holds up nobody else.
#[derive(Clone)]
pub struct Commands(Arc<Shared>);

struct Shared {
    way: Way,
    config: AsyncConnectionConfig,
    current: Mutex<Current>,
    /// How often it was tried to connect.
    tries: AtomicU64,
    /// None: made on none. Then it is that of the first use.
    home: Option<Handle>,
}

/// A connection, and the sign of its end.
type Connected = (MultiplexedConnection, Arc<AtomicBool>);

/// Where to.
pub(crate) enum Way {
    /// To one server. By RESP3, the protocol in which the end of a connection is told.
    Server(Box<Client>),
    /// To the one that Sentinel names.
    Master(Sentinels),
}

#[derive(Default)]
struct Current {
    /// None: to be made when it is needed.
    connection: Option<Made>,
    /// Why the last try failed.
    failed: Option<redis::RedisError>,
}

struct Made {
    /// The number of its try.
    number: u64,
    connection: MultiplexedConnection,
    /// Has Redis, or the network, ended it?
    ended: Arc<AtomicBool>,
}

impl Commands {
    pub(crate) fn new(way: Way, config: AsyncConnectionConfig) -> Self {
        let home = Handle::try_current().ok();
        Self(Arc::new(Shared { way, config, current: Mutex::default(), tries: AtomicU64::new(0), home }))
    }
}

impl Shared {
    async fn connection(self: &Arc<Self>) -> RedisResult<(u64, MultiplexedConnection)> {
        let before = self.tries.load(Ordering::SeqCst);
        let mut current = self.current.lock().await;
        if let Some(made) = current.connection.as_ref().filter(|made| !made.ended.load(Ordering::Acquire)) {
            return Ok((made.number, made.connection.clone()));
        }
        // Those who waited for another's try share its failure: to try one after the other would take for ever.
        if let Some(error) = current.failed.take_if(|_| self.tries.load(Ordering::SeqCst) > before) {
            current.failed = Some(error.clone());
            return Err(error);
        }
        let made = self.connect().await;
        let number = self.tries.fetch_add(1, Ordering::SeqCst) + 1;
        match made {
            Ok((connection, ended)) => {
                *current =
                    Current { connection: Some(Made { number, connection: connection.clone(), ended }), failed: None };
                Ok((number, connection))
            }
            Err(error) => {
                current.failed = Some(error.clone());
                Err(error)
            }
        }
    }

    async fn connect(self: &Arc<Self>) -> RedisResult<Connected> {
        if let Some(home) = &self.home {
            let shared = Arc::clone(self);
            if let Ok(made) = home.spawn(async move { shared.connect_here().await }).await {
                return made;
            }
        }
        // That runtime has gone.
        self.connect_here().await
    }

    async fn connect_here(&self) -> RedisResult<Connected> {
        let away = |error: crate::RedisError| redis::RedisError::from((ErrorKind::Io, "no master", error.to_string()));
        let ended = Arc::new(AtomicBool::new(false));
        let sign = ended.clone();
        let config = self.config.clone().set_push_sender(move |push: PushInfo| {
            if push.kind == PushKind::Disconnection {
                sign.store(true, Ordering::Release);
            }
            Ok::<(), Infallible>(())
        });
        let connection = match &self.way {
            Way::Server(client) => client.get_multiplexed_async_connection_with_config(&config).await?,
            Way::Master(sentinels) => {
                let client = sentinels.master(ProtocolVersion::RESP3).await.map_err(away)?;
                client.get_multiplexed_async_connection_with_config(&config).await?
            }
        };
        Ok((connection, ended))
    }

    /// After an error that another connection would not have, the next command makes one.
    async fn judge<T>(&self, number: u64, result: &RedisResult<T>) {
        let Err(error) = result else { return };
        let demoted = error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly);
        if demoted || error.is_unrecoverable_error() || error.is_io_error() {
            let mut current = self.current.lock().await;
            current.connection.take_if(|made| made.number == number);
        }
    }
}

impl ConnectionLike for Commands {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move {
            let (number, mut connection) = self.0.connection().await?;
            let result = connection.req_packed_command(cmd).await;
            self.0.judge(number, &result).await;
            result
        })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(async move {
            let (number, mut connection) = self.0.connection().await?;
            let result = connection.req_packed_commands(pipeline, offset, count).await;
            self.0.judge(number, &result).await;
            result
        })
    }

    fn get_db(&self) -> i64 {
        match &self.0.way {
            Way::Server(client) => client.get_connection_info().redis_settings().db(),
            Way::Master(sentinels) => sentinels.database(),
        }
    }
}
