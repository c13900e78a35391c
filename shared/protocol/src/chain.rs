//! The rest of a chain, on its way through the chain's steps (celery.canvas: `_chain.run`; the field `chain` of a message's
//! embed).
//!
//! Each step hands the rest on to the next. Taken apart into signatures at every step, a chain of n steps costs n² of them;
//! so the rest stays the text it came as, shared by all that follows, and only the step that is due is read.

use std::sync::Arc;

use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::serializer::from_json;
use crate::signature::{Signature, signatures, to_value};

/// Steps that are still to come, reversed: the last is next.
#[derive(Debug, Clone, Default)]
pub struct Chain {
    /// A list in JSON. None: no step.
    text: Option<Arc<str>>,
    /// Where the steps that are still to come end in it.
    end: usize,
}

impl Chain {
    /// Without a step?
    pub fn is_empty(&self) -> bool {
        self.inside().trim_start().is_empty()
    }

    /// Of a list's text.
    fn of(text: &str) -> Self {
        let text = text.trim();
        Self { end: text.len().saturating_sub(1), text: Some(text.into()) }
    }

    /// The steps' texts, with the commas between them.
    fn inside(&self) -> &str {
        let text = self.text.as_deref().unwrap_or_default();
        text.get(1..self.end).unwrap_or_default().trim_end()
    }

    /// How long its text is, in bytes.
    pub(crate) fn length(&self) -> usize {
        self.inside().len() + 2
    }

    /// Writes its text.
    pub(crate) fn write(&self, to: &mut Vec<u8>) {
        to.push(b'[');
        to.extend_from_slice(self.inside().as_bytes());
        to.push(b']');
    }

    /// The step that is next, and what comes after it. None: there is none.
    ///
    /// # Errors
    /// What is next is no signature.
    pub fn split_next(&self) -> Result<Option<(Signature, Self)>, serde_json::Error> {
        if self.is_empty() {
            return Ok(None);
        }
        let inside = self.inside();
        let at = last_element(inside);
        let next = read(inside.get(at..).unwrap_or_default())?;
        // The bracket before the first, and none of the comma behind the last.
        Ok(Some((next, Self { text: self.text.clone(), end: at.max(1) })))
    }

    /// All steps, the last is next.
    ///
    /// # Errors
    /// One of them is no signature.
    pub fn signatures(&self) -> Result<Vec<Signature>, serde_json::Error> {
        signatures(&self.to_value())
    }

    /// Those of the steps that can be read.
    pub fn readable(&self) -> Vec<Signature> {
        let Value::Array(steps) = self.to_value() else { return vec![] };
        steps.into_iter().filter_map(|step| Signature::from_value(step).ok()).collect()
    }

    /// The steps as a value.
    pub fn to_value(&self) -> Value {
        let mut text = Vec::with_capacity(self.length());
        self.write(&mut text);
        from_json(&text).unwrap_or_else(|_| Value::Array(vec![]))
    }

    /// Takes one signature or a list of them; null is none. The steps of a list are looked at when they are due.
    ///
    /// # Errors
    /// What is neither.
    pub fn from_value(value: &Value) -> Result<Self, serde_json::Error> {
        match value {
            Value::Null => Ok(Self::default()),
            Value::Array(steps) if steps.is_empty() => Ok(Self::default()),
            Value::Array(_) => Ok(Self::of(&value.to_string())),
            one => Ok(Self::from([Signature::from_value(one.clone())?].as_slice())),
        }
    }
}

/// Reads a step, Python's constants as well.
fn read(text: &str) -> Result<Signature, serde_json::Error> {
    serde_json::from_str(text).or_else(|error| match from_json(text.as_bytes()) {
        Ok(value) => Signature::from_value(value),
        Err(_) => Err(error),
    })
}

/// Where the last element of a list begins, given the text between the brackets: after the last comma outside of all strings
/// and brackets. Read from the end, so that its cost is that of the last element. A quotation mark within a string stands
/// behind an odd number of backslashes.
fn last_element(inside: &str) -> usize {
    let bytes = inside.as_bytes();
    let (mut depth, mut in_string, mut at) = (0_usize, false, bytes.len());
    while at > 0 {
        at -= 1;
        match bytes[at] {
            b'"' => {
                let escapes = bytes[..at].iter().rev().take_while(|byte| **byte == b'\\').count();
                in_string ^= escapes % 2 == 0;
            }
            b'}' | b']' if !in_string => depth += 1,
            b'{' | b'[' if !in_string => depth = depth.saturating_sub(1),
            b',' if !in_string && depth == 0 => return at + 1,
            _ => {}
        }
    }
    0
}

