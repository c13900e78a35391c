//! Long messages are fetched without a script: Lua hashes every byte of each text that enters it, which takes Redis longer than
//! all else that is to be done with a long message.
//!
//! `LMOVE` puts each into a key of its own, `petiole:fetched:<token>:<number>:<queue>`, in one transaction with the worker's claim on
//! it; `fetched:<token>:<number>:<queue>` is its delivery tag. A message that is acknowledged goes from there; one that is still there after some seconds is recorded in `unacked` (`record.lua`), where a
//! Python worker would find it, and so is one that is given back.

use std::time::{Duration, Instant};

use redis::{Cmd, Pipeline, Value};

use crate::consumer::Delivery;
use crate::error::RedisError;
use crate::keys::Keys;

/// From this mean length on, in bytes, messages are fetched without the script.
const LONG: usize = crate::ahead::LONG;
/// How many bytes are fetched at a time, as far as their lengths can be foreseen: enough that a round trip is little beside them,
/// and what processors keep at hand. With four million a task cost both sides twice as much.
const AT_ONCE: usize = 512 << 10;
/// For so long the lists are taken to be as they were seen.
const MOMENT: Duration = Duration::from_millis(50);
/// Where an envelope tells that it was delivered before: near its end.
const END: usize = 1024;

/// How messages are fetched, by the length of those that came last.
#[derive(Debug)]
pub(crate) struct Long {
    token: String,
    fetched: u64,
    /// Of the messages that came last, in bytes.
    mean: usize,
    /// Queue, list and length of the lists, in the order of service, as they were last seen.
    seen: Vec<(String, String, u64)>,
    /// When they were seen.
    at: Instant,
    /// The list of each message that was asked for and did not come yet.
    coming: Vec<String>,
}

/// A message that is to be fetched.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Wanted {
    tag: String,
    queue: String,
    list: String,
}

/// What became of messages that were to be fetched.
#[derive(Debug, Default)]
pub(crate) struct Fetched {
    /// Those that came.
    pub(crate) deliveries: Vec<Delivery>,
    /// Queue and list of the last one.
    pub(crate) last: Option<(String, String)>,
    /// Those that were delivered before: they are to be moved on. Tag and queue of each.
    pub(crate) again: Vec<(String, String)>,
    /// Tags of which nothing came: others were faster.
    pub(crate) void: Vec<String>,
}

/// Is it the tag of a message that was fetched without the script, and may not be in `unacked` yet?
pub(crate) fn is_tag(tag: &str) -> bool {
    tag.starts_with("fetched:")
}

/// The tag of a message of this queue.
pub(crate) fn tag(token: &str, number: u64, queue: &str) -> String {
    format!("fetched:{token}:{number}:{queue}")
}

/// Was the transaction refused because Redis is full? Then none of it was done.
pub(crate) fn is_full(error: &redis::RedisError) -> bool {
    matches!(error.code(), Some("OOM" | "EXECABORT"))
}

impl Keys {
    /// Where a message is that was fetched without the script. Petiole's own.
    pub(crate) fn fetched(&self, tag: &str) -> String {
        format!("{}petiole:{tag}", self.prefix)
    }
}

impl Long {
    pub(crate) fn new() -> Self {
        let token = uuid::Uuid::new_v4().simple().to_string();
        Self { token, fetched: 0, mean: 0, seen: vec![], at: Instant::now(), coming: vec![] }
    }

    /// Were the last ones long?
    pub(crate) fn is_on(&self) -> bool {
        self.mean >= LONG
    }

    /// These came, or nothing did.
    pub(crate) fn came(&mut self, deliveries: &[Delivery]) {
        let bytes: usize = deliveries.iter().map(|delivery| delivery.text.len()).sum();
        self.mean = bytes.checked_div(deliveries.len()).unwrap_or(0);
    }

    /// Redis has answered to these.
    pub(crate) fn answered(&mut self, wanted: &[Wanted]) {
        for wanted in wanted {
            if let Some(place) = self.coming.iter().position(|list| *list == wanted.list) {
                self.coming.swap_remove(place);
            }
        }
    }

    /// The lists were so long when it did.
    pub(crate) fn saw(&mut self, lists: impl Iterator<Item = ((String, String), u64)>) {
        let left = |list: &str, length: u64| {
            length.saturating_sub(self.coming.iter().filter(|coming| *coming == list).count() as u64)
        };
        let seen = lists.map(|((queue, list), length)| {
            let left = left(&list, length);
            (queue, list, left)
        });
        self.seen = seen.collect();
        self.at = Instant::now();
    }

    /// What is to be fetched for these queues: at most `room`, and no more than was seen there and not fetched since. Nothing, too,
    /// when that was not a moment ago: what is more urgent may have come since.
    pub(crate) fn wanted(&mut self, queues: &[String], room: usize) -> Vec<Wanted> {
        let room = room.min((AT_ONCE / self.mean.max(1)).max(1));
        let (mut wanted, is_old) = (vec![], self.at.elapsed() >= MOMENT);
        for (queue, list, length) in &mut self.seen {
            while !is_old && *length > 0 && wanted.len() < room && queues.contains(queue) {
                *length -= 1;
                self.fetched += 1;
                self.coming.push(list.clone());
                let tag = tag(&self.token, self.fetched, queue);
                wanted.push(Wanted { tag, queue: queue.clone(), list: list.clone() });
            }
        }
        wanted
    }

