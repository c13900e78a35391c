//! YAML as PyYAML's safe loader reads it and its safe dumper could write it (kombu.serialization: register_yaml).

mod scalar;

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};
use serde_json::{Map, Number, Value};

use super::tagged::{self, Tagged};
use super::{DecodeError, MAX_DEPTH, copies_of, key, weight};

fn bad(why: impl std::fmt::Display) -> DecodeError {
    DecodeError::Body("YAML", why.to_string())
}

/// Reads one document.
pub(super) fn decode(bytes: &[u8]) -> Result<Value, DecodeError> {
    let text = std::str::from_utf8(bytes).map_err(bad)?;
    let mut parser = Parser::new_from_str(text.strip_prefix('\u{feff}').unwrap_or(text));
    let mut reader = Reader { open: vec![], anchors: HashMap::new(), budget: copies_of(bytes), done: None };
    while let Some(event) = parser.next_event() {
        let (event, _) = event.map_err(bad)?;
        reader.event(event)?;
    }
    // An empty document is None.
    Ok(reader.done.unwrap_or(Value::Null))
}

/// Puts a document together from the parser's events.
struct Reader {
    open: Vec<Open>,
    anchors: HashMap<usize, Value>,
    budget: usize,
    done: Option<Value>,
}

/// A list or a map that is not finished.
struct Open {
    anchor: usize,
    items: Vec<Item>,
    kind: Kind,
}

/// What an item of a list, or a key of a map, is.
enum Item {
    /// A value.
    Value(Value),
    /// `<<`: the next value is a map, whose entries this map has too.
    Merge,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    List,
    Map,
    Set,
    /// `!!omap` and `!!pairs`: a list of maps of one entry, which becomes a list of pairs.
    Pairs,
}

impl Reader {
    fn event(&mut self, event: Event<'_>) -> Result<(), DecodeError> {
        match event {
            Event::DocumentStart(_) if self.done.is_some() => Err(bad("more than one document")),
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain;
                let tag = tag.as_deref().map(name_of).transpose()?;
                if plain && tag.is_none() && text == "<<" && self.at_key() {
                    return self.put(Item::Merge);
                }
                let value = scalar::read(&text, plain, tag)?;
                self.value(value, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                let kind = match tag.as_deref().map(name_of).transpose()? {
                    None | Some("!" | "seq") => Kind::List,
                    Some("omap" | "pairs") => Kind::Pairs,
                    Some(other) => return Err(bad(format!("a list cannot be !!{other}"))),
                };
                self.open(anchor, kind)
            }
            Event::MappingStart(anchor, tag) => {
                let kind = match tag.as_deref().map(name_of).transpose()? {
                    None | Some("!" | "map") => Kind::Map,
                    Some("set") => Kind::Set,
                    Some(other) => return Err(bad(format!("a map cannot be !!{other}"))),
                };
                self.open(anchor, kind)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = self.open.pop() else { return Err(bad("an end without its beginning")) };
                let anchor = open.anchor;
                let value = close(open)?;
                self.value(value, anchor)
            }
            Event::Alias(anchor) => {
                let value = self.anchors.get(&anchor).ok_or_else(|| bad("an alias within what it names"))?.clone();
                self.spend(weight(&value))?;
                let depth = depth(&value);
                if self.open.len() + depth > MAX_DEPTH {
                    return Err(too_deep());
                }
                self.put(Item::Value(value))
            }
            _ => Ok(()),
        }
    }

    fn open(&mut self, anchor: usize, kind: Kind) -> Result<(), DecodeError> {
        if self.open.len() >= MAX_DEPTH {
            return Err(too_deep());
        }
        self.open.push(Open { anchor, items: vec![], kind });
        Ok(())
    }

    fn value(&mut self, value: Value, anchor: usize) -> Result<(), DecodeError> {
        if anchor > 0 {
            // Kept beside the document, so it counts as a copy.
            self.spend(weight(&value))?;
            self.anchors.insert(anchor, value.clone());
        }
        self.put(Item::Value(value))
    }

    fn spend(&mut self, weight: usize) -> Result<(), DecodeError> {
        self.budget = self.budget.checked_sub(weight).ok_or_else(|| bad("its aliases make it too large"))?;
        Ok(())
    }

    /// Is a map's key next?
    fn at_key(&self) -> bool {
        self.open.last().is_some_and(|open| open.kind == Kind::Map && open.items.len().is_multiple_of(2))
    }

    fn put(&mut self, item: Item) -> Result<(), DecodeError> {
        match (self.open.last_mut(), item) {
            (Some(open), item) => open.items.push(item),
            (None, Item::Value(value)) => self.done = Some(value),
            (None, Item::Merge) => return Err(bad("<< stands alone")),
        }
        Ok(())
    }
}

