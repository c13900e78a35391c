//! HTML becomes Markdown: headings and lists keep their shape, addresses of links and pictures are left out.

use htmd::element_handler::{HandlerResult, Handlers};
use htmd::{Element, HtmlToMarkdown};

/// What is on a page and is no text of it.
const NO_TEXT: &[&str] = &[
    "head", "script", "style", "noscript", "template", "svg", "math", "canvas", "iframe", "object", "embed", "audio",
    "video", "nav", "form", "button", "select",
];

pub(super) fn text(file: &[u8]) -> Result<String, String> {
    let page = match std::str::from_utf8(file) {
        Ok(page) => page.to_owned(),
        // the web's other encoding, near enough
        Err(_) => file.iter().map(|byte| char::from(*byte)).collect(),
    };
    let converter = HtmlToMarkdown::builder()
        .skip_tags(NO_TEXT.to_vec())
        .add_handler(vec!["a"], |handlers: &dyn Handlers, element: Element| Some(handlers.walk_children(element.node)))
        .add_handler(vec!["img"], |_: &dyn Handlers, element: Element| {
            let alt = element.attrs.iter().find(|attribute| &*attribute.name.local == "alt");
            Some(HandlerResult::from(alt.map(|alt| alt.value.to_string()).unwrap_or_default()))
        })
        .build();
    let page = page.strip_prefix('\u{feff}').unwrap_or(&page);
    converter.convert(page).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::text;

    #[test]
    fn a_page_becomes_its_text() {
        let page = "<!doctype html><html><head><title>T</title><style>p { color: red }</style></head><body>\
            <nav><a href=/>Home</a></nav><h1>Tides &amp; <em>moons</em></h1><p>The <a href='https://e.org/x'>moon</a> pulls.\
            <img src='data:image/png;base64,AAAA' alt='A tide'></p><ul><li>One<li>Two</ul>\
            <script>alert('no')</script><p>Unclosed";
        let text = text(page.as_bytes()).unwrap();
        assert!(text.starts_with("# Tides & *moons*\n\nThe moon pulls.A tide\n\n"), "{text}");
        assert!(text.contains("One") && text.ends_with("Unclosed"), "{text}");
        for absent in ["Home", "alert", "color", "https:", "base64"] {
            assert!(!text.contains(absent), "{absent} in {text}");
        }
    }

    #[test]
    fn a_page_in_latin_1_is_read() {
        assert_eq!(text(b"<p>Gr\xfc\xdfe</p>").unwrap(), "Grüße");
    }
}
