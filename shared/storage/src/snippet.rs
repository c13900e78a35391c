//! Snippets: the part of a passage that has most of the question's words, with these marked.

/// Noncharacters, which Unicode sets aside for a program's own use: the begin and the end of a word that is marked.
const BEGIN: char = '\u{fdd1}';
const END: char = '\u{fdd2}';
/// Stands for `<` on its way through PostgreSQL, whose headlines leave out what looks like a tag of HTML.
const LESS: char = '\u{fdd3}';
/// A passage as headlines are made of it, as SQL: with [`LESS`], and with none of the three that it brings itself.
pub(crate) const PASSAGE: &str = r"translate(c.text, U&'<\FDD1\FDD2\FDD3', U&'\FDD3')";
/// How PostgreSQL makes them (`ts_headline`). A short passage is shown as a whole: fragments end with a word, and lose the
/// full stop.
pub(crate) const OPTIONS: &str = r#"U&'StartSel="\FDD1", StopSel="\FDD2", '
    || CASE WHEN length(c.text) <= 250 THEN 'HighlightAll=true'
    ELSE 'MaxWords=40, MinWords=20, MaxFragments=2, FragmentDelimiter=" … "' END"#;

/// The headline as HTML: marked words stand in `<mark>`, everything else is escaped.
pub(crate) fn html(headline: &str) -> String {
    let mut out = String::with_capacity(headline.len() + 32);
    for character in headline.trim().chars() {
        match character {
            BEGIN => out.push_str("<mark>"),
            END => out.push_str("</mark>"),
            '&' => out.push_str("&amp;"),
            '<' | LESS => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_marks_are_markup() {
        let headline = " a <b> \u{fdd3}i> \u{fdd1}c\u{fdd2} & \"d\" ";
        assert_eq!(html(headline), "a &lt;b&gt; &lt;i&gt; <mark>c</mark> &amp; &quot;d&quot;");
    }
}
