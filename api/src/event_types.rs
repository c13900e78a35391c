//! Which events there are, and what data each takes. Adding one here is one line in [`TYPES`]; what it does is a handler of
//! the worker's.

use std::borrow::Cow;

use poem_openapi::registry::{MetaDiscriminatorObject, MetaSchema, MetaSchemaRef, Registry};
use poem_openapi::types::{ParseError, ParseFromJSON, ParseResult, ToJSON, Type};
use serde_json::{Map, Value, json};

use crate::problem::Problem;
use crate::routes::answers::AnswerRequest;
use crate::routes::documents::DocumentRequest;
use crate::text_events::{ClassifyRequest, DigestRequest, ExtractRequest, SummarizeRequest};

/// The event types, each with its schema's name and the type of its data.
static TYPES: &[EventType] = &[
    EventType::of::<DocumentRequest>("document.ingest", "DocumentIngestEventRequest"),
    EventType::of::<AnswerRequest>("question.answer", "QuestionAnswerEventRequest"),
    EventType::of::<SummarizeRequest>("text.summarize", "TextSummarizeEventRequest"),
    EventType::of::<ClassifyRequest>("text.classify", "TextClassifyEventRequest"),
    EventType::of::<ExtractRequest>("text.extract", "TextExtractEventRequest"),
    EventType::of::<DigestRequest>("text.digest", "TextDigestEventRequest"),
];

/// The data of an event.
pub(crate) trait EventData: ParseFromJSON + 'static {
    /// What is wrong that the schema cannot say; `prefix` stands before the fields' names.
    fn check(&self, prefix: &str) -> Result<(), Problem> {
        let _ = prefix;
        Ok(())
    }
}

impl EventData for DocumentRequest {}

impl EventData for AnswerRequest {
    fn check(&self, prefix: &str) -> Result<(), Problem> {
        self.filter.read(&format!("{prefix}filter")).map(drop)
    }
}

struct EventType {
    name: &'static str,
    schema: &'static str,
    data: fn() -> MetaSchemaRef,
    register: fn(&mut Registry),
    check: fn(Value) -> Result<(), Problem>,
}

impl EventType {
    const fn of<T: EventData>(name: &'static str, schema: &'static str) -> Self {
        Self {
            name,
            schema,
            data: T::schema_ref,
            register: T::register,
            check: |data| match T::parse_from_json(Some(data)) {
                Ok(data) => data.check("data."),
                Err(error) => Err(Problem::field("data", error.into_message())),
            },
        }
    }

    /// The schema of an event of this type.
    fn whole(&self) -> MetaSchema {
        let kind = MetaSchema {
            description: Some("What happened."),
            enum_items: vec![self.name.into()],
            ..MetaSchema::new("string")
        };
        MetaSchema {
            description: Some("An event of one type."),
            required: vec!["type", "data"],
            properties: vec![("type", MetaSchemaRef::Inline(Box::new(kind))), ("data", (self.data)())],
            ..MetaSchema::new("object")
        }
    }
}

/// Something that happened, and is to be worked on.
#[derive(Clone, Debug)]
pub(crate) struct EventRequest {
    pub(crate) kind: String,
    pub(crate) data: Map<String, Value>,
}

impl EventRequest {
    /// What can be said before the event is stored.
    pub(crate) fn check(&self) -> Result<(), Problem> {
        let known = TYPES.iter().find(|known| known.name == self.kind);
        known.map_or(Ok(()), |known| (known.check)(Value::Object(self.data.clone())))
    }
}

impl Type for EventRequest {
    const IS_REQUIRED: bool = true;
    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        "EventRequest".into()
    }

    fn schema_ref() -> MetaSchemaRef {
        MetaSchemaRef::Reference("EventRequest".into())
    }

    fn register(registry: &mut Registry) {
        registry.create_schema::<Self, _>("EventRequest".into(), |registry| {
            for known in TYPES {
                (known.register)(registry);
                registry.schemas.insert(known.schema.into(), known.whole());
            }
            let reference = |known: &EventType| MetaSchemaRef::Reference(known.schema.into());
            let mapping = |known: &EventType| (known.name.into(), format!("#/components/schemas/{}", known.schema));
            MetaSchema {
                description: Some(
                    "Something that happened, and is to be worked on: `type`, and the `data` that it takes.",
                ),
                one_of: TYPES.iter().map(reference).collect(),
                discriminator: Some(MetaDiscriminatorObject {
                    property_name: "type",
                    mapping: TYPES.iter().map(mapping).collect(),
                }),
                example: Some(json!({
                    "type": "document.ingest",
                    "data": {"text": "Sloths come down from their trees once a week.", "title": "sloths"},
                })),
                ..MetaSchema::ANY
            }
        });
    }

    fn as_raw_value(&self) -> Option<&Self::RawValueType> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self::RawElementValueType> + 'a> {
        Box::new(std::iter::once(self))
    }
}

impl ParseFromJSON for EventRequest {
    fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
        let mut value = value.unwrap_or_default();
        match (value["type"].take(), value["data"].take()) {
            (Value::String(kind), Value::Object(data)) => Ok(Self { kind, data }),
            _ => Err(ParseError::custom("needs a type and an object of data")),
        }
    }
}

impl ToJSON for EventRequest {
    fn to_json(&self) -> Option<Value> {
        Some(json!({"type": self.kind, "data": self.data}))
    }
}
