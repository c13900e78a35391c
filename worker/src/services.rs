//! What tasks work with.

use std::sync::{Arc, OnceLock};

use petiole_ai::{Chunker, EmbedError, Embedder, embedder_from};
use petiole_settings::Settings;
use petiole_storage::{EmbeddingModel, Storage, StorageError};
use secrecy::ExposeSecret;
use tokio::sync::OnceCell;

/// The database, the embedder and the chunker, shared by all tasks of a worker. Clones are cheap.
#[derive(Clone)]
pub struct Services {
    /// The database.
    pub storage: Storage,
    /// The model that makes vectors.
    pub embedder: Arc<dyn Embedder>,
    /// What cuts texts.
    pub chunker: Chunker,
    declared: Arc<OnceCell<()>>,
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
    /// [`configure`] was not called.
    #[error("the worker's services were not configured")]
    NotConfigured,
}

impl Services {
    /// The services that the settings speak of. No model is loaded before the first use, but one that is missing is found
    /// out here.
    ///
    /// # Errors
    /// [`ServicesError::Model`].
    fn from_settings(storage: Storage, settings: &Settings) -> Result<Self, ServicesError> {
        let embedder = embedder_from(&settings.ai)?;
        let chunker = Chunker::from_settings(&settings.ai)?;
        Ok(Self::new(storage, embedder, chunker))
    }

    /// Services of the caller's own making.
    pub fn new(storage: Storage, embedder: Arc<dyn Embedder>, chunker: Chunker) -> Self {
        Self { storage, embedder, chunker, declared: Arc::new(OnceCell::new()) }
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
