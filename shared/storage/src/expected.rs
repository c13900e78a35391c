//! Writes that are only to happen while a row is as the writer has seen it.

use crate::error::{Result, StorageError};

/// Whether a row is as it is expected to be. It is asked while the row is locked, so that of two writers who have seen the
/// same row one is told.
pub type Expected<'a, T> = &'a (dyn Fn(&T) -> bool + Send + Sync);

/// Refuses a row that is not as expected, if there is an expectation.
pub(crate) fn check<T>(expected: Option<Expected<'_, T>>, row: &T, what: &'static str) -> Result<()> {
    match expected {
        Some(is_expected) if !is_expected(row) => Err(StorageError::Changed { what }),
        _ => Ok(()),
    }
}
