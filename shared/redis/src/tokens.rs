//! What a task says while it runs, piece by piece: a Redis stream beside its result. Petiole's own, unknown to Celery.
//!
//! A stream keeps what was said, so whoever begins to listen late still gets the whole; a channel of the same name wakes
//! those who wait. A task that runs again begins anew: its pieces carry the mark of the attempt.

use std::collections::HashMap;
use std::time::Duration;

use redis::AsyncCommands;

use crate::backend::Backend;
use crate::error::RedisError;

/// Pieces read at once.
const MOST: usize = 1_000;
/// Pieces of one task that are kept; the whole is in its result at the end.
const KEPT: usize = 100_000;

/// A piece of what a task says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its place: what comes later has a greater one.
    pub id: String,
    /// Which run of the task said it.
    pub attempt: String,
    /// The text.
    pub text: String,
}

impl Backend {
    /// The key of a task's pieces, and the channel on which they are announced.
    pub fn tokens_key(&self, task_id: &str) -> String {
        format!("{}petiole:tokens:{task_id}", self.prefix())
    }

    /// Forgets what an earlier attempt said.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn clear_tokens(&self, task_id: &str) -> Result<(), RedisError> {
        Ok(self.connection().del(self.tokens_key(task_id)).await?)
    }

    /// Adds pieces, in their order, and tells those who wait. They are kept for so long after the last one.
    ///
    /// # Errors
    /// Redis is away: the pieces may or may not be there.
    pub async fn add_tokens(
        &self,
        task_id: &str,
        attempt: &str,
        texts: &[String],
        expires: Duration,
    ) -> Result<(), RedisError> {
        let key = self.tokens_key(task_id);
        let mut pipe = redis::pipe();
        pipe.atomic();
        for text in texts {
            let add = pipe.cmd("XADD").arg(&key).arg("MAXLEN").arg("~").arg(KEPT).arg("*");
            add.arg("attempt").arg(attempt).arg("text").arg(text).ignore();
        }
        pipe.expire(&key, i64::try_from(expires.as_secs()).unwrap_or(i64::MAX)).ignore();
        pipe.publish(&key, "").ignore();
        Ok(pipe.query_async(&mut self.connection()).await?)
    }

    /// The pieces after the one with this id, or the first ones.
    ///
    /// # Errors
    /// Redis is away, or the key holds something else.
    pub async fn tokens_after(&self, task_id: &str, id: Option<&str>) -> Result<Vec<Token>, RedisError> {
        let from = id.map_or_else(|| "-".to_owned(), |id| format!("({id}"));
        let mut range = redis::cmd("XRANGE");
        range.arg(self.tokens_key(task_id)).arg(from).arg("+").arg("COUNT").arg(MOST);
        let entries: Vec<(String, HashMap<String, String>)> = range.query_async(&mut self.connection()).await?;
        let token = |(id, mut fields): (String, HashMap<String, String>)| {
            let mut field = |name| fields.remove(name).unwrap_or_default();
            Token { id, attempt: field("attempt"), text: field("text") }
        };
        Ok(entries.into_iter().map(token).collect())
    }
}
