//! The machine that runs a pickle (Python's Lib/pickletools.py lists its instructions).

use std::collections::HashMap;

use serde_json::{Number, Value};

use super::super::{DecodeError, tagged};
use super::bad;

/// An object on the heap. Containers hold the places of what they hold.
#[derive(Debug)]
pub(super) enum Node {
    /// None, a boolean, a number, text.
    Plain(Value),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A list.
    List(Vec<usize>),
    /// A tuple.
    Tuple(Vec<usize>),
    /// A dict.
    Dict(Vec<(usize, usize)>),
    /// A set, a frozenset.
    Set(Vec<usize>),
    /// One of the names that stand for plain data.
    Global(Global),
}

/// What may be "called": nothing of it is code.
#[derive(Debug, Clone, Copy)]
pub(super) enum Global {
    /// `set(items)`, `frozenset(items)`.
    Set,
    /// `bytes()`, `bytearray(bytes)`.
    Bytes,
    /// `_codecs.encode(text, 'latin1')`: bytes in the older protocols.
    Latin1,
    /// `celery.canvas.signature(dict)`: a callback or a step of a chain.
    Signature,
}

impl Global {
    fn named(module: &str, name: &str) -> Result<Self, DecodeError> {
        match (module, name) {
            ("builtins" | "__builtin__", "set" | "frozenset") => Ok(Self::Set),
            ("builtins" | "__builtin__", "bytes" | "bytearray") => Ok(Self::Bytes),
            ("_codecs", "encode") => Ok(Self::Latin1),
            ("celery.canvas", "signature") => Ok(Self::Signature),
            _ => Err(DecodeError::Unsafe(format!("it names {module}.{name}"))),
        }
    }
}

/// The longest integer, in bytes: Python itself writes no more than 4300 digits.
const MAX_INTEGER: usize = 1800;

pub(super) struct Machine<'a> {
    rest: &'a [u8],
    heap: Vec<Node>,
    stack: Vec<usize>,
    /// The heights of the stack at which there are marks.
    marks: Vec<usize>,
    memo: HashMap<u64, usize>,
}

impl<'a> Machine<'a> {
    pub(super) fn new(program: &'a [u8]) -> Self {
        Self { rest: program, heap: vec![], stack: vec![], marks: vec![], memo: HashMap::new() }
    }

    /// Runs the program. Gives the heap, and the place of the result in it.
    pub(super) fn run(mut self) -> Result<(Vec<Node>, usize), DecodeError> {
        loop {
            match self.take(1)?[0] {
                b'.' => {
                    let root = self.pop()?;
                    return Ok((self.heap, root));
                }
                instruction => self.step(instruction)?,
            }
        }
    }

