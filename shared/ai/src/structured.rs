//! Structured output: JSON that a language model writes, checked against a JSON schema, and asked for again with what is
//! wrong with it.

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

use crate::language_model::{ChatRequest, Form, LanguageError, LanguageModel, Message, Role};
use crate::prompts::{PromptError, Prompts, RepairPrompt};

/// How often the model may try.
const TRIES: usize = 3;
/// Faults that the model is told of at once.
const MOST_FAULTS: usize = 10;

/// A JSON schema, ready to check values.
#[derive(Debug)]
pub struct Schema {
    validator: Validator,
    text: String,
}

impl Schema {
    /// Compiles a schema. References to other documents are not followed; patterns run in linear time.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(schema: &Value) -> Result<Self, String> {
        let options = jsonschema::options().with_pattern_options(PatternOptions::regex());
        let validator = options.build(schema).map_err(|error| error.to_string())?;
        Ok(Self { validator, text: schema.to_string() })
    }

    /// The schema's text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Everything about `value` that does not fit, with its place; empty: it fits.
    pub fn faults(&self, value: &Value) -> Vec<String> {
        let faults = self.validator.iter_errors(value).take(MOST_FAULTS);
        faults
            .map(|fault| match fault.instance_path().to_string() {
                place if place.is_empty() => fault.to_string(),
                place => format!("{place}: {fault}"),
            })
            .collect()
    }
}

/// Why there is no value.
#[derive(Debug, thiserror::Error)]
pub enum StructuredError {
    /// The model.
    #[error(transparent)]
    Language(#[from] LanguageError),
    /// A prompt of `PROMPTS_DIR`.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// The model does not write what fits.
    #[error("the language model's answer did not fit the JSON schema after {TRIES} tries: {}", .0.join("; "))]
    Unfit(Vec<String>),
}

/// Asks the model for JSON of this schema.
///
/// # Errors
/// [`StructuredError`].
pub async fn generate(
    model: &dyn LanguageModel,
    prompts: &Prompts,
    messages: Vec<Message>,
    schema: &Schema,
) -> Result<Value, StructuredError> {
    let mut request = ChatRequest { form: Form::Json, ..ChatRequest::new(messages) };
    let mut faults = Vec::new();
    for _ in 0..TRIES {
        let said = model.complete(request.clone()).await?;
        faults = match json_in(&said.text) {
            Some(value) => match schema.faults(&value) {
                faults if faults.is_empty() => return Ok(value),
                faults => faults,
            },
            None if said.truncated => vec!["it was cut off at the limit of tokens: be briefer".to_owned()],
            None => vec!["it is no JSON".to_owned()],
        };
        tracing::info!(model = model.model(), faults = faults.len(), "an answer does not fit its schema");
        request.messages.push(Message::new(Role::Assistant, said.text));
        // what the model is stays as it was; only what it is asked is added
        let repair = prompts.messages(&RepairPrompt { errors: &faults })?;
        request.messages.extend(repair.into_iter().filter(|message| message.role == Role::User));
    }
    Err(StructuredError::Unfit(faults))
}

/// The JSON value in what a model said: the whole, or what stands in a fence, or from the first bracket to the last.
fn json_in(said: &str) -> Option<Value> {
    let whole = said.trim();
    let fenced = whole.split_once("```").and_then(|(_, rest)| {
        let (inside, _) = rest.rsplit_once("```")?;
        Some(inside.strip_prefix("json").unwrap_or(inside).trim())
    });
    let bracketed = whole.find(['{', '[']).zip(whole.rfind(['}', ']'])).and_then(|(a, b)| whole.get(a..=b));
    [Some(whole), fenced, bracketed].into_iter().flatten().find_map(|text| serde_json::from_str(text).ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn json_is_found_in_what_models_say() {
        for said in
            ["{\"a\": 1}", "```json\n{\"a\": 1}\n```", "Here it is: {\"a\": 1}. Anything else?", " ```\n{\"a\":1}```"]
        {
            assert_eq!(json_in(said), Some(json!({"a": 1})), "{said}");
        }
        assert_eq!(json_in("I cannot do that."), None);
        assert_eq!(json_in("} {"), None);
    }

    #[test]
    fn faults_are_named_with_their_place() {
        let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["m"]});
        let schema = Schema::new(&schema).unwrap();
        assert!(schema.faults(&json!({"n": 1, "m": null})).is_empty());
        let faults = schema.faults(&json!({"n": "x"})).join("; ");
        assert!(faults.contains("/n: ") && faults.contains("\"m\" is a required property"), "{faults}");
    }

    #[test]
    fn schemas_that_are_none_or_lead_elsewhere_are_refused() {
        for schema in [
            json!({"type": "thing"}),
            json!({"$ref": "http://127.0.0.1:9/schema.json"}),
            json!({"$ref": "file:///etc/passwd"}),
            json!({"pattern": "(?=x)"}),
            json!([]),
        ] {
            assert!(Schema::new(&schema).is_err(), "{schema}");
        }
    }
}
