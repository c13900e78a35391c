//! While a worker is idle, Redis gives it the next message by itself (kombu.transport.redis: Channel._brpop_start), and a whole
//! round trip is saved: that of asking for it.
//!
//! `BLMOVE` waits on a connection of its own, for one list: that from which the last message came. Of the others the worker is
//! told as ever. The message goes into a key of its own, as [long](crate::long) messages do. That place is claimed (`prepare.lua`)
//! before Redis may put something there: its tag is among those that the worker holds. With the next round trip the message is
//! settled or recorded in `unacked`.
//!
//! A worker that is gone or cut off may be waited for by Redis for [`WAIT`] longer; so its places are struck off long after
//! that only (`strike.lua`).

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use futures::FutureExt;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Cmd, FromRedisValue, RedisResult, Value, cmd};

use crate::broker::Broker;
use crate::connection::Connector;
use crate::consumer::Delivery;
use crate::error::RedisError;
use crate::keys::Keys;
use crate::long;
use crate::scripts;

/// How long Redis waits for a message at a time: also a sign that the connection works.
const WAIT: Duration = Duration::from_secs(4);
/// How much later its answer may come.
const LATE: Duration = Duration::from_secs(1);
/// An answer that was asked for longer ago is judged anew: others may have taken this worker for dead.
const OLD: Duration = Duration::from_secs(6);
/// So many places are prepared at a time.
const PLACES: usize = 8;
/// After Redis refused to wait it is not asked again for so long.
const PAUSE: Duration = Duration::from_secs(10);

/// A list, and the queue that it is of.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Source {
    pub(crate) queue: String,
    pub(crate) list: String,
}

/// Redis waits for a message.
struct Waiting {
    tag: String,
    source: Source,
    since: Instant,
    answer: Pin<Box<dyn Future<Output = RedisResult<Value>> + Send>>,
}

/// What came of waiting.
#[derive(Debug)]
pub(crate) enum Came {
    /// A message, that was asked for then.
    Message(Delivery, Instant),
    /// Nothing.
    Nothing,
}

/// The connection that waits.
pub(crate) struct Blocking {
    connection: MultiplexedConnection,
    /// Its number at Redis.
    client: i64,
    token: String,
    prepared: u64,
    /// The places that are prepared: queues and delivery tags.
    places: Vec<(String, String)>,
    /// Those that are being prepared.
    pending: Vec<(String, String)>,
    waiting: Option<Waiting>,
    refused: Option<Instant>,
}

impl Blocking {
    /// Connects to the server that `beside` is connected to. None: it is another one, or does not let itself be asked.
    ///
    /// # Errors
    /// Redis is away.
    pub(crate) async fn connect(
        connector: &Connector,
        beside: &mut MultiplexedConnection,
    ) -> Result<Option<Self>, RedisError> {
        let mut connection = connector.blocking().await?;
        let (Some(here), Some(there)) = (run_id(&mut connection).await?, run_id(beside).await?) else {
            return Ok(None);
        };
        let client: Result<i64, _> = cmd("CLIENT").arg("ID").query_async(&mut connection).await;
        let client = match client {
            Ok(client) if here == there => client,
            Err(error) if error.is_io_error() => return Err(error.into()),
            _ => return Ok(None),
        };
        let token = uuid::Uuid::new_v4().simple().to_string();
        Ok(Some(Self {
            connection,
            client,
            token,
            prepared: 0,
            places: vec![],
            pending: vec![],
            waiting: None,
            refused: None,
        }))
    }

    /// The list for which Redis waits.
    pub(crate) fn list(&self) -> Option<&str> {
        self.waiting.as_ref().map(|waiting| waiting.source.list.as_str())
    }

    /// The queue for which Redis waits.
    pub(crate) fn queue(&self) -> Option<&str> {
        self.waiting.as_ref().map(|waiting| waiting.source.queue.as_str())
    }

    /// What prepares places for messages of this list. None: there are some, or it is not the time.
    pub(crate) fn prepare(&mut self, keys: &Keys, owner: &str, source: &Source) -> Option<Cmd> {
        if self.is_prepared(source) || self.refused.is_some_and(|at| at.elapsed() < PAUSE) {
            return None;
        }
        let are_pending = self.pending.iter().any(|(queue, _)| *queue == source.queue);
        for _ in 0..if are_pending { 0 } else { PLACES } {
            self.prepared += 1;
            self.pending.push((source.queue.clone(), long::tag(&self.token, self.prepared, &source.queue)));
        }
        Some(prepare(keys, owner, self.pending.iter().map(|(_, tag)| tag)))
    }

    fn is_prepared(&self, source: &Source) -> bool {
        self.places.iter().any(|(queue, _)| *queue == source.queue)
    }

    /// What came of that: without a place Redis is not told to wait.
    pub(crate) fn prepared(&mut self, answer: &RedisResult<Value>) {
        match answer {
            Ok(Value::Int(1)) => self.places.append(&mut self.pending),
            _ => self.refuse(),
        }
    }

    fn refuse(&mut self) {
        self.refused = Some(Instant::now());
    }

    /// The places are to be prepared anew: others may have struck them off.
    pub(crate) fn forget(&mut self) {
        self.pending.append(&mut self.places);
    }

    /// Can Redis be told to wait?
    pub(crate) fn is_ready(&self) -> bool {
        !self.places.is_empty() && self.waiting.is_none() && self.refused.is_none_or(|at| at.elapsed() >= PAUSE)
    }

