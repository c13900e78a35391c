//! all-MiniLM-L6-v2 in this process.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{model_settings, settings};
use petiole_ai::{EmbedError, cosine, embedder_from};
use petiole_settings::AiSettings;

async fn vectors(texts: &[&str]) -> Vec<Vec<f32>> {
    let embedder = embedder_from(&model_settings(&[])).unwrap();
    let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
    embedder.embed(&texts).await.unwrap()
}

#[tokio::test]
async fn vectors_have_the_promised_length_and_tell_meaning_apart() {
    let vectors = vectors(&["I want a refund.", "Please give me my money back.", "Our galaxy is a spiral."]).await;
    for vector in &vectors {
        assert_eq!(vector.len(), 384);
        assert!((cosine(vector, vector) - 1.0).abs() < 1e-5);
    }
    let (near, far) = (cosine(&vectors[0], &vectors[1]), cosine(&vectors[0], &vectors[2]));
    assert!(near > 0.5 && far < 0.15, "near {near}, far {far}");
}

/// Order and padding must not matter: a vector is the same in whatever company, also where they are more than one pass.
#[tokio::test]
async fn a_batch_gives_the_vectors_of_its_texts_alone() {
    let long = "The tide turns twice a day and the ferry waits for it. ".repeat(30);
    let texts = [long.as_str(), "short", "", "a text of middling length, with a few more words"];
    let many: Vec<&str> = texts.iter().copied().cycle().take(6 * texts.len()).collect();
    let together = vectors(&many).await;
    for (place, text) in texts.iter().enumerate() {
        let alone = &vectors(&[text]).await[0];
        for vector in together.iter().skip(place).step_by(texts.len()) {
            let same = cosine(alone, vector);
            assert!((same - 1.0).abs() < 1e-4, "{text:?}: {same}");
        }
    }
}

#[tokio::test]
async fn only_the_window_of_a_long_text_counts() {
    let text = "sea ".repeat(400);
    let longer = format!("{text} and a word about tax law");
    let vectors = vectors(&[&text, &longer]).await;
    assert!((cosine(&vectors[0], &vectors[1]) - 1.0).abs() < 1e-5);
}

/// Its files are gone after the first use: whoever asks later has only what was loaded then.
#[tokio::test]
async fn many_callers_share_one_model() {
    let settings = model_settings(&[]);
    let dir = std::env::temp_dir().join(format!("petiole-shared-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let model = settings.model_dir.join("all-MiniLM-L6-v2").canonicalize().unwrap();
    std::os::unix::fs::symlink(model, dir.join("all-MiniLM-L6-v2")).unwrap();
    let embedder = embedder_from(&AiSettings { model_dir: dir.clone(), ..settings }).unwrap();
    embedder.embed(&["the first".to_owned()]).await.unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    let calls = (0..8).map(|n| {
        let embedder = embedder.clone();
        tokio::spawn(async move { embedder.embed(&[format!("text number {n}")]).await })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap().unwrap().len(), 1);
    }
    assert!(embedder.embed(&[]).await.unwrap().is_empty());
}

#[test]
fn a_missing_model_says_how_to_get_one() {
    let error = embedder_from(&settings(&[("MODEL_DIR", "/nowhere/at/all")])).err().unwrap();
    assert!(matches!(error, EmbedError::ModelMissing { .. }));
    let text = error.to_string();
    for hint in ["/nowhere/at/all", "docker/fetch-models.sh", "MODEL_DIR", "OPENAI_BASE_URL", "EMBEDDING_MODEL"] {
        assert!(text.contains(hint), "{hint} not in {text}");
    }
}

#[tokio::test]
async fn a_broken_model_is_an_error_and_not_a_panic() {
    let dir = std::env::temp_dir().join(format!("petiole-broken-{}", std::process::id()));
    let model = dir.join("all-MiniLM-L6-v2");
    std::fs::create_dir_all(&model).unwrap();
    for file in ["model.safetensors", "tokenizer.json", "config.json"] {
        std::fs::write(model.join(file), "{}").unwrap();
    }
    let embedder = embedder_from(&settings(&[("MODEL_DIR", dir.to_str().unwrap())])).unwrap();
    let error = embedder.embed(&["a text".to_owned()]).await.unwrap_err();
    assert!(matches!(error, EmbedError::ModelBroken { .. }), "{error}");
    std::fs::remove_dir_all(&dir).unwrap();
}
