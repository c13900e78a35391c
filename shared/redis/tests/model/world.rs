//! Three workers, one queue, and what can happen to them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use petiole_protocol::{Envelope, State, TaskMessage, TaskMeta};
use petiole_redis::broker::{GiveBack, Side};
use petiole_redis::claims::Claims;
use petiole_redis::consumer::{Consumer, Delivery};
use petiole_redis::dead::DeadLetter;
use petiole_redis::handover::Push;
use petiole_redis::idle::Sign;
use petiole_redis::settle::{Settlement, Write};
use petiole_redis::waiting::ToWait;
use petiole_redis::{Backend, Broker, Connector};
use redis::AsyncCommands;
use serde_json::json;

/// How long a long message is, in bytes.
const LONG: usize = 10_000;

/// Does the one who called hear what became of it?
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Heard {
    Answer,
    Nothing,
}

/// What can happen.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Send {
        priority: i64,
        /// So long that the next ones are fetched without the script.
        long: bool,
    },
    Fetch {
        worker: usize,
        room: usize,
        heard: Heard,
    },
    /// It finds nothing and tells Redis to wait for a message…
    Wait {
        worker: usize,
    },
    /// …which Redis may have given since.
    Given {
        worker: usize,
        heard: Heard,
    },
    Settle {
        worker: usize,
        which: usize,
        heard: Heard,
    },
    /// What nothing was heard of is tried again.
    SettleAgain {
        worker: usize,
    },
    GiveBack {
        worker: usize,
        which: usize,
        next: bool,
        heard: Heard,
    },
    PutWaiting {
        worker: usize,
        which: usize,
        due: bool,
        heard: Heard,
    },
    ReturnDue {
        limit: usize,
    },
    TakeWaiting {
        worker: usize,
        which: usize,
        heard: Heard,
    },
    DeadLetter {
        worker: usize,
        which: usize,
        heard: Heard,
    },
    Replay {
        which: usize,
    },
    /// A new connection: what came when the old one broke goes back.
    Forgotten {
        worker: usize,
    },
    /// kill -9, and a new start.
    Crash {
        worker: usize,
    },
    /// Somebody takes a worker for dead and reads what it holds…
    LookAtHeld {
        worker: usize,
    },
    /// …and gives it back, now or much later.
    RestoreSeen {
        worker: usize,
    },
    /// A scan by time that finds everything overdue.
    RestoreOverdue {
        worker: usize,
    },
    /// The same by a Python worker, who knows nothing of claims.
    RestoreAsKombu,
    /// A round of a worker's heart: long messages that are still held go into `unacked`.
    Record {
        worker: usize,
    },
    KeepAlive {
        worker: usize,
    },
}

struct Worker {
    owner: String,
    consumer: Consumer,
    known: Vec<Delivery>,
    untold: Vec<Settlement>,
}

impl Worker {
    fn take_given(&mut self, heard: Heard) {
        if let (Some(Sign::Message(delivery, _)), Heard::Answer) = (self.consumer.given().unwrap(), heard) {
            self.known.push(delivery);
        }
    }
}

pub(crate) struct World {
    broker: Broker,
    backend: Backend,
    workers: Vec<Worker>,
    sent: usize,
    runs: u64,
    seen: HashMap<usize, (String, Vec<String>)>,
    results: HashMap<String, String>,
    starts: usize,
}

impl World {
    pub(crate) async fn new() -> Self {
        let url = std::env::var("TEST_REDIS_URL").expect("TEST_REDIS_URL is not set: run docker/test.sh");
        let prefix = format!("test:{}:", uuid::Uuid::new_v4());
        let connector = Connector::new(&url).unwrap().with_prefix(&prefix);
        let (broker, backend) = (Broker::new(&connector).unwrap(), Backend::new(&connector).unwrap());
        let mut world = Self {
            broker,
            backend,
            workers: vec![],
            sent: 0,
            runs: 0,
            seen: HashMap::new(),
            results: HashMap::new(),
            starts: 0,
        };
        for _ in 0..3 {
            let worker = world.start().await;
            world.workers.push(worker);
        }
        world
    }

    async fn start(&mut self) -> Worker {
        self.starts += 1;
        let owner = format!("w{}", self.starts);
        self.claims(&owner).keep_alive(Duration::from_secs(60), Duration::from_secs(60)).await.unwrap();
        let consumer = Consumer::connect(&self.broker, &self.backend, &owner).await.unwrap();
        Worker { owner, consumer, known: vec![], untold: vec![] }
    }

    fn claims(&self, owner: &str) -> Claims {
        Claims::new(self.broker.clone(), owner)
    }