    /// Would it wait for one of this list?
    pub(crate) fn is_ready_for(&self, source: &Source) -> bool {
        self.is_ready() && self.is_prepared(source)
    }

    /// Tells Redis to wait for a message.
    pub(crate) fn wait(&mut self, keys: &Keys, source: Source) {
        let Some(at) = self.places.iter().rposition(|(queue, _)| *queue == source.queue) else { return };
        let (_, tag) = self.places.remove(at);
        let mut command = cmd("BLMOVE");
        command.arg(&source.list).arg(keys.fetched(&tag)).arg("RIGHT").arg("LEFT").arg(WAIT.as_secs());
        let mut connection = self.connection.clone();
        let mut answer = Box::pin(async move { connection.req_packed_command(&command).await });
        // Polled once it is on its way.
        let sent: Pin<Box<dyn Future<Output = RedisResult<Value>> + Send>> = match (&mut answer).now_or_never() {
            Some(early) => Box::pin(std::future::ready(early)),
            None => answer,
        };
        self.waiting = Some(Waiting { tag, source, since: Instant::now(), answer: sent });
    }

    /// Waits for what comes. May be dropped and called again.
    ///
    /// # Errors
    /// The connection has gone, or what came is too old to be this worker's for sure: it is in its place.
    pub(crate) async fn came(&mut self) -> Result<Came, RedisError> {
        let Some(Waiting { since, answer, .. }) = &mut self.waiting else { return std::future::pending().await };
        let until = tokio::time::Instant::from_std(*since + WAIT + LATE);
        match tokio::time::timeout_at(until, answer).await {
            Ok(answer) => self.read(answer),
            Err(_) => Err(RedisError::Unavailable(format!("no answer within {LATE:?} after {WAIT:?}"))),
        }
    }

    /// What has come already.
    ///
    /// # Errors
    /// As [`Self::came`].
    pub(crate) fn ask(&mut self) -> Result<Option<Came>, RedisError> {
        match self.waiting.as_mut().and_then(|waiting| (&mut waiting.answer).now_or_never()) {
            Some(answer) => self.read(answer).map(Some),
            None => Ok(None),
        }
    }

    fn read(&mut self, answer: RedisResult<Value>) -> Result<Came, RedisError> {
        let Some(Waiting { tag, source, since, .. }) = self.waiting.take() else { return Ok(Came::Nothing) };
        if since.elapsed() > OLD {
            return Err(RedisError::Unavailable("what was waited for is too old to be this worker's for sure".into()));
        }
        match answer.and_then(Value::extract_error) {
            Ok(Value::Nil) => {
                self.places.push((source.queue, tag));
                Ok(Came::Nothing)
            }
            Ok(message) => {
                let text = long::text(
                    Vec::<u8>::from_redis_value(message).map_err(|error| RedisError::Data(error.to_string()))?,
                );
                Ok(Came::Message(Delivery { tag, queue: source.queue, text, message: None }, since))
            }
            Err(error) if error.is_io_error() => Err(error.into()),
            // Not this time: the list is none, Redis is full or has become a replica.
            Err(_) => {
                self.places.push((source.queue, tag));
                self.refuse();
                Ok(Came::Nothing)
            }
        }
    }

    /// What ends the waiting: [`Self::came`] then tells at once what came of it.
    pub(crate) fn unblock(&self) -> Option<Cmd> {
        self.waiting.as_ref()?;
        let mut command = cmd("CLIENT");
        command.arg("UNBLOCK").arg(self.client);
        Some(command)
    }

    /// What claims the places anew, and what was `given`, should somebody have emptied the database.
    pub(crate) fn renew(&self, keys: &Keys, owner: &str, given: &[String]) -> Option<Cmd> {
        let tags = self.places.iter().chain(&self.pending).map(|(_, tag)| tag);
        let tags: Vec<&String> = tags.chain(given).chain(self.waiting.as_ref().map(|waiting| &waiting.tag)).collect();
        (!tags.is_empty()).then(|| prepare(keys, owner, tags.into_iter()))
    }

    /// Takes the places away. Nothing may be waited for.
    pub(crate) async fn leave(&mut self, broker: &Broker, owner: &str) -> Result<(), RedisError> {
        let tags: Vec<String> = self.places.drain(..).chain(self.pending.drain(..)).map(|(_, tag)| tag).collect();
        broker.strike(owner, &tags, None).await
    }
}

fn prepare<'a>(keys: &Keys, owner: &str, tags: impl Iterator<Item = &'a String>) -> Cmd {
    let mut call = cmd("EVALSHA");
    call.arg(scripts::PREPARE.get_hash()).arg(2).arg(keys.owners()).arg(keys.held(owner)).arg(owner);
    tags.for_each(|tag| {
        call.arg(tag);
    });
    call
}

/// Which run of which server is this? None: it does not say.
async fn run_id(connection: &mut MultiplexedConnection) -> Result<Option<String>, RedisError> {
    let info: RedisResult<String> = cmd("INFO").arg("server").query_async(connection).await;
    match info {
        Ok(info) => Ok(info.lines().find_map(|line| line.strip_prefix("run_id:")).map(|id| id.trim().to_owned())),
        Err(error) if error.is_io_error() => Err(error.into()),
        Err(_) => Ok(None),
    }
}
