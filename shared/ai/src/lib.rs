//! Models: texts become chunks, chunks become vectors; questions become answers.
//!
//! | module | holds |
//! |---|---|
//! | [`embedder`] | the trait [`Embedder`], its errors, and the choice of one by settings |
//! | [`minilm`] | all-MiniLM-L6-v2 in this process, no network and no key |
//! | [`language_model`] | the trait [`LanguageModel`], its errors, and the choice of one by settings |
//! | [`openai`] | any OpenAI-compatible server's embeddings and language models |
//! | [`prompts`] | templates of what a language model is asked, with typed variables and versions |
//! | [`extractive`], [`sentences`] | answers, summaries and classes by the meanings of sentences, without a language model |
//! | [`reranker`] | what a search found, read again together with the question |
//! | [`structured`] | JSON of a schema by a language model, checked and repaired |
//! | [`patterns`] | dates, addresses, amounts by their form |
//! | [`chunker`] | long texts into passages that fit the model |
//! | [`local`] | where local models are, and what to do when they are not |
//!
//! What is heavy to build (candle, tokenizers) is here and nowhere else.

pub mod chunker;
pub mod embedder;
pub mod extractive;
pub mod language_model;
pub mod local;
pub mod minilm;
pub mod openai;
pub mod patterns;
pub mod prompts;
pub mod reranker;
pub mod sentences;
pub mod structured;

mod vector;

pub use chunker::{Chunk, Chunker, TextKind};
pub use embedder::{EmbedError, Embedder, embedder_from};
pub use language_model::{
    ChatRequest, Completion, Form, LanguageError, LanguageModel, Message, Piece, Pieces, Role, language_model_from,
};
pub use reranker::{RerankError, Reranker, reranker_from};
pub use vector::cosine;
