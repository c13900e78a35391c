//! Measures search: how many of the true nearest passages the index finds (recall@10), and how good the order of hits is by
//! meaning, by words, by both, and re-ranked (nDCG@10). `benches/retrieval/README.md` tells how to run it.

#![allow(clippy::print_stdout)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use petiole_ai::reranker::{BySentences, order};
use petiole_ai::{Chunker, Embedder, TextKind, embedder_from};
use petiole_settings::{AiSettings, Reader};
use petiole_storage::{
    EmbeddingModel, Filter, Hit, NewChunk, NewDocument, NewOutboxMessage, OnDuplicate, SearchMode, SearchQuery, Storage,
};
use sea_orm::sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use serde_json::json;
use uuid::Uuid;

const K: usize = 10;

#[derive(Parser)]
struct Arguments {
    /// A PostgreSQL whose role may create databases: postgres://user:password@host/name
    #[arg(long, env = "TEST_DATABASE_URL")]
    database_url: String,
    /// Vectors in the index; 0 leaves the recall out.
    #[arg(long, default_value_t = 50_000)]
    vectors: usize,
    /// How many of them are embedded from texts of this machine; the rest is mixed from these.
    #[arg(long, default_value_t = 3_000)]
    embedded: usize,
    /// Folders with texts.
    #[arg(long, default_values = ["/usr/share/common-licenses", "/usr/share/doc", "/usr/share/perl", "/usr/lib/python3"])]
    texts: Vec<PathBuf>,
    /// Questions for the recall.
    #[arg(long, default_value_t = 200)]
    queries: usize,
    /// The folder of passages.tsv and queries.tsv.
    #[arg(long, default_value = "benches/retrieval")]
    set: PathBuf,
    /// Leave the database there, and say last where it is.
    #[arg(long)]
    keep: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut reader = Reader::from_env();
    let settings = AiSettings::read(&mut reader);
    let embedder = embedder_from(&settings)?;
    let database = Database::create(&arguments.database_url).await?;
    let done = async {
        let storage = database.open().await?;
        storage.migrate().await?;
        let model = EmbeddingModel { name: embedder.model().to_owned(), dimensions: embedder.dimensions() };
        storage.use_embedding_model(&model).await?;
        quality(&storage, &embedder, &arguments.set).await?;
        if arguments.vectors > 0 {
            recall(&database, &storage, embedder.as_ref(), &Chunker::from_settings(&settings)?, &arguments).await?;
        }
        storage.close().await;
        Ok(())
    }
    .await;
    if arguments.keep && done.is_ok() {
        database.admin("ALTER DATABASE {name} RESET enable_indexscan").await?;
        println!("Kept: {}", database.url);
        return Ok(());
    }
    database.drop().await?;
    done
}

/// A database of this run's own.
struct Database {
    server: String,
    url: String,
    name: String,
}

impl Database {
    async fn create(server: &str) -> Result<Self> {
        let name = format!("bench_{}", Uuid::now_v7().simple());
        let (front, _) = server.rsplit_once('/').context("the URL names no database")?;
        let database = Self { server: server.to_owned(), url: format!("{front}/{name}"), name };
        database.admin("CREATE DATABASE {name}").await?;
        Ok(database)
    }

    async fn open(&self) -> Result<Storage> {
        Ok(Storage::connect(&self.url, 4).await?)
    }

    async fn admin(&self, sql: &str) -> Result<()> {
        let mut connection = PgConnection::connect(&self.server).await?;
        connection.execute(AssertSqlSafe(sql.replace("{name}", &self.name))).await?;
        Ok(())
    }

    async fn drop(&self) -> Result<()> {
        self.admin("DROP DATABASE {name} WITH (FORCE)").await
    }
}

async fn store(storage: &Storage, title: &str, collection: &str, chunks: Vec<NewChunk>) -> Result<()> {
    let new = NewDocument {
        id: Uuid::now_v7(),
        title: Some(title.to_owned()),
        collection: collection.to_owned(),
        metadata: json!({"title": title}).as_object().cloned().unwrap_or_default(),
        language: "english".into(),
        media_type: "text/plain".into(),
        content: title.to_owned(),
        file: None,
        task_id: Uuid::new_v4().to_string(),
    };
    let (id, task_id) = (new.id, new.task_id.clone());
    let message = NewOutboxMessage { queue: "bench".into(), priority: 0, task_id, message: "{}".into() };
    storage.create_document(new, message, OnDuplicate::Store, None).await?;
    storage.replace_chunks(id, 1, chunks).await?;
    Ok(())
}

fn chunk(position: usize, text: &str, embedding: Vec<f32>) -> NewChunk {
    let number = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    NewChunk { position: number(position), text: text.to_owned(), tokens: number(text.len() / 4), embedding }
}

