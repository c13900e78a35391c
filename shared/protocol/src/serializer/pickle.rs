//! Pickles of plain data, protocols 0 to 5: None, booleans, numbers, text, bytes, lists, tuples, dicts and sets.
//!
//! A pickle is a program for a machine that builds objects, and Python's may call anything. This one calls nothing. It knows
//! a few names that stand for plain data (`set`, `bytes`, a signature, which is a dict) and refuses all others.

mod machine;

use serde_json::{Map, Value};

use super::{DecodeError, MAX_DEPTH, VALUE, copies_of, key, tagged};
use machine::{Machine, Node};

/// Reads a pickle.
pub(super) fn decode(bytes: &[u8]) -> Result<Value, DecodeError> {
    let (heap, root) = Machine::new(bytes).run()?;
    Writer { heap: &heap, budget: copies_of(bytes) }.value(root, 0)
}

fn bad(why: impl Into<String>) -> DecodeError {
    DecodeError::Body("a pickle", why.into())
}

/// Writes objects as values. One that holds itself has no end, and is found out by its depth; one that is held many times
/// is written many times, up to a limit.
struct Writer<'a> {
    heap: &'a [Node],
    budget: usize,
}

impl Writer<'_> {
    fn value(&mut self, at: usize, depth: usize) -> Result<Value, DecodeError> {
        if depth > MAX_DEPTH {
            return Err(bad(format!("it is nested deeper than {MAX_DEPTH}")));
        }
        let node = &self.heap[at];
        let text = match node {
            Node::Plain(Value::String(text)) => text.len(),
            Node::Bytes(bytes) => bytes.len(),
            _ => 0,
        };
        self.budget = self.budget.checked_sub(VALUE + text).ok_or_else(|| bad("it holds one object too many times"))?;
        Ok(match node {
            Node::Plain(value) => value.clone(),
            Node::Bytes(bytes) => tagged::bytes(bytes.clone()),
            Node::List(items) | Node::Tuple(items) | Node::Set(items) => {
                Value::Array(items.iter().map(|item| self.value(*item, depth + 1)).collect::<Result<_, _>>()?)
            }
            Node::Dict(entries) => {
                let mut map = Map::with_capacity(entries.len());
                for (name, value) in entries {
                    let name =
                        key(self.value(*name, depth + 1)?).ok_or_else(|| bad("a dict has a key that is no text"))?;
                    map.insert(name, self.value(*value, depth + 1)?);
                }
                Value::Object(map)
            }
            Node::Global(_) => return Err(DecodeError::Unsafe("a class or function as a value".into())),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use serde_json::json;

    fn unpickle(base64: &str) -> Result<Value, DecodeError> {
        decode(&STANDARD.decode(base64).unwrap())
    }

    #[test]
    fn what_is_more_than_plain_data_is_refused_by_name() {
        let refused = |program: &[u8]| match decode(program) {
            Err(error @ DecodeError::Unsafe(_)) => error.to_string(),
            other => panic!("{other:?}"),
        };
        assert!(refused(b"cos\nsystem\n(S'true'\ntR.").contains("os.system"));
        assert!(refused(b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x02id\x85R.").contains("posix.system"));
        assert!(refused(b"c__builtin__\neval\n.").contains("__builtin__.eval"));
        assert!(refused(b"(S'id'\nios\nsystem\n.").contains("os.system"));
        assert!(refused(b"Pid\n.").contains("PERSID"));
        assert!(refused(b"c__builtin__\nset\n.").contains("as a value"));
        assert!(refused(b"c__builtin__\nset\n)\x81.").contains("NEWOBJ"));
        assert!(refused(b"}}b.").contains("BUILD"));
    }

    #[test]
    fn shared_objects_are_copied_and_endless_ones_refused() {
        // a = [1]; [a, a], where a is named a second time by the memo.
        assert_eq!(decode(b"\x80\x02]q\x00(]q\x01K\x01ah\x01e.").unwrap(), json!([[1], [1]]));
        // a = []; a.append(a)
        assert!(decode(b"\x80\x02]q\x00h\x00a.").unwrap_err().to_string().contains("deeper"));
        // Thirty lists, each holding the one before twice.
        let mut laughs = b"\x80\x02]q\x00".to_vec();
        for n in 0..30u8 {
            laughs.extend([b']', b'q', n + 1, b'(', b'h', n, b'h', n, b'e']);
        }
        laughs.push(b'.');
        let text = "x".repeat(3000);
        laughs.splice(2..3, [b"]X".as_slice(), &3000u32.to_le_bytes(), text.as_bytes(), b"a"].concat());
        assert!(decode(&laughs).unwrap_err().to_string().contains("too many times"));
    }

    #[test]
    fn broken_programs_are_errors() {
        for program in [
            &b""[..],
            b".",
            b"K",
            b"(",
            b"t.",
            b"e.",
            b"h\x07.",
            b"\x8a\xff\x01.",
            b"X\xff\xff\xff\xff",
            b"N",
            b"\xff.",
        ] {
            assert!(decode(program).is_err(), "{program:?}");
        }
        assert!(unpickle("gAWVCwAAAAAAAABdlChLAUsCSwNlLg==").is_ok());
    }
}