fn too_deep() -> DecodeError {
    bad(format!("it is nested deeper than {MAX_DEPTH}"))
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// The name of a tag of YAML itself. Others would name Python's classes.
fn name_of(tag: &Tag) -> Result<&str, DecodeError> {
    match (tag.is_yaml_core_schema(), format!("{}{}", tag.handle, tag.suffix).as_str()) {
        (true, _) => Ok(&tag.suffix),
        // The tag that names nothing.
        (false, "!") => Ok("!"),
        (false, other) => Err(bad(format!("the tag {other} is not known here"))),
    }
}

fn close(open: Open) -> Result<Value, DecodeError> {
    if matches!(open.kind, Kind::List | Kind::Pairs) {
        let items = open.items.into_iter().map(|item| match item {
            Item::Value(value) if open.kind == Kind::List => Ok(value),
            Item::Value(Value::Object(map)) if map.len() == 1 => Ok(map
                .into_iter()
                .map(|(name, value)| Value::Array(vec![name.into(), value]))
                .next()
                .unwrap_or_default()),
            _ => Err(bad("an item of pairs must be a map of one entry")),
        });
        return Ok(Value::Array(items.collect::<Result<_, _>>()?));
    }
    if open.kind == Kind::Set {
        // A map whose keys are what counts.
        let items = open.items.into_iter().step_by(2).map(|item| match item {
            Item::Value(value) => Ok(value),
            Item::Merge => Err(bad("<< in a set")),
        });
        return Ok(Value::Array(items.collect::<Result<_, _>>()?));
    }
    let (mut map, mut merged) = (Map::new(), Map::new());
    let mut items = open.items.into_iter();
    while let (Some(name), Some(value)) = (items.next(), items.next()) {
        let Item::Value(value) = value else { return Err(bad("<< is no value")) };
        match name {
            Item::Value(name) => {
                let name = key(name).ok_or_else(|| bad("a key that is a list or a map"))?;
                map.insert(name, value);
            }
            Item::Merge => {
                let maps = match value {
                    Value::Array(maps) => maps,
                    one => vec![one],
                };
                // The first that has a name wins.
                for other in maps {
                    let Value::Object(other) = other else { return Err(bad("<< needs a map, or a list of maps")) };
                    for (name, value) in other {
                        merged.entry(name).or_insert(value);
                    }
                }
            }
        }
    }
    for (name, value) in merged {
        map.entry(name).or_insert(value);
    }
    Ok(Value::Object(map))
}

/// Writes a value in flow style, which is JSON but for its numbers and what JSON has no type for.
pub(super) fn encode(value: &Value) -> String {
    let mut out = String::new();
    write(value, &mut out);
    out.push('\n');
    out
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(is) => out.push_str(if *is { "true" } else { "false" }),
        Value::Number(number) => out.push_str(&number_text(number)),
        Value::String(text) => quote(text, out),
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                out.push_str(if at > 0 { ", " } else { "" });
                write(item, out);
            }
            out.push(']');
        }
        Value::Object(map) => match tagged::read(value) {
            Some(Tagged::Bytes(bytes)) => {
                use base64::Engine as _;
                out.push_str("!!binary ");
                quote(&base64::engine::general_purpose::STANDARD.encode(bytes), out);
            }
            Some(Tagged::Time(text)) if scalar::is_timestamp(text) => {
                out.push_str("!!timestamp ");
                quote(text, out);
            }
            Some(Tagged::Time(text)) => quote(text, out),
            Some(Tagged::Text(text)) => quote(&text, out),
            None => {
                out.push('{');
                for (at, (name, value)) in map.iter().enumerate() {
                    out.push_str(if at > 0 { ", " } else { "" });
                    // A long key without a mark is none to PyYAML.
                    out.push_str(if name.len() > 100 { "? " } else { "" });
                    quote(name, out);
                    out.push_str(": ");
                    write(value, out);
                }
                out.push('}');
            }
        },
    }
}

/// A number as YAML 1.1 knows it: a float has a point, and its exponent a sign.
fn number_text(number: &Number) -> String {
    let text = number.as_str();
    if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
        return text.to_owned();
    }
    let number = tagged::as_float(number);
    if number.is_nan() {
        return ".nan".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { ".inf" } else { "-.inf" }.to_owned();
    }
    let text = format!("{number:?}");
    match text.split_once('e') {
        None => text,
        Some((mantissa, exponent)) => {
            let point = if mantissa.contains('.') { "" } else { ".0" };
            let sign = if exponent.starts_with('-') { "" } else { "+" };
            format!("{mantissa}{point}e{sign}{exponent}")
        }
    }
}

fn quote(text: &str, out: &mut String) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}'
                if !matches!(letter, '\u{2028}' | '\u{2029}') =>
            {
                out.push(letter);
            }
            other if u32::from(other) <= 0xff => out.push_str(&format!("\\x{:02x}", u32::from(other))),
            other if u32::from(other) <= 0xffff => out.push_str(&format!("\\u{:04x}", u32::from(other))),
            other => out.push_str(&format!("\\U{:08x}", u32::from(other))),
        }
    }
    out.push('"');
}
