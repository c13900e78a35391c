//! Long texts into passages that fit the model, cut where the meaning turns rather than in the middle of a sentence.

use std::sync::Arc;

use petiole_settings::AiSettings;
use text_splitter::{ChunkCapacity, ChunkConfig, ChunkSizer, MarkdownSplitter, TextSplitter};
use tokenizers::Tokenizer;

use crate::embedder::EmbedError;
use crate::local::{embedding_model_dir, is_local_embedding_model};
use crate::minilm::{WINDOW, broken, tokenizer};

/// The model frames each text with two marks of its own.
const MARKS: usize = 2;
/// A chunk this full, as a fraction of the longest, takes no further paragraph: a passage about one thing is found more
/// surely than one about three.
const ENOUGH: (usize, usize) = (3, 8);
/// For a model whose tokenizer is not here: English has about four letters to a token.
const LETTERS_PER_TOKEN: usize = 4;

/// A passage of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The passage, trimmed.
    pub text: String,
    /// Its place among the text's passages, from 0.
    pub position: usize,
    /// Where it begins in the text, in bytes.
    pub start: usize,
    /// Its length in the model's tokens, the model's own marks left out.
    pub tokens: usize,
}

/// How a text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextKind {
    /// Paragraphs and sentences.
    Plain,
    /// Markdown: headings, lists and code blocks are kept together as far as they fit.
    Markdown,
}

/// Cuts texts into chunks. It computes: call it from a blocking thread when the text may be long.
/// Clones share the tokenizer.
#[derive(Clone, Debug)]
pub struct Chunker(Arc<Splitters>);

#[derive(Debug)]
struct Splitters {
    plain: TextSplitter<Sizer>,
    markdown: MarkdownSplitter<Sizer>,
    sizer: Sizer,
}

/// How long a text is for the model.
#[derive(Clone, Debug)]
enum Sizer {
    Model(Box<Tokenizer>),
    Estimate,
}

impl ChunkSizer for Sizer {
    fn size(&self, chunk: &str) -> usize {
        match self {
            Self::Model(tokenizer) => match tokenizer.encode_fast(chunk, false) {
                Ok(encoding) => encoding.len(),
                // No token is shorter than a byte.
                Err(_) => chunk.len(),
            },
            Self::Estimate => chunk.chars().count().div_ceil(LETTERS_PER_TOKEN),
        }
    }
}

impl Chunker {
    /// A chunker for the settings' embedding model and sizes.
    ///
    /// # Errors
    /// [`EmbedError::ModelMissing`], [`EmbedError::ModelBroken`], and [`EmbedError::Settings`] when a chunk would not fit
    /// the model.
    pub fn from_settings(settings: &AiSettings) -> Result<Self, EmbedError> {
        let (tokens, overlap) = (settings.chunk_tokens, settings.chunk_overlap_tokens);
        if !is_local_embedding_model(&settings.embedding_model) {
            return Self::new(Sizer::Estimate, tokens, overlap);
        }
        if tokens + MARKS > WINDOW {
            let most = WINDOW - MARKS;
            let what =
                format!("CHUNK_TOKENS holds {tokens}; with {} it must be {most} or less", settings.embedding_model);
            return Err(EmbedError::Settings(what));
        }
        let dir = embedding_model_dir(&settings.model_dir)?;
        let tokenizer = tokenizer(&dir, None).map_err(broken)?;
        Self::new(Sizer::Model(Box::new(tokenizer)), tokens, overlap)
    }

    fn new(sizer: Sizer, tokens: usize, overlap: usize) -> Result<Self, EmbedError> {
        let enough = tokens * ENOUGH.0 / ENOUGH.1;
        let config = || {
            ChunkConfig::new(ChunkCapacity::from(enough..=tokens))
                .with_sizer(sizer.clone())
                .with_overlap(overlap)
                .map_err(|error| EmbedError::Settings(format!("CHUNK_OVERLAP_TOKENS: {error}")))
        };
        let (plain, markdown) = (TextSplitter::new(config()?), MarkdownSplitter::new(config()?));
        Ok(Self(Arc::new(Splitters { plain, markdown, sizer })))
    }

    /// The text's passages, in order. A text of blanks has none.
    pub fn chunk(&self, text: &str, kind: TextKind) -> Vec<Chunk> {
        let pieces: Vec<(usize, &str)> = match kind {
            TextKind::Plain => self.0.plain.chunk_indices(text).collect(),
            TextKind::Markdown => self.0.markdown.chunk_indices(text).collect(),
        };
        let chunks = pieces.into_iter().filter(|(_, piece)| !piece.trim().is_empty()).enumerate();
        chunks
            .map(|(position, (start, piece))| Chunk {
                text: piece.to_owned(),
                position,
                start,
                tokens: self.0.sizer.size(piece),
            })
            .collect()
    }
}
