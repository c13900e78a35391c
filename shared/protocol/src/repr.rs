//! Python's notation of values, for logs, events and monitors (celery.utils.saferepr).

use serde_json::Value;

use crate::Map;

/// The longest text that is written, in characters.
pub const MAX_LENGTH: usize = 1024;
/// Containers nested deeper than this are shown as `[...]`, `{...}` (`task_repr_maxlevels`).
pub const MAX_LEVELS: usize = 3;

/// One value: `None`, `True`, `'text'`, `[1, 2]`, `{'k': 1}`.
pub fn value(value: &Value) -> String {
    let mut out = Writer::default();
    out.value(value, 0);
    out.text
}

/// Positional arguments, as a tuple: `(2, 3)`, `('x',)`, `()`.
pub fn args(items: &[Value]) -> String {
    let mut out = Writer::default();
    let close = if items.len() == 1 { ",)" } else { ")" };
    out.list("(", close, items, 0);
    out.text
}

/// Keyword arguments: `{'x': 1}`.
pub fn kwargs(map: &Map) -> String {
    let mut out = Writer::default();
    out.map(map, 0);
    out.text
}

#[derive(Default)]
struct Writer {
    text: String,
    /// How many characters it has.
    length: usize,
    full: bool,
}

impl Writer {
    fn push(&mut self, piece: &str) {
        if self.full {
            return;
        }
        let room = MAX_LENGTH.saturating_sub(self.length);
        if piece.char_indices().nth(room).is_none() {
            self.text.push_str(piece);
            self.length += piece.chars().count();
            return;
        }
        let cut: String = piece.chars().take(room.saturating_sub(3)).collect();
        let cut = cut.rfind(' ').map_or(cut.as_str(), |at| &cut[..at]);
        self.text.push_str(cut);
        self.text.push_str("...");
        self.full = true;
    }

    /// A text in quotation marks. No more of it is looked at than is shown.
    fn quoted(&mut self, text: &str, close: &str) {
        let shown = text.char_indices().nth(MAX_LENGTH).map_or(text, |(end, _)| &text[..end]);
        self.push(&format!("'{}{close}", shown.replace('\'', "\\'")));
    }

    fn value(&mut self, value: &Value, level: usize) {
        match value {
            Value::Null => self.push("None"),
            Value::Bool(true) => self.push("True"),
            Value::Bool(false) => self.push("False"),
            Value::Number(number) => self.push(match number.as_str() {
                "NaN" => "nan",
                "Infinity" => "inf",
                "-Infinity" => "-inf",
                text => text,
            }),
            Value::String(text) => self.quoted(text, "'"),
            Value::Array(_) if level >= MAX_LEVELS => self.push("[...]"),
            Value::Array(items) => self.list("[", "]", items, level),
            Value::Object(_) if level >= MAX_LEVELS => self.push("{...}"),
            Value::Object(map) => self.map(map, level),
        }
    }

    fn list(&mut self, open: &str, close: &str, items: &[Value], level: usize) {
        self.push(open);
        for (i, item) in items.iter().enumerate() {
            if self.full {
                break;
            }
            if i > 0 {
                self.push(", ");
            }
            self.value(item, level + 1);
        }
        self.close(close);
    }

    fn map(&mut self, map: &Map, level: usize) {
        self.push("{");
        for (i, (key, item)) in map.iter().enumerate() {
            if self.full {
                break;
            }
            if i > 0 {
                self.push(", ");
            }
            self.quoted(key, "': ");
            self.value(item, level + 1);
        }
        self.close("}");
    }

    /// The closing bracket is written even when the text is full.
    fn close(&mut self, bracket: &str) {
        if self.full {
            self.text.push_str(", ...");
            self.text.push_str(bracket.trim_start_matches(','));
            return;
        }
        self.text.push_str(bracket);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn as_python_writes_it() {
        assert_eq!(args(&[json!(2), json!(3)]), "(2, 3)");
        assert_eq!(args(&[json!("it's")]), "('it\\'s',)");
        assert_eq!(args(&[]), "()");
        assert_eq!(value(&json!([null, true, {"k": 1.5}])), "[None, True, {'k': 1.5}]");
        assert_eq!(value(&json!([[[[1]]]])), "[[[[...]]]]");
    }

    #[test]
    fn long_texts_are_cut() {
        let long = args(&[json!("word ".repeat(1000)), json!(1)]);
        assert!(long.chars().count() <= MAX_LENGTH + 10, "{}", long.len());
        assert!(long.ends_with("..., ...)"), "{long}");
        // Characters count, not bytes, and they are not cut in two.
        let wide = value(&json!("äöü".repeat(400)));
        assert_eq!((wide.chars().count(), wide.len()), (MAX_LENGTH, 2 * (MAX_LENGTH - 4) + 4));
        let all = value(&json!("ä".repeat(MAX_LENGTH - 2)));
        assert!(all.ends_with("ä'") && all.chars().count() == MAX_LENGTH);
    }
}
