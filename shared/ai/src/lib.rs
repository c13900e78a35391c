//! Models: texts become chunks, chunks become vectors.
//!
//! | module | holds |
//! |---|---|
//! | [`embedder`] | the trait [`Embedder`], its errors, and the choice of one by settings |
//! | [`minilm`] | all-MiniLM-L6-v2 in this process, no network and no key |
//! | [`openai`] | any OpenAI-compatible server's embeddings |
//! | [`chunker`] | long texts into passages that fit the model |
//! | [`local`] | where local models are, and what to do when they are not |
//!
//! What is heavy to build (candle, tokenizers) is here and nowhere else.

pub mod chunker;
pub mod embedder;
pub mod local;
pub mod minilm;
pub mod openai;

mod vector;

pub use chunker::{Chunk, Chunker, TextKind};
pub use embedder::{EmbedError, Embedder, embedder_from};
pub use vector::cosine;
