//! Fetching messages (kombu.transport.redis: Channel._brpop_start, _brpop_read), without kombu's window: there a message
//! is in no key between BRPOP and its record in `unacked`; here one script moves it.
//!
//! Waiting costs Redis next to nothing: for one list it gives the next message by itself ([`crate::blocking`]), and when one of the
//! others changes it tells (CLIENT TRACKING).

use petiole_protocol::TaskMessage;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue, PushInfo, Script, Value, cmd, pipe};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::backend::Backend;
use crate::blocking::{Blocking, Source};
use crate::broker::Broker;
use crate::error::RedisError;
use crate::keys::PRIORITY_STEPS;
use crate::long::{self, Long, Wanted};
use crate::scripts;
use crate::settle::{Settled, Settlement};

/// A message that was moved into `unacked`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Delivery {
    /// The tag under which it lies in `unacked`.
    pub tag: String,
    /// The queue it came from.
    pub queue: String,
    /// The envelope's JSON text.
    pub text: String,
    /// The message, when this worker has sent it itself: see [`crate::handover`].
    pub message: Option<Box<TaskMessage>>,
}

/// A worker's own connection: it fetches, and settles what was fetched. One round trip does both.
pub struct Consumer {
    pub(crate) connection: MultiplexedConnection,
    pub(crate) pushes: UnboundedReceiver<PushInfo>,
    pub(crate) broker: Broker,
    pub(crate) backend: Backend,
    /// Results live beside the messages: all of a settlement in one script.
    pub(crate) shared: bool,
    pub(crate) owner: String,
    pub(crate) turn: usize,
    pub(crate) fetched: u64,
    pub(crate) long: Long,
    /// None: Redis does not let itself be asked to wait.
    pub(crate) blocking: Option<Blocking>,
    /// Where the last message came from.
    pub(crate) last: Option<Source>,
    /// What Redis gave by itself and is in no hash yet.
    pub(crate) given: Vec<String>,
    /// What it gave so and was delivered before: tag and queue.
    pub(crate) again: Vec<(String, String)>,
    /// A message was given by itself: there may be more.
    pub(crate) looks: bool,
    /// Somebody has emptied the database while Redis waited.
    pub(crate) emptied: bool,
}

/// What one round trip brought.
#[derive(Debug, Default)]
pub struct Exchange {
    /// What became of the settlements, in their order.
    pub settled: Vec<Settled>,
    /// Messages that were fetched, or handed over.
    pub deliveries: Vec<Delivery>,
    /// Was everything handed over that was to be? What was not lies in its queue, or belongs to a settlement that was lost.
    pub taken: bool,
    /// Were the queues looked at?
    pub looked: bool,
    /// Was there nothing more? Then [`Consumer::wait`] tells when there is.
    pub drained: bool,
}

impl Consumer {
    /// Connects. `owner` is the worker's claim name, unique for each start of a worker.
    ///
    /// # Errors
    /// Redis is away or refuses.
    pub async fn connect(broker: &Broker, backend: &Backend, owner: &str) -> Result<Self, RedisError> {
        let (sender, pushes) = unbounded_channel();
        let mut connection = broker.connector().with_pushes(sender).await?;
        cmd("CLIENT").arg("TRACKING").arg("ON").arg("OPTIN").arg("NOLOOP").query_async::<()>(&mut connection).await?;
        scripts::load(&mut connection, &scripts::FETCH).await?;
        scripts::load(&mut connection, &scripts::SETTLE).await?;
        for script in [&scripts::PREPARE, &scripts::RECORD] {
            script.prepare_invoke().load_async(&mut connection).await?;
        }
        let blocking = Blocking::connect(broker.connector(), &mut connection).await?;
        let shared = backend.shares(broker);
        let (broker, backend) = (broker.clone(), backend.clone());
        Ok(Self {
            connection,
            pushes,
            broker,
            backend,
            shared,
            owner: owner.to_owned(),
            turn: 0,
            fetched: 0,
            long: Long::new(),
            blocking,
            last: None,
            given: vec![],
            again: vec![],
            looks: false,
            emptied: false,
        })
    }

