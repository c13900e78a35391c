//! Answers, summaries and classes by the real embedding model.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::sync::Arc;

use common::model_settings;
use petiole_ai::{Embedder, embedder_from, extractive};

const LIGHTHOUSE: &str = include_str!("data/lighthouse.md");
const BOATYARD: &str = include_str!("data/boatyard.md");

fn embedder() -> Arc<dyn Embedder> {
    embedder_from(&model_settings(&[])).unwrap()
}

async fn answers(question: &str, passages: &[&str]) -> Vec<extractive::Found> {
    let embedder = embedder();
    let vector = embedder.embed(&[question.to_owned()]).await.unwrap().remove(0);
    extractive::answer(embedder.as_ref(), &vector, passages, 3).await.unwrap()
}

const ANIMALS: [&str; 4] = [
    "The blue whale is the heaviest animal that ever lived.",
    "Golden eagles build their eyries on cliffs. Their young stay for ten weeks.",
    "Can sharks smell? Sharks sense electric fields with their snout.",
    "Order the flange QX-77193 from the warehouse.",
];

#[tokio::test]
async fn the_sentence_that_answers_is_found_with_its_passage() {
    let found = answers("Which animals can feel electricity?", &ANIMALS).await;
    assert_eq!((found[0].passage, found[0].text.as_str()), (2, "Sharks sense electric fields with their snout."));
    let found = answers("Where do big birds of prey nest?", &ANIMALS).await;
    assert_eq!((found[0].passage, found[0].text.as_str()), (1, "Golden eagles build their eyries on cliffs."));
    assert!(found.iter().all(|found| found.score <= 1.0) && found.len() <= 3);
}

#[tokio::test]
async fn what_no_passage_is_about_has_no_answer() {
    for question in ["Who won the football world cup?", "How do I bake sourdough bread?"] {
        assert_eq!(answers(question, &ANIMALS).await, []);
    }
    assert_eq!(answers("Which animals can feel electricity?", &[]).await, []);
}

#[tokio::test]
async fn the_same_said_twice_is_taken_once() {
    let found = answers("Which animals can feel electricity?", &[ANIMALS[2], ANIMALS[2]]).await;
    assert_eq!(found.len(), 1);
}

#[tokio::test]
async fn a_summary_is_sentences_of_the_text_in_its_order() {
    let embedder = embedder();
    let summary = extractive::summarize(embedder.as_ref(), LIGHTHOUSE, 3).await.unwrap();
    assert_eq!(summary.len(), 3);
    let whole = LIGHTHOUSE.split_whitespace().collect::<Vec<_>>().join(" ");
    let places: Vec<_> = summary.iter().map(|sentence| whole.find(sentence.as_str()).expect(sentence)).collect();
    assert!(places.is_sorted(), "{summary:?}");
    let short = extractive::summarize(embedder.as_ref(), "One thing. Another.", 3).await.unwrap();
    assert_eq!(short, ["One thing.", "Another."]);
}

#[tokio::test]
async fn what_all_sentences_but_one_speak_of_is_the_summary() {
    let text = "Tides rise twice a day. The moon pulls the sea water up. My cousin sells shoes in Lyon. \
        Spring tides are high because moon and sun pull together. At neap tide the water rises little.";
    let summary = extractive::summarize(embedder().as_ref(), text, 2).await.unwrap();
    assert!(!summary.iter().any(|sentence| sentence.contains("shoes")), "{summary:?}");
}

#[tokio::test]
async fn a_text_gets_the_label_it_is_about() {
    let labels = ["sport", "cooking", "seafaring"].map(str::to_owned);
    for (text, expected) in [
        (BOATYARD, 2),
        ("The striker scored in extra time and the stadium sang.", 0),
        ("Simmer the onions in butter, then add stock and barley.", 1),
    ] {
        let scores = extractive::classify(embedder().as_ref(), &[text.to_owned()], &labels).await.unwrap();
        assert!((scores.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        let best = (0..3).max_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap();
        assert_eq!(best, expected, "{scores:?} of {text:.40}");
    }
}
