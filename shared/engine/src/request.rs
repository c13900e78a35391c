//! One delivery, from received to settled (celery.worker.request).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use chrono::{DateTime, Utc};
use petiole_protocol::time_zone::Zone;
use petiole_protocol::{TaskMessage, time};
use petiole_redis::consumer::Delivery;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::state::{Locked, lock};
use crate::task::Task;

/// A task message at hand.
pub(crate) struct Request {
    /// The message.
    pub(crate) message: TaskMessage,
    /// How it came.
    pub(crate) delivery: Delivery,
    /// The task it calls.
    pub(crate) task: Arc<dyn Task>,
    /// Earliest start.
    pub(crate) eta: Option<DateTime<Utc>>,
    /// No start after this.
    pub(crate) expires: Option<DateTime<Utc>>,
    /// Acknowledge after the run.
    pub(crate) acks_late: bool,
    /// The order of arrival.
    pub(crate) sequence: u64,
    phase: Locked<Phase>,
    settlement: AtomicU8,
    /// Ends the run from outside.
    pub(crate) cancel: CancellationToken,
    cause: Locked<Option<Cancel>>,
    /// This run is counted as one of a message that came again.
    redelivery: AtomicBool,
}

const OPEN: u8 = 0;
const SETTLING: u8 = 1;
const SETTLED: u8 = 2;

/// Where a request stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Phase {
    /// Waits for its eta.
    Scheduled,
    /// Waits for a free slot.
    Reserved,
    /// Runs since (seconds since the epoch).
    Active(f64),
    /// Has run, or will not.
    Ended,
}

/// Why a run was ended from outside.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cancel {
    /// `revoke` with `terminate`, and the signal as the caller named it.
    Terminated(Value),
    /// The worker shuts down and does not wait.
    Shutdown,
    /// Another worker has the message.
    Lost,
}

impl Request {
    /// A request for a task. The message's times must have been read already.
    pub(crate) fn new(
        message: TaskMessage,
        delivery: Delivery,
        task: Arc<dyn Task>,
        times: Times,
        acks_late: bool,
        sequence: u64,
    ) -> Self {
        Self {
            message,
            delivery,
            task,
            eta: times.0,
            expires: times.1,
            acks_late,
            sequence,
            phase: Locked::new(Phase::Reserved),
            settlement: AtomicU8::new(OPEN),
            cancel: CancellationToken::new(),
            cause: Locked::new(None),
            redelivery: AtomicBool::new(false),
        }
    }

    /// A call within this process, without a delivery: an errback.
    pub(crate) fn in_process(message: TaskMessage, task: Arc<dyn Task>) -> Self {
        let request = Self::new(message, Delivery::default(), task, (None, None), false, 0);
        request.settled();
        request
    }

    /// The task's id.
    pub(crate) fn id(&self) -> &str {
        &self.message.id
    }

    pub(crate) fn phase(&self) -> Phase {
        *lock(&self.phase)
    }

    pub(crate) fn enter(&self, phase: Phase) {
        *lock(&self.phase) = phase;
    }

    /// Starts the run, unless the message was taken away before. From here on it cannot be withdrawn.
    pub(crate) fn begin(&self, since: f64) -> bool {
        let mut phase = lock(&self.phase);
        if self.is_settled() {
            return false;
        }
        *phase = Phase::Active(since);
        true
    }

    /// Takes the message away before it runs. True for the one who is to give it back; false when it runs or ran.
    pub(crate) fn withdraw(&self) -> bool {
        let phase = lock(&self.phase);
        !matches!(*phase, Phase::Active(_) | Phase::Ended) && self.settle()
    }

