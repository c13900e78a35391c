//! Typed values out of environment variables. Nothing stops at the first mistake: the reader notes each problem and goes
//! on with the default, so that one failed start names everything that has to be corrected.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use secrecy::SecretString;

/// Reads settings from the environment, or from a map in tests, and collects every problem.
///
/// A setting may have several names; the first one that is set counts. An empty value is the same as none.
///
/// ```
/// # use petiole_settings::Reader;
/// let mut reader = Reader::from_map([("CELERY_TASK_ACKS_LATE", "yes"), ("WORKER_CONCURRENCY", "many")]);
/// assert!(reader.boolean(&["TASK_ACKS_LATE", "CELERY_TASK_ACKS_LATE"], false));
/// let concurrency = reader.get(&["WORKER_CONCURRENCY"], 2_u32, "a whole number");
/// assert_eq!(concurrency, 2);
/// let error = reader.finish().unwrap_err();
/// assert!(error.to_string().contains("WORKER_CONCURRENCY holds \"many\""));
/// ```
#[derive(Debug)]
pub struct Reader {
    values: HashMap<String, OsString>,
    problems: Vec<Problem>,
}

/// One setting that cannot be used: which variable, what it held (never for a secret), what it may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The environment variable's name.
    pub name: String,
    /// What it held; `None` when it held nothing or when that must not be shown.
    pub held: Option<String>,
    /// What it may hold, or what to do, as the end of a sentence.
    pub expects: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.held {
            Some(held) => write!(f, "{} holds {held:?}; it must be {}", self.name, self.expects),
            None => write!(f, "{} must be {}", self.name, self.expects),
        }
    }
}

/// Everything that is wrong with the settings, one line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsError {
    /// The problems, in the order they were found; never empty.
    pub problems: Vec<Problem>,
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the settings cannot be used:")?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl std::error::Error for SettingsError {}

impl Reader {
    /// Reads the environment of this process, as it is now.
    pub fn from_env() -> Self {
        let values = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        Self { values: values.collect(), problems: Vec::new() }
    }

    /// Reads these values in place of the environment.
    pub fn from_map<K, V>(values: impl IntoIterator<Item = (K, V)>) -> Self
    where
        K: Into<String>,
        V: Into<String>,
    {
        let values = values.into_iter().map(|(name, value)| (name.into(), OsString::from(value.into())));
        Self { values: values.collect(), problems: Vec::new() }
    }

    /// Notes a problem of the caller's own finding. Give `None` for `held` when the value is a secret.
    pub fn problem(&mut self, name: &str, held: Option<&str>, expects: impl Into<String>) {
        self.problems.push(Problem { name: name.to_owned(), held: held.map(str::to_owned), expects: expects.into() });
    }

    /// The problems found so far.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// Every problem found, if there is one.
    pub fn finish(self) -> Result<(), SettingsError> {
        if self.problems.is_empty() { Ok(()) } else { Err(SettingsError { problems: self.problems }) }
    }

    /// The first of `names` that is set, and its text.
    pub fn text(&mut self, names: &[&str]) -> Option<(String, String)> {
        for name in names {
            let Some(value) = self.values.get(*name).filter(|value| !is_blank(value)) else { continue };
            let Some(text) = value.to_str() else {
                self.problem(name, None, "valid UTF-8 text");
                return None;
            };
            return Some(((*name).to_owned(), text.trim().to_owned()));
        }
        None
    }

    /// A typed value, or `default` where none of `names` is set. `expects` ends the sentence "it must be …".
    pub fn get<T: FromStr>(&mut self, names: &[&str], default: T, expects: &str) -> T {
        self.optional(names, expects).unwrap_or(default)
    }

    /// A typed value, or `None` where none of `names` is set.
    pub fn optional<T: FromStr>(&mut self, names: &[&str], expects: &str) -> Option<T> {
        let (name, text) = self.text(names)?;
        match text.parse() {
            Ok(value) => Some(value),
            Err(_) => {
                self.problem(&name, Some(&text), expects);
                None
            }
        }
    }

