//! Applying a canvas: all its messages are sent at once, and each of its tasks is remembered.

use std::collections::HashMap;

use chrono::Utc;
use petiole_protocol::signature::Canvas;
use petiole_protocol::{Map, Signature};

use crate::canvas::{Handle, Plan, Planner, Step, canvas};
use crate::carried;
use crate::client::{Client, SentTask};
use crate::error::ClientError;

impl Client {
    /// Plans a canvas for a caller that is no task. Its group, if it has one, is saved so that Python's
    /// `GroupResult.restore` finds it by the id that [`Handle::group`] gives.
    ///
    /// # Errors
    /// [`ClientError::Invalid`] for a canvas that cannot be sent.
    pub fn plan(&self, signature: Signature) -> Result<Plan, ClientError> {
        let planner = Planner {
            default_queue: &self.default_queue,
            now: Utc::now(),
            root_id: None,
            parent_id: None,
            priority: None,
            defaults: &|task| self.declared(task),
        };
        let mut plan = planner.plan(signature, &[], Map::new())?;
        if let Some(group) = plan.handle.group() {
            let save = Step::SaveGroup { group_id: group.id.clone(), tuple: group.tuple() };
            if !plan.steps.contains(&save) {
                plan.steps.insert(0, save);
            }
        }
        Ok(plan)
    }

    /// Carries out a plan: what concerns the result backend first, then all messages in one transaction, so that all are
    /// sent or none. Every task of it can be asked for from then on, those that wait for others too.
    ///
    /// # Errors
    /// Redis is away: nothing was sent, or everything.
    pub async fn apply(&self, plan: &Plan) -> Result<(), ClientError> {
        self.record(plan).await?;
        let mut pipe = redis::pipe();
        pipe.atomic();
        let (mut tasks, mut queues, mut sent) = (HashMap::new(), Vec::new(), Vec::new());
        for step in &plan.steps {
            let Step::Send { message, queue } = step else { continue };
            if !queues.contains(queue) {
                self.declare(&mut pipe, queue);
                queues.push(queue.clone());
            }
            let mut message = message.clone();
            carried::load(&mut message);
            let envelope = self.encode(&message);
            pipe.lpush(self.broker.keys().list(queue, message.properties.priority), envelope.to_text()).ignore();
            sent.push((envelope, queue));
            tasks.insert(message.id.clone(), SentTask { name: message.task.clone(), queue: queue.clone() });
            for later in message.embed.chain.readable().iter().chain(&message.embed.chord) {
                self.list(later, &mut tasks)?;
            }
        }
        for (id, task) in &tasks {
            self.remember(&mut pipe, id, task);
        }
        let done: Result<(), redis::RedisError> = pipe.query_async(&mut self.broker.connection()).await;
        done.map_err(petiole_redis::RedisError::from)?;
        for (envelope, queue) in sent.iter().filter(|_| self.send_sent_event) {
            self.task_sent(envelope, queue).await;
        }
        Ok(())
    }

    /// The tasks of a signature that is sent later, by their ids.
    fn list(&self, signature: &Signature, tasks: &mut HashMap<String, SentTask>) -> Result<(), ClientError> {
        let id = signature.option_text("task_id");
        match canvas(signature)? {
            Canvas::Task => {
                let Some(id) = id else { return Ok(()) };
                // every member of a header carries the same body
                if tasks.contains_key(id) {
                    return Ok(());
                }
                let queue = signature.option_text("queue").unwrap_or(self.queue_of(&signature.task)).to_owned();
                tasks.insert(id.to_owned(), SentTask { name: signature.task.clone(), queue });
                signature.option_signatures("chain").iter().try_for_each(|later| self.list(later, tasks))
            }
            Canvas::Chain(parts) | Canvas::Group(parts) => parts.iter().try_for_each(|part| self.list(part, tasks)),
            Canvas::Chord { header, body, .. } => {
                header.iter().try_for_each(|part| self.list(part, tasks))?;
                self.list(&body, tasks)
            }
        }
    }
}

impl Handle {
    /// The group nearest to the end: this, or the one that it waits for.
    pub fn group(&self) -> Option<&Handle> {
        match (&self.children, &self.parent) {
            (Some(_), _) => Some(self),
            (None, Some(parent)) => parent.group(),
            (None, None) => None,
        }
    }
}
