//! JSON values as types of the description: any value, any object.

use std::borrow::Cow;

use poem_openapi::registry::{MetaSchema, MetaSchemaRef};
use poem_openapi::types::{ParseError, ParseFromJSON, ParseResult, ToJSON, Type};
use serde_json::{Map, Value};

/// An object with any fields, kept in their order and with every digit of their numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct JsonObject(pub(crate) Map<String, Value>);

impl Type for JsonObject {
    const IS_REQUIRED: bool = true;
    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        "object".into()
    }

    fn schema_ref() -> MetaSchemaRef {
        let anything = MetaSchemaRef::Inline(Box::new(MetaSchema::ANY));
        MetaSchemaRef::Inline(Box::new(MetaSchema {
            additional_properties: Some(Box::new(anything)),
            ..MetaSchema::new("object")
        }))
    }

    fn as_raw_value(&self) -> Option<&Self::RawValueType> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self::RawElementValueType> + 'a> {
        Box::new(std::iter::once(self))
    }
}

impl ParseFromJSON for JsonObject {
    fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
        match value {
            Some(Value::Object(map)) => Ok(Self(map)),
            other => Err(ParseError::expected_type(other.unwrap_or_default())),
        }
    }
}

impl ToJSON for JsonObject {
    fn to_json(&self) -> Option<Value> {
        Some(Value::Object(self.0.clone()))
    }
}

/// In seconds: as far from now as a task may be sent for.
const TEN_YEARS: f64 = 315_360_000.0;

/// Seconds from now, or a point in time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum SecondsOrTime {
    /// Seconds.
    Seconds(f64),
    /// RFC 3339.
    Time(chrono::DateTime<chrono::FixedOffset>),
}

impl Type for SecondsOrTime {
    const IS_REQUIRED: bool = true;
    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        "seconds or time".into()
    }

    fn schema_ref() -> MetaSchemaRef {
        let seconds = MetaSchemaRef::Inline(Box::new(MetaSchema {
            minimum: Some(0.0),
            maximum: Some(TEN_YEARS),
            ..MetaSchema::new_with_format("number", "double")
        }));
        let time = MetaSchemaRef::Inline(Box::new(MetaSchema::new_with_format("string", "date-time")));
        MetaSchemaRef::Inline(Box::new(MetaSchema {
            title: Some("seconds as a number, or a time in RFC 3339".into()),
            one_of: vec![seconds, time],
            ..MetaSchema::ANY
        }))
    }

    fn as_raw_value(&self) -> Option<&Self::RawValueType> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self::RawElementValueType> + 'a> {
        Box::new(std::iter::once(self))
    }
}

impl ParseFromJSON for SecondsOrTime {
    fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
        let value = value.unwrap_or_default();
        if let Some(seconds) = value.as_f64() {
            let far = || ParseError::custom(format!("must be a number from 0 to {TEN_YEARS}, or a time"));
            return (0.0..=TEN_YEARS).contains(&seconds).then_some(Self::Seconds(seconds)).ok_or_else(far);
        }
        let time = value.as_str().and_then(|text| chrono::DateTime::parse_from_rfc3339(text).ok());
        time.map(Self::Time).ok_or_else(|| ParseError::expected_type(value))
    }
}

impl ToJSON for SecondsOrTime {
    fn to_json(&self) -> Option<Value> {
        Some(match self {
            Self::Seconds(seconds) => Value::from(*seconds),
            Self::Time(time) => Value::from(time.to_rfc3339()),
        })
    }
}

/// A text that holds something to read and no U+0000, which PostgreSQL cannot store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Text(pub(crate) String);

/// At least one character that is neither white space nor a control character, and no U+0000.
pub(crate) const READABLE: &str = r"^[^\x00]*[^\s\x00-\x1f\x7f-\x9f][^\x00]*$";
/// No U+0000.
pub(crate) const STORABLE: &str = r"^[^\x00]*$";

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Type for Text {
    const IS_REQUIRED: bool = true;
    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        "text".into()
    }

    fn schema_ref() -> MetaSchemaRef {
        MetaSchemaRef::Inline(Box::new(MetaSchema {
            min_length: Some(1),
            pattern: Some(READABLE.into()),
            ..MetaSchema::new("string")
        }))
    }

    fn as_raw_value(&self) -> Option<&Self::RawValueType> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self::RawElementValueType> + 'a> {
        Box::new(std::iter::once(self))
    }
}

impl ParseFromJSON for Text {
    fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
        String::parse_from_json(value).map(Self).map_err(ParseError::propagate)
    }
}

impl ToJSON for Text {
    fn to_json(&self) -> Option<Value> {
        Some(Value::from(self.0.as_str()))
    }
}

/// Whether there is something to read in a text: the rule of [`READABLE`] without its cost for long texts.
pub(crate) fn readable(text: &str) -> bool {
    text.chars().any(|c| !c.is_whitespace() && !c.is_control())
}
