//! Chunker and model together find a passage by its meaning: the questions share next to no word with their answers.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::model_settings;
use petiole_ai::{Chunker, TextKind, cosine, embedder_from};

const GUIDE: &str = include_str!("data/lighthouse.md");
/// Another text about much the same things, to be mistaken for the right one.
const OTHER: &str = include_str!("data/boatyard.md");

const QUESTIONS: &[(&str, &str)] = &[
    ("Do I get a refund when the crossing is cancelled?", "we give the whole sum back"),
    ("What about my lactose intolerance?", "cannot stand milk or wheat"),
    ("Can I stay in exchange for repairing things?", "mend a dry-stone wall"),
    ("first aid and emergency evacuation of a badly injured person", "spread the orange cross"),
    ("waste disposal and recycling", "the skipper takes aboard"),
    ("trash is taken back to the mainland by ship", "the skipper takes aboard"),
    ("cleaning my room before checking out", "wait for one year in the sea chest"),
    ("I arrived in the middle of the night, where can I lie down?", "has four bunks"),
    ("someone in the room makes noise while asleep", "take the alcove behind the boiler"),
    ("aggressive seagulls attacking hikers", "dive at walkers"),
    ("saving showers during a drought", "limited to two minutes"),
    ("evacuation of the building", "walks to the flagpole"),
    ("responding to a ship's distress signal", "pass both to the coast guard"),
];

#[tokio::test]
async fn every_question_finds_its_passage_among_the_best_three() {
    let settings = model_settings(&[]);
    let embedder = embedder_from(&settings).unwrap();
    let chunker = Chunker::from_settings(&settings).unwrap();
    for kind in [TextKind::Plain, TextKind::Markdown] {
        let chunks = [GUIDE, OTHER].map(|text| chunker.chunk(text, kind));
        let passages: Vec<String> = chunks.into_iter().flatten().map(|chunk| chunk.text).collect();
        assert!(passages.len() >= 12, "with {} passages anything would be among the best three", passages.len());
        let vectors = embedder.embed(&passages).await.unwrap();
        for (question, answer) in QUESTIONS {
            let asked = embedder.embed(&[(*question).to_owned()]).await.unwrap().remove(0);
            let mut hits: Vec<_> = vectors.iter().map(|vector| cosine(vector, &asked)).zip(&passages).collect();
            hits.sort_by(|a, b| b.0.total_cmp(&a.0));
            let rank = hits.iter().position(|(_, passage)| passage.contains(answer));
            assert!(rank.is_some_and(|rank| rank < 3), "{kind:?}, {question:?}: rank {rank:?}, best {:?}", hits[0]);
        }
    }
}
