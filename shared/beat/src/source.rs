//! Where entries come from: the application's code and settings, a database.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tracing::{info, warn};

use crate::entry::{Entry, Ran};

/// How often sources are asked for their entries.
const ASK_EVERY: Duration = Duration::from_secs(2);
/// How long a source may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often runs are told to their sources.
const TELL_EVERY: Duration = Duration::from_millis(500);

/// Why a source cannot answer.
pub type SourceError = Box<dyn std::error::Error + Send + Sync>;

/// A place where entries are kept and may change.
#[async_trait::async_trait]
pub trait Source: Send + Sync + 'static {
    /// A word for it, for logs.
    fn name(&self) -> &str;

    /// All its entries that are enabled.
    ///
    /// # Errors
    /// It cannot be asked now: what it said before holds on.
    async fn entries(&self) -> Result<Vec<Entry>, SourceError>;

    /// Hears of runs of its entries, by their keys, some time after them.
    ///
    /// # Errors
    /// It cannot take them now: they will be told again.
    async fn ran(&self, runs: &BTreeMap<String, Ran>) -> Result<(), SourceError> {
        let _ = runs;
        Ok(())
    }
}

/// All entries there are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Loaded {
    pub(crate) entries: Vec<Arc<Entry>>,
    /// Has every source answered? Before that, what is missing may come yet.
    pub(crate) complete: bool,
}

/// The application's own entries, and the sources that are asked again and again.
pub(crate) struct Sources {
    fixed: Vec<Entry>,
    sources: Vec<Arc<dyn Source>>,
    active: watch::Sender<bool>,
    loaded: watch::Sender<Loaded>,
    runs: Mutex<BTreeMap<String, Ran>>,
    to_tell: Notify,
}

impl Sources {
    pub(crate) fn new(fixed: Vec<Entry>, sources: Vec<Arc<dyn Source>>) -> Self {
        let new = Self {
            fixed,
            sources,
            active: watch::Sender::new(false),
            loaded: watch::Sender::new(Loaded::default()),
            runs: Mutex::default(),
            to_tell: Notify::new(),
        };
        new.rest();
        new
    }

    /// What there is, as it changes.
    pub(crate) fn loaded(&self) -> watch::Receiver<Loaded> {
        self.loaded.subscribe()
    }

    /// From now on the sources are asked.
    pub(crate) fn wake(&self) {
        self.active.send_if_modified(|active| !std::mem::replace(active, true));
    }

    /// From now on the sources are not asked, and what they said is forgotten: it will be old.
    pub(crate) fn rest(&self) {
        self.active.send_replace(false);
        self.loaded.send_replace(self.merged(&vec![None; self.sources.len()]));
    }

    /// Asks the sources while there is somebody to send what they say.
    pub(crate) async fn watch(&self) {
        let mut active = self.active.subscribe();
        while active.wait_for(|active| *active).await.is_ok() {
            tokio::select! {
                () = self.ask() => {}
                _ = active.wait_for(|active| !*active) => {}
            }
        }
    }

    /// Asks the sources, for ever.
    async fn ask(&self) {
        let mut answers: Vec<Option<Vec<Entry>>> = vec![None; self.sources.len()];
        let mut failing = vec![false; self.sources.len()];
        loop {
            let before = answers.clone();
            for (at, source) in self.sources.iter().enumerate() {
                let answer = tokio::time::timeout(PATIENCE, source.entries()).await;
                match answer.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}").into())) {
                    Ok(entries) => {
                        failing[at] = false;
                        answers[at] = Some(entries);
                    }
                    Err(error) if !failing[at] => {
                        failing[at] = true;
                        warn!(%error, "beat: {} cannot be read now, trying again", source.name());
                    }
                    Err(_) => {}
                }
            }
            if before != answers {
                if before.iter().all(Option::is_some) {
                    info!("beat: Schedule changed.");
                }
                self.loaded.send_replace(self.merged(&answers));
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    fn merged(&self, answers: &[Option<Vec<Entry>>]) -> Loaded {
        let mut keys = HashSet::new();
        let mut entries = vec![];
        for entry in self.fixed.iter().chain(answers.iter().flatten().flatten()) {
            match keys.insert(entry.key.clone()) {
                true => entries.push(Arc::new(entry.clone())),
                false => warn!("beat: there are two entries {:?}, the second is left out", entry.key),
            }
        }
        Loaded { entries, complete: answers.iter().all(Option::is_some) }
    }

    /// Notes a run, to be told.
    pub(crate) fn ran(&self, key: &str, ran: &Ran) {
        if !self.sources.is_empty() {
            self.runs.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned(), ran.clone());
            self.to_tell.notify_one();
        }
    }

    /// Tells the sources of runs, for ever.
    pub(crate) async fn tell(&self) {
        loop {
            self.to_tell.notified().await;
            self.tell_now().await;
            tokio::time::sleep(TELL_EVERY).await;
        }
    }

    /// Tells the sources of the runs that were not told yet.
    pub(crate) async fn tell_now(&self) {
        let runs = std::mem::take(&mut *self.runs.lock().unwrap_or_else(PoisonError::into_inner));
        if runs.is_empty() {
            return;
        }
        for source in &self.sources {
            let told = tokio::time::timeout(PATIENCE, source.ran(&runs)).await;
            if let Err(error) = told.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}").into())) {
                warn!(%error, "beat: {} cannot be told of runs now", source.name());
                // Newer runs of the same entries win.
                let mut waiting = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
                for (key, ran) in &runs {
                    waiting.entry(key.clone()).or_insert_with(|| ran.clone());
                }
                self.to_tell.notify_one();
            }
        }
    }
}
