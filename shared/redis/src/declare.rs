//! What is done to a queue as a whole (kombu.transport.redis: Channel.queue_bind, queue_purge).

use crate::broker::Broker;
use crate::error::RedisError;
use crate::keys::binding_member;

impl Broker {
    /// Binds a queue to an exchange for good, as kombu does for a queue without expiry. A `pattern` is of a topic exchange.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn bind(&self, exchange: &str, key: &str, pattern: &str, queue: &str) -> Result<(), RedisError> {
        let member = binding_member(key, pattern, queue);
        let mut pipe = redis::pipe();
        pipe.atomic().sadd(self.keys().binding(exchange), &member).ignore();
        pipe.sadd(self.keys().binding_permanent(exchange), &member).ignore();
        Ok(pipe.query_async(&mut self.connection()).await?)
    }

    /// Removes all messages of a queue that nobody has fetched; gives how many they were.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn purge(&self, queue: &str) -> Result<u64, RedisError> {
        let lists = self.keys().lists(queue);
        let mut pipe = redis::pipe();
        pipe.atomic();
        for list in &lists {
            pipe.llen(list);
        }
        for list in &lists {
            pipe.del(list).ignore();
        }
        let lengths: Vec<u64> = pipe.query_async(&mut self.connection()).await?;
        Ok(lengths.iter().sum())
    }
}
