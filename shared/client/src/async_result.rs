//! What a caller waits for (celery.result: AsyncResult, GroupResult).

use std::time::Duration;

use petiole_protocol::{State, TaskException};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::Instant;

use crate::canvas::Handle;
use crate::client::Client;
use crate::compose::IntoSignature;
use crate::error::ClientError;

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum ResultError {
    /// The task failed or was revoked: its exception, and its traceback where there is one.
    #[error("{exception}")]
    Failed {
        /// The exception.
        exception: TaskException,
        /// FAILURE or REVOKED.
        state: State,
        /// The traceback's text.
        traceback: Option<String>,
    },
    /// It has not ended within the time.
    #[error("no result within {0:?}")]
    Timeout(Duration),
    /// The result is there, but not of the type that was asked for.
    #[error("the result is of another type: {0}")]
    Type(serde_json::Error),
    /// Redis is away, or the call was wrong.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// A call that was sent: of a task, a chain (its last step), a group, or a chord (its body).
#[derive(Clone)]
pub struct AsyncResult {
    client: Client,
    handle: Handle,
}

impl Client {
    /// Sends a call or a canvas.
    ///
    /// # Errors
    /// [`ClientError::Invalid`] for what cannot be sent; Redis is away.
    pub async fn call(&self, call: impl IntoSignature) -> Result<AsyncResult, ClientError> {
        let plan = self.plan(call.into_signature())?;
        self.apply(&plan).await?;
        Ok(AsyncResult { client: self.clone(), handle: plan.handle })
    }

    /// The result of a task that somebody sent.
    pub fn result(&self, task_id: impl Into<String>) -> AsyncResult {
        AsyncResult { client: self.clone(), handle: Handle { id: task_id.into(), parent: None, children: None } }
    }
}

impl AsyncResult {
    /// The task's id, or the group's.
    pub fn id(&self) -> &str {
        &self.handle.id
    }

    /// The step before, in a chain; the header, of a chord.
    pub fn parent(&self) -> Option<Self> {
        let parent = self.handle.parent.as_ref()?;
        Some(Self { client: self.client.clone(), handle: (**parent).clone() })
    }

    /// The members of a group; none: it is a task.
    pub fn members(&self) -> Option<Vec<Self>> {
        let members = self.handle.children.as_ref()?;
        Some(members.iter().map(|handle| Self { client: self.client.clone(), handle: handle.clone() }).collect())
    }

    /// The state of the task. A group has none of its own: PENDING.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn state(&self) -> Result<State, ClientError> {
        Ok(self.client.task_meta(self.id()).await?.map_or(State::Pending, |meta| meta.state()))
    }

    /// Waits for the result: of a group for the list of its members' results.
    ///
    /// # Errors
    /// The first failure; none within `timeout`; Redis is away.
    pub async fn get(&self, timeout: Duration) -> Result<Value, ResultError> {
        self.get_until(Instant::now() + timeout, timeout).await
    }

    /// The same, as a type of the caller's.
    ///
    /// # Errors
    /// As [`AsyncResult::get`], and a result that is of another type.
    pub async fn get_as<T: DeserializeOwned>(&self, timeout: Duration) -> Result<T, ResultError> {
        serde_json::from_value(self.get(timeout).await?).map_err(ResultError::Type)
    }

    async fn get_until(&self, until: Instant, timeout: Duration) -> Result<Value, ResultError> {
        if let Some(members) = self.members() {
            let mut results = Vec::with_capacity(members.len());
            for member in members {
                results.push(Box::pin(member.get_until(until, timeout)).await?);
            }
            return Ok(Value::Array(results));
        }
        let left = until.saturating_duration_since(Instant::now());
        let meta = self.client.wait(self.id(), left).await?.filter(|meta| meta.state().is_final());
        let Some(meta) = meta else { return Err(ResultError::Timeout(timeout)) };
        match meta.state() {
            State::Success => Ok(meta.result),
            state => Err(ResultError::Failed {
                exception: meta
                    .exception()
                    .unwrap_or_else(|| TaskException::builtin("Exception", meta.result.to_string())),
                state,
                traceback: meta.traceback,
            }),
        }
    }

    /// Tells the workers not to start it, or with `terminate` to end it. Of a group: its members.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn revoke(&self, terminate: bool) -> Result<(), ClientError> {
        let ids: Vec<String> = match &self.handle.children {
            Some(members) => members.iter().map(|member| member.id.clone()).collect(),
            None => vec![self.id().to_owned()],
        };
        self.client.revoke(&ids, terminate, None).await
    }
}