    /// A number within bounds, or `default` where none of `names` is set.
    pub fn number<T>(&mut self, names: &[&str], default: T, bounds: RangeInclusive<T>) -> T
    where
        T: FromStr + PartialOrd + fmt::Display,
    {
        let Some((name, text)) = self.text(names) else { return default };
        match text.parse::<T>() {
            Ok(value) if bounds.contains(&value) => value,
            _ => {
                let expects = format!("a number from {} to {}", bounds.start(), bounds.end());
                self.problem(&name, Some(&text), expects);
                default
            }
        }
    }

    /// A span of time, written as a number of seconds (fractions allowed), or `default` where none of `names` is set.
    pub fn seconds(&mut self, names: &[&str], default: Duration) -> Duration {
        let Some((name, text)) = self.text(names) else { return default };
        match text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) {
            Some(value) => value,
            None => {
                self.problem(&name, Some(&text), "a number of seconds, 0 or more");
                default
            }
        }
    }

    /// A switch: `1`, `true`, `yes`, `on` or `0`, `false`, `no`, `off`, in any case.
    pub fn boolean(&mut self, names: &[&str], default: bool) -> bool {
        let Some((name, text)) = self.text(names) else { return default };
        match text.to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" | "on" => true,
            "0" | "false" | "no" | "off" => false,
            _ => {
                self.problem(&name, Some(&text), "1, true, yes or on; or 0, false, no or off");
                default
            }
        }
    }

    /// The entries of a list separated by commas, blanks around them and empty ones left out; `None` where none of
    /// `names` is set.
    pub fn list(&mut self, names: &[&str]) -> Option<Vec<String>> {
        let (_, text) = self.text(names)?;
        Some(text.split(',').map(str::trim).filter(|entry| !entry.is_empty()).map(str::to_owned).collect())
    }

    /// A secret: the value of `NAME`, or the content of the file that `NAME_FILE` names (its last line break left out),
    /// as container engines hand secrets over. Its value never appears in a problem.
    pub fn secret(&mut self, names: &[&str]) -> Option<SecretString> {
        self.named_secret(names).map(|(_, secret)| secret)
    }

    /// As [`Reader::secret`], with the name of the variable that gave it.
    pub fn named_secret(&mut self, names: &[&str]) -> Option<(String, SecretString)> {
        for name in names {
            let file_variable = format!("{name}_FILE");
            let file = self.text(&[&file_variable]);
            match (self.secret_text(name), file) {
                (Some(_), Some(_)) => {
                    let expects = format!("unset while {name} is set: only one of the two can count");
                    self.problem(&file_variable, None, expects);
                    return None;
                }
                (Some(value), None) => return Some(((*name).to_owned(), value)),
                (None, Some((_, path))) => return self.secret_file(file_variable, &path),
                (None, None) => {}
            }
        }
        None
    }

    /// A secret is taken as it stands: blanks at its ends may be meant.
    fn secret_text(&mut self, name: &str) -> Option<SecretString> {
        let value = self.values.get(name).filter(|value| !is_blank(value))?;
        match value.to_str() {
            Some(text) => Some(SecretString::from(text)),
            None => {
                self.problem(name, None, "valid UTF-8 text");
                None
            }
        }
    }

    fn secret_file(&mut self, variable: String, path: &str) -> Option<(String, SecretString)> {
        match std::fs::read_to_string(path) {
            Ok(content) if content.trim().is_empty() => {
                self.problem(&variable, Some(path), "the path of a file that holds the secret; this one is empty");
                None
            }
            Ok(content) => {
                let secret = content.strip_suffix('\n').unwrap_or(&content);
                let secret = secret.strip_suffix('\r').unwrap_or(secret);
                Some((variable, SecretString::from(secret)))
            }
            Err(error) => {
                self.problem(&variable, Some(path), format!("the path of a file that can be read ({error})"));
                None
            }
        }
    }
}

