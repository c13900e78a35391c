//! Pages of a list, newest first, by opaque cursors: no row is skipped or shown twice while others are added.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::error::{Result, StorageError};

/// The years 1 to 9999, in microseconds since 1970.
const FIRST: i64 = -62_135_596_800_000_000;
const LAST: i64 = 253_402_300_799_999_999;

/// A place in a list: after the row that was made at this time and has this id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) id: Uuid,
}

impl Cursor {
    /// The cursor as clients carry it.
    pub fn encode(&self) -> String {
        // PostgreSQL keeps microseconds, so nothing is lost
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.created_at.timestamp_micros().to_be_bytes());
        bytes[8..].copy_from_slice(self.id.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a cursor that [`encode`](Self::encode) made.
    ///
    /// # Errors
    /// [`StorageError::Invalid`] with the field `cursor` for any other text.
    pub fn decode(text: &str) -> Result<Self> {
        let wrong = || StorageError::invalid("cursor", "not a next_cursor of this list");
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| wrong())?;
        let (micros, id) = bytes.split_first_chunk::<8>().ok_or_else(wrong)?;
        // beyond PostgreSQL's calendar there are no rows: its ends do as well
        let micros = i64::from_be_bytes(*micros).clamp(FIRST, LAST);
        Ok(Self {
            created_at: DateTime::from_timestamp_micros(micros).ok_or_else(wrong)?,
            id: Uuid::from_slice(id).map_err(|_| wrong())?,
        })
    }
}

/// One page of a list.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// The rows, newest first.
    pub items: Vec<T>,
    /// Where the next page begins; none after the last row.
    pub next: Option<Cursor>,
}

impl<T> Page<T> {
    /// Of the rows asked for with one more than the limit: that one tells whether there is a next page.
    pub(crate) fn new(mut rows: Vec<T>, limit: u64, place: impl Fn(&T) -> Cursor) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = if more { rows.last().map(place) } else { None };
        Self { items: rows, next }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_it_was() {
        let cursor =
            Cursor { created_at: DateTime::from_timestamp_micros(1_700_000_000_123_456).unwrap(), id: Uuid::now_v7() };
        assert_eq!(Cursor::decode(&cursor.encode()).unwrap(), cursor);
    }

    #[test]
    fn other_texts_are_no_cursors() {
        for text in ["", "x", "AAAA", "%%%", &"A".repeat(33)] {
            assert!(matches!(Cursor::decode(text), Err(StorageError::Invalid { field: "cursor", .. })), "{text:?}");
        }
        for (byte, year) in [(127, 9999), (128, 1)] {
            let far = Cursor::decode(&URL_SAFE_NO_PAD.encode([byte; 24])).unwrap();
            assert_eq!(chrono::Datelike::year(&far.created_at), year);
        }
    }
}
