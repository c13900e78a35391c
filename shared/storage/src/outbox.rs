//! The outbox: a message that must reach the broker is stored in the transaction of the row that causes it, and a relay
//! publishes it afterwards. So "accepted" means "will be worked on", whatever dies in between. A published message stays until
//! what caused it has ended (triggers of the migration `m0008`): a broker that loses what it held gets it again.

use std::future::Future;
use std::time::Duration;

use sea_orm::sqlx::postgres::PgListener;
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, FromQueryResult, Statement};

use crate::error::Result;
use crate::events::storable;
use crate::storage::{BULK, OPERATION, Storage, within};

/// The channel on which an insert is announced.
const CHANNEL: &str = "petiole_outbox";

/// A message to be stored with its cause.
#[derive(Clone, Debug)]
pub struct NewOutboxMessage {
    /// The queue it goes to.
    pub queue: String,
    /// Its priority.
    pub priority: u8,
    /// The task it starts.
    pub task_id: String,
    /// The message itself, as the publisher wants it.
    pub message: String,
}

/// A message that waits to be published.
#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult)]
pub struct OutboxMessage {
    /// Its number.
    pub id: i64,
    /// The queue it goes to.
    pub queue: String,
    /// Its priority.
    pub priority: i16,
    /// The task it starts.
    pub task_id: String,
    /// The message itself.
    pub message: String,
    /// How often it was refused.
    pub attempts: i32,
}

/// What one round of the relay did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relayed {
    /// How many messages were published.
    pub published: usize,
    /// How many were refused, each by itself; they stay.
    pub refused: usize,
    /// Why none could be published; all of them stay.
    pub failure: Option<String>,
}

/// What waits in the outbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutboxBacklog {
    /// How many messages.
    pub messages: i64,
    /// How old the oldest one is.
    pub oldest: Duration,
}

/// Stores a message; committing the transaction wakes the relays.
pub(crate) async fn insert(transaction: &DatabaseTransaction, message: &NewOutboxMessage) -> Result<()> {
    let sql = "WITH stored AS (
            INSERT INTO outbox (queue, priority, task_id, message) VALUES ($1, $2, $3, $4) RETURNING id
        ) SELECT pg_notify($5, '') FROM stored";
    let values = [
        message.queue.as_str().into(),
        i16::from(message.priority).into(),
        message.task_id.as_str().into(),
        message.message.as_str().into(),
        CHANNEL.into(),
    ];
    transaction.execute_raw(Statement::from_sql_and_values(DbBackend::Postgres, sql, values)).await?;
    Ok(())
}

