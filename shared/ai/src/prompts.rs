//! Prompts: templates in files, each with a name, a version and typed variables.
//!
//! A prompt is a folder `prompts/NAME/vVERSION` with two templates (minijinja), `system.jinja` and `user.jinja`. They are
//! part of the program; a folder of the same layout, named by `PROMPTS_DIR`, replaces the ones it holds. A change that
//! asks for other variables is a new version.

use std::path::Path;

use minijinja::{Environment, UndefinedBehavior};
use serde::Serialize;

use crate::language_model::{Message, Role};

/// A prompt's variables, and where its templates are.
pub trait Prompt: Serialize {
    /// The name of its folder.
    const NAME: &'static str;
    /// The version that these variables belong to.
    const VERSION: u32;
    /// The names of the variables: its fields.
    const VARIABLES: &'static [&'static str];
    /// The built-in template of what the model is to be.
    const SYSTEM: &'static str;
    /// The built-in template of what it is asked.
    const USER: &'static str;
}

macro_rules! prompts {
    ($($(#[$doc:meta])* $name:literal v $version:literal: $type:ident { $($(#[$field_doc:meta])* $field:ident: $of:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, Serialize)]
            pub struct $type<'a> {
                $($(#[$field_doc])* pub $field: $of,)*
            }

            impl Prompt for $type<'_> {
                const NAME: &'static str = $name;
                const VERSION: u32 = $version;
                const VARIABLES: &'static [&'static str] = &[$(stringify!($field)),*];
                const SYSTEM: &'static str =
                    include_str!(concat!("../prompts/", $name, "/v", $version, "/system.jinja"));
                const USER: &'static str =
                    include_str!(concat!("../prompts/", $name, "/v", $version, "/user.jinja"));
            }
        )*

        impl Prompts {
            /// The prompts of this program, those in `dir` in the place of the built-in ones.
            ///
            /// # Errors
            /// A template that cannot be read, is not one, or asks for a variable that its prompt does not have.
            pub fn load(dir: Option<&Path>) -> Result<Self, PromptError> {
                let mut prompts = Self::empty();
                $(prompts.add::<$type<'_>>(dir)?;)*
                Ok(prompts)
            }
        }
    };
}

prompts! {
    /// A question, answered from passages.
    "answer" v 1: AnswerPrompt {
        /// The question.
        question: &'a str,
        /// The passages.
        passages: &'a [PromptPassage<'a>],
    }
    /// A question of a talk, to be understood without the talk.
    "condense" v 1: CondensePrompt {
        /// The talk so far.
        turns: &'a [PromptTurn<'a>],
        /// The question.
        question: &'a str,
    }
    /// A text to be summarised.
    "summarize" v 1: SummarizePrompt {
        /// The text.
        text: &'a str,
        /// At most so many sentences.
        sentences: usize,
        /// The JSON schema of the answer.
        schema: &'a str,
    }
    /// A text to be classified.
    "classify" v 1: ClassifyPrompt {
        /// The text.
        text: &'a str,
        /// The labels.
        labels: &'a [String],
        /// The JSON schema of the answer.
        schema: &'a str,
    }
    /// A text to take data out of.
    "extract" v 1: ExtractPrompt {
        /// The text.
        text: &'a str,
        /// The JSON schema of the answer.
        schema: &'a str,
    }
    /// An answer that does not fit its schema.
    "repair" v 1: RepairPrompt {
        /// What is wrong with it.
        errors: &'a [String],
    }
}

/// A passage as [`AnswerPrompt`] shows it.
#[derive(Clone, Debug, Serialize)]
pub struct PromptPassage<'a> {
    /// The number that stands for it in the answer, from 1.
    pub number: usize,
    /// Its document's title.
    pub title: Option<&'a str>,
    /// Its text.
    pub text: &'a str,
}

/// An earlier question and its answer as [`CondensePrompt`] shows them.
#[derive(Clone, Debug, Serialize)]
pub struct PromptTurn<'a> {
    /// The question.
    pub question: &'a str,
    /// The answer.
    pub answer: &'a str,
}

/// Why there is no prompt.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    /// A file of `PROMPTS_DIR` cannot be read.
    #[error("the prompt {0} cannot be read: {1}")]
    Read(String, std::io::Error),
    /// A file is no template.
    #[error("the prompt {0} is no template: {1}")]
    Syntax(String, String),
    /// A template asks for what its prompt does not have.
    #[error("the prompt {name} asks for {asked:?}; its variables are {}", known.join(", "))]
    Variable {
        /// The template.
        name: String,
        /// What it asks for.
        asked: String,
        /// What there is.
        known: &'static [&'static str],
    },
    /// A template failed on these values.
    #[error("the prompt {0} failed: {1}")]
    Render(String, String),
}

/// All prompts, ready to be filled in.
#[derive(Debug)]
pub struct Prompts {
    templates: Environment<'static>,
}

