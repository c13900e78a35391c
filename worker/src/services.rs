//! What tasks work with.

use std::sync::{Arc, OnceLock};

use petiole_ai::prompts::{PromptError, Prompts};
use petiole_ai::reranker::BySentences;
use petiole_ai::{
    Chunker, EmbedError, Embedder, LanguageError, LanguageModel, RerankError, Reranker, embedder_from,
    language_model_from, reranker_from,
};
use petiole_redis::{Backend, Connector, RedisError};
use petiole_settings::{AiSettings, Settings};
use petiole_storage::{EmbeddingModel, Storage, StorageError};
use secrecy::ExposeSecret;
use tokio::sync::OnceCell;

use crate::documents::Extractor;

/// The database, the embedder and the chunker, shared by all tasks of a worker. Clones are cheap.
#[derive(Clone)]
pub struct Services {
    /// The database.
    pub storage: Storage,
    /// The model that makes vectors.
    pub embedder: Arc<dyn Embedder>,
    /// What cuts texts.
    pub chunker: Chunker,
    /// What writes texts.
    pub language: Language,
    /// What reads files.
    pub extractor: Extractor,
    /// What puts passages in order.
    pub reranking: Reranking,
    declared: Arc<OnceCell<()>>,
}

/// What puts passages in order, and when.
#[derive(Clone)]
pub struct Reranking {
    /// The re-ranker.
    pub reranker: Arc<dyn Reranker>,
    /// How many passages it is given.
    pub candidates: u32,
    /// Whether it is asked when a question does not say.
    pub by_default: bool,
}

impl Reranking {
    /// What the settings speak of.
    ///
    /// # Errors
    /// [`ServicesError::Rerank`].
    pub fn from_settings(settings: &AiSettings, embedder: &Arc<dyn Embedder>) -> Result<Self, ServicesError> {
        let reranker = reranker_from(settings, embedder)?;
        Ok(Self { reranker, candidates: settings.rerank_candidates, by_default: settings.rerank })
    }
}

/// What writes texts, and how much it is given.
#[derive(Clone)]
pub struct Language {
    /// The language model; without one, texts are answered by their own sentences.
    pub model: Option<Arc<dyn LanguageModel>>,
    /// What the model is asked.
    pub prompts: Arc<Prompts>,
    /// How much of documents and talk the model is shown, in tokens.
    pub context_tokens: usize,
    /// How many turns of a conversation are remembered.
    pub turns: u32,
}

impl Language {
    /// What the settings speak of.
    ///
    /// # Errors
    /// [`ServicesError::Language`], [`ServicesError::Prompts`].
    pub fn from_settings(settings: &AiSettings) -> Result<Self, ServicesError> {
        Ok(Self {
            model: language_model_from(settings)?,
            prompts: Arc::new(Prompts::load(settings.prompts_dir.as_deref())?),
            context_tokens: settings.language_context_tokens,
            turns: settings.conversation_turns,
        })
    }
}

/// Why the services cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ServicesError {
    /// The database's settings.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The models or their settings.
    #[error(transparent)]
    Model(#[from] EmbedError),
    /// The language model's settings.
    #[error(transparent)]
    Language(#[from] LanguageError),
    /// The re-ranker's settings.
    #[error(transparent)]
    Rerank(#[from] RerankError),
    /// The prompts in `PROMPTS_DIR`.
    #[error(transparent)]
    Prompts(#[from] PromptError),
    /// The result backend's URL.
    #[error(transparent)]
    Backend(#[from] RedisError),
    /// [`configure`] was not called.
    #[error("the worker's services were not configured")]
    NotConfigured,
}

impl Services {
    /// The services that the settings speak of. No model is loaded before the first use, but one that is missing is found
    /// out here.
    ///
    /// # Errors
    /// [`ServicesError`].
    fn from_settings(storage: Storage, settings: &Settings) -> Result<Self, ServicesError> {
        let embedder = embedder_from(&settings.ai)?;
        let chunker = Chunker::from_settings(&settings.ai)?;
        let reranking = Reranking::from_settings(&settings.ai, &embedder)?;
        Ok(Self { reranking, ..Self::new(storage, embedder, chunker, Language::from_settings(&settings.ai)?) })
    }

    /// Services of the caller's own making, which re-rank by sentences.
    pub fn new(storage: Storage, embedder: Arc<dyn Embedder>, chunker: Chunker, language: Language) -> Self {
        let extractor = Extractor::default();
        let reranker = Arc::new(BySentences::new(embedder.clone()));
        let reranking = Reranking { reranker, candidates: 30, by_default: false };
        Self { storage, embedder, chunker, language, extractor, reranking, declared: Arc::new(OnceCell::new()) }
    }

    /// Declares the embedding model to the database, once; later calls cost nothing. Not at start: a worker may be up
    /// before the schema is.
    ///
    /// # Errors
    /// [`StorageError::EmbeddingModel`] when the stored vectors are another model's; [`StorageError::Unavailable`].
    pub async fn declare_model(&self) -> Result<(), StorageError> {
        let model = EmbeddingModel { name: self.embedder.model().to_owned(), dimensions: self.embedder.dimensions() };
        self.declared.get_or_try_init(|| self.storage.use_embedding_model(&model)).await.map(|_| ())
    }
}

static SETTINGS: OnceLock<Settings> = OnceLock::new();
static STORAGE: OnceCell<Storage> = OnceCell::const_new();
static SHARED: OnceCell<Services> = OnceCell::const_new();
static BACKEND: OnceLock<Backend> = OnceLock::new();

/// Says which settings [`shared`] is to go by. The first call counts.
pub fn configure(settings: Settings) {
    let _ = SETTINGS.set(settings);
}

/// The database alone: to record a failure also where there is no model.
///
/// # Errors
/// [`ServicesError`]; the next call tries again.
pub async fn storage() -> Result<&'static Storage, ServicesError> {
    let settings = SETTINGS.get().ok_or(ServicesError::NotConfigured)?;
    let connect = || Storage::connect(settings.database_url.expose_secret(), settings.database_pool_size);
    Ok(STORAGE.get_or_try_init(connect).await?)
}

/// The services of this process, made when they are first asked for: a worker whose tasks need no model keeps none in
/// memory.
///
/// # Errors
/// [`ServicesError`]; the next call tries again.
pub async fn shared() -> Result<Services, ServicesError> {
    let settings = SETTINGS.get().ok_or(ServicesError::NotConfigured)?;
    let storage = storage().await?.clone();
    SHARED.get_or_try_init(|| async { Services::from_settings(storage, settings) }).await.cloned()
}

/// Where results are kept, and what tasks say while they run. Connects when first used.
///
/// # Errors
/// [`ServicesError::Backend`], [`ServicesError::NotConfigured`].
pub fn backend() -> Result<Backend, ServicesError> {
    let settings = SETTINGS.get().ok_or(ServicesError::NotConfigured)?;
    if let Some(backend) = BACKEND.get() {
        return Ok(backend.clone());
    }
    let made = Backend::new(&Connector::new(settings.result_backend.expose_secret())?)?;
    Ok(BACKEND.get_or_init(|| made).clone())
}
