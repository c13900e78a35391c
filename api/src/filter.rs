//! Conditions on the metadata of documents, as requests bring them.

use std::borrow::Cow;

use petiole_storage::{Filter, MOST_VALUES};
use poem_openapi::registry::{MetaSchema, MetaSchemaRef, Registry};
use poem_openapi::types::{ParseError, ParseFromJSON, ParseResult, ToJSON, Type};
use serde_json::{Map, Value, json};

use crate::problem::{FieldError, Problem};

/// The schema's name.
pub(crate) const NAME: &str = "MetadataFilter";
/// The name of the schema of a field's operators.
pub(crate) const OPERATORS: &str = "MetadataOperators";

/// What the metadata of documents must be like.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct MetadataFilter(pub(crate) Map<String, Value>);

impl MetadataFilter {
    /// The filter, read; `path` stands before the names of fields that are wrong.
    ///
    /// # Errors
    /// 422 with what is wrong.
    pub(crate) fn read(&self, path: &str) -> Result<Filter, Problem> {
        Filter::parse(&self.0).map_err(|errors| {
            let named = |inner: String| if inner.is_empty() { path.to_owned() } else { format!("{path}.{inner}") };
            Problem::fields(errors.into_iter().map(|error| FieldError::new(named(error.path), error.message)).collect())
        })
    }
}

fn inline(schema: MetaSchema) -> MetaSchemaRef {
    MetaSchemaRef::Inline(Box::new(schema))
}

fn any_of(of: Vec<MetaSchemaRef>) -> MetaSchema {
    MetaSchema { any_of: of, ..MetaSchema::ANY }
}

fn scalar() -> MetaSchema {
    let nothing = MetaSchema { nullable: true, enum_items: vec![Value::Null], ..MetaSchema::new("string") };
    let kinds = ["string", "number", "boolean"].map(MetaSchema::new);
    any_of(kinds.into_iter().chain([nothing]).map(inline).collect())
}

fn list(of: MetaSchemaRef, least: usize) -> MetaSchema {
    MetaSchema {
        items: Some(Box::new(of)),
        min_items: Some(least),
        max_items: Some(MOST_VALUES),
        ..MetaSchema::new("array")
    }
}

fn described(schema: MetaSchema, description: &'static str) -> MetaSchemaRef {
    inline(MetaSchema { description: Some(description), ..schema })
}

fn operators() -> MetaSchema {
    let compared = || any_of(["number", "string"].map(|kind| inline(MetaSchema::new(kind))).into());
    MetaSchema {
        description: Some("Operators on one field, all of which must hold."),
        properties: vec![
            ("$eq", described(scalar(), "It is this, or a list that holds it.")),
            ("$ne", described(scalar(), "It is not this, or is missing.")),
            ("$in", described(list(inline(scalar()), 1), "It is one of these.")),
            ("$nin", described(list(inline(scalar()), 1), "It is none of these, or is missing.")),
            ("$gt", described(compared(), "It is greater: a number than a number, a text than a text.")),
            ("$gte", described(compared(), "It is greater or the same.")),
            ("$lt", described(compared(), "It is less.")),
            ("$lte", described(compared(), "It is less or the same.")),
            ("$exists", described(MetaSchema::new("boolean"), "It is there, or it is missing.")),
        ],
        min_properties: Some(1),
        ..MetaSchema::new("object")
    }
}

fn filter() -> MetaSchema {
    let this = || MetaSchemaRef::Reference(NAME.into());
    let value =
        any_of(vec![inline(scalar()), inline(list(inline(scalar()), 0)), MetaSchemaRef::Reference(OPERATORS.into())]);
    MetaSchema {
        description: Some(
            "Fields of the metadata, all of which must fit: a value that the field must have (or hold, if it is a list), a \
             list whose values it must all hold, or operators.",
        ),
        properties: vec![
            ("$and", described(list(this(), 1), "All of these must fit.")),
            ("$or", described(list(this(), 1), "One of these must fit.")),
            ("$not", this()),
        ],
        additional_properties: Some(Box::new(inline(value))),
        max_properties: Some(50),
        example: Some(json!({"author": "Ada", "year": {"$gte": 1840, "$lt": 1850}})),
        ..MetaSchema::new("object")
    }
}

impl Type for MetadataFilter {
    const IS_REQUIRED: bool = true;
    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        NAME.into()
    }

    fn schema_ref() -> MetaSchemaRef {
        MetaSchemaRef::Reference(NAME.into())
    }

    fn register(registry: &mut Registry) {
        registry.create_schema::<Self, _>(NAME.into(), |registry| {
            registry.schemas.insert(OPERATORS.into(), operators());
            filter()
        });
    }

    fn as_raw_value(&self) -> Option<&Self::RawValueType> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self::RawElementValueType> + 'a> {
        Box::new(std::iter::once(self))
    }
}

impl ParseFromJSON for MetadataFilter {
    fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
        match value {
            Some(Value::Object(map)) => Ok(Self(map)),
            other => Err(ParseError::expected_type(other.unwrap_or_default())),
        }
    }
}

impl ToJSON for MetadataFilter {
    fn to_json(&self) -> Option<Value> {
        Some(Value::Object(self.0.clone()))
    }
}
