//! Documents: from a text to passages that can be found.

pub mod extract;
mod ingest;

pub use extract::Extractor;
pub use ingest::{IngestError, IngestReport, give_up, ingest};
