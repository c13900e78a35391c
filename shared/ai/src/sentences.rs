//! Texts into sentences.

use unicode_segmentation::UnicodeSegmentation;

/// The sentences of a text, in order. Lines that belong together are joined; headings and blanks are left out, marks of
/// lists are taken off.
pub fn sentences(text: &str) -> Vec<String> {
    let mut sentences = Vec::new();
    let mut block = String::new();
    for line in text.lines().map(str::trim) {
        let item = list_item(line);
        if line.is_empty() || line.starts_with('#') || item.is_some() {
            split(&mut block, &mut sentences);
        }
        let line = if line.starts_with('#') { "" } else { item.unwrap_or(line) };
        if !block.is_empty() && !line.is_empty() {
            block.push(' ');
        }
        block.push_str(line);
    }
    split(&mut block, &mut sentences);
    sentences
}

/// What stands behind the mark of a list: `- `, `* `, `+ `, `1. `.
fn list_item(line: &str) -> Option<&str> {
    let rest = line.trim_start_matches(|c: char| c.is_ascii_digit());
    let rest = match rest.len() < line.len() {
        true => rest.strip_prefix('.').or_else(|| rest.strip_prefix(')'))?,
        false => line.strip_prefix(['-', '*', '+', '•'])?,
    };
    rest.strip_prefix(' ').map(str::trim)
}

fn split(block: &mut String, sentences: &mut Vec<String>) {
    let found = block.split_sentence_bounds().map(str::trim).filter(|found| found.contains(char::is_alphanumeric));
    sentences.extend(found.map(str::to_owned));
    block.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_joined_and_headings_left_out() {
        let text = "# Tides\n\nThe moon pulls the water\nup twice a day. The sun helps!\n\n- One item\n- Another\n  one\n\
            2. Third\n\n---\n\nWhy? Because 3.5 metres are much.\n";
        let expected = [
            "The moon pulls the water up twice a day.",
            "The sun helps!",
            "One item",
            "Another one",
            "Third",
            "Why?",
            "Because 3.5 metres are much.",
        ];
        assert_eq!(sentences(text), expected);
        assert!(sentences(" \n# only a heading\n…\n").is_empty());
    }
}
