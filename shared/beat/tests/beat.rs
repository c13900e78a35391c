//! Beats against a real Redis. Each test has a key prefix of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use petiole_beat::{Beat, BeatConfig, Entry, Ran, Source, SourceError};
use petiole_client::{Client, ClientConfig};
use petiole_protocol::{Envelope, TaskMessage};
use petiole_settings::Reader;
use redis::AsyncCommands;
use serde_json::json;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

struct Fixture {
    url: String,
    prefix: String,
    client: Client,
}

impl Fixture {
    fn new() -> Self {
        let url = std::env::var("TEST_REDIS_URL").expect("TEST_REDIS_URL is not set: run docker/test.sh");
        let prefix = format!("test:{}:", uuid::Uuid::new_v4());
        let mut config = ClientConfig::new(&url, &url);
        config.global_keyprefix.clone_from(&prefix);
        Self { client: Client::new(config).unwrap(), url, prefix }
    }

    fn beat(&self) -> Beat {
        let mut reader =
            Reader::from_map([("BEAT_LOCK_TIMEOUT", "0.6"), ("BROKER_GLOBAL_KEYPREFIX", self.prefix.as_str())]);
        let config = BeatConfig::read(&mut reader);
        reader.finish().unwrap();
        Beat::new(config, &self.url).unwrap()
    }

    /// A beat that runs until it is told to stop, or aborted: then it leaves its lock behind, as one that was killed.
    fn start(&self, beat: Beat) -> (JoinHandle<()>, oneshot::Sender<()>) {
        let (stop, stopped) = oneshot::channel::<()>();
        let run = beat.run(async move {
            let _ = stopped.await;
        });
        (tokio::spawn(run), stop)
    }

    async fn messages(&self, queue: &str) -> Vec<TaskMessage> {
        let list: Vec<String> =
            self.client.broker().connection().lrange(format!("{}{queue}", self.prefix), 0, -1).await.unwrap();
        let parse = |text: &String| Envelope::parse(text.as_bytes()).unwrap();
        list.iter().rev().map(|text| TaskMessage::decode(&parse(text), &["json".to_owned()]).unwrap()).collect()
    }

    async fn wait_for(&self, queue: &str, count: usize) {
        for _ in 0..500 {
            if self.messages(queue).await.len() >= count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{count} messages did not come; there are {}", self.messages(queue).await.len());
    }

    async fn state(&self, key: &str) -> Ran {
        let text: String =
            self.client.broker().connection().hget(format!("{}petiole:beat:entries", self.prefix), key).await.unwrap();
        serde_json::from_str(&text).unwrap()
    }
}

fn ticks(seconds: f64) -> Entry {
    Entry::every("ticks", seconds, "t.tick").unwrap().args([json!(1)])
}

fn ids(messages: &[TaskMessage]) -> HashSet<&str> {
    messages.iter().map(|message| message.id.as_str()).collect()
}

#[tokio::test]
async fn an_interval_keeps_its_pace_over_restarts() {
    let fixture = Fixture::new();
    let (run, stop) = fixture.start(fixture.beat().entries([ticks(0.2)]));
    fixture.wait_for("celery", 1).await;
    let first = fixture.state("ticks").await;
    tokio::time::sleep(Duration::from_millis(900)).await;
    stop.send(()).unwrap();
    run.await.unwrap();
    // The lock was given back: the next one begins at once, with the tick that fell into the pause.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let before = fixture.state("ticks").await;
    let (run, stop) = fixture.start(fixture.beat().entries([ticks(0.2)]));
    let count = fixture.messages("celery").await.len();
    fixture.wait_for("celery", count + 4).await;
    stop.send(()).unwrap();
    run.await.unwrap();
    let last = fixture.state("ticks").await;
    let messages = fixture.messages("celery").await;
    assert_eq!(messages.len() as u64, last.total_run_count);
    assert_eq!(ids(&messages).len(), messages.len(), "nothing was sent twice");
    let steps = (last.last_run_at - first.last_run_at).num_milliseconds();
    assert_eq!(steps % 200, 0, "{steps}");
    // One slot was missed in the pause and not made up for, maybe two on a slow machine.
    let missed = steps / 200 - (last.total_run_count - first.total_run_count) as i64;
    assert!((0..=2).contains(&missed), "{missed} missed, {before:?}");
}

#[tokio::test]
async fn when_the_active_one_is_killed_another_goes_on() {
    let fixture = Fixture::new();
    let (first, _keep) = fixture.start(fixture.beat().entries([ticks(0.1)]));
    fixture.wait_for("celery", 3).await;
    let (second, stop) = fixture.start(fixture.beat().entries([ticks(0.1)]));
    tokio::time::sleep(Duration::from_millis(1000)).await;
    let messages = fixture.messages("celery").await;
    assert_eq!(ids(&messages).len(), messages.len(), "only one is active");
    first.abort();
    let died = tokio::time::Instant::now();
    let count = fixture.messages("celery").await.len();
    fixture.wait_for("celery", count + 1).await;
    let silence = died.elapsed();
    assert!(silence < Duration::from_millis(600 + 500), "{silence:?}");
    fixture.wait_for("celery", count + 5).await;
    stop.send(()).unwrap();
    second.await.unwrap();
    let messages = fixture.messages("celery").await;
    assert_eq!(ids(&messages).len(), messages.len());
    assert_eq!(fixture.state("ticks").await.total_run_count, messages.len() as u64);
}

#[tokio::test]
async fn a_crontab_that_was_missed_is_caught_up_once() {
    let fixture = Fixture::new();
    let mut entry = Entry::crontab("minutely", "* * * * *", "t.cron").unwrap();
    let an_hour_ago = chrono::Utc::now() - chrono::TimeDelta::hours(1);
    entry.ran = Some(Ran { last_run_at: an_hour_ago, total_run_count: 7, task_id: None });
    let (run, stop) = fixture.start(fixture.beat().entries([entry]));
    fixture.wait_for("celery", 1).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    stop.send(()).unwrap();
    run.await.unwrap();
    let sent = fixture.messages("celery").await.len();
    // Two, if a minute began meanwhile.
    assert!((1..=2).contains(&sent), "{sent}");
    assert_eq!(fixture.state("minutely").await.total_run_count, 7 + sent as u64);
}

/// A source whose entries a test changes.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<Entry>>>, Arc<Mutex<BTreeMap<String, Ran>>>);

#[async_trait::async_trait]
impl Source for Kept {
    fn name(&self) -> &str {
        "the test"
    }

