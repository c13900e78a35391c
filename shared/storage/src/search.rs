//! Search over the passages: by meaning (vectors), by words (full text), and by both.

use sea_orm::prelude::PgVector;
use sea_orm::{ConnectionTrait, DbBackend, FromQueryResult, Statement, Value as Parameter};
use serde_json::Value;
use uuid::Uuid;

use crate::error::{Result, StorageError};
use crate::filter::Filter;
use crate::jsonb;
use crate::snippet;
use crate::storage::{OPERATION, Storage, within};

/// How passages are found.
#[derive(Clone, Debug, PartialEq)]
pub enum SearchMode {
    /// By meaning: nearest to this vector. The score is the cosine similarity.
    Vector(Vec<f32>),
    /// By words: any of the query's, those with all of them first. The score is PostgreSQL's rank.
    Keyword,
    /// By both: nearest to this vector, and those that hold all words; joined by reciprocal ranks, whose sum is the score.
    Hybrid(Vec<f32>),
}

/// What is looked for, and where.
#[derive(Clone, Debug)]
pub struct SearchQuery {
    /// The question.
    pub text: String,
    /// How.
    pub mode: SearchMode,
    /// At most this many hits.
    pub top_k: u32,
    /// Only in this collection.
    pub collection: Option<String>,
    /// Only documents whose metadata are like this.
    pub filter: Filter,
}

/// A passage that was found.
#[derive(Clone, Debug, PartialEq, FromQueryResult)]
pub struct Hit {
    /// The document it is of.
    pub document_id: Uuid,
    /// The passage.
    pub chunk_id: Uuid,
    /// The document's title.
    pub title: Option<String>,
    /// The passage's text.
    pub text: String,
    /// Its place in the document, from 0.
    pub position: i32,
    /// The part of it that has most of the question's words, as HTML: they are marked, everything else is escaped.
    pub snippet: String,
    /// How well it fits; comparable only within one answer.
    pub score: f64,
    /// The document's metadata.
    pub metadata: Value,
}

/// Every parameter has to occur.
const USED: &str = "used AS (SELECT $1::vector, $2::text)";

/// The question's words, any of them, in the language of a passage.
const ANY: &str = "CASE WHEN $3 ~ '\"|(^|\\s)-\\S' THEN websearch_to_tsquery({language}, $3)
    ELSE replace(plainto_tsquery({language}, $3)::text, ' & ', ' | ')::tsquery END";

/// The question as PostgreSQL's queries, one for each language that occurs: all words, and any word. The languages are
/// looked up one after the other in the index, however many passages there are.
const QUESTIONS: &str = "
    languages AS (
        (SELECT language FROM chunks c WHERE {there} ORDER BY language LIMIT 1)
        UNION ALL
        SELECT (SELECT c.language FROM chunks c WHERE {there} AND c.language > l.language ORDER BY c.language LIMIT 1)
        FROM languages l WHERE l.language IS NOT NULL
    ),
    questions AS MATERIALIZED (
        SELECT language, websearch_to_tsquery(language, $3) AS every, {any} AS any
        FROM languages WHERE language IS NOT NULL
    )";

/// The nearest passages. The index goes on until enough of them pass the filter (`hnsw.iterative_scan`).
const NEAREST: &str = "
    nearest AS (
        SELECT c.id, c.embedding <=> $1 AS distance FROM {passages} ORDER BY c.embedding <=> $1 LIMIT $4
    )";

/// The passages that hold words of the question. `{words}` is the column of `questions`.
const WORDED: &str = "
    worded AS (
        SELECT c.id, c.words @@ q.every AS complete, ts_rank(c.words, q.{words}, 1) AS rank
        FROM {passages} AND c.words @@ q.{words} AND c.language = q.language
        ORDER BY complete DESC, rank DESC, c.id LIMIT $4
    )";

/// The rows of `found (id, score, place)`, with all that a hit shows.
const HITS: &str = "
    SELECT c.document_id, c.id AS chunk_id, d.title, c.text, c.position, found.score, d.metadata,
        ts_headline(c.language, {passage}, {any}, {options}) AS snippet
    FROM found JOIN chunks c ON c.id = found.id JOIN documents d ON d.id = c.document_id
    ORDER BY found.place, c.id LIMIT $5";

