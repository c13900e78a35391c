//! What a consumer does while its queues are empty: it waits for the next message, or for a sign that there is something.

use std::time::{Duration, Instant};

use redis::{Cmd, PushInfo, PushKind, Script, Value, cmd};

use crate::blocking::{Blocking, Came, Source};
use crate::consumer::{Consumer, Delivery, caching};
use crate::error::RedisError;
use crate::long;
use crate::scripts;
use crate::settle::Settlement;

/// How long the answer to a look may take: a connection that is silent for longer is made anew.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);

/// What ended a wait.
#[derive(Debug)]
pub enum Sign {
    /// A queue has changed since it was found empty.
    Changed,
    /// Redis gave a message by itself, having been asked to then.
    Message(Delivery, Instant),
    /// Nothing came, and Redis waits no more: the queues are to be looked at.
    Nothing,
}

impl Consumer {
    /// Has Redis been told to wait for a message? Then it may give one at any time.
    pub fn is_waiting(&self) -> bool {
        self.blocking.as_ref().is_some_and(|blocking| blocking.list().is_some())
    }

    /// Of which queue it waits for one.
    pub fn waits_for(&self) -> Option<&str> {
        self.blocking.as_ref().and_then(Blocking::queue)
    }

    /// Tells Redis to wait for a message of the list that the last one came from, once these queues were found empty. The worker
    /// must have said a moment ago that it lives. False: they have changed meanwhile.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn begin_waiting(&mut self, queues: &[String]) -> Result<bool, RedisError> {
        if self.is_waiting() {
            return Ok(true);
        }
        let source = self.source(queues);
        let is_ready =
            source.as_ref().zip(self.blocking.as_ref()).is_some_and(|(source, blocking)| blocking.is_ready_for(source));
        // What came into that list meanwhile Redis gives at once.
        if self.signs_but(source.as_ref().filter(|_| is_ready).map(|source| source.list.as_str()))? {
            return Ok(false);
        }
        let (Some(source), Some(blocking)) = (source, &mut self.blocking) else { return Ok(true) };
        if let Some(prepare) = blocking.prepare(self.broker.keys(), &self.owner, &source) {
            let answer = self.send(redis::pipe().add_command(prepare)).await?;
            self.prepared(answer.into_iter().next()).await?;
        }
        if let Some(blocking) = self.blocking.as_mut().filter(|blocking| blocking.is_ready()) {
            blocking.wait(self.broker.keys(), source);
        }
        Ok(true)
    }

    /// The worker's claim had lapsed: what it prepared for messages may be struck off.
    pub fn lapsed(&mut self) {
        self.blocking.iter_mut().for_each(Blocking::forget);
    }

    /// Is it to be looked whether there is more than what Redis gave by itself? The next exchange does, also when it is to fetch
    /// nothing.
    pub fn is_unsure(&self) -> bool {
        self.looks
    }

    /// What is to be done before all else about messages that Redis gives by itself.
    pub(crate) fn first(&mut self, settlements: &[Settlement]) -> Vec<(Cmd, &'static Script)> {
        let (keys, mut first) = (self.broker.keys(), vec![]);
        if std::mem::take(&mut self.emptied)
            && let Some(blocking) = &self.blocking
        {
            first.extend(blocking.renew(keys, &self.owner, &self.given).map(|renew| (renew, &*scripts::PREPARE)));
        }
        self.given.retain(|tag| !settlements.iter().any(|settlement| settlement.tag.as_ref() == Some(tag)));
        if !self.given.is_empty() {
            let mut call = cmd("EVALSHA");
            call.arg(scripts::RECORD.get_hash()).arg(2).arg(keys.unacked()).arg(keys.unacked_index());
            call.arg(std::mem::take(&mut self.given));
            first.push((call, &*scripts::RECORD));
        }
        first
    }

    /// The list for which Redis is to wait.
    fn source(&self, queues: &[String]) -> Option<Source> {
        match &self.last {
            Some(source) if queues.contains(&source.queue) => Some(source.clone()),
            _ => queues.first().map(|queue| Source { queue: queue.clone(), list: self.broker.keys().list(queue, 0) }),
        }
    }

    async fn prepared(&mut self, answer: Option<Value>) -> Result<(), RedisError> {
        match answer.unwrap_or(Value::Nil).extract_error() {
            // Prepared with the next round trip.
            Err(error) if scripts::is_unknown(&error) => self.load(&error, &scripts::PREPARE).await,
            answer => {
                self.blocking.iter_mut().for_each(|blocking| blocking.prepared(&answer));
                Ok(())
            }
        }
    }

    /// What Redis has given by itself already.
    ///
    /// # Errors
    /// As [`Self::wait`].
    pub fn given(&mut self) -> Result<Option<Sign>, RedisError> {
        let came = self.blocking.as_mut().map(Blocking::ask).transpose()?.flatten();
        Ok(came.map(|came| self.sign(came)))
    }

    /// Ends the waiting for a message.
    ///
    /// # Errors
    /// As [`Self::wait`].
    pub async fn end_waiting(&mut self) -> Result<Option<Sign>, RedisError> {
        let Some(blocking) = &mut self.blocking else { return Ok(None) };
        let Some(unblock) = blocking.unblock() else { return Ok(None) };
        if let Some(came) = blocking.ask()? {
            return Ok(Some(self.sign(came)));
        }
        // Where it is forbidden, the waiting ends by itself.
        let answer: Result<Value, _> = unblock.query_async(&mut self.connection).await;
        if let Err(error) = answer
            && error.is_io_error()
        {
            return Err(error.into());
        }
        let came = blocking.came().await?;
        Ok(Some(self.sign(came)))
    }

    /// Waits for no message by itself any more, and takes what was prepared for one away. Gives what came before that.
    ///
    /// # Errors
    /// As [`Self::wait`].
    pub async fn leave(&mut self) -> Result<Vec<Delivery>, RedisError> {
        let sign = self.end_waiting().await?;
        let again = std::mem::take(&mut self.again);
        let mut deliveries = self.move_on(&again).await?;
        if let Some(Sign::Message(delivery, _)) = sign {
            deliveries.push(delivery);
        }
        if let Some(mut blocking) = self.blocking.take() {
            blocking.leave(&self.broker, &self.owner).await?;
        }
        Ok(deliveries)
    }

    fn sign(&mut self, came: Came) -> Sign {
        let Came::Message(delivery, since) = came else { return Sign::Nothing };
        if long::came_before(&delivery.text) {
            self.again.push((delivery.tag, delivery.queue));
            return Sign::Changed;
        }
        self.looks = true;
        self.long.came(std::slice::from_ref(&delivery));
        if !self.long.is_on() {
            self.given.push(delivery.tag.clone());
        }
        Sign::Message(delivery, since)
    }

    /// Waits until one of the queues has changed since it was found empty, or Redis gives a message by itself. May be dropped and
    /// called again.
    ///
    /// # Errors
    /// The connection has gone.
    pub async fn wait(&mut self) -> Result<Sign, RedisError> {
        loop {
            let push = tokio::select! {
                biased;
                came = came(&mut self.blocking) => return came.map(|came| self.sign(came)),
                push = self.pushes.recv() => push.ok_or_else(gone)?,
            };
            // One sign is as good as many.
            if self.heed(&push, None)? | self.signs()? {
                return Ok(Sign::Changed);
            }
        }
    }

    /// Heeds all signs that have come. True: something has changed.
    pub(crate) fn signs(&mut self) -> Result<bool, RedisError> {
        self.signs_but(None)
    }

    /// The same, but for those of a list for which Redis is about to wait.
    fn signs_but(&mut self, list: Option<&str>) -> Result<bool, RedisError> {
        let mut changed = false;
        while let Ok(push) = self.pushes.try_recv() {
            changed |= self.heed(&push, list)?;
        }
        Ok(changed)
    }

    fn heed(&mut self, push: &PushInfo, list: Option<&str>) -> Result<bool, RedisError> {
        match push.kind {
            PushKind::Disconnection => Err(gone()),
            PushKind::Invalidate => Ok(self.concerns(push, list)),
            _ => Ok(false),
        }
    }

    /// Is it more than that something came into the list for which Redis waits itself, or is about to?
    fn concerns(&mut self, push: &PushInfo, list: Option<&str>) -> bool {
        let Some(Value::Array(keys)) = push.data.first() else {
            self.emptied = true;
            return true;
        };
        let Some(list) = list.or_else(|| self.blocking.as_ref().and_then(Blocking::list)) else { return true };
        !keys.iter().all(|key| matches!(key, Value::BulkString(key) if key == list.as_bytes()))
    }

    /// Is there something in one of the queues? Also a sign that the connection works. Without Redis waiting for a message,
    /// [`Self::wait`] tells from now on when there is.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn look(&mut self, queues: &[String]) -> Result<bool, RedisError> {
        let mut look = redis::pipe();
        if !self.blocking.as_ref().is_some_and(Blocking::is_ready) {
            look.add_command(caching()).ignore();
        }
        look.add_command(self.exist(queues));
        match tokio::time::timeout(LOOK_TIMEOUT, look.query_async::<(u64,)>(&mut self.connection)).await {
            Ok(found) => Ok(found?.0 > 0),
            Err(_) => Err(RedisError::Unavailable(format!("no answer within {LOOK_TIMEOUT:?}"))),
        }
    }
}

async fn came(blocking: &mut Option<Blocking>) -> Result<Came, RedisError> {
    match blocking {
        Some(blocking) => blocking.came().await,
        None => std::future::pending().await,
    }
}

fn gone() -> RedisError {
    RedisError::Unavailable("the connection has gone".into())
}
