//! Where local models are, and what to do when they are not there.

use std::path::{Path, PathBuf};

use petiole_settings::ai::LOCAL_EMBEDDING_MODEL;

use crate::embedder::EmbedError;

/// Whether a model of this name runs in this process. The name is known with and without its publisher.
pub fn is_local_embedding_model(name: &str) -> bool {
    let name = name.strip_prefix("sentence-transformers/").unwrap_or(name);
    name.eq_ignore_ascii_case(LOCAL_EMBEDDING_MODEL)
}

/// The folder of all-MiniLM-L6-v2 under `model_dir`.
///
/// # Errors
/// [`EmbedError::ModelMissing`] when one of its files is not there; the message says how to get it.
pub fn embedding_model_dir(model_dir: &Path) -> Result<PathBuf, EmbedError> {
    let dir = model_dir.join(LOCAL_EMBEDDING_MODEL);
    let whole = ["model.safetensors", "tokenizer.json", "config.json"].iter().all(|file| dir.join(file).is_file());
    if whole { Ok(dir) } else { Err(EmbedError::ModelMissing { model: LOCAL_EMBEDDING_MODEL.to_owned(), dir }) }
}
