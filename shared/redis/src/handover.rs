//! Messages that a worker sends and takes on itself: the next step of a chain whose queue the worker consumes and which has
//! nothing waiting. Settling puts such a message into `unacked` instead of its list, as if it had been pushed and fetched in
//! one moment; it comes back as a [`Delivery`] that is read already.

use petiole_protocol::TaskMessage;
use redis::{Pipeline, Value};

use crate::consumer::Delivery;
use crate::keys::Keys;
use crate::settle::{Settlement, Write};

/// From this length on, in bytes, a message does not pass through the script: Lua copies and hashes every byte of it.
const LONG: usize = 8 * 1024;

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
    fn goes_ahead(&self) -> bool {
        self.take && self.text.len() >= LONG
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

/// The pushes of settlements that are to be taken, in order.
fn takes(settlements: &mut [Settlement]) -> impl Iterator<Item = &mut Push> {
    settlements.iter_mut().flat_map(|settlement| &mut settlement.writes).filter_map(|write| match write {
        Write::Push(push) if push.take => Some(&mut **push),
        _ => None,
    })
}

/// Puts long messages into `unacked`, where the script finds them. Gives whether there were any: the script then has to
/// follow in the same transaction.
pub(crate) fn go_ahead(keys: &Keys, settlements: &[Settlement], pipe: &mut Pipeline) -> bool {
    let mut any = false;
    for write in settlements.iter().flat_map(|settlement| &settlement.writes) {
        let Write::Push(push) = write else { continue };
        if push.goes_ahead() {
            if !any {
                pipe.cmd("MULTI");
            }
            any = true;
            pipe.cmd("HSET").arg(keys.unacked()).arg(&push.tag).arg(format!("[{}{}", push.text, push.tail()));
        }
    }
    any
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
