//! Fetching messages (kombu.transport.redis: Channel._brpop_start, _brpop_read), without kombu's window: there a message
//! is in no key between BRPOP and its record in `unacked`; here one script moves it.
//!
//! Waiting costs Redis nothing: the connection asks to be told when one of the lists changes (CLIENT TRACKING), reads
//! their lengths once, and sleeps.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue, PushInfo, PushKind, Value, cmd, pipe};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::connection::Connector;
use crate::error::RedisError;
use crate::keys::{Keys, PRIORITY_STEPS};
use crate::scripts;

/// A message that was moved into `unacked`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The tag under which it lies in `unacked`.
    pub tag: String,
    /// The queue it came from.
    pub queue: String,
    /// The envelope's JSON text.
    pub text: String,
}

/// The fetching side of a worker, on a connection of its own.
pub struct Consumer {
    connection: MultiplexedConnection,
    pushes: UnboundedReceiver<PushInfo>,
    keys: Keys,
    owner: String,
    turn: usize,
    fetched: u64,
}

impl Consumer {
    /// Connects. `owner` is the worker's claim name, unique for each start of a worker.
    ///
    /// # Errors
    /// Redis is away or refuses.
    pub async fn connect(connector: &Connector, owner: &str) -> Result<Self, RedisError> {
        let (sender, pushes) = unbounded_channel();
        let mut connection = connector.with_pushes(sender).await?;
        cmd("CLIENT").arg("TRACKING").arg("ON").arg("NOLOOP").query_async::<()>(&mut connection).await?;
        let keys = connector.keys().clone();
        Ok(Self { connection, pushes, keys, owner: owner.to_owned(), turn: 0, fetched: 0 })
    }

    /// Moves up to `room` messages of the queues into `unacked`: the lowest priority number first, the queues of one
    /// priority in turn. Does not wait.
    ///
    /// # Errors
    /// Redis is away. What the script moved is then this worker's without its knowledge: see
    /// [`crate::claims::Claims::forgotten`].
    pub async fn fetch(&mut self, queues: &[String], room: usize) -> Result<Vec<Delivery>, RedisError> {
        if queues.is_empty() || room == 0 {
            return Ok(vec![]);
        }
        self.turn = (self.turn + 1) % queues.len();
        self.fetched += 1;
        let order: Vec<&String> = queues.iter().cycle().skip(self.turn).take(queues.len()).collect();
        let mut call = scripts::FETCH.prepare_invoke();
        call.key(self.keys.unacked()).key(self.keys.unacked_index()).key(self.keys.held(&self.owner));
        call.arg(room).arg(format!("petiole:{}:{}", self.owner, self.fetched));
        for step in PRIORITY_STEPS {
            for queue in &order {
                call.key(self.keys.list(queue, i64::from(step)));
                call.arg(format!(", \"\", {}]", serde_json::Value::from(queue.as_str())));
            }
        }
        let flat: Vec<Value> = call.invoke_async(&mut self.connection).await?;
        flat.chunks_exact(3)
            .map(|item| {
                let list = usize::from_redis_value_ref(&item[1]).map_err(unexpected)?;
                let text = Vec::<u8>::from_redis_value_ref(&item[2]).map_err(unexpected)?;
                Ok(Delivery {
                    tag: String::from_redis_value_ref(&item[0]).map_err(unexpected)?,
                    queue: order.get((list - 1) % order.len()).map(|queue| (*queue).clone()).unwrap_or_default(),
                    text: String::from_utf8_lossy(&text).into_owned(),
                })
            })
            .collect()
    }

    /// Waits until one of the queues may hold something, or `at_most` is over.
    ///
    /// # Errors
    /// The connection has gone.
    pub async fn wait(&mut self, queues: &[String], at_most: Duration) -> Result<(), RedisError> {
        while let Ok(push) = self.pushes.try_recv() {
            if push.kind == PushKind::Disconnection {
                return Err(gone());
            }
        }
        let mut lengths = pipe();
        for queue in queues {
            for list in self.keys.lists(queue) {
                lengths.llen(list);
            }
        }
        let lengths: Vec<u64> = lengths.query_async(&mut self.connection).await?;
        if lengths.iter().any(|length| *length > 0) {
            return Ok(());
        }
        let told = async {
            while let Some(push) = self.pushes.recv().await {
                match push.kind {
                    PushKind::Invalidate => return Ok(()),
                    PushKind::Disconnection => return Err(gone()),
                    _ => {}
                }
            }
            Err(gone())
        };
        tokio::time::timeout(at_most, told).await.unwrap_or(Ok(()))
    }
}

fn gone() -> RedisError {
    RedisError::Unavailable("the connection has gone".into())
}

fn unexpected(error: impl std::fmt::Display) -> RedisError {
    RedisError::Data(error.to_string())
}
