//! The child's side: bounds itself, reads one file from its input, writes the text to its output.

use std::io::{Read, Write};
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, setrlimit};

use super::{Format, LONGEST_TEXT, MARK, docx, html};

/// The first argument that makes the worker read a file instead of tasks.
pub const COMMAND: &str = "extract-text";
/// What stands before the reason of a failure, on a line of its own.
pub(super) const REASON: &str = "reason: ";

/// Memory for one file, in bytes of address space; the allocator sets half of it aside before it needs any.
const MEMORY: u64 = 2 << 30;
/// Seconds of computing for one file.
const SECONDS: u64 = 60;
/// The most that a page of a PDF may unpack to, in bytes.
const LARGEST_PAGE: usize = 64 << 20;
/// Files larger than this are refused before they are looked at.
const LARGEST: u64 = 256 << 20;

/// Reads a file of the format that `name` names, and gives the status that the process ends with.
pub fn run(name: &str) -> ExitCode {
    // a panic is told by the status; its message is for nobody
    std::panic::set_hook(Box::new(|_| {}));
    bound();
    match read(name) {
        Ok(text) => {
            let mut output = std::io::stdout().lock();
            let written = output.write_all(MARK).and_then(|()| output.write_all(text.as_bytes()));
            if written.and_then(|()| output.flush()).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(reason) => {
            let line: String = reason.chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect();
            eprintln!("\n{REASON}{line}");
            ExitCode::FAILURE
        }
    }
}

/// Bounds of its own: what breaks them ends this process, and no other.
fn bound() {
    let to = |most| Rlimit { current: Some(most), maximum: Some(most) };
    for (resource, most) in
        [(Resource::As, MEMORY), (Resource::Cpu, SECONDS), (Resource::Core, 0), (Resource::Fsize, 0)]
    {
        // not granted: the parent's own bounds remain
        let _ = setrlimit(resource, to(most));
    }
    // when memory is short all the same, this process goes first
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
}

fn read(name: &str) -> Result<String, String> {
    let format = Format::named(name).ok_or_else(|| format!("{name:?} is no format"))?;
    let mut file = Vec::new();
    std::io::stdin().lock().take(LARGEST + 1).read_to_end(&mut file).map_err(|error| error.to_string())?;
    if file.len() as u64 > LARGEST {
        return Err("it is too large".to_owned());
    }
    let text = match format {
        Format::Html => html::text(&file)?,
        Format::Pdf => pdf(&file)?,
        Format::Docx => docx::text(&file)?,
    };
    let text = text.replace('\0', "");
    if text.len() > LONGEST_TEXT {
        return Err(format!("it holds more than {} MiB of text", LONGEST_TEXT >> 20));
    }
    match text.trim().is_empty() {
        true if format == Format::Pdf => Err("it holds no text; pages that are pictures are not read".to_owned()),
        true => Err("it holds no text".to_owned()),
        false => Ok(text),
    }
}

fn pdf(file: &[u8]) -> Result<String, String> {
    let document = lopdf::Document::load_mem(file).map_err(|_| "it is no PDF, or damaged".to_owned())?;
    if document.is_encrypted() {
        return Err("it is encrypted".to_owned());
    }
    let mut text = String::new();
    for page in document.get_pages().into_keys() {
        // a page that cannot be read does not cost the others
        let Ok(page) = document.extract_text_with_limit(&[page], LARGEST_PAGE) else { continue };
        if !text.is_empty() {
            text.push_str("\n\n");
        }
        text.push_str(page.trim());
        if text.len() > LONGEST_TEXT {
            break;
        }
    }
    Ok(text)
}
