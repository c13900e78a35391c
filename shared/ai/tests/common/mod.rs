//! What the tests of this crate share.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

use petiole_settings::{AiSettings, Reader};

/// Settings for the real model, where `docker/fetch-models.sh` puts it, with `more` on top.
pub fn settings(more: &[(&str, &str)]) -> AiSettings {
    let here = ["MODEL_DIR", "XDG_CACHE_HOME", "HOME"];
    let environment = here.iter().filter_map(|name| Some((*name, std::env::var(name).ok()?)));
    let more = more.iter().map(|(name, value)| (*name, (*value).to_owned()));
    let mut reader = Reader::from_map(environment.chain(more));
    let settings = AiSettings::read(&mut reader);
    reader.finish().unwrap();
    settings
}

/// As [`settings`]; ends the test with a hint where the model is not there.
pub fn model_settings(more: &[(&str, &str)]) -> AiSettings {
    let settings = settings(more);
    let model = petiole_ai::local::embedding_model_dir(&settings.model_dir);
    assert!(model.is_ok(), "this test needs the embedding model: run docker/fetch-models.sh");
    settings
}
