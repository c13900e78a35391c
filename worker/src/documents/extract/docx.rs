//! DOCX becomes Markdown: its paragraphs, with the marks of headings and lists.

use std::io::{BufRead, BufReader, Cursor, Read};

use flate2::read::DeflateDecoder;
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use zip::{CompressionMethod, ZipArchive};

/// The most that the text's part may unpack to.
const LARGEST_PART: u64 = 100 << 20;
/// The part of the archive that holds the text.
const PART: &str = "word/document.xml";

pub(super) fn text(file: &[u8]) -> Result<String, String> {
    let mut archive = ZipArchive::new(Cursor::new(file)).map_err(|_| "it is no DOCX, or damaged".to_owned())?;
    let no_part = || "it is no DOCX: it has no text part".to_owned();
    let part = archive.index_for_name(PART).ok_or_else(no_part)?;
    let part = archive.by_index_raw(part).map_err(|_| no_part())?;
    if part.size() > LARGEST_PART {
        return Err(format!("its text unpacks to more than {} MiB", LARGEST_PART >> 20));
    }
    // what the archive says of the size may be a lie
    match part.compression() {
        CompressionMethod::STORE => read(BufReader::new(part.take(LARGEST_PART + 1))),
        CompressionMethod::DEFLATE => read(BufReader::new(DeflateDecoder::new(part).take(LARGEST_PART + 1))),
        method => Err(format!("it is packed by {method}, which Word does not do")),
    }
}

#[derive(Default)]
struct Paragraph {
    text: String,
    mark: &'static str,
}

fn read(part: impl BufRead) -> Result<String, String> {
    let mut reader = Reader::from_reader(part);
    reader.config_mut().check_end_names = false;
    let (mut buffer, mut text, mut paragraph, mut in_text) = (Vec::new(), String::new(), Paragraph::default(), false);
    loop {
        let event = reader.read_event_into(&mut buffer).map_err(|error| format!("its XML is damaged: {error}"))?;
        match event {
            Event::Start(tag) if tag.local_name().as_ref() == b"t" => in_text = true,
            Event::Start(tag) | Event::Empty(tag) => open(&tag, &mut paragraph),
            Event::Text(piece) if in_text => {
                paragraph.text.push_str(&piece.unescape().map_err(|error| error.to_string())?)
            }
            Event::CData(piece) if in_text => paragraph.text.push_str(&String::from_utf8_lossy(&piece)),
            Event::End(tag) => match tag.local_name().as_ref() {
                b"t" => in_text = false,
                b"p" => close(&mut text, std::mem::take(&mut paragraph)),
                _ => {}
            },
            Event::Eof => break,
            _ => {}
        }
        if text.len() + paragraph.text.len() > super::LONGEST_TEXT {
            return Err(format!("it holds more than {} MiB of text", super::LONGEST_TEXT >> 20));
        }
        if reader.buffer_position() > LARGEST_PART {
            return Err(format!("its text unpacks to more than {} MiB", LARGEST_PART >> 20));
        }
        buffer.clear();
    }
    close(&mut text, paragraph);
    Ok(text)
}

fn open(tag: &BytesStart<'_>, paragraph: &mut Paragraph) {
    match tag.local_name().as_ref() {
        b"tab" => paragraph.text.push(' '),
        b"br" | b"cr" => paragraph.text.push('\n'),
        b"numPr" if paragraph.mark.is_empty() => paragraph.mark = "- ",
        b"pStyle" => {
            let value = tag.attributes().flatten().find(|attribute| attribute.key.local_name().as_ref() == b"val");
            paragraph.mark = match value.as_ref().map(|attribute| attribute.value.as_ref()) {
                Some(b"Title" | b"Heading1") => "# ",
                Some(b"Heading2") => "## ",
                Some(b"Heading3" | b"Heading4" | b"Heading5" | b"Heading6") => "### ",
                Some(b"ListParagraph" | b"ListBullet" | b"ListNumber") => "- ",
                _ => paragraph.mark,
            };
        }
        _ => {}
    }
}

fn close(text: &mut String, paragraph: Paragraph) {
    if paragraph.text.trim().is_empty() {
        return;
    }
    if !text.is_empty() {
        // the items of a list stay together
        let tight = paragraph.mark == "- " && text.rsplit('\n').next().is_some_and(|line| line.starts_with("- "));
        text.push_str(if tight { "\n" } else { "\n\n" });
    }
    text.push_str(paragraph.mark);
    text.push_str(paragraph.text.trim());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::read;

    #[test]
    fn paragraphs_headings_and_lists() {
        let xml = r#"<?xml version="1.0"?><w:document xmlns:w="x"><w:body>
            <w:p><w:pPr><w:pStyle w:val="Heading1"/></w:pPr><w:r><w:t>Tides &amp; moons</w:t></w:r></w:p>
            <w:p><w:r><w:t xml:space="preserve">The moon </w:t></w:r><w:r><w:t>pulls.</w:t><w:br/><w:t>Twice.</w:t></w:r>
            <w:del><w:r><w:delText>Gone.</w:delText></w:r></w:del></w:p><w:p/>
            <w:p><w:pPr><w:numPr><w:ilvl w:val="0"/></w:numPr></w:pPr><w:r><w:t>One</w:t></w:r></w:p>
            <w:p><w:pPr><w:numPr/></w:pPr><w:r><w:t>Two</w:t></w:r></w:p>
            <w:tbl><w:tr><w:tc><w:p><w:r><w:t>Cell</w:t></w:r></w:p></w:tc></w:tr></w:tbl></w:body></w:document>"#;
        let expected = "# Tides & moons\n\nThe moon pulls.\nTwice.\n\n- One\n- Two\n\nCell";
        assert_eq!(read(xml.as_bytes()).unwrap(), expected);
    }

    #[test]
    fn entities_of_ones_own_are_refused() {
        let xml = "<!DOCTYPE x [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;'>]><w:p><w:t>&b;</w:t></w:p>";
        assert!(read(xml.as_bytes()).is_err());
    }
}
