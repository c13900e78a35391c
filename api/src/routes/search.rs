//! Search: passages by meaning, by words, by both.

use std::time::Duration;

use petiole_ai::reranker;
use petiole_storage::{Hit, SearchMode, SearchQuery};
use poem::web::Data;
use poem_openapi::payload::Json;
use poem_openapi::types::Example;
use poem_openapi::{Enum, Object, OpenApi};
use serde_json::Value;
use uuid::Uuid;

use crate::body::Body;
use crate::failures::{Answer, Create};
use crate::filter::MetadataFilter;
use crate::json::{JsonObject, Text};
use crate::problem::Problem;
use crate::routes::Group;
use crate::state::State;

/// How long embedding the question may take; the first one waits for the model to be loaded.
const EMBED: Duration = Duration::from_secs(20);
/// How long re-ranking may take.
const RERANK: Duration = Duration::from_secs(20);

#[derive(Clone, Default)]
pub(crate) struct Search;

/// How passages are found.
#[derive(Clone, Copy, Debug, Default, Enum, PartialEq)]
#[oai(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// By meaning and by words, joined by reciprocal rank fusion.
    #[default]
    Hybrid,
    /// By meaning: the nearest vectors. The score is the cosine similarity.
    Vector,
    /// By words: full text in the document's language.
    Keyword,
}

/// A question to the index.
#[derive(Clone, Debug, Object)]
#[oai(example)]
pub(crate) struct SearchRequest {
    /// The question, or words.
    #[oai(validator(max_length = 8192))]
    query: Text,
    /// At most this many hits.
    #[oai(default = "default_top_k", validator(minimum(value = "1"), maximum(value = "1000")))]
    top_k: u32,
    /// How passages are found.
    #[oai(default)]
    mode: Mode,
    /// Whether the first hits are read again, each together with the question, and put in order by that. It takes longer and
    /// finds better; `RERANK` says what is done when this is missing.
    rerank: Option<bool>,
    /// Only in this collection.
    #[oai(validator(max_length = 200))]
    collection: Option<String>,
    /// Only documents whose metadata are like this.
    #[oai(default)]
    filter: MetadataFilter,
}

fn default_top_k() -> u32 {
    10
}

impl Example for SearchRequest {
    fn example() -> Self {
        Self {
            query: Text("machines that weave patterns".into()),
            top_k: 5,
            mode: Mode::Hybrid,
            rerank: None,
            collection: Some("history".into()),
            filter: MetadataFilter::default(),
        }
    }
}

/// A passage that was found.
#[derive(Debug, Object)]
#[oai(rename = "Hit")]
pub(crate) struct HitView {
    /// The document it is of.
    document_id: Uuid,
    /// The passage.
    chunk_id: Uuid,
    /// The document's title.
    title: Option<String>,
    /// The passage's text.
    text: String,
    /// Its place in the document, from 0.
    position: i32,
    /// The part of it that has most of the question's words, as HTML: they stand in `<mark>`, everything else is escaped.
    snippet: String,
    /// How well it fits; comparable only within one answer.
    score: f64,
    /// The document's metadata.
    metadata: JsonObject,
}

impl From<Hit> for HitView {
    fn from(hit: Hit) -> Self {
        let metadata = match hit.metadata {
            Value::Object(map) => map,
            _ => Default::default(),
        };
        Self {
            document_id: hit.document_id,
            chunk_id: hit.chunk_id,
            title: hit.title,
            text: hit.text,
            position: hit.position,
            snippet: hit.snippet,
            score: hit.score,
            metadata: JsonObject(metadata),
        }
    }
}

/// What was found.
#[derive(Debug, Object)]
pub(crate) struct Hits {
    /// The passages, best first.
    hits: Vec<HitView>,
}

#[OpenApi]
impl Search {
    /// Search passages
    ///
    /// Finds passages by meaning, by words, or by both, best first. Reading keys may search.
    #[oai(path = "/v1/search", method = "post", operation_id = "search", tag = "Group::Search")]
    async fn search(&self, state: Data<&State>, body: Body<SearchRequest>) -> Answer<Json<Hits>, Create> {
        let Body(request) = body;
        let filter = request.filter.read("filter")?;
        let mode = match request.mode {
            Mode::Keyword => SearchMode::Keyword,
            Mode::Vector => SearchMode::Vector(embed(&state, &request.query.0).await?),
            Mode::Hybrid => SearchMode::Hybrid(embed(&state, &request.query.0).await?),
        };
        let (by_default, candidates) = state.reranks;
        let reranks = request.rerank.unwrap_or(by_default);
        let query = SearchQuery {
            text: request.query.0,
            mode,
            top_k: if reranks { request.top_k.max(candidates) } else { request.top_k },
            collection: request.collection,
            filter,
        };
        let mut hits = state.storage.search(&query).await?;
        if reranks {
            hits = reranked(&state, &query.text, hits).await?;
            hits.truncate(usize::try_from(request.top_k).unwrap_or(usize::MAX));
        }
        Ok(Json(Hits { hits: hits.into_iter().map(Into::into).collect() }))
    }
}

async fn embed(state: &State, query: &str) -> Result<Vec<f32>, Problem> {
    let texts = [query.to_owned()];
    let vectors = tokio::time::timeout(EMBED, state.embedder()?.embed(&texts))
        .await
        .map_err(|_| Problem::unavailable("the embedding model did not answer in time"))??;
    vectors.into_iter().next().ok_or_else(|| Problem::unavailable("the embedding model gave no vector"))
}

/// The hits in the order of the re-ranker, with its scores.
async fn reranked(state: &State, question: &str, hits: Vec<Hit>) -> Result<Vec<Hit>, Problem> {
    let mut hits: Vec<Option<Hit>> = hits.into_iter().map(Some).collect();
    let texts: Vec<String> = hits.iter().flatten().map(|hit| hit.text.clone()).collect();
    let order = tokio::time::timeout(RERANK, reranker::order(state.reranker()?.as_ref(), question, &texts))
        .await
        .map_err(|_| Problem::unavailable("the re-ranking model did not answer in time"))??;
    let best = order.into_iter().filter_map(|(place, score)| {
        let hit = hits.get_mut(place)?.take()?;
        Some(Hit { score: f64::from(score), ..hit })
    });
    Ok(best.collect())
}
