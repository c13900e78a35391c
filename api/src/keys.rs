//! Keys that this service issues. A key is `petiole_ID_SECRET`: the id finds its row, the secret is 256 random bits, of which
//! only an HMAC-SHA-256 under a salt of its own is stored. It is shown once, when it is made.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use hmac::{Hmac, Mac};
use petiole_settings::KeyScope;
use petiole_storage::{ApiKeyRow, NewApiKey, Storage, StorageError};
use rand::RngCore;
use sha2::Sha256;
use uuid::Uuid;

/// What every key begins with: by it, keys are found where they should not be.
const PREFIX: &str = "petiole_";
/// How long a row is believed: a key that another process revoked lives on for so long.
const FRESH: Duration = Duration::from_secs(5);
/// How long a row is believed while PostgreSQL is away.
const STALE: Duration = Duration::from_secs(300);
/// The use of a key is noted this often.
const NOTED: Duration = Duration::from_secs(60);
/// As many rows are remembered.
const MOST: usize = 10_000;

/// What a key is to open.
#[derive(Clone, Debug, Default)]
pub struct KeyRequest {
    /// Whose it is, or what for.
    pub name: String,
    /// `all`, `read`, `write` or `admin`.
    pub scope: String,
    /// Patterns of the tasks that it may send; none: those of the settings.
    pub allowed_tasks: Option<Vec<String>>,
    /// Requests a minute; none: the settings'.
    pub rate_limit: Option<u32>,
    /// Requests a day; none: the settings'.
    pub daily_quota: Option<u32>,
    /// When it ends.
    pub expires_at: Option<DateTime<Utc>>,
}

/// A key that was made: the only time that it is seen.
#[derive(Debug)]
pub struct Issued {
    /// What the client sends.
    pub key: String,
    /// Its row.
    pub row: ApiKeyRow,
}

/// Makes a key and stores what is needed to know it again.
///
/// # Errors
/// As [`Storage::create_api_key`].
pub async fn issue(storage: &Storage, request: KeyRequest) -> Result<Issued, StorageError> {
    let (mut salt, mut secret) = ([0_u8; 32], [0_u8; 32]);
    rand::rng().fill_bytes(&mut salt);
    rand::rng().fill_bytes(&mut secret);
    let (id, secret) = (Uuid::now_v7(), hex(&secret));
    let new = NewApiKey {
        id,
        name: request.name,
        salt: salt.to_vec(),
        hash: mac(&salt, &secret).finalize().into_bytes().to_vec(),
        scope: request.scope,
        allowed_tasks: request.allowed_tasks,
        rate_limit: request.rate_limit,
        daily_quota: request.daily_quota,
        expires_at: request.expires_at,
    };
    let row = storage.create_api_key(new).await?;
    Ok(Issued { key: format!("{PREFIX}{}_{secret}", id.simple()), row })
}

/// The scope by its name.
pub(crate) fn scope(name: &str) -> KeyScope {
    match name {
        "all" => KeyScope::All,
        "write" => KeyScope::Write,
        "admin" => KeyScope::Admin,
        _ => KeyScope::Read,
    }
}

/// Issued keys as requests ask for them, remembered for a moment.
pub(crate) struct IssuedKeys {
    storage: Storage,
    known: Mutex<HashMap<Uuid, Known>>,
}

struct Known {
    at: Instant,
    noted: Option<Instant>,
    row: Option<Arc<ApiKeyRow>>,
}

impl IssuedKeys {
    pub(crate) fn new(storage: Storage) -> Self {
        Self { storage, known: Mutex::default() }
    }

    /// The row of a key that is valid now; none for any other text.
    pub(crate) async fn find(&self, key: &str) -> Result<Option<Arc<ApiKeyRow>>, StorageError> {
        let Some((id, secret)) = key.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_')) else {
            return Ok(None);
        };
        let Ok(id) = Uuid::try_parse(id) else { return Ok(None) };
        let Some(row) = self.row(id).await? else { return Ok(None) };
        // compares in constant time
        let right = mac(&row.salt, secret).verify_slice(&row.hash).is_ok();
        if !right || !row.is_valid(Utc::now()) {
            return Ok(None);
        }
        self.note_use(id);
        Ok(Some(row))
    }

    /// Forgets what is remembered of a key, so that the next request looks again.
    pub(crate) fn forget(&self, id: Uuid) {
        self.lock().remove(&id);
    }

    async fn row(&self, id: Uuid) -> Result<Option<Arc<ApiKeyRow>>, StorageError> {
        let remembered = self.lock().get(&id).map(|known| (known.at.elapsed(), known.row.clone()));
        if let Some((age, row)) = &remembered
            && *age < FRESH
        {
            return Ok(row.clone());
        }
        let row = match (self.storage.api_key(id).await, remembered) {
            (Ok(row), _) => row.map(Arc::new),
            (Err(StorageError::Unavailable(_)), Some((age, row))) if age < STALE => return Ok(row),
            (Err(error), _) => return Err(error),
        };
        let mut known = self.lock();
        if known.len() >= MOST {
            known.retain(|_, known| known.at.elapsed() < FRESH);
        }
        // whoever tries out ids fills no memory
        if known.len() < MOST {
            let noted = known.get(&id).and_then(|known| known.noted);
            known.insert(id, Known { at: Instant::now(), noted, row: row.clone() });
        }
        Ok(row)
    }

    fn note_use(&self, id: Uuid) {
        let mut known = self.lock();
        let Some(known) = known.get_mut(&id) else { return };
        if known.noted.is_none_or(|at| at.elapsed() > NOTED) {
            known.noted = Some(Instant::now());
            let storage = self.storage.clone();
            tokio::spawn(async move {
                if let Err(error) = storage.touch_api_key(id).await {
                    tracing::debug!(%error, "the use of a key was not noted");
                }
            });
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn mac(salt: &[u8], secret: &str) -> Hmac<Sha256> {
    // HMAC takes a key of any length
    #[allow(clippy::expect_used)]
    let mut mac = Hmac::<Sha256>::new_from_slice(salt).expect("HMAC takes a key of any length");
    mac.update(secret.as_bytes());
    mac
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
