//! Elections: one of all workers does something (celery.worker.consumer.gossip: election).
//!
//! Whoever is told of an election offers itself by `worker-elect`; every worker notes all offers and says so by
//! `worker-elect-ack`. When all that live have said so, each knows the same winner: the offer with the lowest clock.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use petiole_client::Planner;
use petiole_protocol::{Map, Signature};
use serde_json::{Value, json};
use tracing::{error, info};

use crate::state::{Locked, lock};
use crate::worker::Worker;

/// An election that did not end by then, does not.
const PATIENCE: Duration = Duration::from_secs(60);
/// So long an offer is noted before it is said: who has heard from all must have heard all offers, or decides by some of them. A
/// Python worker that knows of one only ends with an error then.
const OFFERS: Duration = Duration::from_millis(250);

/// The elections at hand, and who lives.
#[derive(Default)]
pub(crate) struct Elections {
    open: Locked<HashMap<String, Election>>,
    alive: Locked<HashMap<String, Instant>>,
}

struct Election {
    began: Instant,
    /// Was this worker told of it? Then it decides.
    called: bool,
    offers: Vec<Offer>,
    acks: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
struct Offer {
    clock: u64,
    /// `<hostname>.<pid>`: decides between equal clocks.
    name: String,
    topic: String,
    action: Value,
}

impl Elections {
    fn change<T>(&self, id: &str, change: impl FnOnce(&mut Election) -> T) -> T {
        let mut open = lock(&self.open);
        open.retain(|_, election| election.began.elapsed() < PATIENCE);
        let new = || Election { began: Instant::now(), called: false, offers: vec![], acks: vec![] };
        change(open.entry(id.to_owned()).or_insert_with(new))
    }

    /// Another worker showed that it lives, for so long.
    fn lives(&self, node: &str, until: Instant) {
        lock(&self.alive).insert(node.to_owned(), until);
    }

    fn left(&self, node: &str) {
        lock(&self.alive).remove(node);
    }

    /// How many others live.
    fn others(&self) -> usize {
        let mut alive = lock(&self.alive);
        alive.retain(|_, until| *until > Instant::now());
        alive.len()
    }

    /// The winner, when all have said that they know the offers, `own` as well; the election is over then.
    fn decided(&self, id: &str, own: &str) -> Option<Offer> {
        let all = self.others() + 1;
        let mut open = lock(&self.open);
        let election = open.get(id).filter(|election| election.called && election.acks.len() >= all)?;
        // Others say so for each offer, and may be many before all offers are there.
        election.acks.iter().find(|node| *node == own)?;
        let winner = winner(&election.offers);
        open.remove(id);
        winner
    }
}

fn winner(offers: &[Offer]) -> Option<Offer> {
    offers.iter().min_by_key(|offer| (offer.clock, offer.name.as_str())).cloned()
}

/// The command `election`: this worker offers itself.
pub(crate) fn call(worker: &Worker, id: &str, topic: &Value, action: &Value) {
    worker.elections.change(id, |election| election.called = true);
    let mut offer = json!({"id": id, "topic": null, "action": null, "cver": 1});
    // json! cannot take what may hold Python's constants (`NaN`).
    (offer["topic"], offer["action"]) = (topic.clone(), action.clone());
    worker.events.emit("worker-elect", offer);
}

/// An event of a worker, this one included.
pub(crate) fn heard(worker: &Arc<Worker>, event: &Map) {
    let text = |name: &str| event.get(name).and_then(Value::as_str);
    let (Some(kind), Some(node)) = (text("type"), text("hostname")) else { return };
    match (kind, text("id")) {
        ("worker-elect", Some(id)) => {
            let offer = Offer {
                clock: event.get("clock").and_then(Value::as_u64).unwrap_or(0),
                name: format!("{node}.{}", event.get("pid").and_then(Value::as_u64).unwrap_or(0)),
                topic: text("topic").unwrap_or_default().to_owned(),
                action: event.get("action").cloned().unwrap_or(Value::Null),
            };
            worker.elections.change(id, |election| election.offers.push(offer));
            let (worker, ack) = (worker.clone(), json!({"id": id}));
            tokio::spawn(async move {
                tokio::time::sleep(OFFERS).await;
                worker.events.emit("worker-elect-ack", ack);
            });
        }
        ("worker-elect-ack", Some(id)) => {
            worker.elections.change(id, |election| election.acks.push(node.to_owned()));
            if let Some(winner) = worker.elections.decided(id, &worker.node) {
                conclude(worker, id, winner);
            }
        }
        ("worker-offline", _) => worker.elections.left(node),
        ("worker-online" | "worker-heartbeat", _) if node != worker.node => {
            // Twice the time between heartbeats, as monitors count.
            let frequency = event.get("freq").and_then(Value::as_f64).unwrap_or(60.0).clamp(0.1, 3600.0);
            worker.elections.lives(node, Instant::now() + Duration::from_secs_f64(frequency * 2.0));
        }
        _ => {}
    }
}

fn conclude(worker: &Arc<Worker>, id: &str, winner: Offer) {
    if winner.name != format!("{}.{}", worker.node, std::process::id()) {
        return info!("node {} elected for {id:?}", winner.name);
    }
    info!("I won the election {id:?}");
    if winner.topic != "task" {
        return error!("Unknown election topic {:?}", winner.topic);
    }
    let worker = worker.clone();
    tokio::spawn(async move {
        if let Err(why) = send(&worker, winner.action).await {
            error!("Could not call task: {why}");
        }
    });
}

/// Sends what the winner is to send: a task without a parent.
async fn send(worker: &Worker, action: Value) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let signature: Signature = serde_json::from_value(action)?;
    let planner = Planner {
        default_queue: &worker.config.default_queue,
        now: Utc::now(),
        root_id: None,
        parent_id: None,
        priority: None,
        defaults: &|_| None,
    };
    let plan = planner.plan(signature, &[], Map::new())?;
    Ok(worker.execute(&plan).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(clock: u64, name: &str) -> Offer {
        Offer { clock, name: name.into(), topic: "task".into(), action: Value::Null }
    }

    #[test]
    fn the_lowest_clock_wins_and_then_the_smallest_name() {
        assert_eq!(winner(&[offer(7, "b.1"), offer(3, "c.1"), offer(3, "a.1")]), Some(offer(3, "a.1")));
        assert_eq!(winner(&[]), None);
    }

    #[test]
    fn it_is_decided_when_all_have_answered() {
        let elections = Elections::default();
        elections.lives("other@h", Instant::now() + PATIENCE);
        elections.lives("dead@h", Instant::now());
        elections.change("e", |election| election.offers.extend([offer(2, "a.1"), offer(1, "b.1")]));
        elections.change("e", |election| election.acks.push("a".into()));
        let decided = || elections.decided("e", "a");
        assert!(decided().is_none(), "nobody asked this worker");
        elections.change("e", |election| election.called = true);
        assert!(decided().is_none(), "one of two");
        elections.change("e", |election| election.acks = vec!["other@h".into(), "other@h".into()]);
        assert!(decided().is_none(), "this worker may not have all offers");
        elections.change("e", |election| election.acks.push("a".into()));
        assert_eq!(decided(), Some(offer(1, "b.1")));
        assert!(decided().is_none(), "it is over");
    }
}
