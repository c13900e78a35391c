//! Long messages are fetched without a script: Lua hashes every byte of each text that enters it, which takes Redis longer than
//! all else that is to be done with a long message.
//!
//! `LMOVE` puts each into a key of its own, `petiole:fetched:<token>:<number>`, in one transaction with the worker's claim on it;
//! `fetched:<token>:<number>` is its delivery tag. The key holds the message, and the queue that it came from. A message that is
//! acknowledged goes from there; one that is still there after some seconds is recorded in `unacked` (`record.lua`), where a
//! Python worker would find it, and so is one that is given back.

use redis::{Pipeline, Value};

use crate::broker::GiveBack;
use crate::consumer::Delivery;
use crate::error::RedisError;
use crate::keys::Keys;

/// From this mean length on, in bytes, messages are fetched without the script.
const LONG: usize = crate::ahead::LONG;
/// How many bytes are fetched at a time, as far as their lengths can be foreseen.
const AT_ONCE: usize = 4 << 20;
/// Where an envelope tells that it was delivered before: near its end.
const END: usize = 1024;

/// How messages are fetched, by the length of those that came last.
#[derive(Debug)]
pub(crate) struct Long {
    token: String,
    fetched: u64,
    /// Of the messages that came last, in bytes.
    mean: usize,
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
    /// Those that were delivered before, the next to be served last. Their own tags are counted by: the script fetches them.
    pub(crate) again: Vec<GiveBack>,
    /// Tags of which nothing came: others were faster.
    pub(crate) void: Vec<String>,
}

/// Is it the tag of a long message, which may not be in `unacked` yet?
pub(crate) fn is_tag(tag: &str) -> bool {
    tag.starts_with("fetched:")
}

/// Was the transaction refused because Redis is full? Then none of it was done.
pub(crate) fn is_full(error: &redis::RedisError) -> bool {
    matches!(error.code(), Some("OOM" | "EXECABORT"))
}

impl Keys {
    /// Where a long message is. Petiole's own.
    fn fetched(&self, tag: &str) -> String {
        format!("{}petiole:{tag}", self.prefix)
    }
}

impl Long {
    pub(crate) fn new() -> Self {
        Self { token: uuid::Uuid::new_v4().simple().to_string(), fetched: 0, mean: 0 }
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

    /// What is to be fetched of lists that are so long: at most `room`.
    pub(crate) fn wanted(&mut self, lists: impl Iterator<Item = (String, String, u64)>, room: usize) -> Vec<Wanted> {
        let room = room.min((AT_ONCE / self.mean.max(1)).max(1));
        let places = lists.flat_map(|(queue, list, length)| {
            std::iter::repeat_n((queue, list), usize::try_from(length).unwrap_or(usize::MAX))
        });
        let wanted = places.take(room).map(|(queue, list)| {
            self.fetched += 1;
            Wanted { tag: format!("fetched:{}:{}", self.token, self.fetched), queue, list }
        });
        wanted.collect()
    }
}

/// Moves messages out of their lists. The answers are those of [`read`].
pub(crate) fn fetch(keys: &Keys, owner: &str, wanted: &[Wanted]) -> Pipeline {
    let mut pipe = redis::pipe();
    pipe.atomic();
    let tags: Vec<&str> = wanted.iter().map(|wanted| wanted.tag.as_str()).collect();
    pipe.cmd("ZADD").arg(keys.owners()).arg("NX").arg(0).arg(owner).ignore();
    pipe.sadd(keys.held(owner), tags).ignore();
    for wanted in wanted {
        let key = keys.fetched(&wanted.tag);
        pipe.rpush(&key, &wanted.queue).ignore();
        pipe.cmd("LMOVE").arg(&wanted.list).arg(&key).arg("RIGHT").arg("LEFT");
    }
    pipe
}

/// Reads what was moved.
///
/// # Errors
/// Redis answers something else.
pub(crate) fn read(wanted: Vec<Wanted>, answers: Vec<Value>) -> Result<Fetched, RedisError> {
    let mut fetched = Fetched::default();
    for (Wanted { tag, queue, .. }, answer) in wanted.into_iter().zip(answers) {
        let text = match answer {
            Value::BulkString(text) => text,
            Value::Nil => {
                fetched.void.push(tag);
                continue;
            }
            other => return Err(RedisError::Data(format!("LMOVE was answered by {other:?}"))),
        };
        let text =
            String::from_utf8(text).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
        let end = text.floor_char_boundary(text.len().saturating_sub(END));
        if text[end..].contains("redelivered") {
            fetched.again.push(GiveBack { tag, queue, text });
        } else {
            fetched.deliveries.push(Delivery { tag, queue, text, message: None });
        }
    }
    fetched.again.reverse();
    Ok(fetched)
}

/// Strikes tags of which nothing came.
pub(crate) fn strike(keys: &Keys, owner: &str, void: &[String]) -> Pipeline {
    let mut pipe = redis::pipe();
    pipe.atomic().srem(keys.held(owner), void).ignore();
    pipe.del(void.iter().map(|tag| keys.fetched(tag)).collect::<Vec<_>>()).ignore();
    pipe
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
        let lists = || [("a".into(), "a".into(), 2), ("b".into(), "b9".into(), 5)].into_iter();
        let wanted = long.wanted(lists(), 4);
        let places: Vec<&str> = wanted.iter().map(|wanted| wanted.list.as_str()).collect();
        assert_eq!(places, ["a", "a", "b9", "b9"]);
        long.came(&[delivery(AT_ONCE)]);
        assert_eq!(long.wanted(lists(), 4).len(), 1);
        long.came(&[]);
        assert!(!long.is_on());
    }

    #[test]
    fn what_came_before_and_what_did_not_come_is_told_apart() {
        let wanted = Long::new().wanted([("q".into(), "q".into(), 4)].into_iter(), 4);
        let tags: Vec<String> = wanted.iter().map(|wanted| wanted.tag.clone()).collect();
        let text = |text: &str| Value::BulkString(text.into());
        let again = [r#"{"redelivered": 1}"#, r#"{"redelivered": 2}"#];
        let answers = vec![text(again[0]), text("{}"), text(again[1]), Value::Nil];
        let fetched = read(wanted, answers).unwrap();
        assert_eq!(fetched.deliveries[0].tag, tags[1]);
        assert_eq!(fetched.again.iter().map(|back| back.text.as_str()).collect::<Vec<_>>(), [again[1], again[0]]);
        assert_eq!(fetched.void, tags[3..]);
    }
}
