//! JSON as Python writes and reads it (kombu.utils.json).

use serde_json::Value;

use super::DecodeError;

/// Reads JSON as Python does: also with a bare `NaN`, `Infinity` or `-Infinity`, which stay such numbers.
pub fn from_json(bytes: &[u8]) -> Result<Value, DecodeError> {
    match serde_json::from_slice(bytes) {
        Ok(value) => Ok(value),
        Err(error) => match replace_constants(bytes) {
            Some(strict) => {
                let mut value = serde_json::from_slice(&strict)?;
                restore_constants(&mut value);
                Ok(value)
            }
            None => Err(error.into()),
        },
    }
}

/// Writes JSON without spaces, text as UTF-8. Python reads it as its own.
pub fn to_json(value: &impl serde::Serialize) -> Result<String, serde_json::Error> {
    serde_json::to_string(value)
}

/// Python's constants and numbers which nobody writes, to stand for them while strict JSON is parsed.
const CONSTANTS: [(&[u8], &str, &str); 3] = [
    (b"NaN", "NaN", "0.0e-918273645001"),
    (b"-Infinity", "-Infinity", "0.0e-918273645003"),
    (b"Infinity", "Infinity", "0.0e-918273645002"),
];

fn replace_constants(bytes: &[u8]) -> Option<Vec<u8>> {
    let (mut out, mut found, mut in_string, mut at) = (Vec::with_capacity(bytes.len()), false, false, 0);
    while at < bytes.len() {
        let byte = bytes[at];
        if in_string {
            if byte == b'\\' && at + 1 < bytes.len() {
                out.extend_from_slice(&bytes[at..at + 2]);
                at += 2;
                continue;
            }
            in_string = byte != b'"';
        } else if byte == b'"' {
            in_string = true;
        } else if let Some((word, _, stand_in)) = CONSTANTS.iter().find(|(word, ..)| bytes[at..].starts_with(word)) {
            out.extend_from_slice(stand_in.as_bytes());
            found = true;
            at += word.len();
            continue;
        }
        out.push(byte);
        at += 1;
    }
    found.then_some(out)
}

fn restore_constants(value: &mut Value) {
    match value {
        Value::Number(number) => {
            let text = number.to_string();
            if let Some((_, name, _)) = CONSTANTS.iter().find(|(.., stand_in)| text == *stand_in) {
                *number = serde_json::Number::from_string_unchecked((*name).to_owned());
            }
        }
        Value::Array(items) => items.iter_mut().for_each(restore_constants),
        Value::Object(map) => map.values_mut().for_each(restore_constants),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn python_constants_survive() {
        let value = from_json(br#"[NaN, -Infinity, {"a \" NaN": Infinity}, "NaN", 1]"#).unwrap();
        assert_eq!(to_json(&value).unwrap(), r#"[NaN,-Infinity,{"a \" NaN":Infinity},"NaN",1]"#);
    }

    #[test]
    fn big_integers_keep_their_digits() {
        let text = "[123456789012345678901234567890,1.10]";
        assert_eq!(to_json(&from_json(text.as_bytes()).unwrap()).unwrap(), text);
    }

    #[test]
    fn garbage_is_an_error() {
        assert!(from_json(b"[1, 2").is_err());
        assert!(from_json(b"NaN NaN").is_err());
    }
}
