//! Says what a task has so far, to whoever follows it.

use std::time::Duration;

use petiole_redis::Backend;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use uuid::Uuid;

/// Pieces that may wait for Redis; then the model is read more slowly.
const WAITING: usize = 256;
/// How long what was said is kept; the whole is in the task's result.
const KEPT: Duration = Duration::from_secs(3600);
/// How long the last pieces may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Puts pieces of text where followers of the task find them. What arrives together goes in one round trip. While Redis
/// is away pieces are lost: the result holds the whole.
#[derive(Debug)]
pub struct Speaker {
    pieces: mpsc::Sender<String>,
    writing: JoinHandle<()>,
}

impl Speaker {
    /// A speaker for this run of the task.
    pub fn start(backend: Backend, task_id: String) -> Self {
        let (pieces, received) = mpsc::channel(WAITING);
        Self { pieces, writing: tokio::spawn(write(backend, task_id, received)) }
    }

    /// Says something.
    pub async fn say(&self, text: &str) {
        // the writer ends only after the sender
        let _ = self.pieces.send(text.to_owned()).await;
    }

    /// Waits until all was said, within bounds.
    pub async fn finish(self) {
        drop(self.pieces);
        if tokio::time::timeout(PATIENCE, self.writing).await.is_err() {
            tracing::warn!("the last pieces of an answer could not be passed on in time");
        }
    }
}

async fn write(backend: Backend, task_id: String, mut received: mpsc::Receiver<String>) {
    let attempt = Uuid::new_v4().simple().to_string();
    let mut cleared = backend.clear_tokens(&task_id).await;
    let mut pieces = Vec::new();
    while received.recv_many(&mut pieces, WAITING).await > 0 {
        if cleared.is_err() {
            cleared = backend.clear_tokens(&task_id).await;
        }
        if let Err(error) = backend.add_tokens(&task_id, &attempt, &pieces, KEPT).await {
            tracing::warn!(%error, task_id, "pieces of an answer are not passed on");
        }
        pieces.clear();
    }
}