    pub(crate) async fn take(&mut self, step: &Step) {
        match *step {
            Step::Send { priority, long } => {
                let args = if long { vec![json!("x".repeat(LONG))] } else { vec![] };
                let mut message = TaskMessage::new("t", format!("m{}", self.sent), args, Default::default());
                self.sent += 1;
                message.properties.priority = priority;
                message.properties.routing_key = "q".into();
                let text = message.encode(uuid::Uuid::new_v4().to_string()).to_text();
                self.broker.publish("q", priority, &text).await.unwrap();
            }
            Step::Fetch { worker, room, heard } => {
                let worker = &mut self.workers[worker];
                let got = worker.consumer.exchange(&mut [], &["q".into()], room).await.unwrap();
                if heard == Heard::Answer {
                    worker.known.extend(got.deliveries);
                }
            }
            Step::Wait { worker } => {
                let worker = &mut self.workers[worker];
                let got = worker.consumer.exchange(&mut [], &["q".into()], 1).await.unwrap();
                worker.known.extend(got.deliveries);
                if got.drained {
                    worker.consumer.begin_waiting(&["q".into()]).await.unwrap();
                    worker.take_given(Heard::Answer);
                }
            }
            Step::Given { worker, heard } => self.workers[worker].take_given(heard),
            Step::Settle { worker, which, heard } => {
                let Some(delivery) = self.pick(worker, which) else { return };
                self.runs += 1;
                let (id, keys) = (id(&delivery.text), self.broker.keys());
                let meta = TaskMeta::new(&id, &State::Success, json!(self.runs));
                let writes = vec![
                    Write::Push(Box::new(Push::text(keys, "follows", 0, id))),
                    Write::result(&self.backend, &meta, Duration::from_secs(600)),
                ];
                self.settle(worker, Settlement { tag: Some(delivery.tag), writes }, heard).await;
            }
            Step::SettleAgain { worker } => {
                for settlement in std::mem::take(&mut self.workers[worker].untold) {
                    self.settle(worker, settlement, Heard::Answer).await;
                }
            }
            Step::GiveBack { worker, which, next, heard } => {
                let Some(delivery) = self.pick(worker, which) else { return };
                let side = if next { Side::Next } else { Side::Last };
                let (owner, back) = (self.workers[worker].owner.clone(), back(&delivery));
                self.broker.give_back(&owner, side, std::slice::from_ref(&back)).await.unwrap();
                if heard == Heard::Nothing {
                    self.broker.give_back(&owner, side, &[back]).await.unwrap();
                }
            }
            Step::PutWaiting { worker, which, due, heard } => {
                let Some(delivery) = self.pick(worker, which) else { return };
                let (owner, task_id) = (self.workers[worker].owner.clone(), id(&delivery.text));
                let eta = if due { 1.0 } else { 4e9 };
                let wait = ToWait { delivery: &delivery, priority: 0, task_id: &task_id, node: "n", eta };
                self.broker.put_waiting(&owner, &wait).await.unwrap();
                if heard == Heard::Nothing {
                    self.broker.put_waiting(&owner, &wait).await.unwrap();
                }
            }
            Step::ReturnDue { limit } => {
                self.broker.return_due(limit).await.unwrap();
            }
            Step::TakeWaiting { worker, which, heard } => {
                if self.sent == 0 {
                    return;
                }
                let id = format!("m{}", which % self.sent);
                let taken = self.broker.take_waiting(&self.workers[worker].owner, &id).await.unwrap();
                if heard == Heard::Answer {
                    self.workers[worker].known.extend(taken);
                }
            }
            Step::DeadLetter { worker, which, heard } => {
                let Some(delivery) = self.pick(worker, which) else { return };
                let letter = DeadLetter {
                    id: delivery.tag.clone(),
                    task: None,
                    task_id: None,
                    queue: "q".into(),
                    reason: "poison".into(),
                    redeliveries: 0,
                    worker: "n".into(),
                    time: String::new(),
                    message: delivery.text,
                };
                let writes = vec![letter.write(self.broker.keys(), 1.0)];
                self.settle(worker, Settlement { tag: Some(delivery.tag), writes }, heard).await;
            }
            Step::Replay { which } => {
                let letters = self.broker.dead_letters(None, 10).await.unwrap().unwrap();
                if let Some(letter) = letters.get(which) {
                    self.broker.replay(&letter.id).await.unwrap();
                }
            }
            Step::Forgotten { worker } => {
                let Worker { owner, known, .. } = &self.workers[worker];
                let claims = self.claims(owner);
                let mut known: HashSet<String> = known.iter().map(|delivery| delivery.tag.clone()).collect();
                known.extend(self.workers[worker].untold.iter().filter_map(|settlement| settlement.tag.clone()));
                let forgotten = claims.forgotten(&known).await.unwrap();
                claims.restore(owner, &forgotten).await.unwrap();
            }
            Step::Crash { worker } => self.workers[worker] = self.start().await,
            Step::LookAtHeld { worker } => {
                let owner = self.workers[worker].owner.clone();
                let tags = self.broker.connection().smembers(self.broker.keys().held(&owner)).await.unwrap();
                self.seen.insert(worker, (owner, tags));
            }
            Step::RestoreSeen { worker } => {
                if let Some((owner, tags)) = self.seen.remove(&worker) {
                    self.claims("somebody").restore(&owner, &tags).await.unwrap();
                }
            }
            Step::RestoreOverdue { worker } => {
                let _: () = self.broker.connection().del(self.broker.keys().unjudged()).await.unwrap();
                self.claims(&self.workers[worker].owner).restore_visible(Duration::ZERO).await.unwrap();
            }
            Step::RestoreAsKombu => self.restore_as_kombu().await,
            Step::Record { worker } => {
                let Worker { owner, known, .. } = &self.workers[worker];
                let tags: Vec<String> = known.iter().map(|delivery| delivery.tag.clone()).collect();
                self.claims(owner).record(&tags).await.unwrap();
            }
            Step::KeepAlive { worker } => {
                let claims = self.claims(&self.workers[worker].owner);
                claims.keep_alive(Duration::from_secs(60), Duration::from_secs(60)).await.unwrap();
            }
        }
    }

