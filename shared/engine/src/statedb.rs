//! What survives a restart: revoked ids, revoked stamps and the clock (`--statedb`; celery.worker.state: Persistent).
//!
//! Celery's file is a shelve, which only Python reads. This one is JSON, written beside and put in place at once.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use petiole_protocol::Map;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::worker::Worker;

/// How often it is looked whether there is something new to write.
const ROUND: Duration = Duration::from_secs(2);

/// Why there is no state database.
#[derive(Debug, thiserror::Error)]
pub enum StateDbError {
    /// It cannot be read or written.
    #[error("the state database {0} cannot be used: {1}")]
    Io(PathBuf, std::io::Error),
    /// It is something else: a shelve of a Python worker, or damaged.
    #[error(
        "{0} is no state database of this worker ({1}); Celery's own, a Python shelve, cannot be read: name another file"
    )]
    Form(PathBuf, serde_json::Error),
}

/// What is kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Saved {
    /// The Lamport clock.
    pub(crate) clock: u64,
    /// Revoked ids, oldest first, and when they were revoked, in seconds since the epoch.
    pub(crate) revoked: Vec<(String, f64)>,
    /// Revoked stamps.
    #[serde(default)]
    pub(crate) revoked_stamps: Map,
}

/// Reads a state database; a file that is not there is an empty one.
///
/// # Errors
/// A file that cannot be read, or is something else.
pub(crate) fn read(path: &Path) -> Result<Saved, StateDbError> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Saved::default()),
        Err(error) => return Err(StateDbError::Io(path.to_owned(), error)),
    };
    serde_json::from_slice(&text).map_err(|error| StateDbError::Form(path.to_owned(), error))
}

/// Writes it: whole, or not at all.
///
/// # Errors
/// The folder is missing, full, or not to be written to.
pub(crate) fn write(path: &Path, saved: &Saved) -> Result<(), StateDbError> {
    let beside = path.with_extension(format!("{}.new", std::process::id()));
    let write = || {
        let mut file = std::fs::File::create(&beside)?;
        file.write_all(&serde_json::to_vec(saved)?)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    };
    write().map_err(|error: std::io::Error| {
        let _ = std::fs::remove_file(&beside);
        StateDbError::Io(path.to_owned(), error)
    })
}

/// Takes over what was kept, and sees that the file can be written.
///
/// # Errors
/// As [`read`] and [`write`].
pub(crate) fn open(worker: &Worker) -> Result<(), StateDbError> {
    let Some(path) = &worker.config.state_db else { return Ok(()) };
    let saved = read(path)?;
    write(path, &saved)?;
    if !saved.revoked.is_empty() {
        info!("statedb: {} revoked id(s) are remembered from before", saved.revoked.len());
    }
    worker.clock.adjust(saved.clock);
    worker.state.revoke_at(saved.revoked);
    worker.state.revoke_stamps(saved.revoked_stamps);
    Ok(())
}

/// Writes what is new, until the worker is gone.
pub(crate) async fn keep(worker: Arc<Worker>) {
    let mut written = worker.state.revocations();
    loop {
        tokio::time::sleep(ROUND).await;
        let now = worker.state.revocations();
        if now != written {
            save(&worker).await;
            written = now;
        }
    }
}

/// Writes it now.
pub(crate) async fn save(worker: &Worker) {
    let Some(path) = worker.config.state_db.clone() else { return };
    let saved = Saved {
        clock: worker.clock.value(),
        revoked: worker.state.revoked_at(),
        revoked_stamps: worker.state.revoked_stamps(),
    };
    let written = tokio::task::spawn_blocking(move || write(&path, &saved)).await;
    if let Ok(Err(error)) = written {
        warn!("{error}");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_foreign_is_left_alone() {
        let path = std::env::temp_dir().join(format!("petiole-statedb-{}.db", std::process::id()));
        assert_eq!(read(&path).unwrap(), Saved::default());
        let saved = Saved { clock: 7, revoked: vec![("a".into(), 1.5)], revoked_stamps: Map::new() };
        write(&path, &saved).unwrap();
        assert_eq!(read(&path).unwrap(), saved);
        std::fs::write(&path, b"\0\x06\x15\x61 a shelve").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("shelve"));
        std::fs::remove_file(&path).unwrap();
        assert!(write(Path::new("/nowhere/at/all"), &saved).is_err());
    }
}
