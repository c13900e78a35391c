//! Counting requests in windows of time, on Redis, so that all replicas of a service count together.

use std::time::Duration;

use crate::client::Client;
use crate::error::ClientError;

impl Client {
    /// Counts one request of `who` in the current window of each length, given in seconds, and gives the counts. `now` in
    /// seconds since 1970. A count goes when its window is over.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn count(&self, who: &str, windows: &[u64], now: u64) -> Result<Vec<u64>, ClientError> {
        let mut pipe = redis::pipe();
        pipe.atomic();
        for length in windows.iter().map(|length| (*length).max(1)) {
            let key = self.broker.keys().key(&format!("petiole:limit:{who}:{length}:{}", now / length));
            let left = Duration::from_secs(length - now % length + 1);
            pipe.cmd("SET").arg(&key).arg(0).arg("EX").arg(left.as_secs()).arg("NX").ignore();
            pipe.incr(&key, 1);
        }
        let counts: Result<Vec<u64>, redis::RedisError> = pipe.query_async(&mut self.broker.connection()).await;
        Ok(counts.map_err(petiole_redis::RedisError::from)?)
    }
}
