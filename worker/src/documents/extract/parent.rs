//! The worker's side: starts the process that reads a file, feeds it, and bounds what it does.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::sync::Semaphore;

use super::{COMMAND, Format, LONGEST_TEXT, MARK};

/// How long one file may take; the child's own bound on computing is shorter.
const PATIENCE: Duration = Duration::from_secs(120);
/// Files that are read at once.
const AT_ONCE: usize = 2;
/// How much a child may say about its failure.
const LONGEST_REASON: u64 = 4 << 10;

/// Takes the text out of files.
#[derive(Clone, Debug)]
pub struct Extractor {
    program: PathBuf,
    turns: Arc<Semaphore>,
}

/// Why a file gives no text.
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    /// The file is not what it says, damaged, or beyond the bounds.
    #[error("the file cannot be read: {0}")]
    File(String),
    /// The process that reads it could not be started or talked to.
    #[error("the process that reads files cannot be used: {0}")]
    Process(std::io::Error),
}

impl Default for Extractor {
    /// This very program, also where its file was replaced meanwhile.
    fn default() -> Self {
        Self::new("/proc/self/exe")
    }
}

impl Extractor {
    /// `program` is the worker.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// The text of a file: Markdown of HTML and DOCX, plain text of PDF.
    ///
    /// # Errors
    /// [`ExtractError`].
    pub async fn extract(&self, format: Format, file: Vec<u8>) -> Result<String, ExtractError> {
        let _turn = self.turns.acquire().await.map_err(|error| ExtractError::Process(std::io::Error::other(error)))?;
        match tokio::time::timeout(PATIENCE, self.run(format, file)).await {
            Ok(done) => done,
            Err(_) => Err(ExtractError::File("it takes too long".to_owned())),
        }
    }

    async fn run(&self, format: Format, file: Vec<u8>) -> Result<String, ExtractError> {
        let mut child = Command::new(&self.program)
            .args([COMMAND, format.name()])
            // settings hold secrets, which are none of a stranger's file's business
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(ExtractError::Process)?;
        let (mut stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let feed = async {
            if let Some(stdin) = &mut stdin {
                // a child that gives up early closes its end: its status tells why
                let _ = stdin.write_all(&file).await;
            }
            drop(stdin.take());
        };
        let (mut output, mut reason) = (Vec::new(), Vec::new());
        let most = (LONGEST_TEXT + (1 << 20)) as u64;
        let read = async {
            if let Some(stdout) = stdout {
                stdout.take(most).read_to_end(&mut output).await?;
            }
            Ok::<_, std::io::Error>(())
        };
        let listen = async {
            if let Some(mut stderr) = stderr {
                (&mut stderr).take(LONGEST_REASON).read_to_end(&mut reason).await?;
                // what it says beyond that is let go, or it would wait for ever
                tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await?;
            }
            Ok::<_, std::io::Error>(())
        };
        let ((), read, listen) = tokio::join!(feed, read, listen);
        read.and(listen).map_err(ExtractError::Process)?;
        let status = child.wait().await.map_err(ExtractError::Process)?;
        if !status.success() {
            let said = String::from_utf8_lossy(&reason);
            let last = said.lines().rev().find_map(|line| line.strip_prefix(super::child::REASON));
            let reason = last.unwrap_or("it is damaged, or needs more memory or time than a file may have");
            tracing::info!(%status, format = format.name(), "a file could not be read");
            return Err(ExtractError::File(reason.to_owned()));
        }
        let begin = output.windows(MARK.len()).rposition(|part| part == MARK);
        let text = begin.map(|begin| output.split_off(begin + MARK.len()));
        let text = text.and_then(|text| String::from_utf8(text).ok());
        text.ok_or_else(|| ExtractError::File("no text came out of it".to_owned()))
    }
}
