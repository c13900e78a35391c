//! all-MiniLM-L6-v2 in this process, by candle: 384 dimensions, English, a window of 256 tokens.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};
use futures::{StreamExt, stream};
use petiole_settings::AiSettings;
use petiole_settings::ai::LOCAL_EMBEDDING_MODEL;
use tokenizers::{Tokenizer, TruncationParams};
use tokio::sync::{OnceCell, Semaphore};

use crate::embedder::{EmbedError, Embedder};
use crate::local::embedding_model_dir;
use crate::vector::normalise;

/// How many tokens of a text the model sees, its two marks included; it was trained on no more.
pub const WINDOW: usize = 256;
/// The length of a vector.
pub const DIMENSIONS: usize = 384;

/// Tokens in one pass, padding included: attention needs memory by the square of a text's length, and on a CPU larger
/// passes are no faster. A question waits for about one pass while a document is embedded.
const TOKENS_PER_PASS: usize = 4 * WINDOW;

/// The model. Loading it takes a fraction of a second and about 100 MB, both at the first use; clones share it.
#[derive(Clone)]
pub struct MiniLm {
    dir: PathBuf,
    batch_size: usize,
    loaded: Arc<OnceCell<Arc<Loaded>>>,
    /// Passes that run at once, in turn of arrival: a short question is not kept waiting by a long document.
    passes: Arc<Semaphore>,
    /// How many these are.
    cores: usize,
}

struct Loaded {
    model: BertModel,
    tokenizer: Tokenizer,
}

/// The tokens of one text, and its place among the texts that came.
struct Tokens {
    place: usize,
    ids: Vec<u32>,
}

impl std::fmt::Debug for MiniLm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MiniLm").field("dir", &self.dir).field("loaded", &self.loaded.initialized()).finish()
    }
}

impl MiniLm {
    /// The model in the settings' `model_dir`.
    ///
    /// # Errors
    /// [`EmbedError::ModelMissing`].
    pub fn from_settings(settings: &AiSettings) -> Result<Self, EmbedError> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(Self {
            dir: embedding_model_dir(&settings.model_dir)?,
            batch_size: settings.embedding_batch_size.max(1),
            loaded: Arc::new(OnceCell::new()),
            passes: Arc::new(Semaphore::new(cores)),
            cores,
        })
    }

    /// The vectors of one pass, with the places of their texts.
    async fn forward(&self, loaded: Arc<Loaded>, pass: Vec<Tokens>) -> Result<Vec<(usize, Vec<f32>)>, EmbedError> {
        let turn = self.passes.clone().acquire_owned().await.map_err(|error| failed(error.to_string()))?;
        run_blocking(move || {
            let _turn = turn;
            let vectors = loaded.forward(&pass).map_err(|error| failed(error.to_string()))?;
            Ok(pass.iter().map(|tokens| tokens.place).zip(vectors).collect())
        })
        .await
    }

    async fn loaded(&self) -> Result<Arc<Loaded>, EmbedError> {
        let load = || async {
            let dir = self.dir.clone();
            run_blocking(move || Loaded::load(&dir).map(Arc::new).map_err(broken)).await
        };
        self.loaded.get_or_try_init(load).await.cloned()
    }
}

#[async_trait]
impl Embedder for MiniLm {
    fn model(&self) -> &str {
        LOCAL_EMBEDDING_MODEL
    }

    fn dimensions(&self) -> usize {
        DIMENSIONS
    }

    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, EmbedError> {
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let loaded = self.loaded().await?;
        let mut tokens = {
            let (loaded, texts) = (loaded.clone(), texts.to_vec());
            run_blocking(move || loaded.tokens(&texts)).await?
        };
        // Texts of one length side by side: little is lost to padding.
        tokens.sort_by_key(|tokens| tokens.ids.len());
        let passes = std::iter::from_fn(|| (!tokens.is_empty()).then(|| next_pass(&mut tokens, self.batch_size)));
        let passes: Vec<_> = passes.collect();
        // Several threads for one pass gain less than several passes with one thread each (RAYON_NUM_THREADS=1).
        let mut done = stream::iter(passes).map(|pass| self.forward(loaded.clone(), pass)).buffer_unordered(self.cores);
        let mut vectors = vec![Vec::new(); texts.len()];
        while let Some(pass) = done.next().await {
            for (place, vector) in pass? {
                vectors[place] = vector;
            }
        }
        Ok(vectors)
    }
}