    fn step(&mut self, instruction: u8) -> Result<(), DecodeError> {
        match instruction {
            0x80 => {
                let protocol = self.take(1)?[0];
                if protocol > 5 {
                    return Err(bad(format!("protocol {protocol} is not known")));
                }
            }
            // FRAME: only a hint for reading.
            0x95 => {
                self.take(8)?;
            }
            b'(' => self.marks.push(self.stack.len()),
            b'0' => {
                // A mark may be what is on top.
                if self.marks.last() == Some(&self.stack.len()) {
                    self.marks.pop();
                } else {
                    self.pop()?;
                }
            }
            b'1' => drop(self.above_mark()?),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            // None, booleans, numbers.
            b'N' => self.plain(Value::Null),
            0x88 => self.plain(true.into()),
            0x89 => self.plain(false.into()),
            b'K' => {
                let number = self.take(1)?[0];
                self.plain(number.into());
            }
            b'M' => {
                let number = self.length(2)?;
                self.plain(number.into());
            }
            b'J' => {
                let number = i32::from_le_bytes(self.array()?);
                self.plain(number.into());
            }
            b'I' => match self.line()? {
                "00" => self.plain(false.into()),
                "01" => self.plain(true.into()),
                text => self.decimal(text)?,
            },
            b'L' => {
                let text = self.line()?;
                self.decimal(text.strip_suffix('L').unwrap_or(text))?;
            }
            0x8a => self.long(1)?,
            0x8b => self.long(4)?,
            b'F' => {
                let text = self.line()?;
                let number = text.parse().map_err(|_| bad(format!("{text:?} is no float")))?;
                self.plain(tagged::float(number));
            }
            b'G' => {
                let number = f64::from_be_bytes(self.array()?);
                self.plain(tagged::float(number));
            }
            // Text and bytes.
            b'X' => self.text(4)?,
            0x8c => self.text(1)?,
            0x8d => self.text(8)?,
            b'V' => {
                // What is no escape is latin1.
                let text: String = self.raw_line()?.iter().copied().map(char::from).collect();
                let text = raw_unicode_escape(&text)?;
                self.plain(text.into());
            }
            b'B' | b'T' => self.bytes(4)?,
            b'C' | b'U' => self.bytes(1)?,
            0x8e | 0x96 => self.bytes(8)?,
            b'S' => {
                let text = self.raw_line()?;
                let bytes = quoted(text).ok_or_else(|| bad("a quoted string is broken"))?;
                self.string(bytes);
            }
            // Containers.
            b']' => self.push(Node::List(vec![])),
            b')' => self.push(Node::Tuple(vec![])),
            b'}' => self.push(Node::Dict(vec![])),
            0x8f => self.push(Node::Set(vec![])),
            b'l' => {
                let items = self.above_mark()?;
                self.push(Node::List(items));
            }
            b't' => {
                let items = self.above_mark()?;
                self.push(Node::Tuple(items));
            }
            b'd' => {
                let items = self.above_mark()?;
                let entries = pairs(&items)?;
                self.push(Node::Dict(entries));
            }
            0x91 => {
                let items = self.above_mark()?;
                self.push(Node::Set(items));
            }
            0x85..=0x87 => {
                let count = usize::from(instruction - 0x84);
                let from = self.room(count)?;
                let items = self.stack.split_off(from);
                self.push(Node::Tuple(items));
            }
            b'a' => {
                let item = self.pop()?;
                self.extend(vec![item])?;
            }
            b'e' | 0x90 => {
                let items = self.above_mark()?;
                self.extend(items)?;
            }
            b's' => {
                let (value, name) = (self.pop()?, self.pop()?);
                self.update(vec![(name, value)])?;
            }
            b'u' => {
                let items = self.above_mark()?;
                self.update(pairs(&items)?)?;
            }
            // The memo.
            b'p' | b'q' | b'r' => {
                let name = self.memo_name(instruction == b'p', if instruction == b'q' { 1 } else { 4 })?;
                let top = self.top()?;
                self.memo.insert(name, top);
            }
            0x94 => {
                let top = self.top()?;
                self.memo.insert(self.memo.len() as u64, top);
            }
            b'g' | b'h' | b'j' => {
                let name = self.memo_name(instruction == b'g', if instruction == b'h' { 1 } else { 4 })?;
                let at = *self.memo.get(&name).ok_or_else(|| bad(format!("nothing was remembered as {name}")))?;
                self.stack.push(at);
            }
            // Names, and what they stand for.
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Node::Global(Global::named(module, name)?));
            }
            0x93 => {
                let (name, module) = (self.pop_text()?, self.pop_text()?);
                self.push(Node::Global(Global::named(&module, &name)?));
            }
            b'R' => self.reduce()?,
            b'i' => {
                let (module, name) = (self.line()?, self.line()?);
                return Err(DecodeError::Unsafe(format!("it makes an instance of {module}.{name}")));
            }
            other => return Err(refused(other)),
        }
        Ok(())
    }

    /// The few calls that make plain data.
    fn reduce(&mut self) -> Result<(), DecodeError> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let Node::Global(function) = self.heap[function] else { return Err(bad("what is called is no function")) };
        let Node::Tuple(arguments) = &self.heap[arguments] else { return Err(bad("arguments are no tuple")) };
        let arguments = arguments.clone();
        let node = match (function, arguments.as_slice()) {
            (Global::Set, []) => Node::Set(vec![]),
            (Global::Set, [items]) => match &self.heap[*items] {
                Node::List(items) | Node::Tuple(items) | Node::Set(items) => Node::Set(items.clone()),
                _ => return Err(bad("a set of something that is no list")),
            },
            (Global::Bytes, []) => Node::Bytes(vec![]),
            (Global::Bytes, [bytes]) => match &self.heap[*bytes] {
                Node::Bytes(bytes) => Node::Bytes(bytes.clone()),
                _ => return Err(bad("bytes of something else")),
            },
            (Global::Bytes | Global::Latin1, [text, encoding]) => {
                let (Node::Plain(Value::String(text)), Node::Plain(Value::String(encoding))) =
                    (&self.heap[*text], &self.heap[*encoding])
                else {
                    return Err(bad("bytes of something that is no text"));
                };
                if !matches!(encoding.as_str(), "latin1" | "latin-1") {
                    return Err(bad(format!("encoding {encoding:?} is not known")));
                }
                let bytes = text.chars().map(|letter| u8::try_from(u32::from(letter)));
                Node::Bytes(bytes.collect::<Result<_, _>>().map_err(|_| bad("text beyond latin1"))?)
            }
            (Global::Signature, [map]) if matches!(self.heap[*map], Node::Dict(_)) => {
                self.stack.push(*map);
                return Ok(());
            }
            _ => return Err(DecodeError::Unsafe(format!("a call with {} arguments", arguments.len()))),
        };
        self.push(node);
        Ok(())
    }

    fn extend(&mut self, items: Vec<usize>) -> Result<(), DecodeError> {
        let top = self.top()?;
        match &mut self.heap[top] {
            Node::List(list) | Node::Set(list) => list.extend(items),
            _ => return Err(bad("items are added to something that is no list")),
        }
        Ok(())
    }

    fn update(&mut self, entries: Vec<(usize, usize)>) -> Result<(), DecodeError> {
        let top = self.top()?;
        match &mut self.heap[top] {
            Node::Dict(dict) => dict.extend(entries),
            _ => return Err(bad("entries are added to something that is no dict")),
        }
        Ok(())
    }

    fn push(&mut self, node: Node) {
        self.heap.push(node);
        self.stack.push(self.heap.len() - 1);
    }

    fn plain(&mut self, value: Value) {
        self.push(Node::Plain(value));
    }

    /// Nothing is taken from below the last mark.
    fn room(&self, count: usize) -> Result<usize, DecodeError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let from = self.stack.len().checked_sub(count).filter(|from| *from >= floor);
        from.ok_or_else(|| bad("the stack is empty"))
    }

    fn pop(&mut self) -> Result<usize, DecodeError> {
        self.room(1)?;
        self.stack.pop().ok_or_else(|| bad("the stack is empty"))
    }

    fn top(&self) -> Result<usize, DecodeError> {
        Ok(self.stack[self.room(1)?])
    }

    fn pop_text(&mut self) -> Result<String, DecodeError> {
        let at = self.pop()?;
        match &self.heap[at] {
            Node::Plain(Value::String(text)) => Ok(text.clone()),
            _ => Err(bad("a name that is no text")),
        }
    }

    fn above_mark(&mut self) -> Result<Vec<usize>, DecodeError> {
        let mark = self.marks.pop().ok_or_else(|| bad("there is no mark"))?;
        if mark > self.stack.len() { Err(bad("there is no mark")) } else { Ok(self.stack.split_off(mark)) }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or_else(|| bad("it ends in the middle"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        self.take(N)?.try_into().map_err(|_| bad("it ends in the middle"))
    }

    fn raw_line(&mut self) -> Result<&'a [u8], DecodeError> {
        let end = self.rest.iter().position(|byte| *byte == b'\n').ok_or_else(|| bad("it ends in the middle"))?;
        Ok(&self.take(end + 1)?[..end])
    }

    fn line(&mut self) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.raw_line()?).map_err(|_| bad("text that is not UTF-8"))
    }

    /// A little-endian number of so many bytes.
    fn length(&mut self, bytes: usize) -> Result<u64, DecodeError> {
        Ok(self.take(bytes)?.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn sized(&mut self, bytes: usize) -> Result<&'a [u8], DecodeError> {
        let length = self.length(bytes)?;
        self.take(usize::try_from(length).map_err(|_| bad("it ends in the middle"))?)
    }

    fn text(&mut self, bytes: usize) -> Result<(), DecodeError> {
        let text = self.sized(bytes)?;
        let text = std::str::from_utf8(text).map_err(|_| bad("text that is not UTF-8"))?;
        self.plain(text.into());
        Ok(())
    }

    fn bytes(&mut self, bytes: usize) -> Result<(), DecodeError> {
        let bytes = self.sized(bytes)?.to_vec();
        self.push(Node::Bytes(bytes));
        Ok(())
    }

    /// Python 2's str: text where it is ASCII, as Python 3 reads it.
    fn string(&mut self, bytes: Vec<u8>) {
        self.push(match String::from_utf8(bytes) {
            Ok(text) if text.is_ascii() => Node::Plain(text.into()),
            Ok(text) => Node::Bytes(text.into_bytes()),
            Err(error) => Node::Bytes(error.into_bytes()),
        });
    }

    fn memo_name(&mut self, as_line: bool, bytes: usize) -> Result<u64, DecodeError> {
        if !as_line {
            return self.length(bytes);
        }
        let line = self.line()?;
        line.parse().map_err(|_| bad(format!("{line:?} is no place in the memo")))
    }

    fn decimal(&mut self, text: &str) -> Result<(), DecodeError> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        if digits.is_empty() || digits.len() > 2 * MAX_INTEGER || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(bad(format!("{:?} is no integer", text.chars().take(40).collect::<String>())));
        }
        let digits = digits.trim_start_matches('0');
        let sign = if text.starts_with('-') && !digits.is_empty() { "-" } else { "" };
        let digits = if digits.is_empty() { "0" } else { digits };
        self.plain(Value::Number(Number::from_string_unchecked(format!("{sign}{digits}"))));
        Ok(())
    }

    /// An integer of any length, little-endian in two's complement.
    fn long(&mut self, bytes: usize) -> Result<(), DecodeError> {
        let bytes = self.sized(bytes)?;
        if bytes.len() > MAX_INTEGER {
            return Err(bad("an integer that is too long"));
        }
        let negative = bytes.last().is_some_and(|byte| *byte >= 0x80);
        let mut magnitude = bytes.to_vec();
        if negative {
            let mut carry = true;
            for byte in &mut magnitude {
                let (negated, over) = (!*byte).overflowing_add(u8::from(carry));
                (*byte, carry) = (negated, over);
            }
        }
        // Digits in base 10^9, the lowest first.
        let mut digits: Vec<u64> = vec![0];
        for byte in magnitude.iter().rev() {
            let mut carry = u64::from(*byte);
            for digit in &mut digits {
                let value = *digit * 256 + carry;
                (*digit, carry) = (value % 1_000_000_000, value / 1_000_000_000);
            }
            if carry > 0 {
                digits.push(carry);
            }
        }
        let mut text = String::from(if negative { "-" } else { "" });
        let (first, rest) = digits.split_last().unwrap_or((&0, &[]));
        text.push_str(&first.to_string());
        rest.iter().rev().for_each(|digit| text.push_str(&format!("{digit:09}")));
        self.decimal(&text)
    }
}

