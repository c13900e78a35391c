//! A round trip in two steps. What is sent while an answer is still to come is at Redis when it has done what came before: it goes on
//! at once, and does not wait for the worker to read and to answer.

use std::future::{Future, ready};
use std::pin::Pin;
use std::task::Poll;

use futures::poll;
use redis::{Cmd, Pipeline, RedisResult, Script, Value, pipe};

use crate::chord::Claim;
use crate::consumer::{Consumer, Delivery, Exchange, caching, extract, is_nothing};
use crate::error::RedisError;
use crate::handover;
use crate::long::Wanted;
use crate::scripts;
use crate::settle::{self, Settlement};

/// A request that is on its way. Its answer is read by [`Consumer::finish`], in the order of the requests.
pub struct Started {
    answer: Pin<Box<dyn Future<Output = RedisResult<Vec<Value>>> + Send>>,
    /// What was delivered before, and moved on already.
    again: Vec<Delivery>,
    /// The scripts of what goes before all else, one a command.
    first: Vec<&'static Script>,
    /// How many commands settle.
    settling: usize,
    fetching: Fetching,
    queues: Vec<String>,
    /// Whose turn it is among the queues.
    turn: usize,
    room: usize,
    /// Results live in another database: the broker's half of the settlements, and the claims that were won.
    apart: Option<(Vec<Settlement>, Vec<Option<Claim>>)>,
}

/// How messages are fetched.
enum Fetching {
    /// They are not.
    Not,
    /// It is only looked whether there are some.
    Look,
    /// By the script.
    Script,
    /// Without it.
    Long(Vec<Wanted>),
}

impl Consumer {
    /// May a request be started while the answer to this one is still to come? Not when it had to ask more than once.
    pub fn goes_beside(&self, before: &Started) -> bool {
        let fetches = match &before.fetching {
            Fetching::Long(wanted) => !wanted.is_empty() && self.long.is_on() && self.long.knows_more(),
            _ => !self.long.is_on(),
        };
        self.shared && self.again.is_empty() && fetches
    }

    /// Sends what [`Self::exchange`] does, and leaves the answer to [`Self::finish`]. It is on its way when this returns.
    ///
    /// # Errors
    /// As [`Self::exchange`].
    pub async fn start(
        &mut self,
        settlements: &[Settlement],
        queues: &[String],
        room: usize,
    ) -> Result<Started, RedisError> {
        let apart = if settlements.is_empty() || self.shared {
            None
        } else {
            Some(self.backend.settle_results(settlements).await?)
        };
        let settlements = apart.as_ref().map_or(settlements, |(at_broker, _)| at_broker);
        let again = std::mem::take(&mut self.again);
        let again = self.move_on(&again).await?;
        let room = room.saturating_sub(again.len());
        let mut pipe = pipe();
        let (commands, first): (Vec<Cmd>, Vec<&Script>) = self.first(settlements).into_iter().unzip();
        commands.into_iter().for_each(|command| {
            pipe.add_command(command);
        });
        if !settlements.is_empty() {
            settle::add(&mut pipe, self.broker.keys(), &self.owner, settlements);
        }
        let settling = pipe.cmd_iter().count() - first.len();
        let fetching = self.add_fetching(&mut pipe, queues, room)?;
        let mut started = Started {
            answer: self.sent(pipe),
            again,
            first,
            settling,
            fetching,
            queues: queues.to_vec(),
            turn: self.turn,
            room,
            apart,
        };
        // Asked for the first time it hands the request to the connection. One that has gone says so at once.
        if let Poll::Ready(answer) = poll!(started.answer.as_mut()) {
            started.answer = Box::pin(ready(Ok(answer?)));
        }
        Ok(started)
    }

