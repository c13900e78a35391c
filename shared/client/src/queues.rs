//! Which queues there are, and what waits in them.

use std::time::{Duration, Instant};

use petiole_redis::keys::PRIORITY_STEPS;
use petiole_redis::queues::Bindings;
use tokio::sync::Mutex;

use crate::client::Client;
use crate::error::ClientError;

/// How long the queues of other producers are believed: finding them looks at every key.
const FRESH: Duration = Duration::from_secs(10);

/// A queue at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// How many messages wait, by priority step.
    pub priorities: [(u8, u64); 4],
    /// How many messages workers have taken and not settled.
    pub unacked: u64,
}

impl Queue {
    /// How many messages wait.
    pub fn length(&self) -> u64 {
        self.priorities.iter().map(|(_, length)| length).sum()
    }
}

/// Looks at queues, and remembers for a while which there are.
pub struct Queues {
    client: Client,
    bindings: Mutex<Option<(Instant, Bindings)>>,
}

impl Queues {
    /// The queues of the client's broker.
    pub fn new(client: Client) -> Self {
        Self { client, bindings: Mutex::new(None) }
    }

    /// All queues by name: the default one, those that anybody has declared, and those with messages being worked on.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn list(&self) -> Result<Vec<Queue>, ClientError> {
        let broker = &self.client.broker;
        let bindings = self.bindings().await?;
        let unacked = broker.unacked_by_queue(&bindings).await?;
        let mut names = bindings.queues();
        names.extend(broker.sent_queues().await?);
        names.extend(unacked.keys().cloned());
        names.insert(self.client.default_queue.clone());
        let names: Vec<_> = names.into_iter().collect();
        let lengths = broker.lengths(&names).await?;
        let queue = |(name, lengths): (String, [u64; 4])| Queue {
            unacked: unacked.get(&name).copied().unwrap_or(0),
            priorities: std::array::from_fn(|at| (PRIORITY_STEPS[at], lengths[at])),
            name,
        };
        Ok(names.into_iter().zip(lengths).map(queue).collect())
    }

    async fn bindings(&self) -> Result<Bindings, ClientError> {
        // who comes while another one scans waits for that scan
        let mut known = self.bindings.lock().await;
        if let Some((at, bindings)) = &*known
            && at.elapsed() < FRESH
        {
            return Ok(bindings.clone());
        }
        let bindings = self.client.broker.bindings().await?;
        *known = Some((Instant::now(), bindings.clone()));
        Ok(bindings)
    }
}
