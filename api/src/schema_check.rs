//! Compares a JSON value with the schema that the description shows, and names every field that does not fit: what came,
//! and what may come. So the description and the behaviour cannot differ.

use std::any::TypeId;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, OnceLock, PoisonError};

use chrono::DateTime;
use poem_openapi::registry::{MetaDiscriminatorObject, MetaSchema, MetaSchemaRef, Registry};
use poem_openapi::types::Type;
use regex::Regex;
use serde_json::Value;
use uuid::Uuid;

use crate::clock::CRONTAB;
use crate::json::{READABLE, STORABLE, readable};
use crate::problem::FieldError;

/// More errors than this help nobody.
const MOST: usize = 20;
/// The most names that are listed of those that may be.
const MOST_NAMES: usize = 40;
/// How much of a wrong value is shown.
const SHOWN: usize = 60;

/// Everything in `value` that does not fit `T`, its fields prefixed by `path`.
pub(crate) fn check<T: Type + 'static>(value: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    Check { registry: registry::<T>(), errors: &mut errors }.reference(&T::schema_ref(), value, path);
    errors.truncate(MOST);
    errors
}

/// The schemas of `T`, made once.
fn registry<T: Type + 'static>() -> &'static Registry {
    static MADE: OnceLock<Mutex<HashMap<TypeId, &'static Registry>>> = OnceLock::new();
    let mut made = MADE.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    made.entry(TypeId::of::<T>()).or_insert_with(|| {
        let mut registry = Registry::new();
        T::register(&mut registry);
        Box::leak(Box::new(registry))
    })
}

struct Check<'a> {
    registry: &'a Registry,
    errors: &'a mut Vec<FieldError>,
}