    /// Settles, and moves up to `room` messages of the queues into `unacked`: the lowest priority number first, the queues
    /// of one priority in turn. Does not wait for messages. What is [handed over](crate::handover) leaves the settlements.
    ///
    /// # Errors
    /// Redis is away. The settlements are to be tried again. What the script moved is then this worker's without its
    /// knowledge: see [`crate::claims::Claims::forgotten`].
    pub async fn exchange(
        &mut self,
        settlements: &mut [Settlement],
        queues: &[String],
        room: usize,
    ) -> Result<Exchange, RedisError> {
        let started = self.start(settlements, queues, room).await?;
        self.finish(started, settlements).await
    }

    /// Adds what moves long messages, and then asks how long the lists are.
    pub(crate) fn add_long(&self, pipe: &mut redis::Pipeline, queues: &[String], wanted: &[Wanted]) {
        long::add(pipe, self.broker.keys(), &self.owner, wanted);
        self.lists(queues).for_each(|(_, list)| {
            pipe.llen(list);
        });
        pipe.add_command(caching()).add_command(self.exist(queues));
    }

    /// Is there something in one of the queues?
    pub(crate) fn exist(&self, queues: &[String]) -> Cmd {
        let mut exists = cmd("EXISTS");
        self.lists(queues).for_each(|(_, list)| {
            exists.arg(list);
        });
        exists
    }

    /// Fetches without the script: reads what came of what was [added](Self::add_long), or asks once more when it was not known
    /// before what there is.
    pub(crate) async fn fetch_long(
        &mut self,
        queues: &[String],
        room: usize,
        mut wanted: Vec<Wanted>,
        mut answers: Vec<Value>,
        exchange: &mut Exchange,
    ) -> Result<(), RedisError> {
        let lists: Vec<_> = self.lists(queues).map(|(queue, list)| (queue.clone(), list)).collect();
        loop {
            exchange.drained = is_nothing(answers.pop())?;
            answers.pop();
            let lengths = extract(answers.split_off(answers.len().saturating_sub(lists.len())))?;
            let lengths = Vec::<u64>::from_redis_value(Value::Array(lengths)).map_err(unexpected)?;
            self.long.answered(&wanted);
            self.long.saw(lists.iter().cloned().zip(lengths));
            if !wanted.is_empty() {
                break;
            }
            wanted = self.long.wanted(queues, room);
            if wanted.is_empty() {
                return Ok(());
            }
            let mut pipe = pipe();
            self.add_long(&mut pipe, queues, &wanted);
            answers = self.send(&pipe).await?;
        }
        let moved = match answers.pop().unwrap_or(Value::Nil).extract_error() {
            Err(error) if long::is_full(&error) => {
                // A script may take out of a Redis that is full.
                self.long.came(&[]);
                exchange.drained = false;
                return Ok(());
            }
            moved => moved?,
        };
        let (keys, owner) = (self.broker.keys().clone(), &self.owner);
        let fetched = long::read(wanted, moved)?;
        self.long.came(&fetched.deliveries);
        self.last = fetched.last.map(|(queue, list)| Source { queue, list }).or(self.last.take());
        if !fetched.void.is_empty() {
            long::strike(&keys, owner, &fetched.void).query_async::<()>(&mut self.connection).await?;
        }
        // They came first: who gives something back puts it at the head.
        exchange.deliveries.extend(self.move_on(&fetched.again).await?);
        exchange.deliveries.extend(fetched.deliveries);
        Ok(())
    }

    /// Fetches once more, by the script, what was delivered before: it is counted by a tag of its own.
    pub(crate) async fn move_on(&mut self, again: &[(String, String)]) -> Result<Vec<Delivery>, RedisError> {
        let mut deliveries = vec![];
        for (tag, queue) in again {
            let keys = self.broker.keys();
            let mut move_on = scripts::MOVE_ON.key(keys.unacked());
            move_on.key(keys.unacked_index()).key(keys.held(&self.owner)).key(keys.fetched(tag));
            move_on.arg(1).arg(format!("petiole:{tag}")).arg(scripts::tail(queue)).arg(tag);
            let mut moved = move_on.invoke_async::<Vec<Value>>(&mut self.connection).await?.into_iter();
            if let (Some(tag), Some(text)) = (moved.next(), moved.nth(1)) {
                deliveries.push(delivery(tag, queue.clone(), text)?);
            }
        }
        Ok(deliveries)
    }

