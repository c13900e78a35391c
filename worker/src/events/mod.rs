//! Events: each type names a handler, which takes the event's data and gives its output.

mod document_ingest;
mod process;
mod registry;

pub use document_ingest::{DocumentData, DocumentIngest};
pub use process::{EventError, give_up, process_incoming_event};
pub use registry::{EventHandler, HandlerError, Registry};
