//! The pool and what concerns the database as a whole.

use std::collections::HashSet;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sea_orm::{
    ConnAcquireErr, ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DatabaseTransaction, DbBackend,
    DbErr, Statement, TransactionTrait,
};
use sea_orm_migration::MigratorTrait;

use crate::error::{Result, StorageError};
use crate::migration::Migrator;

/// How long one operation may wait for a connection of the pool while the server gives no sign of life.
const ACQUIRE: Duration = Duration::from_secs(4);
/// A server that has begun a transaction for anybody so short a time ago is busy, not away.
const SIGN_OF_LIFE: Duration = Duration::from_secs(8);
/// How long one ordinary operation may take, the wait for a connection included.
pub(crate) const OPERATION: Duration = Duration::from_secs(15);
/// How long an operation that moves much data may take.
pub(crate) const BULK: Duration = Duration::from_secs(300);
/// The advisory lock under which migrations run: two programs that start at once do it one after the other.
const MIGRATION_LOCK: i64 = 0x7065_7469_6f6c_6501;

/// How the pool is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolUse {
    /// Connections at work.
    pub used: u32,
    /// Connections that wait for work.
    pub idle: u32,
    /// The most there may be.
    pub limit: u32,
}

/// The database. Cheap to clone: all clones share one pool.
#[derive(Clone, Debug)]
pub struct Storage {
    pub(crate) db: DatabaseConnection,
    /// When a transaction was last begun, by any clone.
    last_begun: Arc<Mutex<Option<Instant>>>,
}

impl Storage {
    /// A pool for the database at `url` (`postgres://…`), of at most `max_connections`. Nothing is connected yet: with
    /// PostgreSQL away this succeeds, and each operation fails with [`StorageError::Unavailable`] until it is back.
    ///
    /// # Errors
    /// [`StorageError::Invalid`] for a URL that is none.
    pub async fn connect(url: &str, max_connections: u32) -> Result<Self> {
        let mut options = ConnectOptions::new(url);
        options
            .max_connections(max_connections)
            .min_connections(0)
            .acquire_timeout(ACQUIRE)
            .idle_timeout(Duration::from_secs(300))
            .connect_lazy(true)
            .set_application_name("petiole")
            .statement_timeout(BULK)
            .sqlx_logging(false);
        let db = Database::connect(options)
            .await
            // the error may quote the URL, and with it the password
            .map_err(|_| {
                StorageError::invalid("DATABASE_URL", "not a URL of the form postgres://user:password@host/name")
            })?;
        Ok(Self { db, last_begun: Arc::default() })
    }

    /// Begins a transaction. Where all connections are at work, it waits for its turn as long as the whole operation may
    /// take: only a server that begins no transaction for anybody is away.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`].
    pub(crate) async fn begin(&self) -> Result<DatabaseTransaction> {
        let last_begun = || self.last_begun.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match self.db.begin().await {
                Err(DbErr::ConnectionAcquire(ConnAcquireErr::Timeout))
                    if last_begun().is_some_and(|last| last.elapsed() < SIGN_OF_LIFE) => {}
                begun => {
                    let begun = begun?;
                    *last_begun() = Some(Instant::now());
                    return Ok(begun);
                }
            }
        }
    }

    /// Brings the schema up to date, in one transaction under an advisory lock. A schema that is newer is left as it is.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`], or [`StorageError::Database`] when the role may not do what is needed.
    pub async fn migrate(&self) -> Result<()> {
        within(BULK, async {
            let transaction = self.begin().await?;
            lock(&transaction).await?;
            if !has_all_steps(&transaction).await? {
                Migrator::up(&transaction, None).await?;
            }
            transaction.commit().await?;
            Ok(())
        })
        .await
    }

    /// One round trip to PostgreSQL.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`].
    pub async fn ping(&self) -> Result<()> {
        within(OPERATION, async {
            self.db.execute_unprepared("SELECT 1").await?;
            Ok(())
        })
        .await
    }

    /// Whether the schema is the one this program was built for, or a newer one: a migration fits the programs before it,
    /// so that they run on while a new version takes their place.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`].
    pub async fn schema_is_current(&self) -> Result<bool> {
        within(OPERATION, async { Ok(has_all_steps(&self.db).await?) }).await
    }

    /// How many connections there are.
    pub fn pool(&self) -> PoolUse {
        let pool = self.db.get_postgres_connection_pool();
        let idle = u32::try_from(pool.num_idle()).unwrap_or(u32::MAX);
        PoolUse { used: pool.size().saturating_sub(idle), idle, limit: pool.options().get_max_connections() }
    }

    /// Closes the pool: waits for what runs, refuses what comes.
    pub async fn close(&self) {
        self.db.get_postgres_connection_pool().close().await;
    }
}

/// Whether every step that this program knows has been taken. The migrator itself refuses steps that it does not know.
async fn has_all_steps(db: &impl ConnectionTrait) -> std::result::Result<bool, DbErr> {
    // To ask the migrator makes its table, and who only asks must not be in the way of one who migrates.
    let is_there = Statement::from_string(DbBackend::Postgres, "SELECT to_regclass('seaql_migrations') IS NOT NULL");
    let is_there = db.query_one_raw(is_there).await?.map(|row| row.try_get_by_index::<bool>(0)).transpose()?;
    if is_there != Some(true) {
        return Ok(false);
    }
    let taken: HashSet<String> =
        Migrator::get_migration_models(db).await?.into_iter().map(|taken| taken.version).collect();
    Ok(Migrator::migrations().iter().all(|step| taken.contains(step.name())))
}

/// Waits for the lock that migrations and changes of the embedding model take; it goes with the transaction.
pub(crate) async fn lock(transaction: &DatabaseTransaction) -> Result<()> {
    transaction.execute_unprepared(&format!("SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")).await?;
    Ok(())
}

/// Bounds an operation: a server that hangs is a server that is away.
pub(crate) async fn within<T>(limit: Duration, operation: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(limit, operation).await.unwrap_or_else(|_| Err(StorageError::too_slow(limit)))
}
