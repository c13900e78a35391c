//! What a scalar means by YAML 1.1, as PyYAML resolves and constructs it.

use std::sync::LazyLock;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{DateTime, FixedOffset, NaiveDate, SecondsFormat};
use regex::{Captures, Regex};
use serde_json::{Number, Value};

use super::super::{DecodeError, tagged};
use super::bad;

/// A pattern of this file: a test compiles them all.
fn pattern(text: &str) -> Option<Regex> {
    Regex::new(&format!("^(?:{text})$")).ok()
}

static INTEGER: LazyLock<Option<Regex>> = LazyLock::new(|| {
    pattern(
        "[-+]?0b[01_]+|[-+]?0[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+|[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+",
    )
});
static FLOAT: LazyLock<Option<Regex>> = LazyLock::new(|| {
    pattern(
        r"[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
    )
});
static TIMESTAMP: LazyLock<Option<Regex>> = LazyLock::new(|| {
    pattern(
        r"([0-9]{4})-([0-9][0-9]?)-([0-9][0-9]?)(?:(?:[Tt]|[ \t]+)([0-9][0-9]?):([0-9]{2}):([0-9]{2})(?:\.([0-9]*))?(?:[ \t]*(Z|([-+])([0-9][0-9]?)(?::?([0-9]{2}))?))?)?",
    )
});

fn captures<'t>(pattern: &Option<Regex>, text: &'t str) -> Option<Captures<'t>> {
    pattern.as_ref()?.captures(text)
}

fn matches(pattern: &Option<Regex>, text: &str) -> bool {
    pattern.as_ref().is_some_and(|pattern| pattern.is_match(text))
}

/// Is it what `!!timestamp` may hold?
pub(super) fn is_timestamp(text: &str) -> bool {
    timestamp(text).is_some()
}

/// Reads a scalar: by its tag, or when it is plain by what it looks like.
pub(super) fn read(text: &str, plain: bool, tag: Option<&str>) -> Result<Value, DecodeError> {
    let kind = match tag {
        Some("str") => return Ok(text.into()),
        // PyYAML takes `!` alone for a sign to look at the scalar, even in quotes.
        Some("!") => resolve(text),
        Some(tag) => tag,
        None if plain => resolve(text),
        None => return Ok(text.into()),
    };
    let value = match kind {
        "str" => Some(text.into()),
        "null" => Some(Value::Null),
        "bool" => boolean(text).map(Value::Bool),
        "int" => integer(text),
        "float" => float(text),
        "timestamp" => timestamp(text),
        "binary" => {
            let packed: String = text.split_ascii_whitespace().collect();
            STANDARD.decode(packed).ok().map(tagged::bytes)
        }
        other => return Err(bad(format!("the tag !!{other} is not known here"))),
    };
    value.ok_or_else(|| bad(format!("{text:?} is no !!{kind}")))
}

/// The kind of a plain scalar.
fn resolve(text: &str) -> &'static str {
    if matches!(text, "" | "~" | "null" | "Null" | "NULL") {
        "null"
    } else if boolean(text).is_some() && text.chars().next().is_some_and(|first| "yYnNtTfFoO".contains(first)) {
        "bool"
    } else if matches(&FLOAT, text) {
        "float"
    } else if matches(&INTEGER, text) {
        "int"
    } else if looks_like_time(text) {
        "timestamp"
    } else {
        "str"
    }
}

/// A date without a time has two digits for month and day, else it is text.
fn looks_like_time(text: &str) -> bool {
    captures(&TIMESTAMP, text).is_some_and(|parts| parts.get(4).is_some() || text.len() == 10)
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Some(true),
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

fn signed(text: &str) -> (bool, &str) {
    match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    }
}

fn integer(text: &str) -> Option<Value> {
    let text: String = text.chars().filter(|letter| *letter != '_').collect();
    let (negative, digits) = signed(&text);
    let radix = |digits: &str, radix| i128::from_str_radix(digits, radix).ok();
    let number = if let Some(binary) = digits.strip_prefix("0b") {
        radix(binary, 2)?
    } else if let Some(hex) = digits.strip_prefix("0x") {
        radix(hex, 16)?
    } else if digits.contains(':') {
        // Base sixty.
        digits.split(':').try_fold(0_i128, |sum, part| sum.checked_mul(60)?.checked_add(part.parse().ok()?))?
    } else if digits.len() > 1 && digits.starts_with('0') {
        radix(digits, 8)?
    } else if digits.is_empty() || digits.len() > 4300 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    } else {
        // Of any length.
        let sign = if negative && digits != "0" { "-" } else { "" };
        return Some(Value::Number(Number::from_string_unchecked(format!("{sign}{digits}"))));
    };
    let sign = if negative && number != 0 { "-" } else { "" };
    Some(Value::Number(Number::from_string_unchecked(format!("{sign}{number}"))))
}

fn float(text: &str) -> Option<Value> {
    let text: String = text.chars().filter(|letter| *letter != '_').collect::<String>().to_ascii_lowercase();
    let (negative, digits) = signed(&text);
    let number = match digits {
        ".inf" => f64::INFINITY,
        ".nan" => f64::NAN,
        _ if digits.contains(':') => {
            digits.split(':').try_fold(0.0, |sum, part| Some(sum * 60.0 + part.parse::<f64>().ok()?))?
        }
        _ => digits.parse().ok()?,
    };
    Some(tagged::float(if negative { -number } else { number }))
}

/// A date, or a date and time as Python's `isoformat()` writes it.
fn timestamp(text: &str) -> Option<Value> {
    let parts = captures(&TIMESTAMP, text)?;
    let number = |at: usize| parts.get(at).and_then(|part| part.as_str().parse::<u32>().ok());
    let date = NaiveDate::from_ymd_opt(number(1)? as i32, number(2)?, number(3)?)?;
    let Some(hour) = number(4) else { return Some(tagged::date(date.format("%Y-%m-%d").to_string())) };
    let fraction: String =
        parts.get(7).map_or("", |part| part.as_str()).chars().chain("000000".chars()).take(6).collect();
    let time = date.and_hms_micro_opt(hour, number(5)?, number(6)?, fraction.parse().ok()?)?;
    let precision = if fraction == "000000" { SecondsFormat::Secs } else { SecondsFormat::Micros };
    let seconds = match (parts.get(8), number(10)) {
        (None, _) => {
            let utc = time.and_utc().to_rfc3339_opts(precision, true);
            return Some(tagged::datetime(utc.trim_end_matches('Z')));
        }
        (Some(_), None) => 0,
        (Some(_), Some(hours)) => {
            let seconds = (hours * 3600 + number(11).unwrap_or(0) * 60) as i32;
            if parts.get(9).is_some_and(|sign| sign.as_str() == "-") { -seconds } else { seconds }
        }
    };
    let time: DateTime<FixedOffset> = time.and_local_timezone(FixedOffset::east_opt(seconds)?).single()?;
    Some(tagged::datetime(time.to_rfc3339_opts(precision, false)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_patterns_are_patterns() {
        assert!(INTEGER.is_some() && FLOAT.is_some() && TIMESTAMP.is_some());
    }
}