/// nDCG@10 of each way to search, on the small set.
async fn quality(storage: &Storage, embedder: &std::sync::Arc<dyn Embedder>, folder: &Path) -> Result<()> {
    let read = |name: &str| -> Result<Vec<Vec<String>>> {
        let path = folder.join(name);
        let text = std::fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        Ok(text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect())
    };
    let (passages, queries) = (read("passages.tsv")?, read("queries.tsv")?);
    let texts: Vec<String> = passages.iter().map(|row| row[1].clone()).collect();
    for (row, vector) in passages.iter().zip(embedder.embed(&texts).await?) {
        store(storage, &row[0], "quality", vec![chunk(0, &row[1], vector)]).await?;
    }
    let reranker = BySentences::new(embedder.clone());
    let mut sums: HashMap<(String, &str), (f64, usize)> = HashMap::new();
    for row in &queries {
        let [kind, question, wanted] = row.as_slice() else { bail!("a query has three fields: {row:?}") };
        let grades: HashMap<&str, f64> = wanted
            .split(' ')
            .filter_map(|one| one.split_once('='))
            .map(|(id, grade)| (id, grade.parse().unwrap_or(0.0)))
            .collect();
        let vector = embedder.embed(std::slice::from_ref(question)).await?.remove(0);
        let modes = [
            ("vector", SearchMode::Vector(vector.clone())),
            ("keyword", SearchMode::Keyword),
            ("hybrid", SearchMode::Hybrid(vector)),
        ];
        for (name, mode) in modes {
            let query = SearchQuery {
                text: question.clone(),
                mode,
                top_k: 30,
                collection: Some("quality".into()),
                filter: Filter::default(),
            };
            let hits = storage.search(&query).await?;
            add(&mut sums, kind, name, ndcg(&titles(&hits), &grades));
            if name == "hybrid" {
                let texts: Vec<String> = hits.iter().map(|hit| hit.text.clone()).collect();
                let places = order(&reranker, question, &texts).await?;
                let titles = titles(&hits);
                let reranked: Vec<_> = places.iter().map(|(place, _)| titles[*place].clone()).collect();
                add(&mut sums, kind, "hybrid, re-ranked", ndcg(&reranked, &grades));
            }
        }
    }
    println!("nDCG@{K} on {} passages, {} questions", passages.len(), queries.len());
    println!("{:<20}{:>10}{:>10}{:>10}{:>10}", "", "meaning", "words", "both", "all");
    for mode in ["vector", "keyword", "hybrid", "hybrid, re-ranked"] {
        let mean = |kind: &str| {
            let (sum, count) = sums.get(&(kind.to_owned(), mode)).copied().unwrap_or_default();
            sum / count.max(1) as f64
        };
        let [meaning, words, both, all] = ["meaning", "words", "both", "all"].map(mean);
        println!("{mode:<20}{meaning:>10.3}{words:>10.3}{both:>10.3}{all:>10.3}");
    }
    Ok(())
}

fn add<'a>(sums: &mut HashMap<(String, &'a str), (f64, usize)>, kind: &str, mode: &'a str, value: f64) {
    for kind in [kind, "all"] {
        let (sum, count) = sums.entry((kind.to_owned(), mode)).or_default();
        *sum += value;
        *count += 1;
    }
}

fn titles(hits: &[Hit]) -> Vec<String> {
    hits.iter().map(|hit| hit.title.clone().unwrap_or_default()).collect()
}

/// Normalised discounted cumulative gain (Järvelin, Kekäläinen 2002), with the gain 2^grade - 1.
fn ndcg(found: &[String], grades: &HashMap<&str, f64>) -> f64 {
    let discounted = |gains: &mut dyn Iterator<Item = f64>| -> f64 {
        gains.take(K).enumerate().map(|(n, grade)| (grade.exp2() - 1.0) / ((n + 2) as f64).log2()).sum()
    };
    let mut best: Vec<f64> = grades.values().copied().collect();
    best.sort_by(|a, b| b.total_cmp(a));
    let ideal = discounted(&mut best.into_iter());
    discounted(&mut found.iter().map(|id| grades.get(id.as_str()).copied().unwrap_or(0.0))) / ideal
}

