//! Sending tasks, reading and awaiting results (celery.app.base, celery.result).

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use petiole_protocol::compression::Compression;
use petiole_protocol::serializer::{JSON, Serializer};
use petiole_protocol::{Envelope, TaskMessage, TaskMeta};
use petiole_redis::handover::Push;
use petiole_redis::keys::binding_member;
use petiole_redis::publish_once::{Once, OnceMessage, PublishedOnce};
use petiole_redis::queues::sent_queues;
use petiole_redis::settle::{Settled, Settlement, Write};
use petiole_redis::{Backend, Broker, Connector};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use crate::canvas::{Plan, SendDefaults, Step};
use crate::carried;
use crate::config::ClientConfig;
use crate::error::ClientError;
use crate::routes::Routes;
use crate::send::TaskSend;

/// How long a sent task is remembered: as long as a result (`result_expires`).
const REMEMBERED: Duration = Duration::from_secs(86_400);

/// Sends tasks and reads results. Cheap to clone. Connects when first used, and comes back by itself.
#[derive(Clone)]
pub struct Client {
    pub(crate) broker: Broker,
    pub(crate) backend: Backend,
    pub(crate) connector: Connector,
    pub(crate) default_queue: String,
    routes: Arc<Routes>,
    result_expires: Duration,
    chord_expires: Duration,
    serializer: Serializer,
    compression: Option<Compression>,
    pub(crate) send_sent_event: bool,
}

/// A message that is ready to be published, by whoever keeps it meanwhile (an outbox).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prepared {
    /// The task's id.
    pub task_id: String,
    /// The task's name.
    pub name: String,
    /// The queue it goes to.
    pub queue: String,
    /// Its priority.
    pub priority: u8,
    /// The envelope's JSON text.
    pub envelope: String,
}

/// What is remembered of a task that was sent, so that one that waits can be told from one that nobody knows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SentTask {
    /// The task's name.
    pub name: String,
    /// The queue it went to.
    pub queue: String,
}

impl Client {
    /// A client. Connects to nothing yet.
    ///
    /// # Errors
    /// A URL that cannot be read.
    pub fn new(config: ClientConfig) -> Result<Self, ClientError> {
        let connector = Connector::new(&config.broker_url)?.with_prefix(&config.global_keyprefix);
        Ok(Self {
            broker: Broker::new(&connector)?,
            backend: Backend::new(&Connector::new(&config.result_backend)?)?.with_format(config.result_format),
            connector,
            default_queue: config.default_queue,
            routes: Arc::new(config.routes),
            result_expires: config.result_expires,
            chord_expires: config.chord_expires,
            serializer: config.serializer,
            compression: config.compression,
            send_sent_event: config.send_sent_event,
        })
    }

    /// The broker's commands, for what is not here.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// The result backend.
    pub fn backend(&self) -> &Backend {
        &self.backend
    }

    /// The queue of a task that names none.
    pub(crate) fn queue_of(&self, task: &str) -> &str {
        self.routes.queue(task).unwrap_or(&self.default_queue)
    }

    /// What routes say of a task that is sent.
    pub(crate) fn declared(&self, task: &str) -> Option<SendDefaults> {
        let route = self.routes.of(task)?;
        Some(SendDefaults {
            queue: route.queue.clone(),
            priority: route.priority.map(i64::from),
            ..SendDefaults::default()
        })
    }

    /// Makes the message of a call and sends nothing.
    ///
    /// # Errors
    /// [`ClientError::Invalid`] with the argument's name.
    pub fn prepare(&self, task: TaskSend) -> Result<Prepared, ClientError> {
        let mut task = task;
        let route = self.routes.of(&task.name);
        task.priority = task.priority.or(route.and_then(|route| route.priority));
        let queue = task.queue.clone().unwrap_or_else(|| self.queue_of(&task.name).to_owned());
        let mut message = task.message(&queue, Utc::now())?;
        carried::load(&mut message);
        Ok(Prepared {
            task_id: message.id.clone(),
            name: message.task.clone(),
            queue,
            priority: message.properties.priority.clamp(0, 9) as u8,
            envelope: self.encode(&message).to_text(),
        })
    }