impl Prompts {
    fn empty() -> Self {
        let mut templates = Environment::empty();
        templates.set_undefined_behavior(UndefinedBehavior::Strict);
        Self { templates }
    }

    fn add<P: Prompt>(&mut self, dir: Option<&Path>) -> Result<(), PromptError> {
        for (part, built_in) in [("system", P::SYSTEM), ("user", P::USER)] {
            let name = file::<P>(part);
            let source = match dir.map(|dir| dir.join(&name)).filter(|path| path.exists()) {
                Some(path) => std::fs::read_to_string(path).map_err(|error| PromptError::Read(name.clone(), error))?,
                None => built_in.to_owned(),
            };
            let syntax = |error: minijinja::Error| PromptError::Syntax(file::<P>(part), error.to_string());
            self.templates.add_template_owned(name.clone(), source).map_err(syntax)?;
            let asked = self.templates.get_template(&name).map_err(syntax)?.undeclared_variables(false);
            if let Some(asked) = asked.into_iter().find(|asked| !P::VARIABLES.contains(&asked.as_str())) {
                return Err(PromptError::Variable { name, asked, known: P::VARIABLES });
            }
        }
        Ok(())
    }

    /// The two messages that a prompt becomes.
    ///
    /// # Errors
    /// [`PromptError::Render`].
    pub fn messages<P: Prompt>(&self, prompt: &P) -> Result<Vec<Message>, PromptError> {
        let render = |part| {
            let name = file::<P>(part);
            let rendered = self
                .templates
                .get_template(&name)
                .and_then(|template| template.render(minijinja::value::Serde(prompt)));
            rendered
                .map(|text| text.trim_end().to_owned())
                .map_err(|error| PromptError::Render(name, error.to_string()))
        };
        Ok(vec![Message::new(Role::System, render("system")?), Message::new(Role::User, render("user")?)])
    }

    /// A prompt's name and version, such as `answer/v1`, to be kept beside what was made with it.
    pub fn label<P: Prompt>() -> String {
        format!("{}/v{}", P::NAME, P::VERSION)
    }
}

fn file<P: Prompt>(part: &str) -> String {
    format!("{}/v{}/{part}.jinja", P::NAME, P::VERSION)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    fn answer(prompts: &Prompts) -> Vec<Message> {
        let passages = [
            PromptPassage { number: 1, title: Some("Tides"), text: "The moon pulls. {{ 7 * 7 }}" },
            PromptPassage { number: 2, title: None, text: "<b>The sun</b> helps." },
        ];
        prompts.messages(&AnswerPrompt { question: "Who pulls?", passages: &passages }).unwrap()
    }

    #[test]
    fn a_prompt_is_filled_in_and_values_are_only_text() {
        let messages = answer(&Prompts::load(None).unwrap());
        assert_eq!((messages[0].role, messages[1].role), (Role::System, Role::User));
        let expected = "[1] Tides\nThe moon pulls. {{ 7 * 7 }}\n\n[2]\n<b>The sun</b> helps.\n\nQuestion: Who pulls?";
        assert_eq!(messages[1].content, expected);
        assert_eq!(Prompts::label::<AnswerPrompt<'_>>(), "answer/v1");
    }

    #[test]
    fn every_shipped_prompt_can_be_filled_in() {
        let prompts = Prompts::load(None).unwrap();
        let labels = ["a".to_owned(), "b".to_owned()];
        let turns = [PromptTurn { question: "q", answer: "a" }];
        prompts.messages(&CondensePrompt { turns: &turns, question: "and?" }).unwrap();
        prompts.messages(&SummarizePrompt { text: "t", sentences: 1, schema: "{}" }).unwrap();
        let classify = prompts.messages(&ClassifyPrompt { text: "t", labels: &labels, schema: "{}" }).unwrap();
        assert!(classify[0].content.contains("- a\n- b\n"), "{}", classify[0].content);
        prompts.messages(&ExtractPrompt { text: "t", schema: "{}" }).unwrap();
        prompts.messages(&RepairPrompt { errors: &labels }).unwrap();
    }

    #[test]
    fn a_folder_replaces_what_it_holds_and_is_checked() {
        let dir = std::env::temp_dir().join(format!("petiole-prompts-{}", std::process::id()));
        let folder = dir.join("answer/v1");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("system.jinja"), "Answer in rhyme.").unwrap();
        let messages = answer(&Prompts::load(Some(&dir)).unwrap());
        assert_eq!(messages[0].content, "Answer in rhyme.");
        assert!(messages[1].content.starts_with("[1] Tides"));
        for (text, says) in
            [("{{ weather }}", "\"weather\"; its variables are question, passages"), ("{% if %}", "no template")]
        {
            std::fs::write(folder.join("user.jinja"), text).unwrap();
            let error = Prompts::load(Some(&dir)).unwrap_err().to_string();
            assert!(error.contains("answer/v1/user.jinja") && error.contains(says), "{error}");
        }
        std::fs::remove_dir_all(dir).unwrap();
    }
}