impl Storage {
    /// Takes up to `limit` messages that no other relay holds and gives them to `publish`, all together; those that were
    /// published are not taken again. It gives back the ids of those that were refused, and why: that is noted with them, and
    /// later rounds take them last. An error is about all of them: they stay as they are.
    ///
    /// Messages are given to `publish` again when the process dies between publishing and the commit, or when `publish`
    /// could not tell: publishing twice has to be as good as once. `publish` must end in time by itself; the round holds a
    /// connection meanwhile.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`](crate::StorageError::Unavailable).
    pub async fn relay<F, Fut>(&self, limit: u64, publish: F) -> Result<Relayed>
    where
        F: FnOnce(Vec<OutboxMessage>) -> Fut + Send,
        Fut: Future<Output = std::result::Result<Vec<(i64, String)>, String>> + Send,
    {
        within(BULK, async {
            let transaction = self.begin().await?;
            let sql = "SELECT id, queue, priority, task_id, message, attempts FROM outbox
                WHERE published_at IS NULL ORDER BY attempts, id LIMIT $1 FOR UPDATE SKIP LOCKED";
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, [limit.into()]);
            let messages = OutboxMessage::find_by_statement(statement).all(&transaction).await?;
            if messages.is_empty() {
                return Ok(Relayed::default());
            }
            let mut ids: Vec<i64> = messages.iter().map(|message| message.id).collect();
            let refused = match publish(messages).await {
                Ok(refused) => refused,
                Err(reason) => {
                    // Now, and not when the connection is next used: the next round is not to find them locked.
                    transaction.rollback().await?;
                    return Ok(Relayed { failure: Some(reason), ..Relayed::default() });
                }
            };
            ids.retain(|id| refused.iter().all(|(other, _)| other != id));
            if !ids.is_empty() {
                let list = ids.iter().map(i64::to_string).collect::<Vec<_>>().join(",");
                transaction
                    .execute_unprepared(&format!("UPDATE outbox SET published_at = now() WHERE id IN ({list})"))
                    .await?;
            }
            for (id, reason) in &refused {
                let sql = "UPDATE outbox SET attempts = attempts + 1, last_error = $2 WHERE id = $1";
                let values = [(*id).into(), storable(reason).into()];
                transaction.execute_raw(Statement::from_sql_and_values(DbBackend::Postgres, sql, values)).await?;
            }
            transaction.commit().await?;
            Ok(Relayed { published: ids.len(), refused: refused.len(), failure: None })
        })
        .await
    }

    /// The broker has lost what it held, or some of it: messages whose work has not ended are published again. Gives how many.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`](crate::StorageError::Unavailable).
    pub async fn reopen_outbox(&self) -> Result<u64> {
        within(BULK, async {
            let sql = "UPDATE outbox SET published_at = NULL WHERE published_at IS NOT NULL";
            Ok(self.db.execute_unprepared(sql).await?.rows_affected())
        })
        .await
    }

    /// Removes published messages whose work has ended while a relay held them. Gives how many.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`](crate::StorageError::Unavailable).
    pub async fn purge_outbox(&self) -> Result<u64> {
        within(BULK, async {
            let sql = "DELETE FROM outbox o WHERE o.published_at < now() - interval '1 minute'
                AND NOT EXISTS (SELECT 1 FROM events e
                    WHERE e.task_id = o.task_id AND e.state IN ('queued', 'running'))
                AND NOT EXISTS (SELECT 1 FROM documents d
                    WHERE d.task_id = o.task_id AND d.state IN ('queued', 'processing'))";
            Ok(self.db.execute_unprepared(sql).await?.rows_affected())
        })
        .await
    }

    /// How many messages wait.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`](crate::StorageError::Unavailable).
    pub async fn outbox_length(&self) -> Result<i64> {
        within(OPERATION, async {
            let statement = Statement::from_string(
                DbBackend::Postgres,
                "SELECT count(*) AS n FROM outbox WHERE published_at IS NULL",
            );
            let row = self.db.query_one_raw(statement).await?;
            Ok(row.map(|row| row.try_get("", "n")).transpose()?.unwrap_or_default())
        })
        .await
    }

    /// How many messages wait, and since when.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`](crate::StorageError::Unavailable).
    pub async fn outbox_backlog(&self) -> Result<OutboxBacklog> {
        within(OPERATION, async {
            let sql = "SELECT count(*) AS messages,
                coalesce(extract(epoch FROM now() - min(created_at)), 0)::float8 AS oldest
                FROM outbox WHERE published_at IS NULL";
            let row = self.db.query_one_raw(Statement::from_string(DbBackend::Postgres, sql)).await?;
            let Some(row) = row else { return Ok(OutboxBacklog::default()) };
            let oldest: f64 = row.try_get("", "oldest")?;
            let oldest = Duration::try_from_secs_f64(oldest.max(0.0)).unwrap_or_default();
            Ok(OutboxBacklog { messages: row.try_get("", "messages")?, oldest })
        })
        .await
    }

    /// Whether the message of this task waits.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`](crate::StorageError::Unavailable).
    pub async fn outbox_has_task(&self, task_id: &str) -> Result<bool> {
        within(OPERATION, async {
            let sql = "SELECT 1 AS one FROM outbox WHERE task_id = $1 AND published_at IS NULL LIMIT 1";
            let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, [task_id.into()]);
            Ok(self.db.query_one_raw(statement).await?.is_some())
        })
        .await
    }

    /// Listens for new messages, on a connection of its own out of the pool.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`](crate::StorageError::Unavailable).
    pub async fn listen_outbox(&self) -> Result<OutboxListener> {
        within(OPERATION, async {
            let mut listener = PgListener::connect_with(self.db.get_postgres_connection_pool()).await?;
            listener.listen(CHANNEL).await?;
            Ok(OutboxListener { listener })
        })
        .await
    }
}

/// Tells when there may be something in the outbox.
#[derive(Debug)]
pub struct OutboxListener {
    listener: PgListener,
}

impl OutboxListener {
    /// Waits for the announcement of a message, at most for `limit`; the outbox should be looked at in either case.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`](crate::StorageError::Unavailable) when the connection broke: listen anew.
    pub async fn wait(&mut self, limit: Duration) -> Result<()> {
        match tokio::time::timeout(limit, self.listener.try_recv()).await {
            Err(_) => {}
            Ok(received) => {
                received?;
                // one look serves all announcements that are already here
                while self.listener.next_buffered().is_some() {}
            }
        }
        Ok(())
    }
}
