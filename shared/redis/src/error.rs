//! What can go wrong between here and Redis.

/// An error of the transport. Messages never hold the password of a URL.
#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    /// The URL cannot be read, or names something that is not supported.
    #[error("{0}")]
    Url(String),
    /// Redis is away, or did not answer in time: trying again later may help.
    #[error("Redis is not available: {0}")]
    Unavailable(String),
    /// Redis answered with an error: trying again will not help by itself.
    #[error("Redis refused: {0}")]
    Refused(String),
    /// Something other than expected lies under a key.
    #[error("unexpected data in Redis: {0}")]
    Data(String),
}

impl RedisError {
    /// True when the same call may succeed later.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

impl From<redis::RedisError> for RedisError {
    fn from(error: redis::RedisError) -> Self {
        use redis::{ErrorKind, ServerErrorKind};
        // A full, read-only, failing over or stuck server: its operator mends it, nothing is lost by waiting.
        const PASSING: [&str; 8] =
            ["OOM", "READONLY", "MISCONF", "BUSY", "CLUSTERDOWN", "NOREPLICAS", "LOADING", "MASTERDOWN"];
        if error.code().is_some_and(|code| PASSING.contains(&code)) {
            return Self::Unavailable(error.to_string());
        }
        match error.kind() {
            // A replica that became read-only, a server that loads its data or runs a script: all pass by.
            ErrorKind::Server(
                ServerErrorKind::BusyLoading | ServerErrorKind::TryAgain | ServerErrorKind::MasterDown,
            ) => Self::Unavailable(error.to_string()),
            ErrorKind::Server(_) | ErrorKind::AuthenticationFailed | ErrorKind::InvalidClientConfig => {
                Self::Refused(error.to_string())
            }
            ErrorKind::UnexpectedReturnType | ErrorKind::Parse => Self::Data(error.to_string()),
            _ => Self::Unavailable(error.to_string()),
        }
    }
}
