//! Crontabs and time zones as types of the description.

use std::borrow::Cow;
use std::sync::LazyLock;

use petiole_beat::Zone;
use poem_openapi::registry::{MetaSchema, MetaSchemaRef};
use poem_openapi::types::{ParseError, ParseFromJSON, ParseResult, ToJSON, Type};
use serde_json::Value;

/// What a crontab's line looks like: five fields with blanks between them, each a list of `*`, numbers, ranges and steps.
pub(crate) static CRONTAB: LazyLock<String> = LazyLock::new(|| {
    let names = |names: &[&str]| -> String {
        let either = |c: char| format!("[{c}{}]", c.to_ascii_uppercase());
        let name = |name: &&str| name.chars().map(either).collect::<String>();
        format!("(?:{})[a-zA-Z]*", names.iter().map(name).collect::<Vec<_>>().join("|"))
    };
    let months = names(&["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]);
    let days = names(&["sun", "mon", "tue", "wed", "thu", "fri", "sat"]);
    let field = |number: &str| {
        let item = format!(r"(?:\*(?:/[1-9][0-9]?)?|{number}(?:-{number}(?:/[1-9][0-9]?)?)?)");
        format!("{item}(?:,{item})*")
    };
    let fields = [
        field("[0-5]?[0-9]"),
        field("(?:[01]?[0-9]|2[0-3])"),
        field("(?:0?[1-9]|[12][0-9]|3[01])"),
        field(&format!("(?:0?[1-9]|1[0-2]|{months})")),
        field(&format!("(?:0?[0-6]|{days})")),
    ];
    format!("^{}$", fields.join(" +"))
});

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $shown:literal, $schema:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub(crate) struct $name(pub(crate) String);

        impl Type for $name {
            const IS_REQUIRED: bool = true;
            type RawValueType = Self;
            type RawElementValueType = Self;

            fn name() -> Cow<'static, str> {
                $shown.into()
            }

            fn schema_ref() -> MetaSchemaRef {
                MetaSchemaRef::Inline(Box::new($schema))
            }

            fn as_raw_value(&self) -> Option<&Self::RawValueType> {
                Some(self)
            }

            fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self::RawElementValueType> + 'a> {
                Box::new(std::iter::once(self))
            }
        }

        impl ParseFromJSON for $name {
            fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
                String::parse_from_json(value).map(Self).map_err(ParseError::propagate)
            }
        }

        impl ToJSON for $name {
            fn to_json(&self) -> Option<Value> {
                Some(Value::from(self.0.as_str()))
            }
        }
    };
}

text_type!(
    /// A crontab's line.
    CrontabLine,
    "crontab",
    MetaSchema { max_length: Some(1000), pattern: Some(CRONTAB.clone()), ..MetaSchema::new("string") }
);
text_type!(
    /// The name of a time zone.
    ZoneName,
    "time zone",
    MetaSchema {
        enum_items: Zone::names().into_iter().map(Value::from).collect(),
        ..MetaSchema::new("string")
    }
);
