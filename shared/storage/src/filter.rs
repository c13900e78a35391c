//! Conditions on the metadata of documents: read from JSON, checked, and written as SQL whose values are parameters.
//!
//! A field with a scalar must have it, or be a list that holds it; with a list it must be a list that holds all of it;
//! with an object it must pass each of the object's operators. `$and`, `$or` and `$not` take filters.

use sea_orm::Value as Parameter;
use serde_json::{Map, Value, json};

use crate::jsonb;

/// The most conditions of one filter.
const MOST: usize = 200;
/// The most values of one list.
pub const MOST_VALUES: usize = 100;
/// The operators of a field.
pub const OPERATORS: [&str; 9] = ["$eq", "$ne", "$in", "$nin", "$gt", "$gte", "$lt", "$lte", "$exists"];

/// What the metadata of a document must be like. The empty one is passed by all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter(Vec<Condition>);

#[derive(Clone, Debug, PartialEq)]
enum Condition {
    Field(String, Test),
    All(Vec<Filter>),
    Any(Vec<Filter>),
    Not(Filter),
}

#[derive(Clone, Debug, PartialEq)]
enum Test {
    /// One of these values.
    In(Vec<Value>),
    /// None of these values, or not there.
    NotIn(Vec<Value>),
    /// A list with all of these values.
    Holds(Vec<Value>),
    /// Compared by an operator of SQL's path language; a number with numbers, a text with texts.
    Compare(&'static str, Value),
    /// There, or not there.
    Exists(bool),
}

/// What is wrong with a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterError {
    /// Where: `year.$gte`.
    pub path: String,
    /// What.
    pub message: String,
}

impl Filter {
    /// Reads a filter.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(map: &Map<String, Value>) -> Result<Self, Vec<FilterError>> {
        let mut reader = Reader::default();
        let filter = reader.filter(map, "");
        if reader.conditions > MOST {
            reader.wrong("", format!("has more than {MOST} conditions"));
        }
        if reader.errors.is_empty() { Ok(filter) } else { Err(reader.errors) }
    }

    /// Whether every document passes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The condition as SQL on the column `metadata`. Its parameters are added to `values`, whose numbers they continue.
    pub(crate) fn sql(&self, metadata: &str, values: &mut Vec<Parameter>) -> String {
        let parts: Vec<_> = self.0.iter().map(|condition| condition.sql(metadata, values)).collect();
        if parts.is_empty() { "true".to_owned() } else { parts.join(" AND ") }
    }
}

impl Condition {
    fn sql(&self, metadata: &str, values: &mut Vec<Parameter>) -> String {
        let mut parameter = |value: Value| {
            values.push(jsonb::stored(value).into());
            format!("${}::jsonb", values.len())
        };
        let joined = |filters: &[Filter], word: &str, values: &mut Vec<Parameter>| {
            let parts: Vec<_> = filters.iter().map(|filter| format!("({})", filter.sql(metadata, values))).collect();
            format!("({})", parts.join(word))
        };
        match self {
            Self::All(filters) => joined(filters, " AND ", values),
            Self::Any(filters) => joined(filters, " OR ", values),
            Self::Not(filter) => format!("NOT ({})", filter.sql(metadata, values)),
            // containment, in both forms: the index on metadata knows it
            Self::Field(name, Test::In(of)) => {
                let one = |value: &Value| {
                    let (alone, listed) = (parameter(json!({name: value})), parameter(json!({name: [value]})));
                    format!("{metadata} @> {alone} OR {metadata} @> {listed}")
                };
                format!("({})", of.iter().map(one).collect::<Vec<_>>().join(" OR "))
            }
            Self::Field(name, Test::NotIn(of)) => {
                format!("NOT {}", Self::Field(name.clone(), Test::In(of.clone())).sql(metadata, values))
            }
            Self::Field(name, Test::Holds(of)) => format!("{metadata} @> {}", parameter(json!({name: of}))),
            Self::Field(name, Test::Compare(operator, value)) => {
                let variables = parameter(json!({"name": name, "value": value}));
                format!(
                    "jsonb_path_exists({metadata}, \
                     '$.keyvalue() ? (@.key == $name).value ? (@ {operator} $value)', {variables})"
                )
            }
            Self::Field(name, Test::Exists(there)) => {
                values.push(jsonb::stored_text(name).into());
                format!("jsonb_exists({metadata}, ${}) = {there}", values.len())
            }
        }
    }
}

#[derive(Default)]
struct Reader {
    errors: Vec<FilterError>,
    conditions: usize,
}

impl Reader {
    fn wrong(&mut self, path: &str, message: impl Into<String>) {
        self.errors.push(FilterError { path: path.to_owned(), message: message.into() });
    }

    fn filter(&mut self, map: &Map<String, Value>, path: &str) -> Filter {
        let mut conditions = Vec::new();
        for (name, value) in map {
            self.conditions += 1;
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            match (name.as_str(), value) {
                ("$and", value) => conditions.extend(self.filters(value, &path).map(Condition::All)),
                ("$or", value) => conditions.extend(self.filters(value, &path).map(Condition::Any)),
                ("$not", Value::Object(map)) => conditions.push(Condition::Not(self.filter(map, &path))),
                ("$not", _) => self.wrong(&path, "must be a filter: an object"),
                (_, Value::Object(operators)) => {
                    let tests = self.operators(operators, &path);
                    conditions.extend(tests.into_iter().map(|test| Condition::Field(name.clone(), test)));
                }
                (_, Value::Array(values)) => {
                    if self.scalars(values, &path) {
                        conditions.push(Condition::Field(name.clone(), Test::Holds(values.clone())));
                    }
                }
                (_, scalar) => conditions.push(Condition::Field(name.clone(), Test::In(vec![scalar.clone()]))),
            }
        }
        Filter(conditions)
    }