    async fn entries(&self) -> Result<Vec<Entry>, SourceError> {
        Ok(self.0.lock().unwrap().clone())
    }

    async fn ran(&self, runs: &BTreeMap<String, Ran>) -> Result<(), SourceError> {
        self.1.lock().unwrap().extend(runs.clone());
        Ok(())
    }
}

#[tokio::test]
async fn changes_are_noticed_and_runs_are_told() {
    let fixture = Fixture::new();
    let kept = Kept::default();
    kept.0.lock().unwrap().push(ticks(0.1));
    let (run, stop) = fixture.start(fixture.beat().source(kept.clone()));
    fixture.wait_for("celery", 2).await;
    *kept.0.lock().unwrap() = vec![ticks(0.1).queue("other")];
    fixture.wait_for("other", 2).await;
    kept.0.lock().unwrap().clear();
    tokio::time::sleep(Duration::from_millis(2300)).await;
    let count = fixture.messages("other").await.len();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(fixture.messages("other").await.len(), count, "what is gone is not sent");
    stop.send(()).unwrap();
    run.await.unwrap();
    let told = kept.1.lock().unwrap()["ticks"].clone();
    assert_eq!(told.total_run_count as usize, count + fixture.messages("celery").await.len());
}

#[tokio::test]
async fn a_redis_that_forgot_everything_loses_no_tick() {
    let fixture = Fixture::new();
    let (run, stop) = fixture.start(fixture.beat().entries([ticks(0.2)]));
    fixture.wait_for("celery", 2).await;
    let before = fixture.state("ticks").await;
    let mut connection = fixture.client.broker().connection();
    for name in ["lock", "entries", "fence"] {
        let _: () = connection.del(format!("{}petiole:beat:{name}", fixture.prefix)).await.unwrap();
    }
    let count = fixture.messages("celery").await.len();
    fixture.wait_for("celery", count + 2).await;
    stop.send(()).unwrap();
    run.await.unwrap();
    let messages = fixture.messages("celery").await;
    assert_eq!(ids(&messages).len(), messages.len());
    let after = fixture.state("ticks").await;
    assert_eq!((after.last_run_at - before.last_run_at).num_milliseconds() % 200, 0, "the pace is kept");
    assert_eq!(after.total_run_count, messages.len() as u64);
}
