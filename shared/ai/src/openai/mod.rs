//! Any OpenAI-compatible server: OpenAI itself, vLLM, Ollama, llama.cpp and many more.
//!
//! | module | holds |
//! |---|---|
//! | `server` | requests, refusals, retries; what both endpoints share |
//! | `embeddings` | `POST /embeddings` |
//! | `chat` | `POST /chat/completions`, streamed |
//! | `rerank` | `POST /rerank` |
//! | `sse` | server-sent events, read as they come |

mod chat;
mod embeddings;
mod rerank;
mod server;
mod sse;

pub(crate) use server::may_pass;

pub use chat::OpenAiChat;
pub use embeddings::OpenAiEmbedder;
pub use rerank::RerankServer;