    /// The queues' lists, in the order of service.
    fn lists<'a>(&self, queues: &'a [String]) -> impl Iterator<Item = (&'a String, String)> + use<'a> {
        let (turn, keys) = (self.turn, self.broker.keys().clone());
        PRIORITY_STEPS.into_iter().flat_map(move |step| {
            let keys = keys.clone();
            let order = queues.iter().cycle().skip(turn).take(queues.len());
            order.map(move |queue| (queue, keys.list(queue, i64::from(step))))
        })
    }

    /// Sends a pipeline. An answer may be an error.
    pub(crate) async fn send(&mut self, pipe: &redis::Pipeline) -> Result<Vec<Value>, redis::RedisError> {
        let length = pipe.cmd_iter().count();
        if length == 0 {
            return Ok(vec![]);
        }
        self.connection.send_packed_commands(pipe, 0, length).await
    }

    pub(crate) fn fetch(&mut self, queues: &[String], room: usize) -> Cmd {
        self.fetched += 1;
        let keys = self.broker.keys();
        let mut call = cmd("EVALSHA");
        call.arg(scripts::FETCH.hash()).arg(3 + queues.len() * PRIORITY_STEPS.len());
        call.arg(keys.unacked()).arg(keys.unacked_index()).arg(keys.held(&self.owner));
        for (_, list) in self.lists(queues) {
            call.arg(list);
        }
        call.arg(room).arg(format!("petiole:{}:{}", self.owner, self.fetched));
        for (queue, _) in self.lists(queues) {
            call.arg(scripts::tail(queue));
        }
        call
    }

    /// Reads what `fetch.lua` gave, called when it was this turn of these queues.
    pub(crate) fn read(
        &mut self,
        answer: Value,
        queues: &[String],
        turn: usize,
        exchange: &mut Exchange,
    ) -> Result<(), RedisError> {
        let Value::Array(flat) = answer else {
            return Err(unexpected(format_args!("fetching was answered by {answer:?}")));
        };
        let (mut flat, mut from) = (flat.into_iter(), None);
        while let (Some(tag), Some(list), Some(text)) = (flat.next(), flat.next(), flat.next()) {
            let list = usize::from_redis_value(list).map_err(unexpected)?;
            let place = (list - 1 + turn) % queues.len();
            let queue = queues.get(place).cloned().unwrap_or_default();
            let step = PRIORITY_STEPS.get((list - 1) / queues.len()).copied().unwrap_or_default();
            from = Some((queue.clone(), step));
            exchange.deliveries.push(delivery(tag, queue, text)?);
        }
        if let Some((queue, step)) = from {
            let list = self.broker.keys().list(&queue, i64::from(step));
            self.last = Some(Source { queue, list });
        }
        Ok(())
    }

    /// Loads a script that Redis has forgotten.
    pub(crate) async fn load(&mut self, error: &redis::RedisError, script: &Script) -> Result<(), RedisError> {
        if scripts::is_unknown(error) {
            script.prepare_invoke().load_async(&mut self.connection).await?;
        }
        Ok(())
    }
}

fn delivery(tag: Value, queue: String, text: Value) -> Result<Delivery, RedisError> {
    let text = Vec::<u8>::from_redis_value(text).map_err(unexpected)?;
    let tag = String::from_redis_value(tag).map_err(unexpected)?;
    Ok(Delivery { tag, queue, text: long::text(text), message: None })
}

/// Goes before a command that reads lists: Redis tells when they change (CLIENT TRACKING). Of these alone: the books, which are keys
/// of the scripts, are changed by all workers all the time.
pub(crate) fn caching() -> Cmd {
    let mut caching = cmd("CLIENT");
    caching.arg("CACHING").arg("YES");
    caching
}

/// Was the answer to [`Consumer::exist`] that there is nothing?
pub(crate) fn is_nothing(answer: Option<Value>) -> Result<bool, RedisError> {
    let found = answer.unwrap_or(Value::Nil).extract_error()?;
    Ok(u64::from_redis_value(found).map_err(unexpected)? == 0)
}

/// The first error counts, and leaves what came with it undone or to be done again.
pub(crate) fn extract(answers: Vec<Value>) -> Result<Vec<Value>, redis::RedisError> {
    answers.into_iter().map(Value::extract_error).collect()
}

pub(crate) fn unexpected(error: impl std::fmt::Display) -> RedisError {
    RedisError::Data(error.to_string())
}
