//! Dead letters for callers: see [`petiole_redis::dead`].

pub use petiole_redis::dead::DeadLetter;

use crate::client::Client;
use crate::error::ClientError;

impl Client {
    /// Dead letters, the latest first: those after the one with the id `after`. None: that one is not there.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn dead_letters(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Option<Vec<DeadLetter>>, ClientError> {
        Ok(self.broker.dead_letters(after, limit).await?)
    }

    /// Sends a dead letter's message again, as a new one. False: it is not there (any more).
    ///
    /// # Errors
    /// Redis is away.
    pub async fn replay_dead_letter(&self, id: &str) -> Result<bool, ClientError> {
        Ok(self.broker.replay(id).await?)
    }

    /// Throws a dead letter away. False: it is not there (any more).
    ///
    /// # Errors
    /// Redis is away.
    pub async fn delete_dead_letter(&self, id: &str) -> Result<bool, ClientError> {
        Ok(self.broker.delete_dead(id).await?)
    }
}
