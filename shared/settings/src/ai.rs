//! Settings of the models: which ones, where they are, how they are asked.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use crate::reader::Reader;

/// The embedding model that runs in this process, without a network and without a key.
pub const LOCAL_EMBEDDING_MODEL: &str = "all-MiniLM-L6-v2";

/// What embedding and text generation need to know.
#[derive(Clone, Debug)]
pub struct AiSettings {
    /// `EMBEDDING_MODEL`: `all-MiniLM-L6-v2` runs in process; any other name is asked of the OpenAI-compatible server.
    pub embedding_model: String,
    /// `EMBEDDING_DIMENSIONS`: the length of a vector; needed only for models that are not known here.
    pub embedding_dimensions: Option<usize>,
    /// `EMBEDDING_BATCH_SIZE`: how many texts are embedded together.
    pub embedding_batch_size: usize,
    /// `MODEL_DIR`: the folder that holds a folder for each local model.
    pub model_dir: PathBuf,
    /// `OPENAI_BASE_URL`: an OpenAI-compatible server, such as `http://127.0.0.1:11434/v1`.
    pub openai_base_url: Option<String>,
    /// `OPENAI_API_KEY`: the key of that server.
    pub openai_api_key: Option<SecretString>,
    /// `RERANK_MODEL`: what re-ranks; `sentences`, the default, needs no model of its own.
    pub rerank_model: Option<String>,
    /// `RERANK_BASE_URL`: a server with that model and `POST …/rerank`; the OpenAI-compatible one unless set.
    pub rerank_base_url: Option<String>,
    /// `RERANK_API_KEY`: the key of that server.
    pub rerank_api_key: Option<SecretString>,
    /// `RERANK_CANDIDATES`: how many of the first hits are re-ranked.
    pub rerank_candidates: u32,
    /// `RERANK`: whether searches re-rank that do not say it themselves.
    pub rerank: bool,
    /// `LANGUAGE_MODEL`: the model of that server that writes text; without one, answers are passages of the documents.
    pub language_model: Option<String>,
    /// `LANGUAGE_MAX_TOKENS`: the most tokens that an answer may have.
    pub language_max_tokens: u32,
    /// `LANGUAGE_CONTEXT_TOKENS`: how much of the documents and of the talk so far the model is shown, in tokens (estimated
    /// as four letters each).
    pub language_context_tokens: usize,
    /// `LANGUAGE_TEMPERATURE`: how freely the model writes; left to the server unless set.
    pub language_temperature: Option<f64>,
    /// `LANGUAGE_TIMEOUT`: how long a whole answer may take.
    pub language_timeout: Duration,
    /// `CONVERSATION_TURNS`: how many earlier questions and answers of a conversation are remembered for the next one.
    pub conversation_turns: u32,
    /// `PROMPTS_DIR`: a folder of prompts that replace the built-in ones of the same name and version.
    pub prompts_dir: Option<PathBuf>,
    /// `CHUNK_TOKENS`: the longest chunk, in tokens of the embedding model.
    pub chunk_tokens: usize,
    /// `CHUNK_OVERLAP_TOKENS`: how much of one chunk the next may repeat, in tokens; at most a quarter.
    pub chunk_overlap_tokens: usize,
    /// `AI_TIMEOUT`: how long one request to a model server may take.
    pub timeout: Duration,
    /// `AI_CONNECT_TIMEOUT`: how long the connection to a model server may take.
    pub connect_timeout: Duration,
    /// `AI_MAX_RETRIES`: how often a request is sent again after 429, 5xx or a broken connection.
    pub max_retries: usize,
}

