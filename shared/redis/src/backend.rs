//! Results (celery.backends.base, celery.backends.redis: RedisBackend).

use std::time::Duration;

use futures::StreamExt;
use petiole_protocol::TaskMeta;
use petiole_protocol::serializer::{ResultFormat, decode_result};
use redis::{AsyncCommands, cmd, pipe};
use serde_json::{Value, json};

use crate::commands::Commands;
use crate::connection::Connector;
use crate::error::RedisError;
use crate::settle::Write;

/// So many keys are asked about at a time.
const ASKED: usize = 500;

/// The result backend, on a shared connection.
#[derive(Clone)]
pub struct Backend {
    connection: Commands,
    connector: Connector,
    format: ResultFormat,
}

impl Backend {
    /// A backend on a connection of its own.
    ///
    /// # Errors
    /// As [`Connector::commands`].
    pub fn new(connector: &Connector) -> Result<Self, RedisError> {
        Ok(Self { connection: connector.commands()?, connector: connector.clone(), format: ResultFormat::default() })
    }

    /// The same, writing in another format. What is read may be in any.
    pub fn with_format(mut self, format: ResultFormat) -> Self {
        self.format = format;
        self
    }

    /// How results are written.
    pub fn format(&self) -> ResultFormat {
        self.format
    }

    /// The URL, with its password.
    pub fn url(&self) -> &str {
        self.connector.url()
    }

    /// Makes connections of one's own.
    pub fn connector(&self) -> &Connector {
        &self.connector
    }

    /// The shared connection.
    pub fn connection(&self) -> Commands {
        self.connection.clone()
    }

    /// Is the broker's the same database?
    pub fn shares(&self, broker: &crate::Broker) -> bool {
        self.connector.is_same_database(broker.connector())
    }

    /// The names of keys in the results' database.
    pub(crate) fn keys(&self) -> &crate::Keys {
        self.connector.keys()
    }

    /// The key of a task's result, and the channel on which it is announced. The backend's prefix gets a `_` unless it
    /// ends in a separator.
    pub fn task_key(&self, task_id: &str) -> String {
        format!("{}celery-task-meta-{task_id}", self.prefix())
    }

    /// The key of a group's meta; with a suffix, of a chord's counters.
    pub fn group_key(&self, group_id: &str) -> String {
        format!("{}celery-taskset-meta-{group_id}", self.prefix())
    }

    pub(crate) fn prefix(&self) -> String {
        let prefix = &self.connector.keys().prefix;
        match prefix.chars().last() {
            None | Some(':' | '_' | '-' | '.') => prefix.clone(),
            Some(_) => format!("{prefix}_"),
        }
    }

    /// The stored result; none: pending or unknown.
    ///
    /// # Errors
    /// Redis is away, or the key holds something else.
    pub async fn get(&self, task_id: &str) -> Result<Option<TaskMeta>, RedisError> {
        let text: Option<Vec<u8>> = self.connection.clone().get(self.task_key(task_id)).await?;
        text.map(|text| parse(&text, task_id)).transpose()
    }

    /// The stored results of several tasks, in their order.
    ///
    /// # Errors
    /// Redis is away, or a key holds something else.
    pub async fn get_many(&self, task_ids: &[String]) -> Result<Vec<Option<TaskMeta>>, RedisError> {
        if task_ids.is_empty() {
            return Ok(vec![]);
        }
        let keys: Vec<String> = task_ids.iter().map(|id| self.task_key(id)).collect();
        let texts: Vec<Option<Vec<u8>>> = self.connection.clone().mget(&keys).await?;
        texts.into_iter().zip(task_ids).map(|(text, id)| text.map(|text| parse(&text, id)).transpose()).collect()
    }

    /// Waits for a final state, for as long as `at_most`; then gives what is there.
    ///
    /// # Errors
    /// Redis is away, or the key holds something else.
    pub async fn wait(&self, task_id: &str, at_most: Duration) -> Result<Option<TaskMeta>, RedisError> {
        let mut channel = self.connector.subscriber().await?;
        channel.subscribe(self.task_key(task_id)).await?;
        let mut last = self.get(task_id).await?;
        let final_state = async {
            let mut messages = channel.on_message();
            while !last.as_ref().is_some_and(|meta| meta.state().is_final()) {
                let Some(message) = messages.next().await else { break };
                if let Ok(meta) = parse(message.get_payload_bytes(), task_id) {
                    last = Some(meta);
                }
            }
        };
        // Over in time or not: `last` tells.
        let _ = tokio::time::timeout(at_most, final_state).await;
        Ok(last)
    }

    /// Announces stored results once more, each by its key, where somebody listens. Gives how many those are.
    ///
    /// # Errors
    /// Redis is away, or refuses.
    pub async fn announce_again(&self, keys: &[String]) -> Result<usize, RedisError> {
        let (mut connection, mut again) = (self.connection.clone(), 0);
        for keys in keys.chunks(ASKED) {
            let listening: Vec<(String, u64)> =
                cmd("PUBSUB").arg("NUMSUB").arg(keys).query_async(&mut connection).await?;
            let keys: Vec<String> = listening.into_iter().filter(|(_, many)| *many > 0).map(|(key, _)| key).collect();
            if keys.is_empty() {
                continue;
            }
            let texts: Vec<Option<Vec<u8>>> = connection.mget(&keys).await?;
            let mut told = pipe();
            for (key, text) in keys.iter().zip(texts).filter_map(|(key, text)| Some((key, text?))) {
                told.publish(key, text).ignore();
                again += 1;
            }
            let () = told.query_async(&mut connection).await?;
        }
        Ok(again)
    }

    /// Saves a group, such that Python's `GroupResult.restore` finds it. `tuple` is its result tuple.
    pub fn save_group(&self, group_id: &str, tuple: &Value, expires: Duration) -> Write {
        let text = self.format.encode(&json!({ "result": tuple }));
        Write::Set { key: self.group_key(group_id), seconds: expires.as_secs().max(1), text }
    }

    /// A saved group's result tuple.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn group(&self, group_id: &str) -> Result<Option<Value>, RedisError> {
        let text: Option<Vec<u8>> = self.connection.clone().get(self.group_key(group_id)).await?;
        let meta = text.and_then(|text| decode_result(&text).ok());
        Ok(meta.and_then(|mut meta| meta.get_mut("result").map(Value::take)))
    }
}

pub(crate) fn parse(text: &[u8], task_id: &str) -> Result<TaskMeta, RedisError> {
    let bad = |what: &dyn std::fmt::Display| RedisError::Data(format!("result of task {task_id}: {what}"));
    let mut meta = TaskMeta::decode(text).map_err(|e| bad(&e))?;
    if meta.task_id.is_empty() {
        meta.task_id = task_id.to_owned();
    }
    Ok(meta)
}