impl Check<'_> {
    fn wrong(&mut self, path: &str, message: impl Into<String>) {
        self.errors.push(FieldError::new(if path.is_empty() { "body" } else { path }, message));
    }

    fn reference(&mut self, schema: &MetaSchemaRef, value: &Value, path: &str) {
        if self.errors.len() >= MOST {
            return;
        }
        match schema {
            MetaSchemaRef::Inline(schema) => self.schema(schema, value, path),
            MetaSchemaRef::Reference(name) => {
                if let Some(schema) = self.registry.schemas.get(name) {
                    self.schema(schema, value, path);
                }
            }
        }
    }

    fn schema(&mut self, schema: &MetaSchema, value: &Value, path: &str) {
        for part in &schema.all_of {
            self.reference(part, value, path);
        }
        // what the alternatives know is all there is to know
        if !schema.one_of.is_empty() {
            return self.one_of(schema, value, path);
        }
        match schema.ty {
            "string" => self.string(schema, value, path),
            "integer" | "number" => self.number(schema, value, path),
            "boolean" if !value.is_boolean() => self.wrong(path, expected("true or false", value)),
            "array" => self.array(schema, value, path),
            "object" => self.object(schema, value, path),
            _ => {}
        }
    }

    /// An object is read as the alternative that its discriminator names.
    fn discriminated(&mut self, by: &MetaDiscriminatorObject, value: &Value, path: &str) {
        let Some(map) = value.as_object() else { return self.wrong(path, expected("an object", value)) };
        let field = if path.is_empty() { by.property_name.to_owned() } else { format!("{path}.{}", by.property_name) };
        let Some(given) = map.get(by.property_name) else { return self.wrong(&field, "is missing") };
        let named = by.mapping.iter().find(|(name, _)| given == name.as_str());
        let Some((_, reference)) = named else {
            let names: Vec<_> = by.mapping.iter().map(|(name, _)| name.as_str()).collect();
            return self.wrong(&field, expected(&format!("one of {}", names.join(", ")), given));
        };
        if let Some(name) = reference.rsplit('/').next() {
            self.reference(&MetaSchemaRef::Reference(name.to_owned()), value, path);
        }
    }

    /// An object is read as the one alternative whose required field it has; other values must fit some alternative.
    fn one_of(&mut self, schema: &MetaSchema, value: &Value, path: &str) {
        if let Some(by) = &schema.discriminator {
            return self.discriminated(by, value, path);
        }
        let needed = |one: &MetaSchemaRef| self.resolve(one).map(|one| one.required.clone()).unwrap_or_default();
        if let Some(map) = value.as_object()
            && schema.one_of.iter().any(|one| !needed(one).is_empty())
        {
            let inner = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            // what several alternatives need tells them not apart
            let tells = |name: &&str| schema.one_of.iter().filter(|one| needed(one).contains(name)).count() == 1;
            let names: Vec<_> = schema.one_of.iter().flat_map(needed).filter(tells).collect();
            let properties = |one: &MetaSchema| one.properties.iter().map(|(name, _)| *name).collect::<Vec<_>>();
            let given: Vec<_> = names.iter().filter(|name| map.contains_key(**name)).collect();
            match given[..] {
                [name] => {
                    if let Some(one) = schema.one_of.iter().find(|one| needed(one).contains(name)) {
                        self.reference(one, value, path);
                    }
                }
                [] => {
                    self.wrong(path, format!("must have one of {}", names.join(", ")));
                    let known: BTreeSet<_> =
                        schema.one_of.iter().filter_map(|one| self.resolve(one)).flat_map(properties).collect();
                    let listed = known.iter().copied().collect::<Vec<_>>().join(", ");
                    for name in map.keys().filter(|name| !known.contains(name.as_str())) {
                        self.wrong(&inner(name), format!("is not known here; known are {listed}"));
                    }
                }
                [first, ref others @ ..] => {
                    for name in others {
                        self.wrong(&inner(name), format!("must not be given together with {first}"));
                    }
                }
            }
            return;
        }
        let fits = schema.one_of.iter().any(|one| {
            let mut errors = Vec::new();
            Check { registry: self.registry, errors: &mut errors }.reference(one, value, path);
            errors.is_empty()
        });
        if !fits {
            self.wrong(path, expected(schema.title.as_deref().unwrap_or("an object"), value));
        }
    }

    fn resolve<'s>(&'s self, schema: &'s MetaSchemaRef) -> Option<&'s MetaSchema> {
        match schema {
            MetaSchemaRef::Inline(schema) => Some(schema),
            MetaSchemaRef::Reference(name) => self.registry.schemas.get(name),
        }
    }

    fn string(&mut self, schema: &MetaSchema, value: &Value, path: &str) {
        let Some(text) = value.as_str() else { return self.wrong(path, expected("a text", value)) };
        if !schema.enum_items.is_empty() && !schema.enum_items.contains(value) {
            let names: Vec<_> = schema.enum_items.iter().filter_map(Value::as_str).collect();
            // A long list helps nobody: the description has it.
            let list = match names.len().checked_sub(MOST_NAMES) {
                Some(more @ 1..) => format!("{} or one of {more} more", names[..MOST_NAMES].join(", ")),
                _ => format!("one of {}", names.join(", ")),
            };
            return self.wrong(path, expected(&list, value));
        }
        let length = || text.chars().count();
        if schema.min_length.is_some_and(|least| length() < least) {
            self.wrong(path, "must not be empty");
        }
        if let Some(most) = schema.max_length
            && length() > most
        {
            self.wrong(path, format!("must have at most {most} characters, has {}", length()));
        }
        match schema.pattern.as_deref() {
            None => {}
            Some(READABLE | STORABLE) if text.contains('\0') => {
                self.wrong(path, "must not hold the character U+0000");
            }
            Some(READABLE) if !text.is_empty() && !readable(text) => {
                self.wrong(path, "must hold more than white space");
            }
            Some(READABLE | STORABLE) => {}
            // Whoever reads it knows better what is wrong with it.
            Some(pattern) if *pattern == **CRONTAB => {}
            Some(pattern) if !matches(pattern, text) => self.wrong(path, expected(&format!("like {pattern}"), value)),
            Some(_) => {}
        }
        match schema.format {
            Some("uuid") if Uuid::parse_str(text).is_err() => self.wrong(path, expected("a UUID", value)),
            Some("date-time") if DateTime::parse_from_rfc3339(text).is_err() => {
                self.wrong(path, expected("a time in RFC 3339 with its offset, such as 2030-01-31T08:00:00Z", value));
            }
            _ => {}
        }
    }

    fn number(&mut self, schema: &MetaSchema, value: &Value, path: &str) {
        let what = if schema.ty == "integer" { "a whole number" } else { "a number" };
        let number = match schema.ty {
            "integer" => value.as_i64().map(|n| n as f64),
            _ => value.as_f64().filter(|n| n.is_finite()),
        };
        let Some(number) = number else { return self.wrong(path, expected(what, value)) };
        let below = schema.minimum.is_some_and(|least| number < least);
        let above = schema.maximum.is_some_and(|most| number > most);
        if below || above {
            let range = match (schema.minimum, schema.maximum) {
                (Some(least), Some(most)) => format!("{what} from {least} to {most}"),
                (Some(least), None) => format!("{what}, at least {least}"),
                (_, most) => format!("{what}, at most {}", most.unwrap_or_default()),
            };
            self.wrong(path, expected(&range, value));
        }
    }

    fn array(&mut self, schema: &MetaSchema, value: &Value, path: &str) {
        let Some(items) = value.as_array() else { return self.wrong(path, expected("a list", value)) };
        if schema.min_items.is_some_and(|least| items.len() < least) {
            self.wrong(path, "must not be empty");
        }
        if schema.max_items.is_some_and(|most| items.len() > most) {
            self.wrong(path, format!("must have at most {} items", schema.max_items.unwrap_or_default()));
        }
        if schema.unique_items == Some(true) && (1..items.len()).any(|n| items[..n].contains(&items[n])) {
            self.wrong(path, "must not hold the same twice");
        }
        if let Some(item) = &schema.items {
            for (n, value) in items.iter().enumerate() {
                self.reference(item, value, &format!("{path}[{n}]"));
            }
        }
    }

    fn object(&mut self, schema: &MetaSchema, value: &Value, path: &str) {
        let Some(map) = value.as_object() else { return self.wrong(path, expected("an object", value)) };
        let inner = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        for name in &schema.required {
            if !map.contains_key(*name) {
                self.wrong(&inner(name), "is missing");
            }
        }
        if schema.max_properties.is_some_and(|most| map.len() > most) {
            self.wrong(path, format!("must have at most {} fields", schema.max_properties.unwrap_or_default()));
        }
        for (name, value) in map {
            let property = schema.properties.iter().find(|(known, _)| known == name);
            match (property, &schema.additional_properties) {
                // what may be left out may also be null
                (Some(_), _) if value.is_null() && !schema.required.contains(&name.as_str()) => {}
                (Some((_, property)), _) => self.reference(property, value, &inner(name)),
                (None, Some(any)) => self.reference(any, value, &inner(name)),
                (None, None) => {
                    let known: Vec<_> = schema.properties.iter().map(|(known, _)| *known).collect();
                    self.wrong(&inner(name), format!("is not known here; known are {}", known.join(", ")));
                }
            }
        }
    }
}

/// Whether a text is like a pattern; a pattern that is none refuses nothing.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    static MADE: OnceLock<Mutex<HashMap<String, Option<Regex>>>> = OnceLock::new();
    let mut made = MADE.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    let regex = made.entry(pattern.to_owned()).or_insert_with(|| Regex::new(pattern).ok());
    regex.as_ref().is_none_or(|regex| regex.is_match(text))
}

/// "must be …, is …", without showing more of the value than helps.
fn expected(what: &str, value: &Value) -> String {
    let came = match value {
        Value::Null => "null".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        other => {
            let text = other.to_string();
            match text.char_indices().nth(SHOWN) {
                Some((end, _)) => format!("{}…", &text[..end]),
                None => text,
            }
        }
    };
    format!("must be {what}, is {came}")
}