/// Reciprocal rank fusion (Cormack, Clarke, Büttcher 2009) with their constant of 60.
const FUSED: &str = "
    found AS (
        SELECT id, score, -score AS place FROM (
            SELECT id, sum(1.0::float8 / (60 + place)) AS score FROM (
                SELECT id, row_number() OVER (ORDER BY distance, id) AS place FROM nearest
                UNION ALL
                SELECT id, row_number() OVER (ORDER BY rank DESC, id) FROM worded
            ) AS placed GROUP BY id
        ) AS summed
    )";

/// The statement of a query and its parameters.
fn statement(query: &SearchQuery, candidates: u32) -> Statement {
    let vector = match &query.mode {
        SearchMode::Vector(vector) | SearchMode::Hybrid(vector) => Some(PgVector::from(vector.clone())),
        SearchMode::Keyword => None,
    };
    let mut values: Vec<Parameter> = vec![
        vector.into(),
        query.collection.clone().into(),
        query.text.replace('\0', " ").into(),
        i64::from(candidates).into(),
        i64::from(query.top_k).into(),
    ];
    let there = if query.collection.is_some() { "c.collection = $2" } else { "true" };
    let filter = (!query.filter.is_empty()).then(|| query.filter.sql("d.metadata", &mut values));
    // the documents are looked at only where the filter asks for them
    let passages = |more: &str| match &filter {
        Some(filter) => {
            format!("{more} chunks c JOIN documents d ON d.id = c.document_id WHERE {there} AND {filter}")
        }
        None => format!("{more} chunks c WHERE {there}"),
    };
    let any = |language: &str| ANY.replace("{language}", language);
    let nearest = NEAREST.replace("{passages}", &passages(""));
    let questions = QUESTIONS.replace("{there}", there).replace("{any}", &any("language"));
    let worded =
        |words: &str| WORDED.replace("{words}", words).replace("{passages}", &passages("questions q CROSS JOIN"));
    let hits = HITS
        .replace("{any}", &any("c.language"))
        .replace("{passage}", snippet::PASSAGE)
        .replace("{options}", snippet::OPTIONS);
    let sql = match &query.mode {
        SearchMode::Vector(_) => format!(
            "WITH {USED}, {nearest}, found AS (SELECT id, 1 - distance AS score, distance AS place FROM nearest) {hits}"
        ),
        SearchMode::Keyword => format!(
            "WITH RECURSIVE {USED}, {questions}, {}, found AS (
                SELECT id, rank::float8 AS score, row_number() OVER (ORDER BY complete DESC, rank DESC, id) AS place
                FROM worded
            ) {hits}",
            worded("any")
        ),
        SearchMode::Hybrid(_) => {
            format!("WITH RECURSIVE {USED}, {nearest}, {questions}, {}, {FUSED} {hits}", worded("every"))
        }
    };
    Statement::from_sql_and_values(DbBackend::Postgres, sql, values)
}

impl Storage {
    /// The passages that fit best, best first.
    ///
    /// # Errors
    /// [`StorageError::Invalid`] for a vector of the wrong length;
    /// [`StorageError::Unavailable`].
    pub async fn search(&self, query: &SearchQuery) -> Result<Vec<Hit>> {
        // no collection has such a name, and no word is lost with what stands between words
        if query.collection.as_deref().is_some_and(|name| name.contains('\0')) {
            return Ok(vec![]);
        }
        // each half brings more than is asked for, so that what both know of can rise
        let candidates = match query.mode {
            SearchMode::Hybrid(_) => query.top_k.saturating_mul(4).max(50),
            _ => query.top_k,
        };
        within(OPERATION, async {
            let transaction = self.begin().await?;
            // for this transaction only: look at enough of the graph, and go on where a filter leaves too few
            let settings = "SELECT set_config('hnsw.ef_search', $1, true),
                set_config('hnsw.iterative_scan', 'strict_order', true)";
            let breadth = candidates.clamp(100, 1_000).to_string();
            transaction
                .execute_raw(Statement::from_sql_and_values(DbBackend::Postgres, settings, [breadth.into()]))
                .await?;
            let mut hits = Hit::find_by_statement(statement(query, candidates)).all(&transaction).await?;
            for hit in &mut hits {
                hit.metadata = jsonb::sent(hit.metadata.take());
                hit.snippet = snippet::html(&hit.snippet);
            }
            transaction.commit().await?;
            Ok(hits)
        })
        .await
        .map_err(|error| match error {
            StorageError::Invalid { message, .. } => StorageError::invalid("query", message),
            other => other,
        })
    }
}