    /// Writes a message by the client's settings.
    pub(crate) fn encode(&self, message: &TaskMessage) -> Envelope {
        message.encode_as(Uuid::new_v4().to_string(), self.serializer, self.compression)
    }

    /// Publishes a prepared message, and remembers that it was sent.
    ///
    /// # Errors
    /// Redis is away: the message may or may not be there. The same message has the same id, wherever it goes twice.
    pub async fn publish(&self, prepared: &Prepared) -> Result<(), ClientError> {
        let sent = SentTask { name: prepared.name.clone(), queue: prepared.queue.clone() };
        let mut pipe = redis::pipe();
        pipe.atomic();
        self.declare(&mut pipe, &prepared.queue);
        pipe.lpush(self.broker.keys().list(&prepared.queue, i64::from(prepared.priority)), &prepared.envelope).ignore();
        self.remember(&mut pipe, &prepared.task_id, &sent);
        let done: Result<(), redis::RedisError> = pipe.query_async(&mut self.broker.connection()).await;
        done.map_err(petiole_redis::RedisError::from)?;
        if self.send_sent_event
            && let Ok(envelope) = Envelope::parse(prepared.envelope.as_bytes())
        {
            self.task_sent(&envelope, &prepared.queue).await;
        }
        Ok(())
    }

    /// Publishes prepared messages that were not published before, in one round trip, for whoever keeps them (an outbox). Each
    /// is remembered by its task's id for a day.
    ///
    /// # Errors
    /// Redis is away: to be called again, with the same messages.
    pub async fn publish_once(&self, messages: &[Prepared]) -> Result<PublishedOnce, ClientError> {
        let remembered: Vec<String> = messages
            .iter()
            .map(|message| json!(SentTask { name: message.name.clone(), queue: message.queue.clone() }).to_string())
            .collect();
        let once: Vec<_> = messages
            .iter()
            .zip(&remembered)
            .map(|(message, sent)| OnceMessage {
                task_id: &message.task_id,
                sent,
                queue: &message.queue,
                priority: i64::from(message.priority),
                text: &message.envelope,
            })
            .collect();
        let published = self.broker.publish_once(&once, REMEMBERED).await?;
        if self.send_sent_event {
            for (message, answer) in messages.iter().zip(&published.messages) {
                if *answer == Once::Published
                    && let Ok(envelope) = Envelope::parse(message.envelope.as_bytes())
                {
                    self.task_sent(&envelope, &message.queue).await;
                }
            }
        }
        Ok(published)
    }

    /// Makes a queue known to whoever lists queues, as kombu does before it publishes.
    pub(crate) fn declare(&self, pipe: &mut redis::Pipeline, queue: &str) {
        let keys = self.broker.keys();
        pipe.sadd(keys.binding(queue), binding_member(queue, "", queue)).ignore();
        pipe.sadd(sent_queues(keys), queue).ignore();
    }

    /// Remembers that a task was sent.
    pub(crate) fn remember(&self, pipe: &mut redis::Pipeline, task_id: &str, sent: &SentTask) {
        pipe.set_ex(self.broker.keys().sent(task_id), json!(sent).to_string(), REMEMBERED.as_secs()).ignore();
    }

    /// Sends a task and gives its id.
    ///
    /// # Errors
    /// As [`Client::prepare`] and [`Client::publish`].
    pub async fn send(&self, task: TaskSend) -> Result<String, ClientError> {
        let prepared = self.prepare(task)?;
        self.publish(&prepared).await?;
        Ok(prepared.task_id)
    }

