//! A task from outside while it runs: what it says piece by piece, and its end.

use std::time::Duration;

use futures::StreamExt;
use petiole_protocol::TaskMeta;
use petiole_redis::tokens::Token;
use petiole_redis::{Backend, RedisError};
use redis::aio::PubSub;

use crate::client::Client;
use crate::error::ClientError;

/// What is stored is looked at this often, even when nothing is announced.
const LOOK: Duration = Duration::from_secs(5);
/// Pause before a lost connection is made anew.
const PAUSE: Duration = Duration::from_millis(500);

/// What a followed task does next.
#[derive(Debug, Clone, PartialEq)]
pub enum Update {
    /// It said this.
    Token(String),
    /// It has ended; nothing comes after this.
    End(Box<TaskMeta>),
}

/// A task that is being followed.
pub struct Follow {
    backend: Backend,
    task_id: String,
    channel: Option<PubSub>,
    ready: std::collections::VecDeque<Token>,
    last: Option<String>,
    /// Whose words are passed on. A later attempt says the same again in other words: those would only confuse.
    attempt: Option<String>,
    end: Option<TaskMeta>,
    over: bool,
}

impl Client {
    /// Follows a task, from its first word on: also one that runs already or has ended.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn follow(&self, task_id: &str) -> Result<Follow, ClientError> {
        let mut follow = Follow {
            backend: self.backend().clone(),
            task_id: task_id.to_owned(),
            channel: None,
            ready: Default::default(),
            last: None,
            attempt: None,
            end: None,
            over: false,
        };
        follow.subscribe().await?;
        Ok(follow)
    }
}

impl Follow {
    async fn subscribe(&mut self) -> Result<(), RedisError> {
        let mut channel = self.backend.connector().subscriber().await?;
        channel.subscribe(&[self.backend.tokens_key(&self.task_id), self.backend.task_key(&self.task_id)]).await?;
        self.channel = Some(channel);
        self.look().await
    }

    /// Whether it has ended meanwhile.
    async fn look(&mut self) -> Result<(), RedisError> {
        let meta = self.backend.get(&self.task_id).await?;
        self.end = meta.filter(|meta| meta.state().is_final());
        Ok(())
    }

    /// What it does next; none once it has ended. While Redis is away this waits for it. May be dropped at any moment.
    pub async fn next(&mut self) -> Option<Update> {
        while !self.over {
            if let Some(token) = self.ready.pop_front() {
                let attempt = self.attempt.get_or_insert_with(|| token.attempt.clone());
                if *attempt == token.attempt {
                    return Some(Update::Token(token.text));
                }
                continue;
            }
            if let Err(error) = self.advance().await {
                tracing::warn!(%error, task_id = self.task_id, "following a task waits for Redis");
                self.channel = None;
                tokio::time::sleep(PAUSE).await;
            }
        }
        self.end.take().map(|meta| Update::End(Box::new(meta)))
    }

    async fn advance(&mut self) -> Result<(), RedisError> {
        let tokens = self.backend.tokens_after(&self.task_id, self.last.as_deref()).await?;
        if let Some(last) = tokens.last() {
            self.last = Some(last.id.clone());
            self.ready.extend(tokens);
            return Ok(());
        }
        // everything it said before its end was read after its end
        if self.end.is_some() {
            self.over = true;
            return Ok(());
        }
        let Some(channel) = &mut self.channel else { return self.subscribe().await };
        let said = self.backend.tokens_key(&self.task_id);
        let woken = tokio::time::timeout(LOOK, channel.on_message().next()).await;
        match woken.map(|message| message.map(|message| message.get_channel_name() == said)) {
            Ok(Some(true)) => Ok(()),
            Ok(Some(false)) | Err(_) => self.look().await,
            Ok(None) => Err(RedisError::Unavailable("the connection ended".into())),
        }
    }
}