impl PartialEq for Chain {
    fn eq(&self, other: &Self) -> bool {
        self.inside() == other.inside() || self.to_value() == other.to_value()
    }
}

impl From<&[Signature]> for Chain {
    fn from(steps: &[Signature]) -> Self {
        if steps.is_empty() { Self::default() } else { Self::of(&to_value(steps).to_string()) }
    }
}

impl<'de> Deserialize<'de> for Chain {
    /// A list stays text: its steps are looked at when they are due.
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(from)?;
        if raw.get().trim_start().starts_with('[') {
            return Ok(Self::of(raw.get()));
        }
        let value = serde_json::from_str(raw.get()).map_err(D::Error::custom)?;
        Self::from_value(&value).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn step(name: &str, argument: Value) -> Signature {
        Signature::new(name, vec![argument])
    }

    #[test]
    fn steps_come_off_the_end() {
        let steps = [step("c", Value::Null), step("b", "x\\\",]}[{".into()), step("a", serde_json::json!({"k": [1]}))];
        let mut chain = Chain::from(steps.as_slice());
        let mut names = vec![];
        while let Some((next, rest)) = chain.split_next().unwrap() {
            assert_eq!(rest.signatures().unwrap().len(), 2 - names.len());
            names.push(next.task);
            chain = rest;
        }
        assert_eq!(names, ["a", "b", "c"]);
        assert!(chain.is_empty() && Chain::default().is_empty() && Chain::default().split_next().unwrap().is_none());
    }

    #[test]
    fn what_python_writes_is_read_and_what_is_no_step_is_told_when_it_is_due() {
        let read = |text: &str| serde_json::from_str::<Chain>(text).unwrap();
        let chain = read("[ 7 , {\"task\": \"a\", \"args\": [\"]\"]} ]");
        let (next, rest) = chain.split_next().unwrap().unwrap();
        assert_eq!((next.task.as_str(), rest.is_empty()), ("a", false));
        assert!(rest.split_next().is_err() && chain.signatures().is_err());
        assert_eq!(chain.readable(), [next]);
        assert!(read("null").is_empty() && read("[ ]").is_empty());
        assert_eq!(read("{\"task\": \"a\"}").signatures().unwrap().len(), 1);
        assert!(serde_json::from_str::<Chain>("3").is_err());
    }

    #[test]
    fn pythons_constants_travel_along() {
        let value = from_json(br#"[{"task": "b", "args": [NaN]}, {"task": "a", "args": [-Infinity]}]"#).unwrap();
        let chain = Chain::from_value(&value).unwrap();
        let mut text = vec![];
        chain.write(&mut text);
        assert!(String::from_utf8(text).unwrap().contains("[NaN]"));
        let (next, rest) = chain.split_next().unwrap().unwrap();
        assert_eq!((next.args[0].to_string().as_str(), rest.signatures().unwrap().len()), ("-Infinity", 1));
        assert_eq!(rest.to_value()[0]["task"], "b");
    }

    proptest! {
        #[test]
        fn any_text_in_any_place_stays_where_it_is(texts in prop::collection::vec(".{0,12}", 1..6), spaced: bool) {
            let steps: Vec<_> = texts.iter().map(|text| step(text, serde_json::json!([text, {text: text}]))).collect();
            let text = to_value(&steps);
            let text = if spaced { serde_json::to_string_pretty(&text).unwrap() } else { text.to_string() };
            let mut chain: Chain = serde_json::from_str(&text).unwrap();
            for step in steps.iter().rev() {
                let (next, rest) = chain.split_next().unwrap().unwrap();
                prop_assert_eq!(&next, step);
                chain = rest;
                let mut text = vec![];
                chain.write(&mut text);
                prop_assert_eq!(text.len(), chain.length());
                let again: Chain = serde_json::from_slice(&text).unwrap();
                prop_assert_eq!(again.signatures().unwrap(), chain.signatures().unwrap());
            }
            prop_assert!(chain.is_empty());
        }
    }
}
