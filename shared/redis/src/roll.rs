//! Do other workers than Petiole's live here? Python's record nowhere what they hold, and renew nothing: of a message that is no
//! Petiole worker's it cannot be said whether its worker lives, only whether any does.

use petiole_protocol::Map;
use petiole_protocol::pidbox::{self, Request};
use redis::pipe;

use crate::broker::Broker;
use crate::error::RedisError;
use crate::keys::Keys;

impl Keys {
    /// The channel on which Petiole's workers, and they only, are counted.
    pub fn roll(&self) -> String {
        self.channel("petiole.roll", "")
    }
}

impl Broker {
    /// Counts who listens to remote control, also with a task in hand, and who of them is Petiole's.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn strangers_live(&self) -> Result<bool, RedisError> {
        let ping = Request::new("ping", Map::new()).encode(0.0, uuid::Uuid::new_v4().to_string()).to_text();
        let mut count = pipe();
        count.atomic().publish(self.keys().channel(pidbox::EXCHANGE, ""), ping).publish(self.keys().roll(), "");
        let (all, ours): (u64, u64) = count.query_async(&mut self.connection()).await?;
        Ok(all > ours)
    }
}