/// recall@10 of the index against PostgreSQL's own exact search.
async fn recall(
    database: &Database,
    storage: &Storage,
    embedder: &dyn Embedder,
    chunker: &Chunker,
    arguments: &Arguments,
) -> Result<()> {
    let wanted = arguments.embedded.min(arguments.vectors) + arguments.queries;
    let texts = passages(&arguments.texts, chunker, wanted);
    if texts.len() <= arguments.queries {
        bail!("only {} passages were found in {:?}", texts.len(), arguments.texts);
    }
    let begun = Instant::now();
    let mut real = Vec::with_capacity(texts.len());
    for batch in texts.chunks(256) {
        real.extend(embedder.embed(batch).await?);
    }
    println!("\n{} passages of this machine embedded in {:.0} s", real.len(), begun.elapsed().as_secs_f64());
    // questions are passages that are not in the index
    let asked = real.split_off(real.len() - arguments.queries);
    let vectors = mixed(real, arguments.vectors);
    let begun = Instant::now();
    const PER_DOCUMENT: usize = 500;
    for (n, part) in vectors.chunks(PER_DOCUMENT).enumerate() {
        let chunks = part.iter().enumerate().map(|(n, vector)| chunk(n, "x", vector.clone())).collect();
        store(storage, &n.to_string(), "recall", chunks).await?;
    }
    database.admin("ALTER DATABASE {name} SET enable_indexscan = off").await?;
    let exact = database.open().await?;
    println!("{} vectors stored and indexed in {:.0} s", vectors.len(), begun.elapsed().as_secs_f64());
    let last = json!({"title": {"$in": ["0", "1"]}});
    let narrow =
        Filter::parse(last.as_object().context("an object")?).map_err(|errors| anyhow::anyhow!("{errors:?}"))?;
    println!("{:<34}{:>12}{:>12}{:>12}{:>12}", "", "recall@10", "p50 ms", "p95 ms", "exact p50");
    for (name, filter) in [("no filter", Filter::default()), ("filter that 1,000 passages pass", narrow)] {
        let (mut found, mut all, mut times, mut exact_times) = (0, 0, vec![], vec![]);
        for vector in &asked {
            let query = SearchQuery {
                text: String::new(),
                mode: SearchMode::Vector(vector.clone()),
                top_k: K as u32,
                collection: Some("recall".into()),
                filter: filter.clone(),
            };
            let begun = Instant::now();
            let hits = storage.search(&query).await?;
            times.push(begun.elapsed());
            let begun = Instant::now();
            let truth = exact.search(&query).await?;
            exact_times.push(begun.elapsed());
            all += truth.len();
            found += truth.iter().filter(|hit| hits.iter().any(|other| other.chunk_id == hit.chunk_id)).count();
        }
        let recall = found as f64 / all.max(1) as f64;
        let (p50, p95, exact_p50) =
            (quantile(&mut times, 0.5), quantile(&mut times, 0.95), quantile(&mut exact_times, 0.5));
        println!("{name:<34}{recall:>12.4}{p50:>12.1}{p95:>12.1}{exact_p50:>12.1}");
    }
    exact.close().await;
    Ok(())
}

fn quantile(times: &mut [Duration], q: f64) -> f64 {
    times.sort();
    let at = ((times.len().saturating_sub(1)) as f64 * q).round() as usize;
    times.get(at).map_or(0.0, |time| time.as_secs_f64() * 1e3)
}

/// Passages of the texts in these folders, in an order that mixes the folders, always the same.
fn passages(folders: &[PathBuf], chunker: &Chunker, most: usize) -> Vec<String> {
    let mut files = Vec::new();
    folders.iter().for_each(|folder| list(folder, &mut files));
    files.sort();
    files.dedup();
    let mut shuffle = Shuffle(0x9E37_79B9_7F4A_7C15);
    for n in (1..files.len()).rev() {
        files.swap(n, shuffle.below(n + 1));
    }
    let mut passages = Vec::new();
    for file in files {
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        // a few of each, so that no long file stands for all
        let cut = chunker.chunk(&text[..text.floor_char_boundary(40_000)], TextKind::Plain);
        passages.extend(cut.into_iter().take(20).map(|chunk| chunk.text));
        if passages.len() >= most {
            break;
        }
    }
    passages.truncate(most);
    for n in (1..passages.len()).rev() {
        passages.swap(n, shuffle.below(n + 1));
    }
    passages
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => list(&path, files),
            Ok(kind) if kind.is_file() => files.push(path),
            _ => {}
        }
    }
}

/// The real vectors, and as many between pairs of them as are wanted: they lie where real ones lie.
fn mixed(mut real: Vec<Vec<f32>>, wanted: usize) -> Vec<Vec<f32>> {
    real.truncate(wanted);
    let count = real.len();
    let mut shuffle = Shuffle(0xD1B5_4A32_D192_ED03);
    while real.len() < wanted {
        let (a, b) = (shuffle.below(count), shuffle.below(count));
        let share = 0.5 + 0.4 * shuffle.below(1_000) as f32 / 1_000.0;
        let mut vector: Vec<f32> = real[a].iter().zip(&real[b]).map(|(x, y)| share * x + (1.0 - share) * y).collect();
        vector.iter_mut().for_each(|x| *x += 0.02 * (shuffle.below(2_001) as f32 / 1_000.0 - 1.0));
        let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        vector.iter_mut().for_each(|x| *x /= length);
        real.push(vector);
    }
    real
}

/// Numbers that are the same in each run (SplitMix64).
struct Shuffle(u64);

impl Shuffle {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % limit.max(1) as u64) as usize
    }
}
