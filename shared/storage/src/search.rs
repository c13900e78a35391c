//! Search over the passages: by meaning (vectors), by words (full text), and by both.

use sea_orm::prelude::PgVector;
use sea_orm::{ConnectionTrait, DbBackend, FromQueryResult, Statement, TransactionTrait, Value as Parameter};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::error::{Result, StorageError};
use crate::jsonb;
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
    /// Only documents whose metadata hold these fields with these values.
    pub filter: Map<String, Value>,
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
    /// How well it fits; comparable only within one answer.
    pub score: f64,
    /// The document's metadata.
    pub metadata: Value,
}

/// The nearest passages. The index goes on until enough of them pass the filter (`hnsw.iterative_scan`).
const NEAREST: &str = "
    nearest AS (
        SELECT c.id, c.embedding <=> $1 AS distance
        FROM chunks c JOIN documents d ON d.id = c.document_id
        WHERE ($2::text IS NULL OR c.collection = $2) AND ($3::jsonb IS NULL OR d.metadata @> $3)
        ORDER BY c.embedding <=> $1 LIMIT $4
    )";

/// The question as PostgreSQL's queries, one for each language that occurs: all words, and any word.
const QUESTIONS: &str = "
    questions AS MATERIALIZED (
        SELECT language, websearch_to_tsquery(language, $5) AS every,
            CASE WHEN $5 ~ '\"|(^|\\s)-\\S' THEN websearch_to_tsquery(language, $5)
            ELSE replace(plainto_tsquery(language, $5)::text, ' & ', ' | ')::tsquery END AS any
        FROM (SELECT DISTINCT language FROM chunks WHERE $2::text IS NULL OR collection = $2) AS languages
    )";

/// The passages that hold words of the question. `{words}` is the column of `questions`.
const WORDED: &str = "
    worded AS (
        SELECT c.id, c.words @@ q.every AS complete, ts_rank(c.words, q.{words}, 1) AS rank
        FROM questions q
        JOIN chunks c ON c.words @@ q.{words} AND c.language = q.language
        JOIN documents d ON d.id = c.document_id
        WHERE ($2::text IS NULL OR c.collection = $2) AND ($3::jsonb IS NULL OR d.metadata @> $3)
        ORDER BY complete DESC, rank DESC, c.id LIMIT $4
    )";

/// The rows of `found (id, score)`, with all that a hit shows.
const HITS: &str = "
    SELECT c.document_id, c.id AS chunk_id, d.title, c.text, found.score, d.metadata
    FROM found JOIN chunks c ON c.id = found.id JOIN documents d ON d.id = c.document_id
    ORDER BY found.place, c.id LIMIT $6";

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
        let text = query.text.replace('\0', " ");
        let filter = (!query.filter.is_empty()).then(|| jsonb::stored(Value::Object(query.filter.clone())));
        let vector = match &query.mode {
            SearchMode::Vector(vector) | SearchMode::Hybrid(vector) => Some(PgVector::from(vector.clone())),
            SearchMode::Keyword => None,
        };
        let sql = match &query.mode {
            SearchMode::Vector(_) => format!(
                "WITH {NEAREST}, found AS (SELECT id, 1 - distance AS score, distance AS place FROM nearest), used AS (SELECT $5::text) {HITS}"
            ),
            SearchMode::Keyword => format!(
                "WITH {QUESTIONS}, {}, found AS (
                    SELECT id, rank::float8 AS score, row_number() OVER (ORDER BY complete DESC, rank DESC, id) AS place
                    FROM worded
                ), used AS (SELECT $1::vector) {HITS}",
                WORDED.replace("{words}", "any")
            ),
            SearchMode::Hybrid(_) => {
                format!("WITH {NEAREST}, {QUESTIONS}, {}, {FUSED} {HITS}", WORDED.replace("{words}", "every"))
            }
        };
        // each half brings more than is asked for, so that what both know of can rise
        let candidates = match query.mode {
            SearchMode::Hybrid(_) => query.top_k.saturating_mul(4).max(50),
            _ => query.top_k,
        };
        let values: [Parameter; 6] = [
            vector.into(),
            query.collection.clone().into(),
            filter.into(),
            i64::from(candidates).into(),
            text.into(),
            i64::from(query.top_k).into(),
        ];
        within(OPERATION, async {
            let transaction = self.db.begin().await?;
            // for this transaction only: look at enough of the graph, and go on where a filter leaves too few
            let settings = "SELECT set_config('hnsw.ef_search', $1, true),
                set_config('hnsw.iterative_scan', 'strict_order', true)";
            let breadth = candidates.clamp(100, 1_000).to_string();
            transaction
                .execute_raw(Statement::from_sql_and_values(DbBackend::Postgres, settings, [breadth.into()]))
                .await?;
            let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
            let mut hits = Hit::find_by_statement(statement).all(&transaction).await?;
            hits.iter_mut().for_each(|hit| hit.metadata = jsonb::sent(hit.metadata.take()));
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