    fn pick(&mut self, worker: usize, which: usize) -> Option<Delivery> {
        let known = &mut self.workers[worker].known;
        (!known.is_empty()).then(|| known.remove(which % known.len()))
    }

    async fn settle(&mut self, worker: usize, mut settlement: Settlement, heard: Heard) {
        let worker = &mut self.workers[worker];
        worker.consumer.exchange(std::slice::from_mut(&mut settlement), &[], 0).await.unwrap();
        if heard == Heard::Nothing {
            worker.untold.push(settlement);
        }
    }

    /// kombu.transport.redis: QoS.restore_by_tag: takes the message out of `unacked` and pushes it, in a transaction.
    async fn restore_as_kombu(&self) {
        let (mut connection, keys) = (self.broker.connection(), self.broker.keys());
        let held: HashMap<String, String> = connection.hgetall(keys.unacked()).await.unwrap();
        for (tag, entry) in held {
            let (mut message, _, queue): (serde_json::Value, String, String) = serde_json::from_str(&entry).unwrap();
            message["headers"]["redelivered"] = true.into();
            message["properties"]["delivery_info"]["redelivered"] = true.into();
            let priority = message["properties"]["priority"].as_i64().unwrap_or(0);
            let mut pipe = redis::pipe();
            pipe.atomic().zrem(keys.unacked_index(), &tag).ignore().hdel(keys.unacked(), &tag).ignore();
            pipe.rpush(keys.list(&queue, priority), message.to_string()).ignore();
            pipe.query_async::<()>(&mut connection).await.unwrap();
        }
    }

    /// What was fetched without the script may be known to its holder alone, dead or alive.
    async fn restore_held(&self) {
        let mut connection = self.broker.connection();
        let owners: Vec<String> = connection.zrange(self.broker.keys().owners(), 0, -1).await.unwrap();
        for owner in owners.iter().filter(|owner| **owner != self.workers[0].owner) {
            let tags: Vec<String> = connection.smembers(self.broker.keys().held(owner)).await.unwrap();
            self.claims("somebody").restore(owner, &tags).await.unwrap();
        }
    }

    /// All that still waits is worked on, by one worker that nothing happens to.
    pub(crate) async fn finish(&mut self) {
        let mut connection = self.broker.connection();
        for worker in 0..3 {
            self.take(&Step::SettleAgain { worker }).await;
        }
        self.restore_as_kombu().await;
        self.restore_held().await;
        let waiting: Vec<String> = connection.zrange(self.broker.keys().waiting(), 0, -1).await.unwrap();
        for tag in waiting {
            let _: () = connection.zadd(self.broker.keys().waiting(), tag, 1).await.unwrap();
        }
        self.take(&Step::ReturnDue { limit: 1000 }).await;
        for letter in self.broker.dead_letters(None, 1000).await.unwrap().unwrap() {
            self.broker.replay(&letter.id).await.unwrap();
        }
        for worker in &mut self.workers {
            worker.consumer.leave().await.unwrap();
        }
        self.workers[0] = self.start().await;
        loop {
            // Redis may wait for a while for those who crashed.
            self.restore_held().await;
            self.take(&Step::Fetch { worker: 0, room: 1000, heard: Heard::Answer }).await;
            if self.workers[0].known.is_empty() {
                break;
            }
            while !self.workers[0].known.is_empty() {
                self.take(&Step::Settle { worker: 0, which: 0, heard: Heard::Answer }).await;
            }
        }
    }