fn is_blank(value: &OsStr) -> bool {
    value.to_str().is_some_and(|text| text.trim().is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;
    use secrecy::ExposeSecret;

    #[test]
    fn first_name_that_is_set_counts_and_empty_is_unset() {
        let mut reader = Reader::from_map([("A", " "), ("B", "7"), ("C", "8")]);
        assert_eq!(reader.get(&["A", "B", "C"], 1_u8, "a number"), 7);
        assert_eq!(reader.get(&["A"], 1_u8, "a number"), 1);
        assert_eq!(reader.optional::<u8>(&["A"], "a number"), None);
        reader.finish().unwrap();
    }

    #[test]
    fn every_problem_is_collected_with_name_value_and_what_may_be() {
        let mut reader = Reader::from_map([("A", "x"), ("B", "70000"), ("C", "maybe"), ("D", "-1")]);
        reader.get(&["A"], 1_u8, "a small number");
        assert_eq!(reader.number(&["B"], 80_u32, 1..=65535), 80);
        assert!(reader.boolean(&["C"], true));
        assert_eq!(reader.seconds(&["D"], Duration::from_secs(3)), Duration::from_secs(3));
        let text = reader.finish().unwrap_err().to_string();
        for line in [
            "A holds \"x\"; it must be a small number",
            "B holds \"70000\"; it must be a number from 1 to 65535",
            "C holds \"maybe\"; it must be 1, true",
            "D holds \"-1\"; it must be a number of seconds",
        ] {
            assert!(text.contains(line), "{line} not in {text}");
        }
    }

    #[test]
    fn booleans_lists_and_seconds() {
        let mut reader = Reader::from_map([("T", "On"), ("F", "NO"), ("L", " a, b ,,c"), ("S", "0.25")]);
        assert!(reader.boolean(&["T"], false));
        assert!(!reader.boolean(&["F"], true));
        assert_eq!(reader.list(&["L"]).unwrap(), ["a", "b", "c"]);
        assert_eq!(reader.list(&["M"]), None);
        assert_eq!(reader.seconds(&["S"], Duration::ZERO), Duration::from_millis(250));
        reader.finish().unwrap();
    }

    #[test]
    fn secrets_come_by_value_or_by_file() {
        let path = std::env::temp_dir().join(format!("petiole-secret-{}", std::process::id()));
        std::fs::write(&path, "from a file\n").unwrap();
        let path = path.to_str().unwrap();
        let mut reader = Reader::from_map([("A", "as it stands "), ("B_FILE", path)]);
        assert_eq!(reader.secret(&["A"]).unwrap().expose_secret(), "as it stands ");
        assert_eq!(reader.secret(&["B"]).unwrap().expose_secret(), "from a file");
        assert!(reader.secret(&["C"]).is_none());
        reader.finish().unwrap();
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn secrets_never_show_in_problems() {
        let mut reader = Reader::from_map([("A", "hidden"), ("A_FILE", "/also"), ("B_FILE", "/nowhere/at/all")]);
        assert!(reader.secret(&["A"]).is_none());
        assert!(reader.secret(&["B"]).is_none());
        let text = reader.finish().unwrap_err().to_string();
        assert!(!text.contains("hidden"));
        assert!(text.contains("A_FILE") && text.contains("B_FILE") && text.contains("/nowhere/at/all"));
    }

    #[cfg(unix)]
    #[test]
    fn text_that_is_not_utf8_is_a_problem() {
        use std::os::unix::ffi::OsStringExt;
        let mut reader = Reader::from_map([("A", "x")]);
        reader.values.insert("A".to_owned(), OsString::from_vec(vec![0xff]));
        assert_eq!(reader.get(&["A"], 3_u8, "a number"), 3);
        assert_eq!(reader.problems().len(), 1);
    }
}