impl AiSettings {
    /// Reads these settings alone, for a tool that needs no others.
    pub fn read(reader: &mut Reader) -> Self {
        let settings = Self {
            embedding_model: reader.get(
                &["EMBEDDING_MODEL"],
                LOCAL_EMBEDDING_MODEL.to_owned(),
                "the name of an embedding model",
            ),
            embedding_dimensions: reader.optional(&["EMBEDDING_DIMENSIONS"], "a whole number"),
            embedding_batch_size: reader.number(&["EMBEDDING_BATCH_SIZE"], 32, 1..=2048),
            model_dir: read_model_dir(reader),
            openai_base_url: read_base_url(reader, "OPENAI_BASE_URL"),
            openai_api_key: reader.secret(&["OPENAI_API_KEY"]),
            rerank_model: reader.optional(&["RERANK_MODEL"], "the name of a re-ranking model"),
            rerank_base_url: read_base_url(reader, "RERANK_BASE_URL"),
            rerank_api_key: reader.secret(&["RERANK_API_KEY"]),
            rerank_candidates: reader.number(&["RERANK_CANDIDATES"], 30, 1..=1000),
            rerank: reader.boolean(&["RERANK"], false),
            language_model: reader.optional(&["LANGUAGE_MODEL"], "the name of a language model"),
            language_max_tokens: reader.number(&["LANGUAGE_MAX_TOKENS"], 1024, 1..=1_000_000),
            language_context_tokens: reader.number(&["LANGUAGE_CONTEXT_TOKENS"], 3000, 64..=10_000_000),
            language_temperature: reader.optional(&["LANGUAGE_TEMPERATURE"], "a number, usually from 0 to 2"),
            language_timeout: reader.seconds(&["LANGUAGE_TIMEOUT"], Duration::from_secs(120)),
            conversation_turns: reader.number(&["CONVERSATION_TURNS"], 6, 0..=100),
            prompts_dir: reader.text(&["PROMPTS_DIR"]).map(|(_, dir)| PathBuf::from(dir)),
            chunk_tokens: reader.number(&["CHUNK_TOKENS"], 160, 16..=8192),
            chunk_overlap_tokens: reader.number(&["CHUNK_OVERLAP_TOKENS"], 20, 0..=4096),
            timeout: reader.seconds(&["AI_TIMEOUT"], Duration::from_secs(60)),
            connect_timeout: reader.seconds(&["AI_CONNECT_TIMEOUT"], Duration::from_secs(5)),
            max_retries: reader.number(&["AI_MAX_RETRIES"], 4, 0..=20),
        };
        if settings.chunk_overlap_tokens > settings.chunk_tokens / 4 {
            let held = settings.chunk_overlap_tokens.to_string();
            reader.problem("CHUNK_OVERLAP_TOKENS", Some(&held), "at most a quarter of CHUNK_TOKENS");
        }
        settings
    }
}

fn read_model_dir(reader: &mut Reader) -> PathBuf {
    if let Some((_, dir)) = reader.text(&["MODEL_DIR"]) {
        return PathBuf::from(dir);
    }
    let cache = reader.text(&["XDG_CACHE_HOME"]).map(|(_, cache)| PathBuf::from(cache));
    let home = reader.text(&["HOME"]).map(|(_, home)| PathBuf::from(home).join(".cache"));
    cache.or(home).unwrap_or_else(|| PathBuf::from("/var/cache")).join("petiole/models")
}

fn read_base_url(reader: &mut Reader, name: &str) -> Option<String> {
    let (name, url) = reader.text(&[name])?;
    if url.starts_with("http://") || url.starts_with("https://") {
        return Some(url.trim_end_matches('/').to_owned());
    }
    reader.problem(&name, Some(&crate::redacted_url(&url)), "a URL that begins with http:// or https://");
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn models_live_in_the_cache_unless_told_otherwise() {
        for (values, dir) in [
            (vec![("HOME", "/home/a")], "/home/a/.cache/petiole/models"),
            (vec![("HOME", "/home/a"), ("XDG_CACHE_HOME", "/c")], "/c/petiole/models"),
            (vec![("HOME", "/home/a"), ("MODEL_DIR", "/m")], "/m"),
            (vec![], "/var/cache/petiole/models"),
        ] {
            let mut reader = Reader::from_map(values);
            assert_eq!(AiSettings::read(&mut reader).model_dir, PathBuf::from(dir));
            reader.finish().unwrap();
        }
    }

    #[test]
    fn overlap_and_server_are_checked() {
        let mut reader = Reader::from_map([
            ("CHUNK_TOKENS", "50"),
            ("CHUNK_OVERLAP_TOKENS", "13"),
            ("OPENAI_BASE_URL", "localhost:11434"),
        ]);
        AiSettings::read(&mut reader);
        let text = reader.finish().unwrap_err().to_string();
        assert!(text.contains("CHUNK_OVERLAP_TOKENS") && text.contains("OPENAI_BASE_URL"), "{text}");
    }
}
