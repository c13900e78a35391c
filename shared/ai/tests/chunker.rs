//! Texts into chunks.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{model_settings, settings};
use petiole_ai::{Chunk, Chunker, EmbedError, TextKind};

const GUIDE: &str = include_str!("data/lighthouse.md");

fn chunks(text: &str, kind: TextKind, more: &[(&str, &str)]) -> Vec<Chunk> {
    Chunker::from_settings(&model_settings(more)).unwrap().chunk(text, kind)
}

#[test]
fn chunks_fit_are_in_order_and_lose_nothing() {
    let chunks = chunks(GUIDE, TextKind::Plain, &[]);
    assert!(chunks.len() > 5);
    let mut end = 0;
    for (position, chunk) in chunks.iter().enumerate() {
        assert_eq!(chunk.position, position);
        assert!(chunk.tokens > 0 && chunk.tokens <= 160, "{chunk:?}");
        assert_eq!(&GUIDE[chunk.start..chunk.start + chunk.text.len()], chunk.text);
        // Between the end of one and the beginning of the next there is nothing but blanks.
        assert!(chunk.start <= end || GUIDE[end..chunk.start].trim().is_empty(), "lost before {chunk:?}");
        end = chunk.start + chunk.text.len();
    }
    assert!(GUIDE[end..].trim().is_empty());
}

#[test]
fn markdown_keeps_a_heading_with_its_paragraph() {
    let chunks = chunks(GUIDE, TextKind::Markdown, &[]);
    let birds = chunks.iter().find(|chunk| chunk.text.contains("belongs to the terns")).unwrap();
    assert!(birds.text.contains("## Birds") && birds.text.contains("mildest owners"), "{birds:?}");
    // Plain text fills a short chunk up with the next line, though it heads what does not fit any more.
    let sentence = "The boat carries salt and lamp oil to the island in autumn. ";
    let text = format!("# One\n\n{}\n\n# Two\n\n{}\n", sentence.repeat(3), sentence.repeat(10));
    let parted = |kind| self::chunks(&text, kind, &[]).iter().any(|chunk| chunk.text.ends_with("# Two"));
    assert_eq!((parted(TextKind::Plain), parted(TextKind::Markdown)), (true, false));
}

#[test]
fn overlap_repeats_and_no_overlap_does_not() {
    let text = "One short sentence follows another. ".repeat(60);
    let length = |overlap: &str| -> usize {
        chunks(&text, TextKind::Plain, &[("CHUNK_TOKENS", "60"), ("CHUNK_OVERLAP_TOKENS", overlap)])
            .iter()
            .map(|chunk| chunk.text.len())
            .sum()
    };
    assert!(length("0") <= text.len());
    assert!(length("15") > text.len());
}

#[test]
fn odd_texts_do_no_harm() {
    for blank in ["", "   \n\n\t ", "\u{a0}"] {
        assert!(chunks(blank, TextKind::Plain, &[]).is_empty(), "{blank:?}");
        assert!(chunks(blank, TextKind::Markdown, &[]).is_empty(), "{blank:?}");
    }
    let word = "x".repeat(20_000);
    let chinese = "灯塔旅舍志愿者指南。".repeat(200);
    for text in [word.as_str(), chinese.as_str(), "🐦‍⬛ é \u{0} end"] {
        for chunk in chunks(text, TextKind::Plain, &[]) {
            assert!(chunk.tokens <= 160);
        }
    }
}

#[test]
fn chunks_that_the_model_cannot_see_whole_are_refused() {
    let error = Chunker::from_settings(&model_settings(&[("CHUNK_TOKENS", "255")])).unwrap_err();
    assert!(matches!(error, EmbedError::Settings(_)) && error.to_string().contains("CHUNK_TOKENS"), "{error}");
}

/// A server's model brings no tokenizer along; lengths are estimated then.
#[test]
fn a_model_elsewhere_needs_no_files_here() {
    let more = [("EMBEDDING_MODEL", "text-embedding-3-small"), ("MODEL_DIR", "/nowhere"), ("CHUNK_TOKENS", "400")];
    let chunks = Chunker::from_settings(&settings(&more)).unwrap().chunk(GUIDE, TextKind::Plain);
    assert!(!chunks.is_empty() && chunks.iter().all(|chunk| chunk.tokens <= 400));
}
