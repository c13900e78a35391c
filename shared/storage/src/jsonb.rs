//! JSON that clients send, as PostgreSQL can keep it. `jsonb` has no U+0000, which JSON allows in texts and keys: it is kept
//! as a noncharacter, which Unicode sets aside for a program's own use, and given back as what it was.

use serde_json::Value;

/// Stands for U+0000 in the database.
const STAND_IN: char = '\u{fdd0}';

/// The value as it is stored.
pub(crate) fn stored(value: Value) -> Value {
    swapped(value, '\0', STAND_IN)
}

/// A field's name as it is stored.
pub(crate) fn stored_text(text: &str) -> String {
    text.replace('\0', STAND_IN.encode_utf8(&mut [0; 4]))
}

/// A stored value as it was sent.
pub(crate) fn sent(value: Value) -> Value {
    swapped(value, STAND_IN, '\0')
}

fn swapped(value: Value, from: char, to: char) -> Value {
    let text = |text: String| {
        if text.contains(from) { text.replace(from, to.encode_utf8(&mut [0; 4])) } else { text }
    };
    match value {
        Value::String(string) => Value::String(text(string)),
        Value::Array(items) => items.into_iter().map(|item| swapped(item, from, to)).collect(),
        Value::Object(map) => map.into_iter().map(|(key, value)| (text(key), swapped(value, from, to))).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_was_sent_comes_back() {
        let value = json!({"a\0": ["\0b\0", {"": null, "x": 1.5}], "c": true, "ü": "🦀"});
        let kept = stored(value.clone());
        assert!(!kept.to_string().contains("\\u0000"));
        assert_eq!(sent(kept), value);
    }
}