    /// Where each message is.
    async fn places(&self) -> BTreeMap<String, Vec<&'static str>> {
        let (mut connection, keys) = (self.broker.connection(), self.broker.keys());
        let mut places: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        let mut at = |place: &'static str, text: &str| places.entry(id(text)).or_default().push(place);
        for list in keys.lists("q") {
            let texts: Vec<String> = connection.lrange(list, 0, -1).await.unwrap();
            texts.iter().for_each(|text| at("queue", text));
        }
        let unacked: HashMap<String, String> = connection.hgetall(keys.unacked()).await.unwrap();
        for entry in unacked.values() {
            let entry: serde_json::Value = serde_json::from_str(entry).unwrap();
            at("unacked", &entry[0].to_string());
        }
        let fetched: Vec<String> = connection.keys(keys.key("petiole:fetched:*")).await.unwrap();
        for key in fetched {
            let held: Vec<String> = connection.lrange(key, 0, -1).await.unwrap();
            held.iter().for_each(|message| at("fetched", message));
        }
        let waiting: HashMap<String, String> = connection.hgetall(keys.waiting_messages()).await.unwrap();
        waiting.values().for_each(|entry| at("waiting", entry.split_once('\n').unwrap().1));
        for letter in self.broker.dead_letters(None, 1000).await.unwrap().unwrap() {
            at("dead letters", &letter.message);
        }
        for n in 0..self.sent {
            let id = format!("m{n}");
            if connection.exists(self.backend.task_key(&id)).await.unwrap() {
                places.entry(id).or_default().push("done");
            }
        }
        places
    }

    pub(crate) async fn check(&mut self) -> Result<(), String> {
        let (mut connection, keys) = (self.broker.connection(), self.broker.keys().clone());
        let places = self.places().await;
        for n in 0..self.sent {
            let id = format!("m{n}");
            match places.get(&id).map(Vec::as_slice) {
                Some([_]) => {}
                found => return Err(format!("{id} is in {:?}", found.unwrap_or_default())),
            }
        }
        let follows: Vec<String> = connection.lrange(keys.list("follows", 0), 0, -1).await.unwrap();
        for (id, found) in &places {
            let result: Option<String> = connection.get(self.backend.task_key(id)).await.unwrap();
            let count = follows.iter().filter(|of| *of == id).count();
            if count != usize::from(found[..] == ["done"]) {
                return Err(format!("{id} is {found:?}, and what follows was sent {count} times"));
            }
            if let Some(result) = result {
                let first = self.results.entry(id.clone()).or_insert_with(|| result.clone());
                if *first != result {
                    return Err(format!("the result of {id} was {first}, and became {result}"));
                }
            }
        }
        self.check_books().await
    }

    /// `unacked` and its index are of one mind, and no message has two holders.
    async fn check_books(&self) -> Result<(), String> {
        let (mut connection, keys) = (self.broker.connection(), self.broker.keys());
        let unacked: HashSet<String> = connection.hkeys(keys.unacked()).await.unwrap();
        let index: HashSet<String> = connection.zrange(keys.unacked_index(), 0, -1).await.unwrap();
        if unacked != index {
            return Err(format!("unacked holds {unacked:?}, its index {index:?}"));
        }
        let mut holders: HashMap<String, Vec<String>> = HashMap::new();
        for worker in &self.workers {
            let held: Vec<String> = connection.smembers(keys.held(&worker.owner)).await.unwrap();
            for tag in held.into_iter().filter(|tag| unacked.contains(tag) || tag.starts_with("fetched:")) {
                holders.entry(tag).or_default().push(worker.owner.clone());
            }
        }
        match holders.into_iter().find(|(_, owners)| owners.len() > 1) {
            Some((tag, owners)) => Err(format!("{tag} is held by {owners:?}")),
            None => Ok(()),
        }
    }

    pub(crate) async fn check_finished(&mut self) -> Result<(), String> {
        self.check().await?;
        let places = self.places().await;
        match places.iter().find(|(_, found)| found[..] != ["done"]) {
            Some((id, found)) => Err(format!("at the end {id} is in {found:?}")),
            None => Ok(()),
        }
    }
}

pub(crate) fn back(delivery: &Delivery) -> GiveBack {
    GiveBack { tag: delivery.tag.clone(), queue: delivery.queue.clone(), text: delivery.text.clone() }
}

pub(crate) fn id(text: &str) -> String {
    Envelope::parse(text.as_bytes()).unwrap().headers["id"].as_str().unwrap().to_owned()
}
