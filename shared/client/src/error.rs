//! What can go wrong for a caller.

use petiole_redis::RedisError;

/// An error of the client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Redis is away: the same call may succeed later.
    #[error("{0}")]
    Unavailable(RedisError),
    /// The call cannot be sent as it is.
    #[error("{field}: {message}")]
    Invalid {
        /// The argument that is wrong.
        field: &'static str,
        /// What it held and what it may hold.
        message: String,
    },
    /// Redis refused, or holds something else than expected.
    #[error("{0}")]
    Redis(RedisError),
}

impl ClientError {
    /// An [`ClientError::Invalid`].
    pub fn invalid(field: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid { field, message: message.into() }
    }
}

impl From<RedisError> for ClientError {
    fn from(error: RedisError) -> Self {
        if error.is_unavailable() { Self::Unavailable(error) } else { Self::Redis(error) }
    }
}
