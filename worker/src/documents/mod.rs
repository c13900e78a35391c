//! Documents: from a text to passages that can be found.

mod ingest;

pub use ingest::{IngestError, IngestReport, give_up, ingest};