fn pairs(items: &[usize]) -> Result<Vec<(usize, usize)>, DecodeError> {
    let (pairs, left) = items.as_chunks::<2>();
    if left.is_empty() {
        Ok(pairs.iter().map(|[name, value]| (*name, *value)).collect())
    } else {
        Err(bad("a key without a value"))
    }
}

fn refused(instruction: u8) -> DecodeError {
    let name = match instruction {
        b'P' | b'Q' => "PERSID",
        0x81 | 0x92 => "NEWOBJ",
        b'o' => "OBJ",
        b'b' => "BUILD",
        0x82..=0x84 => "EXT",
        0x97 | 0x98 => "NEXT_BUFFER",
        other => return bad(format!("{other:#04x} is no instruction")),
    };
    DecodeError::Unsafe(format!("instruction {name}"))
}

/// Protocol 0's text: only `\uXXXX` and `\UXXXXXXXX` are escapes.
fn raw_unicode_escape(text: &str) -> Result<String, DecodeError> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let width = match rest.as_bytes().get(1) {
            Some(b'u') => 4,
            Some(b'U') => 8,
            _ => {
                out.push('\\');
                rest = &rest[1..];
                continue;
            }
        };
        let code = rest.get(2..2 + width).and_then(|hex| u32::from_str_radix(hex, 16).ok()).and_then(char::from_u32);
        out.push(code.ok_or_else(|| bad("an escape that is no letter"))?);
        rest = &rest[2 + width..];
    }
    out.push_str(rest);
    Ok(out)
}

/// A string in quotes, as Python 2's `repr` writes it.
fn quoted(text: &[u8]) -> Option<Vec<u8>> {
    let (quote, inner) = text.trim_ascii_end().split_first()?;
    let inner = inner.strip_suffix(&[*quote]).filter(|_| matches!(quote, b'\'' | b'"'))?;
    let mut out = Vec::with_capacity(inner.len());
    let mut letters = inner.iter().copied();
    while let Some(letter) = letters.next() {
        if letter != b'\\' {
            out.push(letter);
            continue;
        }
        out.push(match letters.next()? {
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'x' => {
                let hex = [letters.next()?, letters.next()?];
                u8::from_str_radix(std::str::from_utf8(&hex).ok()?, 16).ok()?
            }
            same @ (b'\\' | b'\'' | b'"') => same,
            _ => return None,
        });
    }
    Some(out)
}
