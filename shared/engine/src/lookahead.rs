//! Fetching beyond the prefetch count while all tasks are [quick](crate::pace): what is at hand then runs within a
//! millisecond, so that nobody waits for it, and Redis fetches the next messages meanwhile.
//!
//! When a task turns out not to end at once, what is held beyond the prefetch count goes back, unread and unmarked, to the
//! head of its queue.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use petiole_redis::RedisError;
use petiole_redis::consumer::Delivery;

use crate::heartbeat::CLAIM;
use crate::pace::{TURN, Turn};
use crate::strategy::receive;
use crate::worker::Worker;

/// What was fetched longer ago may have been taken by others, who took this worker for dead.
const STALE: Duration = CLAIM.checked_div(2).expect("2 is not 0");

/// Deliveries that have not been read, and how many of them there may be.
pub(crate) struct Lookahead {
    /// As far as is known there is no more in the queues.
    pub(crate) drained: bool,
    unread: VecDeque<Delivery>,
    /// How many are fetched at once. 0: no more than the prefetch count allows.
    size: usize,
    /// More were asked for than the prefetch count allows.
    beyond: bool,
    /// When this worker was last seen to go on.
    alive: Instant,
    /// The largest size.
    most: usize,
}

impl Lookahead {
    /// Nothing at hand.
    pub(crate) fn new(worker: &Worker) -> Self {
        // A prefetch of one message a slot is a wish to hold no other.
        let most = if worker.config.multiplier() == 1 { 0 } else { worker.config.lookahead };
        Self { drained: false, unread: VecDeque::new(), size: 0, beyond: false, alive: Instant::now(), most }
    }

    /// Is everything read?
    pub(crate) fn is_empty(&self) -> bool {
        self.unread.is_empty()
    }

    /// Are messages to be fetched while others run?
    pub(crate) fn is_on(&self) -> bool {
        self.size > 0
    }

    /// How many messages to fetch, where the prefetch count leaves this room and `coming` were asked for already.
    pub(crate) fn room(&mut self, room: usize, coming: usize) -> usize {
        let at_hand = self.unread.len() + coming;
        let fetched = to_fetch(room, self.size, at_hand);
        self.beyond |= at_hand + fetched > room;
        fetched
    }

    /// Deliveries have come, that were asked for then.
    ///
    /// # Errors
    /// The worker, or Redis, stood still for so long that they may be another's.
    pub(crate) fn put(&mut self, deliveries: Vec<Delivery>, asked: Instant) -> Result<(), RedisError> {
        if self.unread.is_empty() {
            self.alive = asked;
        }
        self.unread.extend(deliveries);
        self.go_on()
    }

    fn go_on(&mut self) -> Result<(), RedisError> {
        if !self.unread.is_empty() && self.alive.elapsed() > STALE {
            return Err(RedisError::Unavailable("what was fetched is too old to be this worker's for sure".into()));
        }
        self.alive = Instant::now();
        Ok(())
    }

    /// Receives what is at hand, for one [turn](Turn) when it is ahead.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub(crate) fn receive(&mut self, worker: &Arc<Worker>) -> Result<(), RedisError> {
        self.go_on()?;
        if self.unread.is_empty() {
            return Ok(());
        }
        // What is received is not this thread's but for the moment in which it ends: what it spawns or waits for goes on elsewhere.
        let _elsewhere = worker.runtime.enter();
        let (turn, before) = (Turn::begin(), self.unread.len());
        let mut ended = true;
        while self.size == 0 || !turn.is_over() {
            if self.size == 0 && self.beyond && worker.qos.room(0) == 0 {
                break;
            }
            let Some(delivery) = self.unread.pop_front() else { break };
            worker.qos.hold();
            ended &= receive(worker, delivery, Some(&turn));
            if !ended {
                self.size = 0;
            }
        }
        if ended {
            let ran = before - self.unread.len();
            self.size = next(before, ran, turn.took(), !self.drained, self.size).min(self.most);
        }
        Ok(())
    }

    /// What is held beyond the prefetch count, to be given back.
    pub(crate) fn surplus(&mut self) -> Vec<Delivery> {
        self.beyond = false;
        self.unread.drain(..).collect()
    }
}

/// How many messages to fetch beside those unread: a turn's worth for while these run, and no less than the room allows.
fn to_fetch(room: usize, size: usize, unread: usize) -> usize {
    room.max(2 * size).saturating_sub(unread).min(room.max(size))
}

/// How many to fetch ahead when `ran` of `given` messages ended at once.
fn next(given: usize, ran: usize, took: Duration, more: bool, size: usize) -> usize {
    if ran < given {
        // As many as a turn is enough for; when none were fetched ahead, the prefetch count was in the way.
        return if size == 0 { 0 } else { ran.max(1) };
    }
    if more && ran >= size && took < TURN / 2 { 2 * ran } else { size }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_is_fetched_ahead_as_long_as_it_runs_in_half_a_turn() {
        let (quick, long) = (TURN / 10, TURN * 9 / 10);
        assert_eq!(next(8, 8, quick, true, 0), 16);
        assert_eq!(next(16, 16, long, true, 16), 16);
        // The queue has run dry, or less came than was asked for.
        assert_eq!(next(8, 8, quick, false, 0), 0);
        assert_eq!(next(3, 3, quick, true, 16), 16);
        // The turn was over before all had run.
        assert_eq!((next(16, 5, long, true, 16), next(16, 0, long, true, 16)), (5, 1));
        // The prefetch count did not allow for all.
        assert_eq!(next(16, 5, quick, true, 0), 0);
    }

    #[test]
    fn after_a_turn_that_was_held_up_the_size_grows_again() {
        let prefetch = 8;
        for held_up in 1..=4 {
            let mut size = next(16, held_up, TURN, true, 16);
            assert_eq!(size, held_up);
            for _ in 0..5 {
                let came = to_fetch(prefetch, size, 0);
                size = next(came, came, TURN / 10, true, size);
            }
            assert!(size > 2 * prefetch, "{held_up}: {size}");
        }
    }

    #[test]
    fn what_is_unread_counts() {
        // By the prefetch count alone.
        assert_eq!((to_fetch(8, 0, 0), to_fetch(8, 0, 3), to_fetch(0, 0, 0)), (8, 5, 0));
        // One turn's worth runs, one comes.
        assert_eq!((to_fetch(0, 16, 0), to_fetch(0, 16, 16), to_fetch(0, 16, 24), to_fetch(0, 16, 40)), (16, 16, 8, 0));
        // A large prefetch count is still a bound.
        assert_eq!((to_fetch(400, 16, 0), to_fetch(400, 16, 300), to_fetch(400, 16, 400)), (400, 100, 0));
    }
}
