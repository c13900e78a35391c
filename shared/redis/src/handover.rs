//! Messages that a worker sends and takes on itself: the next step of a chain whose queue the worker consumes and which has
//! nothing waiting. Settling puts such a message into `unacked` instead of its list, as if it had been pushed and fetched in
//! one moment; it comes back as a [`Delivery`] that is read already.

use std::io::Write as _;

use petiole_protocol::TaskMessage;
use redis::{RedisWrite, ToRedisArgs, ToSingleRedisArg, Value};

use crate::ahead::LONG;
use crate::consumer::Delivery;
use crate::keys::Keys;
use crate::settle::{Settlement, Write};

/// A message to the end of its queue, or into the hands of the worker that sends it.
#[derive(Debug, Clone, Default)]
pub struct Push {
    /// The list's key.
    pub list: String,
    /// The queue.
    pub queue: String,
    /// The delivery tag in the envelope.
    pub tag: String,
    /// The envelope's JSON text.
    pub text: String,
    /// The message as its worker would read it. Without it, it cannot be taken.
    pub message: Option<Box<TaskMessage>>,
    /// The worker takes it on itself, if nothing waits in the list.
    pub take: bool,
}

impl Push {
    /// A message whose tag and reading do not matter: it goes to its list.
    pub fn text(keys: &Keys, queue: &str, priority: i64, text: impl Into<String>) -> Self {
        Self { list: keys.list(queue, priority), queue: queue.to_owned(), text: text.into(), ..Self::default() }
    }

    /// Does it go into `unacked` ahead of the script?
    pub(crate) fn goes_ahead(&self) -> bool {
        self.take && self.text.len() >= LONG
    }

    /// Its entry in `unacked`.
    pub(crate) fn entry(&self) -> Entry<'_> {
        Entry(self)
    }

    /// What its entry in `unacked` holds behind the message.
    fn tail(&self) -> String {
        format!(", \"\", {}]", serde_json::Value::from(self.queue.as_str()))
    }

    /// Its part of the script's arguments.
    pub(crate) fn encode(&self, call: &mut redis::Cmd) {
        if self.take {
            let text = if self.goes_ahead() { "" } else { &self.text };
            call.arg("T").arg(&self.list).arg(&self.tag).arg(self.tail()).arg(text);
        } else {
            call.arg("P").arg(&self.list).arg(&self.text);
        }
    }
}

/// An entry of `unacked`. The text, which may be long, is written where it is sent from.
pub(crate) struct Entry<'a>(&'a Push);

impl ToRedisArgs for Entry<'_> {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        let mut to = out.writer_for_next_arg();
        for part in ["[", &self.0.text, &self.0.tail()] {
            // It is written to memory.
            let _ = to.write_all(part.as_bytes());
        }
    }
}

impl ToSingleRedisArg for Entry<'_> {}

/// The pushes of settlements that are to be taken, in order.
fn takes(settlements: &mut [Settlement]) -> impl Iterator<Item = &mut Push> {
    settlements.iter_mut().flat_map(|settlement| &mut settlement.writes).filter_map(|write| match write {
        Write::Push(push) if push.take => Some(&mut **push),
        _ => None,
    })
}

/// What was taken, by the script's answer: for each push that was to be taken 1, or 0 where it went to its list or nowhere.
pub(crate) fn taken(settlements: &mut [Settlement], answer: &[Value]) -> (Vec<Delivery>, bool) {
    let (mut deliveries, mut all) = (Vec::new(), true);
    for (push, taken) in takes(settlements).zip(answer) {
        if *taken != Value::Int(1) {
            all = false;
            continue;
        }
        deliveries.push(Delivery {
            tag: push.tag.clone(),
            queue: push.queue.clone(),
            text: std::mem::take(&mut push.text),
            message: push.message.take(),
        });
    }
    (deliveries, all)
}