    /// Is something known to be there that was not fetched?
    pub(crate) fn knows_more(&self) -> bool {
        self.at.elapsed() < MOMENT && self.seen.iter().any(|(_, _, length)| *length > 0)
    }
}

/// Adds what moves messages out of their lists. The answer to the last command is that of [`read`].
pub(crate) fn add(pipe: &mut Pipeline, keys: &Keys, owner: &str, wanted: &[Wanted]) {
    if wanted.is_empty() {
        return;
    }
    let tags: Vec<&str> = wanted.iter().map(|wanted| wanted.tag.as_str()).collect();
    pipe.cmd("MULTI");
    pipe.cmd("ZADD").arg(keys.owners()).arg("NX").arg(0).arg(owner);
    pipe.sadd(keys.held(owner), tags);
    for wanted in wanted {
        pipe.cmd("LMOVE").arg(&wanted.list).arg(keys.fetched(&wanted.tag)).arg("RIGHT").arg("LEFT");
    }
    pipe.cmd("EXEC");
}

/// Was this message delivered before? Then it is to be moved on (`move_on.lua`): it is counted by a tag of its own.
pub(crate) fn came_before(message: &str) -> bool {
    let end = message.floor_char_boundary(message.len().saturating_sub(END));
    message[end..].contains("redelivered")
}

/// A text that Redis gave. What is not UTF-8 is no message: it is kept as far as it can be shown.
pub(crate) fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// Reads what was moved.
///
/// # Errors
/// Redis answers something else.
pub(crate) fn read(wanted: Vec<Wanted>, answer: Value) -> Result<Fetched, RedisError> {
    let Value::Array(answers) = answer else {
        return Err(RedisError::Data(format!("EXEC was answered by {answer:?}")));
    };
    let mut fetched = Fetched::default();
    // Behind the claim.
    for (Wanted { tag, queue, list }, answer) in wanted.into_iter().zip(answers.into_iter().skip(2)) {
        let message = match answer {
            Value::BulkString(bytes) => text(bytes),
            Value::Nil => {
                fetched.void.push(tag);
                continue;
            }
            other => return Err(RedisError::Data(format!("LMOVE was answered by {other:?}"))),
        };
        if came_before(&message) {
            fetched.again.push((tag, queue));
        } else {
            fetched.last = Some((queue.clone(), list));
            fetched.deliveries.push(Delivery { tag, queue, text: message, message: None });
        }
    }
    Ok(fetched)
}

/// Strikes tags of which nothing came.
pub(crate) fn strike(keys: &Keys, owner: &str, void: &[String]) -> Cmd {
    Cmd::srem(keys.held(owner), void)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn delivery(length: usize) -> Delivery {
        Delivery { text: "x".repeat(length), ..Delivery::default() }
    }

    #[test]
    fn the_last_ones_say_how_the_next_are_fetched_and_how_many() {
        let mut long = Long::new();
        assert!(!long.is_on());
        long.came(&[delivery(10), delivery(3 * LONG)]);
        assert!(long.is_on());
        let queues = ["a".to_owned(), "b".to_owned()];
        let lists = || [(("a".into(), "a".into()), 2), (("b".into(), "b9".into()), 5)].into_iter();
        assert_eq!(long.wanted(&queues, 4), []);
        long.saw(lists());
        let wanted = long.wanted(&queues, 4);
        let places: Vec<&str> = wanted.iter().map(|wanted| wanted.list.as_str()).collect();
        assert_eq!(places, ["a", "a", "b9", "b9"]);
        // They come while the next ones are asked for.
        assert!(long.knows_more());
        assert_eq!(long.wanted(&queues, 4).len(), 3);
        assert!(!long.knows_more() && long.wanted(&queues, 4).is_empty());
        long.answered(&wanted);
        long.saw(lists());
        let places: Vec<String> = long.wanted(&queues, 9).into_iter().map(|wanted| wanted.list).collect();
        assert_eq!(places, ["a", "a", "b9", "b9"], "three of b9 are on their way");
        long.coming.clear();
        long.came(&[delivery(AT_ONCE)]);
        long.saw(lists());
        assert_eq!(long.wanted(&queues, 4).len(), 1);
        long.saw(lists());
        let places = long.wanted(&queues[1..], 1);
        assert_eq!(places[0].list, "b9", "the other queue is consumed no more");
        long.saw(lists());
        long.at -= MOMENT;
        assert_eq!(long.wanted(&queues, 4), [], "something more urgent may have come");
        long.came(&[]);
        assert!(!long.is_on());
    }

    #[test]
    fn what_came_before_and_what_did_not_come_is_told_apart() {
        let mut long = Long::new();
        long.saw([(("q".into(), "q".into()), 4)].into_iter());
        let wanted = long.wanted(&["q".into()], 4);
        let tags: Vec<String> = wanted.iter().map(|wanted| wanted.tag.clone()).collect();
        let text = |text: &str| Value::BulkString(text.into());
        let again = [r#"{"redelivered": 1}"#, r#"{"redelivered": 2}"#];
        let moved = [text(again[0]), text("{}"), text(again[1]), Value::Nil];
        let mut answers = vec![Value::Int(1), Value::Int(4)];
        answers.extend(moved);
        let fetched = read(wanted, Value::Array(answers)).unwrap();
        assert_eq!(fetched.deliveries[0].tag, tags[1]);
        assert_eq!(fetched.again.iter().map(|(tag, _)| tag).collect::<Vec<_>>(), [&tags[0], &tags[2]]);
        assert_eq!(fetched.void, tags[3..]);
    }
}
