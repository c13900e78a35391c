//! What can go wrong, told apart by what the caller can do about it.

use std::time::Duration;

use sea_orm::{DbErr, RuntimeErr, TransactionError, sqlx};

use crate::EmbeddingModel;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, StorageError>;

/// Why storage could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// PostgreSQL is away, overloaded or too slow; the same request may work later.
    #[error("PostgreSQL is not available: {0}")]
    Unavailable(String),
    /// There is no such row.
    #[error("there is no {what} {id}")]
    NotFound {
        /// What was looked for, such as `document`.
        what: &'static str,
        /// The id that was given.
        id: String,
    },
    /// The request contradicts what is stored.
    #[error("{0}")]
    Conflict(String),
    /// The row is not as the caller expects it to be: somebody changed it meanwhile.
    #[error("the {what} has changed meanwhile")]
    Changed {
        /// What was to be written, such as `document`.
        what: &'static str,
    },
    /// A value that cannot be stored or asked for.
    #[error("{field}: {message}")]
    Invalid {
        /// The input's field.
        field: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// The vectors in the database were made by another model than the one configured.
    #[error(
        "the stored vectors were made by {stored}, but {configured} is configured: \
         configure the former again, or delete the vectors and ingest all documents anew"
    )]
    EmbeddingModel {
        /// What the database holds.
        stored: EmbeddingModel,
        /// What the settings say.
        configured: EmbeddingModel,
    },
    /// An error that the caller can do nothing about: a defect here or in the schema.
    #[error("the database refused: {0}")]
    Database(#[source] DbErr),
}

impl StorageError {
    pub(crate) fn not_found(what: &'static str, id: impl ToString) -> Self {
        Self::NotFound { what, id: id.to_string() }
    }

    pub(crate) fn invalid(field: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid { field, message: message.into() }
    }

    pub(crate) fn too_slow(after: Duration) -> Self {
        Self::Unavailable(format!("no answer within {} s", after.as_secs()))
    }
}

impl From<DbErr> for StorageError {
    fn from(error: DbErr) -> Self {
        let runtime = match &error {
            DbErr::ConnectionAcquire(_) => {
                return Self::Unavailable("no connection could be had in time".into());
            }
            DbErr::Conn(runtime) | DbErr::Exec(runtime) | DbErr::Query(runtime) => runtime,
            _ => return Self::Database(error),
        };
        let RuntimeErr::SqlxError(cause) = runtime else {
            return match error {
                DbErr::Conn(_) => Self::Unavailable("the connection is closed".into()),
                other => Self::Database(other),
            };
        };
        match classify(cause) {
            Some(classified) => classified,
            None => Self::Database(error),
        }
    }
}

impl From<TransactionError<StorageError>> for StorageError {
    fn from(error: TransactionError<StorageError>) -> Self {
        match error {
            TransactionError::Connection(error) => error.into(),
            TransactionError::Transaction(error) => error,
        }
    }
}

impl From<sqlx::Error> for StorageError {
    fn from(error: sqlx::Error) -> Self {
        classify(&error)
            .unwrap_or_else(|| Self::Database(DbErr::Conn(RuntimeErr::SqlxError(std::sync::Arc::new(error)))))
    }
}

/// By the kind of failure and PostgreSQL's five-letter code (its manual, appendix A).
fn classify(error: &sqlx::Error) -> Option<StorageError> {
    let database = match error {
        sqlx::Error::Database(database) => database,
        sqlx::Error::Io(cause) => return Some(StorageError::Unavailable(cause.to_string())),
        sqlx::Error::PoolTimedOut => {
            return Some(StorageError::Unavailable("no connection could be had in time".into()));
        }
        sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
            return Some(StorageError::Unavailable("the connection broke".into()));
        }
        _ => return None,
    };
    let code = database.code().unwrap_or_default();
    let message = || database.message().to_owned();
    match code.as_ref() {
        // connection, resources, operator intervention (also: statement timeout, lock timeout), wrong password at a start
        c if ["08", "53", "57", "28"].iter().any(|class| c.starts_with(class)) => {
            Some(StorageError::Unavailable(message()))
        }
        "42P01" | "42704" => Some(StorageError::Unavailable("the schema is not there yet".into())),
        "55P03" => Some(StorageError::Unavailable(message())),
        "23505" | "40001" | "40P01" => Some(StorageError::Conflict(message())),
        // data exceptions: what a client sent does not fit PostgreSQL's types, U+0000 for one
        c if c.starts_with("22") => Some(StorageError::invalid("data", message())),
        _ => None,
    }
}