    /// What a plan writes, in order.
    pub fn writes(&self, plan: Plan) -> Vec<Write> {
        let mut writes = Vec::with_capacity(plan.steps.len());
        for step in plan.steps {
            match step {
                Step::Send { mut message, queue } => {
                    carried::load(&mut message);
                    let envelope = self.encode(&message);
                    let sent = self.send_sent_event.then(|| self.sent_event(&envelope, &queue));
                    writes.push(Write::Push(Box::new(self.push(*message, queue, envelope))));
                    writes.extend(sent.map(|(channel, text)| Write::Publish { channel, text }));
                }
                other => writes.extend(self.recorded(&other)),
            }
        }
        writes
    }

    fn push(&self, message: TaskMessage, queue: String, envelope: Envelope) -> Push {
        // Others would be read differently by workers with other settings.
        let plain = envelope.content_type == JSON && !envelope.headers.contains_key("compression");
        let tag = envelope.properties.delivery_tag.clone();
        Push {
            list: self.broker.keys().list(&queue, message.properties.priority),
            text: envelope.to_text(),
            message: (plain && message.eta.is_none()).then(|| Box::new(message.received(tag.clone()))),
            queue,
            tag,
            take: false,
        }
    }

    /// What a step of a plan writes to the result backend.
    fn recorded(&self, step: &Step) -> Vec<Write> {
        match step {
            Step::Send { .. } => vec![],
            Step::ChordSize { group_id, size } => self.backend.chord_size(group_id, *size, self.chord_expires).into(),
            Step::SaveGroup { group_id, tuple } => {
                vec![self.backend.save_group(group_id, tuple, self.result_expires)]
            }
        }
    }

    /// Carries out the part of a plan that concerns the result backend.
    pub(crate) async fn record(&self, plan: &Plan) -> Result<(), ClientError> {
        let writes = plan.steps.iter().flat_map(|step| self.recorded(step)).collect();
        self.broker.settle("", &self.backend, &[Settlement::writes(writes)]).await?;
        Ok(())
    }

    /// Carries out the plan of a canvas: all of it, or nothing. When results live in another database than messages, what is
    /// kept there is written first.
    ///
    /// # Errors
    /// Redis is away: all or nothing was carried out.
    pub async fn execute(&self, plan: &Plan) -> Result<(), ClientError> {
        let mut writes = self.writes(plan.clone());
        if writes.is_empty() {
            return Ok(());
        }
        writes.insert(0, Write::once(self.broker.keys()));
        let settled = self.broker.settle("", &self.backend, &[Settlement::writes(writes)]).await?;
        match settled.into_iter().next() {
            Some(Settled::Refused(why)) => Err(petiole_redis::RedisError::Refused(why).into()),
            _ => Ok(()),
        }
    }

    /// The stored result of a task; none: it waits, runs, or is unknown.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn task_meta(&self, task_id: &str) -> Result<Option<TaskMeta>, ClientError> {
        Ok(self.backend.get(task_id).await?)
    }

    /// Waits for a final state, at most for `timeout`; then gives what is stored.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn wait(&self, task_id: &str, timeout: Duration) -> Result<Option<TaskMeta>, ClientError> {
        Ok(self.backend.wait(task_id, timeout).await?)
    }

    /// What is remembered of a task that this or another client sent.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn sent(&self, task_id: &str) -> Result<Option<SentTask>, ClientError> {
        let text: Result<Option<String>, redis::RedisError> =
            redis::AsyncCommands::get(&mut self.broker.connection(), self.broker.keys().sent(task_id)).await;
        let text = text.map_err(petiole_redis::RedisError::from)?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    }

    /// The lengths of a queue's lists, by priority step 0, 3, 6, 9.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn queue_lengths(&self, queue: &str) -> Result<[u64; 4], ClientError> {
        Ok(self.broker.queue_lengths(queue).await?)
    }

    /// Asks Redis for a sign of life.
    ///
    /// # Errors
    /// It gives none.
    pub async fn ping(&self) -> Result<(), ClientError> {
        Ok(self.broker.ping().await?)
    }
}
