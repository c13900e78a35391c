//! Events: each type names a handler, which takes the event's data and gives its output.

mod document_ingest;
mod process;
mod question_answer;
mod registry;
pub(crate) mod text;
mod text_classify;
mod text_extract;
mod text_summarize;

pub use document_ingest::{DocumentData, DocumentIngest};
pub use process::{EventError, Processed, give_up, process_incoming_event};
pub use question_answer::QuestionAnswer;
pub use registry::{EventHandler, HandlerError, Registry};
pub use text_classify::{Classification, ClassifyData, LabelScore, TextClassify, classify};
pub use text_extract::{ExtractData, Extraction, TextExtract, extract};
pub use text_summarize::{SummarizeData, Summary, TextSummarize, summarize};
