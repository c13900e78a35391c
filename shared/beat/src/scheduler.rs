//! What is due, and sending it (celery.beat: Scheduler).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use petiole_client::ClientError;
use tracing::{debug, error, info, warn};

use crate::config::BeatConfig;
use crate::entry::{Entry, Ran};
use crate::message::message;
use crate::schedule::Due;
use crate::source::{Loaded, Sources};
use crate::store::{Sending, Sent, Store};

/// How long an entry rests that cannot be sent.
const REST: TimeDelta = TimeDelta::seconds(30);
/// By how much the last run may lie ahead before a clock is thought to be wrong.
const AHEAD: TimeDelta = TimeDelta::seconds(60);

/// Why the scheduler cannot go on for now.
#[derive(Debug)]
pub(crate) enum Halt {
    /// The lock is lost.
    Lost,
    /// Redis is away.
    Away(ClientError),
}

/// The entries, and when each is due next.
pub(crate) struct Scheduler<'a> {
    config: &'a BeatConfig,
    store: &'a Store,
    sources: &'a Sources,
    planned: HashMap<String, Planned>,
}

/// An entry and what is known of it.
struct Planned {
    entry: Arc<Entry>,
    ran: Ran,
    /// As it stands on Redis.
    text: String,
    /// When to look at it next; none: never.
    at: Option<DateTime<Utc>>,
    /// The time for which a sending was announced.
    announced: Option<DateTime<Utc>>,
}

impl<'a> Scheduler<'a> {
    pub(crate) fn new(config: &'a BeatConfig, store: &'a Store, sources: &'a Sources) -> Self {
        Self { config, store, sources, planned: HashMap::new() }
    }

    /// Takes over the entries there are now. With `afresh` also what Redis knows of entries that are known here.
    pub(crate) async fn load(&mut self, token: &str, loaded: &Loaded, afresh: bool) -> Result<(), Halt> {
        let now = Utc::now();
        let first_states: Vec<(String, String)> = loaded
            .entries
            .iter()
            .map(|entry| {
                let known = self.planned.get(&entry.key).map(|planned| planned.ran.clone());
                let unknown = || Ran { last_run_at: now, total_run_count: 0, task_id: None };
                let ran = known.or_else(|| entry.ran.clone()).unwrap_or_else(unknown);
                (entry.key.clone(), text_of(&ran))
            })
            .collect();
        let states = self.store.remember(token, &first_states).await.map_err(away)?.ok_or(Halt::Lost)?;
        let mut before = std::mem::take(&mut self.planned);
        for ((entry, text), (_, first)) in loaded.entries.iter().zip(states).zip(&first_states) {
            let Some(ran) = ran_of(&text).or_else(|| ran_of(first)) else { continue };
            if ran.last_run_at > now + AHEAD {
                warn!(
                    "beat: {} last ran at {}, which is in the future: are the clocks right?",
                    entry.name, ran.last_run_at
                );
            }
            if afresh {
                self.sources.ran(&entry.key, &ran);
            }
            let same = before.remove(&entry.key).filter(|planned| planned.entry == *entry && planned.text == text);
            let planned =
                same.unwrap_or_else(|| Planned { entry: Arc::clone(entry), ran, text, at: Some(now), announced: None });
            self.planned.insert(entry.key.clone(), planned);
        }
        if loaded.complete {
            let stay: Vec<String> = self.planned.keys().cloned().collect();
            self.store.forget_others(token, &stay).await.map_err(away)?;
        }
        Ok(())
    }

    /// Sends all that is due; gives how long nothing will be, at most `max_interval`.
    pub(crate) async fn tick(&mut self, token: &str) -> Result<Duration, Halt> {
        let now = Utc::now();
        let mut due: Vec<(DateTime<Utc>, String)> = self
            .planned
            .iter()
            .filter_map(|(key, planned)| planned.at.filter(|at| *at <= now).map(|at| (at, key.clone())))
            .collect();
        due.sort();
        for (_, key) in due {
            if let Some(planned) = self.planned.get_mut(&key) {
                Self::look(self.config, self.store, self.sources, token, planned).await?;
            }
        }
        let next = self.planned.values().filter_map(|planned| planned.at).min();
        let until = next.map(|at| (at - Utc::now()).to_std().unwrap_or(Duration::ZERO));
        Ok(until.unwrap_or(Duration::MAX).min(self.config.max_interval))
    }

    /// Sends an entry if it is due, and says when to look at it next.
    async fn look(
        config: &BeatConfig,
        store: &Store,
        sources: &Sources,
        token: &str,
        planned: &mut Planned,
    ) -> Result<(), Halt> {
        let now = Utc::now();
        let entry = Arc::clone(&planned.entry);
        let last = entry.active_since.map_or(planned.ran.last_run_at, |since| since.max(planned.ran.last_run_at));
        let since = match entry.schedule.due(last, now, &config.time_zone, config.cron_starting_deadline) {
            Due::Since(since) => since,
            Due::At(at) => {
                planned.at = at;
                return Ok(());
            }
        };
        if planned.announced != Some(since) {
            planned.announced = Some(since);
            info!("Scheduler: Sending due task {} ({})", entry.name, entry.task.name);
        }
        let (message, queue) = match message(&entry, &config.sending, since, now) {
            Ok(message) => message,
            Err(error) => {
                error!(%error, "beat: Couldn't apply scheduled task {}", entry.name);
                planned.at = Some(now + REST);
                return Ok(());
            }
        };
        let ran = planned.ran.again(entry.schedule.ran(last, since, now), message.id.clone());
        let after = text_of(&ran);
        let sending =
            Sending { key: &entry.key, before: &planned.text, after: &after, message: &message, queue: &queue };
        match store.send(token, &sending).await {
            Ok(Sent::Done) => {
                debug!("{} sent. id->{}", entry.task.name, message.id);
                sources.ran(&entry.key, &ran);
                let next = entry.schedule.due(ran.last_run_at, now, &config.time_zone, None);
                planned.at = match next {
                    Due::At(at) => at,
                    Due::Since(at) => Some(at),
                };
                (planned.ran, planned.text) = (ran, after);
                Ok(())
            }
            Ok(Sent::Lost | Sent::Changed) => Err(Halt::Lost),
            Err(error @ ClientError::Unavailable(_)) => Err(Halt::Away(error)),
            Err(error) => {
                error!(%error, "beat: Message Error: {}", entry.name);
                planned.at = Some(now + REST);
                Ok(())
            }
        }
    }
}

/// What [`text_of`] wrote.
pub(crate) fn ran_of(text: &str) -> Option<Ran> {
    serde_json::from_str(text).ok()
}

pub(crate) fn text_of(ran: &Ran) -> String {
    serde_json::to_string(ran).unwrap_or_default()
}

fn away(error: petiole_redis::RedisError) -> Halt {
    Halt::Away(error.into())
}