    fn filters(&mut self, value: &Value, path: &str) -> Option<Vec<Filter>> {
        let Some(items) = value.as_array().filter(|items| (1..=MOST_VALUES).contains(&items.len())) else {
            self.wrong(path, format!("must be a list of 1 to {MOST_VALUES} filters"));
            return None;
        };
        let mut filters = Vec::with_capacity(items.len());
        for (n, item) in items.iter().enumerate() {
            let path = format!("{path}[{n}]");
            match item {
                Value::Object(map) => filters.push(self.filter(map, &path)),
                _ => self.wrong(&path, "must be a filter: an object"),
            }
        }
        Some(filters)
    }

    fn operators(&mut self, operators: &Map<String, Value>, path: &str) -> Vec<Test> {
        let mut tests = Vec::new();
        if operators.is_empty() {
            self.wrong(path, format!("must have one of {}", OPERATORS.join(", ")));
        }
        for (operator, value) in operators {
            self.conditions += 1;
            let path = format!("{path}.{operator}");
            let test = match operator.as_str() {
                "$eq" if is_scalar(value) => Some(Test::In(vec![value.clone()])),
                "$ne" if is_scalar(value) => Some(Test::NotIn(vec![value.clone()])),
                "$eq" | "$ne" => {
                    self.wrong(&path, "must be a text, a number, true, false or null");
                    None
                }
                "$in" | "$nin" => match value.as_array().filter(|values| !values.is_empty()) {
                    Some(values) if self.scalars(values, &path) => {
                        Some(if operator == "$in" { Test::In(values.clone()) } else { Test::NotIn(values.clone()) })
                    }
                    Some(_) => None,
                    None => {
                        self.wrong(&path, "must be a list with at least one value");
                        None
                    }
                },
                "$gt" => self.compared(">", value, &path),
                "$gte" => self.compared(">=", value, &path),
                "$lt" => self.compared("<", value, &path),
                "$lte" => self.compared("<=", value, &path),
                "$exists" => match value.as_bool() {
                    Some(there) => Some(Test::Exists(there)),
                    None => {
                        self.wrong(&path, "must be true or false");
                        None
                    }
                },
                _ => {
                    self.wrong(&path, format!("is no operator; there are {}", OPERATORS.join(", ")));
                    None
                }
            };
            tests.extend(test);
        }
        tests
    }

    fn compared(&mut self, operator: &'static str, value: &Value, path: &str) -> Option<Test> {
        if value.is_number() || value.is_string() {
            return Some(Test::Compare(operator, value.clone()));
        }
        self.wrong(path, "must be a number or a text");
        None
    }

    fn scalars(&mut self, values: &[Value], path: &str) -> bool {
        if values.len() > MOST_VALUES {
            self.wrong(path, format!("must have at most {MOST_VALUES} values"));
            return false;
        }
        let odd = values.iter().position(|value| !is_scalar(value));
        if let Some(n) = odd {
            self.wrong(&format!("{path}[{n}]"), "must be a text, a number, true, false or null");
        }
        odd.is_none()
    }
}

fn is_scalar(value: &Value) -> bool {
    !value.is_object() && !value.is_array()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn errors(filter: Value) -> Vec<String> {
        let errors = Filter::parse(filter.as_object().unwrap()).expect_err("it is wrong");
        errors.into_iter().map(|error| error.path).collect()
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(errors(json!({"kind": {"a": 1}})), ["kind.a"]);
        assert_eq!(errors(json!({"kind": {}})), ["kind"]);
        assert_eq!(errors(json!({"kind": [[]]})), ["kind[0]"]);
        assert_eq!(errors(json!({"y": {"$gte": true, "$in": [], "$lt": 3}})), ["y.$gte", "y.$in"]);
        assert_eq!(errors(json!({"$or": []})), ["$or"]);
        assert_eq!(errors(json!({"$or": [{"a": {"$exists": 1}}, 5]})), ["$or[0].a.$exists", "$or[1]"]);
        assert_eq!(errors(json!({"$not": [1]})), ["$not"]);
        assert_eq!(errors(json!({"a": {"$in": vec![1; MOST_VALUES + 1]}})), ["a.$in"]);
        let many: Map<_, _> = (0..=MOST).map(|n| (n.to_string(), json!(n))).collect();
        assert_eq!(errors(Value::Object(many)), [""]);
    }

    #[test]
    fn values_and_names_are_parameters() {
        let filter = json!({"a' OR 1=1 --": "x';", "b": {"$gt": 1, "$exists": true}, "$not": {"c": [1, null]}});
        let mut values = vec![1.into()];
        let sql = Filter::parse(filter.as_object().unwrap()).unwrap().sql("d.metadata", &mut values);
        assert!(!sql.contains("OR 1=1") && !sql.contains("x'"), "{sql}");
        assert!(sql.starts_with("(d.metadata @> $2::jsonb OR d.metadata @> $3::jsonb) AND "), "{sql}");
        assert_eq!(values.len(), 6);
        assert_eq!(Filter::default().sql("m", &mut values), "true");
    }
}
