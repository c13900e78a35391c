//! The text of files: HTML, PDF, DOCX.
//!
//! Files come from strangers, and their formats are large: a parser may panic, run for ever, or eat all memory. So each
//! file is read by a process of its own: this same program, called with [`COMMAND`], which bounds its own memory and time,
//! has none of the worker's settings, and whose death is one document's failure.

mod child;
mod docx;
mod html;
mod parent;

pub use child::{COMMAND, run};
pub use parent::{ExtractError, Extractor};

/// The longest text of a file, in bytes.
const LONGEST_TEXT: usize = 20 << 20;
/// What stands before the text in the child's output: libraries may have printed something.
const MARK: &[u8] = b"\0text\0";

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A page of the web.
    Html,
    /// A PDF.
    Pdf,
    /// A document of Word.
    Docx,
}

impl Format {
    /// The format of a media type, if it is one that needs this.
    pub fn of(media_type: &str) -> Option<Self> {
        match media_type.split(';').next().unwrap_or_default().trim() {
            "text/html" => Some(Self::Html),
            "application/pdf" => Some(Self::Pdf),
            "application/vnd.openxmlformats-officedocument.wordprocessingml.document" => Some(Self::Docx),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Html => "html",
            Self::Pdf => "pdf",
            Self::Docx => "docx",
        }
    }

    fn named(name: &str) -> Option<Self> {
        [Self::Html, Self::Pdf, Self::Docx].into_iter().find(|format| format.name() == name)
    }
}