/// Takes the longest texts that fit into one pass; at least one.
fn next_pass(sorted: &mut Vec<Tokens>, batch_size: usize) -> Vec<Tokens> {
    let longest = sorted.last().map_or(1, |tokens| tokens.ids.len()).max(1);
    let count = (TOKENS_PER_PASS / longest).clamp(1, batch_size).min(sorted.len());
    sorted.split_off(sorted.len() - count)
}

impl Loaded {
    fn load(dir: &Path) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let begun = std::time::Instant::now();
        let config: Config = serde_json::from_slice(&std::fs::read(dir.join("config.json"))?)?;
        if config.hidden_size != DIMENSIONS {
            return Err(format!("its vectors have length {}, not {DIMENSIONS}", config.hidden_size).into());
        }
        let tensors = candle_core::safetensors::load(dir.join("model.safetensors"), &Device::Cpu)?;
        let model = BertModel::load(VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu), &config)?;
        let tokenizer = tokenizer(dir, Some(WINDOW))?;
        tracing::info!(
            model = LOCAL_EMBEDDING_MODEL,
            milliseconds = begun.elapsed().as_millis() as u64,
            "model loaded"
        );
        Ok(Self { model, tokenizer })
    }

    fn tokens(&self, texts: &[String]) -> Result<Vec<Tokens>, EmbedError> {
        let tokens = texts.iter().enumerate().map(|(place, text)| {
            let encoding =
                self.tokenizer.encode_fast(text.as_str(), true).map_err(|error| failed(error.to_string()))?;
            Ok(Tokens { place, ids: encoding.get_ids().to_vec() })
        });
        tokens.collect()
    }

    /// One vector for each text of the pass: the mean of its tokens' outputs, padding left out, scaled to length 1.
    fn forward(&self, pass: &[Tokens]) -> candle_core::Result<Vec<Vec<f32>>> {
        let longest = pass.iter().map(|tokens| tokens.ids.len()).max().unwrap_or(0);
        let mut ids = Vec::with_capacity(pass.len() * longest);
        let mut mask = Vec::with_capacity(pass.len() * longest);
        for tokens in pass {
            let padding = longest - tokens.ids.len();
            ids.extend(tokens.ids.iter().copied().chain(std::iter::repeat_n(0, padding)));
            mask.extend(std::iter::repeat_n(1_f32, tokens.ids.len()).chain(std::iter::repeat_n(0.0, padding)));
        }
        let shape = (pass.len(), longest);
        let ids = Tensor::from_vec(ids, shape, &Device::Cpu)?;
        let mask = Tensor::from_vec(mask, shape, &Device::Cpu)?;
        let outputs = self.model.forward(&ids, &ids.zeros_like()?, Some(&mask))?;
        let mask = mask.unsqueeze(2)?;
        let sums = outputs.broadcast_mul(&mask)?.sum(1)?;
        let mut vectors = sums.broadcast_div(&mask.sum(1)?)?.to_vec2::<f32>()?;
        vectors.iter_mut().for_each(|vector| normalise(vector));
        Ok(vectors)
    }
}

/// The tokenizer in `dir`. Its file asks for padding and a window of 128; both are set here instead.
pub(crate) fn tokenizer(dir: &Path, window: Option<usize>) -> tokenizers::Result<Tokenizer> {
    let mut tokenizer = Tokenizer::from_file(dir.join("tokenizer.json"))?;
    let truncation = window.map(|max_length| TruncationParams { max_length, ..TruncationParams::default() });
    tokenizer.with_truncation(truncation)?;
    tokenizer.with_padding(None);
    Ok(tokenizer)
}

async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, EmbedError> + Send + 'static,
) -> Result<T, EmbedError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| failed(error.to_string()))?
}

fn failed(reason: String) -> EmbedError {
    EmbedError::ModelFailed { model: LOCAL_EMBEDDING_MODEL.to_owned(), reason }
}

pub(crate) fn broken(error: Box<dyn std::error::Error + Send + Sync>) -> EmbedError {
    EmbedError::ModelBroken { model: LOCAL_EMBEDDING_MODEL.to_owned(), reason: error.to_string() }
}
