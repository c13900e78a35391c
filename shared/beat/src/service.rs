//! The run of a beat: one of several is active, the others wait (celery.beat: Service).

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use petiole_client::{Client, ClientConfig, ClientError};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::config::BeatConfig;
use crate::entry::Entry;
use crate::interval::humanize_seconds;
use crate::remote_control::{Mailbox, Ticks};
use crate::scheduler::{Halt, Scheduler};
use crate::source::{Loaded, Source, Sources};
use crate::store::{Lease, Store};

/// How often a waiting beat looks at the lock, and how long one rests while Redis is away.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A beat that looks at its schedule often is not taken for a stalled one too soon (celery.beat: min_tick_age).
const SHORTEST_TICK_AGE: Duration = Duration::from_secs(60);
/// How long the end may take.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// A beat, ready to run.
pub struct Beat {
    config: BeatConfig,
    client: Client,
    fixed: Vec<Entry>,
    sources: Vec<Arc<dyn Source>>,
}

/// Why the active time of a beat ended.
enum End {
    Stopped,
    Lost,
}

impl Beat {
    /// A beat on this broker. Connects to nothing yet.
    ///
    /// # Errors
    /// A URL that cannot be read.
    pub fn new(config: BeatConfig, broker_url: &str) -> Result<Self, ClientError> {
        let url = broker_url.to_owned();
        let client = ClientConfig { broker_url: url.clone(), result_backend: url, ..config.sending.clone() };
        Ok(Self { client: Client::new(client)?, fixed: config.schedule.clone(), config, sources: vec![] })
    }

    /// With entries of the application's code. One of the settings wins over one of the same name.
    #[must_use]
    pub fn entries(mut self, entries: impl IntoIterator<Item = Entry>) -> Self {
        let more: Vec<Entry> =
            entries.into_iter().filter(|entry| self.fixed.iter().all(|known| known.key != entry.key)).collect();
        self.fixed.extend(more);
        self
    }

    /// With entries that are kept elsewhere and may change.
    #[must_use]
    pub fn source(mut self, source: impl Source) -> Self {
        self.sources.push(Arc::new(source));
        self
    }

    /// Runs until `stop`. A Redis that is away is waited for.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        info!("beat: Starting...");
        debug!("beat: Ticking with max interval->{}", humanize_seconds(self.config.max_interval.as_secs_f64()));
        let ticks = Ticks::new();
        let remote_control = self.config.remote_control.then(|| {
            let node = petiole_client::node_name(self.config.node.as_deref(), "celerybeat");
            let max_age = self.config.max_tick_age.unwrap_or((2 * self.config.max_interval).max(SHORTEST_TICK_AGE));
            tokio::spawn(Mailbox::new(self.client.clone(), node, ticks.clone(), max_age).listen())
        });
        let store = Store::new(self.client, &self.config.key_prefix, self.config.lock_timeout);
        let sources = Arc::new(Sources::new(self.fixed, self.sources));
        let background = {
            let (watching, telling) = (Arc::clone(&sources), Arc::clone(&sources));
            [tokio::spawn(async move { watching.watch().await }), tokio::spawn(async move { telling.tell().await })]
        };
        let loaded = sources.loaded();
        Service { config: &self.config, store: &store, sources: &sources, loaded, ticks }.run(pin!(stop)).await;
        info!("beat: Shutting down...");
        background.iter().chain(&remote_control).for_each(tokio::task::JoinHandle::abort);
        let _ = tokio::time::timeout(LAST_WORDS, sources.tell_now()).await;
    }
}

struct Service<'a> {
    config: &'a BeatConfig,
    store: &'a Store,
    sources: &'a Sources,
    loaded: watch::Receiver<Loaded>,
    ticks: Ticks,
}

impl Service<'_> {
    async fn run<S: Future<Output = ()> + Unpin>(&mut self, mut stop: S) {
        let mut scheduler = Scheduler::new(self.config, self.store, self.sources);
        let mut waiting = false;
        let mut away = false;
        loop {
            self.ticks.tick();
            let rest = match self.store.lease().await {
                Ok(Lease::Held(token)) => {
                    if waiting {
                        info!("beat: The active beat is gone, taking over.");
                    }
                    (waiting, away) = (false, false);
                    self.sources.wake();
                    match self.active(&token, &mut scheduler, &mut stop).await {
                        End::Stopped => {
                            let released = tokio::time::timeout(LAST_WORDS, self.store.release(&token)).await;
                            if !matches!(released, Ok(Ok(()))) {
                                debug!("beat: the lock is left to expire");
                            }
                            return;
                        }
                        End::Lost => Duration::from_millis(50),
                    }
                }
                Ok(Lease::Other(left)) => {
                    if !waiting {
                        info!("beat: Another beat is active, waiting.");
                        self.sources.rest();
                    }
                    (waiting, away) = (true, false);
                    left.clamp(Duration::from_millis(10), LOOK_EVERY)
                }
                Err(error) => {
                    if !away {
                        warn!(%error, "beat: Connection error, trying again");
                    }
                    away = true;
                    LOOK_EVERY
                }
            };
            tokio::select! {
                () = tokio::time::sleep(rest) => {}
                () = &mut stop => return,
            }
        }
    }

    /// Sends what is due for as long as the lock is held.
    async fn active<S: Future<Output = ()> + Unpin>(
        &mut self,
        token: &str,
        scheduler: &mut Scheduler<'_>,
        stop: &mut S,
    ) -> End {
        let renew_every = self.config.lock_timeout / 3;
        let mut renewed = Instant::now();
        let mut load = true;
        let mut afresh = true;
        let mut away = false;
        loop {
            self.ticks.tick();
            let done = async {
                if renewed.elapsed() >= renew_every {
                    match self.store.lease().await {
                        Ok(Lease::Held(again)) if again == token => renewed = Instant::now(),
                        Ok(_) => return Err(Halt::Lost),
                        Err(error) => return Err(Halt::Away(error.into())),
                    }
                }
                if load {
                    let loaded = self.loaded.borrow_and_update().clone();
                    scheduler.load(token, &loaded, afresh).await?;
                    (load, afresh) = (false, false);
                }
                scheduler.tick(token).await
            }
            .await;
            let rest = match done {
                Ok(rest) => {
                    away = false;
                    rest.min(renew_every.saturating_sub(renewed.elapsed()))
                }
                Err(Halt::Lost) => return End::Lost,
                Err(Halt::Away(error)) => {
                    if !away {
                        warn!(%error, "beat: Connection error, trying again");
                    }
                    away = true;
                    LOOK_EVERY
                }
            };
            tokio::select! {
                () = tokio::time::sleep(rest) => {}
                // The sender lives as long as the sources.
                _ = self.loaded.changed() => load = true,
                () = &mut *stop => return End::Stopped,
            }
        }
    }
}