    /// True for the one who is to settle it; false when somebody does or did.
    pub(crate) fn settle(&self) -> bool {
        self.settlement.compare_exchange(OPEN, SETTLING, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Redis knows that it is settled.
    pub(crate) fn settled(&self) {
        self.settlement.store(SETTLED, Ordering::SeqCst);
    }

    /// Was it settled, or is it being?
    pub(crate) fn is_settled(&self) -> bool {
        self.settlement.load(Ordering::SeqCst) != OPEN
    }

    /// Is it this worker's by Redis' books?
    pub(crate) fn is_held(&self) -> bool {
        self.settlement.load(Ordering::SeqCst) != SETTLED
    }

    /// Redis counts this run: the count is to be taken back when the run ends.
    pub(crate) fn count_as_redelivered(&self) {
        self.redelivery.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_counted_as_redelivered(&self) -> bool {
        self.redelivery.load(Ordering::Relaxed)
    }

    /// Ends the run from outside; the first cause counts.
    pub(crate) fn cancel(&self, cause: Cancel) {
        lock(&self.cause).get_or_insert(cause);
        self.cancel.cancel();
    }

    pub(crate) fn cancel_cause(&self) -> Option<Cancel> {
        lock(&self.cause).clone()
    }

    /// Too late to start?
    pub(crate) fn is_expired(&self, now: DateTime<Utc>) -> bool {
        self.expires.is_some_and(|expires| now >= expires)
    }

    /// What `inspect active` and its kin tell (celery.worker.request: Request.info). `safe`: arguments as text.
    pub(crate) fn info(&self, node: &str, safe: bool) -> Value {
        let message = &self.message;
        let started = match self.phase() {
            Phase::Active(since) => Some(since),
            _ => None,
        };
        let (args, kwargs) = if safe {
            (message.args_text().into(), message.kwargs_text().into())
        } else {
            (Value::Array(message.args.clone()), Value::Object(message.kwargs.clone()))
        };
        let mut info = json!({
            "id": message.id,
            "name": message.shown_name(),
            "args": null,
            "kwargs": null,
            "type": message.task,
            "hostname": node,
            "time_start": started,
            "acknowledged": self.is_settled(),
            "delivery_info": {
                "exchange": message.properties.exchange,
                "routing_key": self.routing_key(),
                "priority": message.properties.priority,
                "redelivered": message.redelivered,
            },
            "worker_pid": started.map(|_| std::process::id()),
        });
        (info["args"], info["kwargs"]) = (args, kwargs);
        info
    }

    /// The routing key of the delivery; the queue, when the message does not tell.
    pub(crate) fn routing_key(&self) -> &str {
        match self.message.properties.routing_key.as_str() {
            "" => &self.delivery.queue,
            key => key,
        }
    }
}

/// Earliest start, and no start after.
pub(crate) type Times = (Option<DateTime<Utc>>, Option<DateTime<Utc>>);

/// Reads eta and expires of a message; without an offset they are of the application's time zone.
///
/// # Errors
/// The name and the text of the one that is no time.
pub(crate) fn times(message: &TaskMessage, zone: &Zone) -> Result<Times, String> {
    let read = |name: &str, text: &Option<String>| match text {
        None => Ok(None),
        Some(text) => match time::parse_in(text, zone) {
            Some(time) => Ok(Some(time)),
            None => Err(format!("{name} {text:?} is no ISO 8601 time")),
        },
    };
    Ok((read("eta", &message.eta)?, read("expires", &message.expires)?))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::builtins::Unregistered;

    /// The request with this number in the order of arrival; all have one delivery tag.
    pub(crate) fn arrived(sequence: u64) -> Request {
        let delivery = Delivery { tag: "t".into(), queue: "q".into(), ..Delivery::default() };
        let message = TaskMessage::new("a", "1", vec![], petiole_protocol::Map::new());
        Request::new(message, delivery, Arc::new(Unregistered("a".into())), (None, None), true, sequence)
    }

    fn request() -> Request {
        arrived(0)
    }

    #[test]
    fn what_was_withdrawn_does_not_begin() {
        let request = request();
        assert!(request.withdraw() && !request.withdraw());
        assert!(!request.begin(1.0));
        assert_eq!(request.phase(), Phase::Reserved);
    }

    #[test]
    fn what_has_begun_is_not_withdrawn() {
        let request = request();
        assert!(request.begin(1.0));
        assert!(!request.withdraw() && !request.is_settled());
        assert!(request.settle() && request.is_held());
        request.settled();
        assert!(!request.is_held());
    }
}
