//! What every request may use.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use petiole_ai::{Embedder, Reranker, embedder_from, reranker_from};
use petiole_beat::Zone;
use petiole_client::queues::Queues;
use petiole_client::{Client, ClientConfig};
use petiole_settings::{Reader, Settings};
use petiole_storage::Storage;
use secrecy::ExposeSecret;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::auth::Keys;
use crate::limits::{LocalCounts, RateLimits};
use crate::metrics::Metrics;
use crate::problem::Problem;
use crate::recent::Recent;
use crate::task_names::TaskNames;

/// How long the number of workers is believed.
const WORKERS_FRESH: Duration = Duration::from_secs(5);
/// How long workers have to answer a ping.
const WORKERS_ANSWER: Duration = Duration::from_secs(1);

/// Everything a request needs. Cheap to clone.
#[derive(Clone)]
pub struct State {
    /// PostgreSQL.
    pub storage: Storage,
    /// Celery.
    pub client: Client,
    /// The keys of the API.
    pub keys: Keys,
    /// How much a request may bring.
    pub limits: Limits,
    /// Cancelled as soon as the service is told to stop.
    pub(crate) stopping: CancellationToken,
    pub(crate) rate_limits: RateLimits,
    pub(crate) local_counts: Arc<LocalCounts>,
    pub(crate) cors_origins: Vec<String>,
    pub(crate) tasks: Arc<TaskNames>,
    pub(crate) queues: Arc<Queues>,
    pub(crate) recent: Arc<Recent>,
    /// The application's clock on the wall.
    pub(crate) time_zone: Zone,
    /// What is counted.
    pub(crate) metrics: Metrics,
    /// Where the built-in page's link to Flower leads: a URL, or a port of its own host.
    pub(crate) flower: (Option<String>, u16),
    embedder: Result<Arc<dyn Embedder>, String>,
    reranker: Result<Arc<dyn Reranker>, String>,
    /// Whether searches re-rank that do not say it themselves, and how many of the first hits.
    pub(crate) reranks: (bool, u32),
    workers: Arc<Mutex<Option<(Instant, usize)>>>,
}

/// How much a request may bring, in bytes, and how long it may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A JSON body.
    pub body: usize,
    /// An upload.
    pub upload: usize,
    /// Time for one request, waiting and streaming left out.
    pub request: Duration,
}

impl State {
    /// The state by the settings; those of Celery's are read by `reader`. Connects to nothing yet, loads no model yet.
    ///
    /// # Errors
    /// A URL or a task pattern that cannot be used.
    pub async fn new(settings: &Settings, mut reader: Reader) -> anyhow::Result<Self> {
        let storage = Storage::connect(settings.database_url.expose_secret(), settings.database_pool_size).await?;
        let (broker, backend) = (settings.broker_url.expose_secret(), settings.result_backend.expose_secret());
        let config = ClientConfig::read(&mut reader, broker, backend);
        let client = Client::new(config).context("BROKER_URL or RESULT_BACKEND cannot be used")?;
        let embedder = embedder_from(&settings.ai).map_err(|error| error.to_string());
        if let Err(error) = &embedder {
            tracing::warn!(error, "searching by meaning will not work");
        }
        let reranker = match &embedder {
            Ok(embedder) => reranker_from(&settings.ai, embedder).map_err(|error| error.to_string()),
            Err(error) => Err(error.clone()),
        };
        if let (Ok(_), Err(error)) = (&embedder, &reranker) {
            tracing::warn!(error, "re-ranking will not work");
        }
        let time_zone = petiole_settings::time_zone(&mut reader);
        reader.finish()?;
        Ok(Self {
            keys: Keys::new(&settings.api.keys, storage.clone()),
            storage,
            time_zone,
            stopping: CancellationToken::new(),
            rate_limits: RateLimits { minute: settings.api.rate_limit, day: settings.api.daily_quota },
            local_counts: Arc::default(),
            cors_origins: settings.api.cors_origins.clone(),
            limits: Limits {
                body: settings.api.body_limit,
                upload: settings.api.upload_limit,
                request: settings.api.request_timeout,
            },
            metrics: Metrics::default(),
            recent: Arc::default(),
            queues: Arc::new(Queues::new(client.clone())),
            tasks: Arc::new(TaskNames::new(client.clone(), &settings.api.allowed_tasks)),
            client,
            flower: (settings.api.flower_url.clone(), settings.api.flower_port),
            embedder,
            reranker,
            reranks: (settings.ai.rerank, settings.ai.rerank_candidates),
            workers: Arc::default(),
        })
    }

    /// The embedding model.
    ///
    /// # Errors
    /// 503 when there is none.
    pub fn embedder(&self) -> Result<&Arc<dyn Embedder>, Problem> {
        self.embedder
            .as_ref()
            .map_err(|_| Problem::unavailable("there is no embedding model here; keyword search works without it"))
    }

    /// The re-ranker.
    ///
    /// # Errors
    /// 503 when there is none.
    pub fn reranker(&self) -> Result<&Arc<dyn Reranker>, Problem> {
        self.reranker
            .as_ref()
            .map_err(|_| Problem::unavailable("there is no re-ranking model here; search works without it"))
    }

    /// How many workers answer, believed for some seconds.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn workers(&self) -> Result<usize, Problem> {
        // who comes while another one asks waits for that answer
        let mut known = self.workers.lock().await;
        if let Some((at, count)) = *known
            && at.elapsed() < WORKERS_FRESH
            && count > 0
        {
            return Ok(count);
        }
        let replies = self.client.inspect("ping", Default::default(), None, WORKERS_ANSWER).await?;
        *known = Some((Instant::now(), replies.len()));
        Ok(replies.len())
    }
}
