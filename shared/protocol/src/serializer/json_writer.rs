//! Writes values that hold long texts. serde_json looks at each byte of a text by itself; most texts need no escape, which is seen
//! many bytes at a time.

use serde_json::Value;

/// From this length on, in bytes, a text is long.
const LONG: usize = 1024;
/// How many bytes are looked at together.
const BLOCK: usize = 64;

/// Does a value hold a long text?
pub(crate) fn holds_long_text(value: &Value) -> bool {
    match value {
        Value::String(text) => text.len() >= LONG,
        Value::Array(items) => items.iter().any(holds_long_text),
        Value::Object(map) => map.values().any(holds_long_text),
        _ => false,
    }
}

/// Writes a value, as serde_json does.
///
/// # Errors
/// As serde_json: none that are known for a value.
pub(crate) fn write(out: &mut Vec<u8>, value: &Value) -> Result<(), serde_json::Error> {
    match value {
        Value::String(text) => write_text(out, text),
        Value::Array(items) => {
            out.push(b'[');
            for (place, item) in items.iter().enumerate() {
                separate(out, place);
                write(out, item)?;
            }
            out.push(b']');
            Ok(())
        }
        Value::Object(map) => {
            out.push(b'{');
            for (place, (key, item)) in map.iter().enumerate() {
                separate(out, place);
                write_text(out, key)?;
                out.push(b':');
                write(out, item)?;
            }
            out.push(b'}');
            Ok(())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => serde_json::to_writer(out, value),
    }
}

fn separate(out: &mut Vec<u8>, place: usize) {
    if place > 0 {
        out.push(b',');
    }
}

fn write_text(out: &mut Vec<u8>, text: &str) -> Result<(), serde_json::Error> {
    if needs_escape(text.as_bytes()) {
        return serde_json::to_writer(out, text);
    }
    out.reserve(text.len() + 2);
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
    Ok(())
}

fn needs_escape(text: &[u8]) -> bool {
    // Without an end in the middle of a block, the compiler looks at all of it at once.
    let block =
        |block: &[u8]| block.iter().fold(false, |any, byte| any | (*byte < 0x20) | matches!(byte, b'"' | b'\\'));
    text.chunks(BLOCK).any(block)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "\\PC{0,200}".prop_map(Value::from),
            "[a-z \"\\\\\n\u{7f}é]{0,200}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::vec(("\\PC{0,20}", inner), 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn written_as_serde_json_does(value in value()) {
            let mut out = vec![];
            write(&mut out, &value).unwrap();
            prop_assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
        }
    }

    #[test]
    fn an_escape_is_seen_wherever_it_is() {
        for place in 0..200 {
            for sign in ['"', '\\', '\n', '\u{0}', '\u{1f}'] {
                let mut text = "é".repeat(100);
                text.insert(2 * (place / 2), sign);
                assert!(needs_escape(text.as_bytes()), "{place} {sign:?}");
            }
        }
        assert!(!needs_escape("plain, \u{7f} \u{20} '/ and é".repeat(20).as_bytes()));
    }
}