    /// Adds what fetches up to `room` messages of the queues.
    fn add_fetching(&mut self, pipe: &mut Pipeline, queues: &[String], room: usize) -> Result<Fetching, RedisError> {
        // A look is worth less than a fetch, but does not keep those waiting who want to know what is settled.
        let looks = std::mem::take(&mut self.looks);
        if queues.is_empty() || (room == 0 && !looks) {
            return Ok(Fetching::Not);
        }
        // What was told before the queues are looked at is old.
        self.signs()?;
        if room == 0 {
            pipe.add_command(caching()).add_command(self.exist(queues));
            return Ok(Fetching::Look);
        }
        self.turn = (self.turn + 1) % queues.len();
        if self.long.is_on() {
            let wanted = self.long.wanted(queues, room);
            self.add_long(pipe, queues, &wanted);
            return Ok(Fetching::Long(wanted));
        }
        let fetch = self.fetch(queues, room);
        pipe.add_command(fetch).add_command(caching()).add_command(self.exist(queues));
        Ok(Fetching::Script)
    }

    fn sent(&self, pipe: Pipeline) -> Pin<Box<dyn Future<Output = RedisResult<Vec<Value>>> + Send>> {
        let mut connection = self.connection.clone();
        Box::pin(async move {
            match pipe.cmd_iter().count() {
                0 => Ok(vec![]),
                length => connection.send_packed_commands(&pipe, 0, length).await,
            }
        })
    }

    /// Waits for the answer. The settlements are those it was [started](Self::start) with.
    ///
    /// # Errors
    /// As [`Self::exchange`].
    pub async fn finish(&mut self, started: Started, settlements: &mut [Settlement]) -> Result<Exchange, RedisError> {
        let Started { answer, again, first, settling, fetching, queues, turn, room, apart } = started;
        let (mut at_broker, claims) = apart.map_or((None, None), |(at_broker, claims)| (Some(at_broker), Some(claims)));
        let settlements = at_broker.as_deref_mut().unwrap_or(settlements);
        let mut answers = answer.await?;
        let mut settled = answers.split_off(first.len());
        let mut fetched = settled.split_off(settling);
        for (answer, script) in answers.into_iter().zip(first) {
            if let Err(error) = answer.extract_error() {
                // A message is recorded with the next heartbeat, too.
                self.load(&error, script).await?;
            }
        }
        let looked = !matches!(fetching, Fetching::Not);
        let mut exchange = Exchange { taken: true, looked, ..Exchange::default() };
        // First, since it may fail: what the settlements hand over leaves them.
        match fetching {
            Fetching::Not => {}
            Fetching::Look => exchange.drained = is_nothing(fetched.pop())?,
            Fetching::Long(wanted) => self.fetch_long(&queues, room, wanted, fetched, &mut exchange).await?,
            Fetching::Script => {
                exchange.drained = is_nothing(fetched.pop())?;
                match fetched.into_iter().next().unwrap_or(Value::Nil).extract_error() {
                    // Somebody flushed the scripts: the next round trip fetches.
                    Err(error) if scripts::is_unknown(&error) => {
                        scripts::load(&mut self.connection, &scripts::FETCH).await?;
                    }
                    answer => {
                        self.read(answer?, &queues, turn, &mut exchange)?;
                        self.long.came(&exchange.deliveries);
                    }
                }
            }
        }
        let settled = match extract(settled) {
            Err(error) if scripts::is_unknown(&error) => {
                scripts::load(&mut self.connection, &scripts::SETTLE).await?;
                let mut pipe = redis::pipe();
                settle::add(&mut pipe, self.broker.keys(), &self.owner, settlements);
                extract(self.send(&pipe).await?)?
            }
            settled => settled?,
        };
        if !settlements.is_empty() {
            let answer = settle::answer(settled);
            exchange.settled = settle::outcome(settlements, &answer)?;
            if let Value::Array(answer) = &answer {
                let taken = answer.get(settlements.len()..).unwrap_or_default();
                let (mut deliveries, all) = handover::taken(settlements, taken);
                deliveries.append(&mut exchange.deliveries);
                (exchange.deliveries, exchange.taken) = (deliveries, all);
            }
        }
        exchange.deliveries.splice(..0, again);
        if let Some(claims) = claims {
            exchange.settled = settle::merge(exchange.settled, claims);
        }
        Ok(exchange)
    }
}
