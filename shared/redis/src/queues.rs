//! Which queues there are, and what waits in them (celery.bin.amqp, kombu.transport.redis: Channel._size).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use petiole_protocol::pidbox;
use redis::{AsyncCommands, cmd, pipe};
use serde_json::Value;

use crate::broker::Broker;
use crate::error::RedisError;
use crate::keys::{Keys, SEP};
use crate::scripts;

/// Keys that one step of a scan looks at.
const STEP: usize = 5000;
/// A scan stops here: with more keys than this the queues of a rare exchange may be missed.
const STEPS: usize = 400;

/// The bindings of direct exchanges: which queue a message goes to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Bindings(HashMap<(String, String), Vec<String>>);

impl Bindings {
    /// All queues, in the order of their names.
    pub fn queues(&self) -> BTreeSet<String> {
        self.0.values().flatten().cloned().collect()
    }

    /// The queues of a message; without a binding the routing key is the queue's name.
    fn route(&self, exchange: &str, routing_key: &str) -> Vec<String> {
        let bound = self.0.get(&(exchange.to_owned(), routing_key.to_owned()));
        bound.cloned().unwrap_or_else(|| vec![routing_key.to_owned()])
    }
}

impl Broker {
    /// Every binding that a producer or a worker has declared, those of remote control and events left out. Scans the
    /// whole database: not to be called for each request.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn bindings(&self) -> Result<Bindings, RedisError> {
        let front = self.keys().binding("");
        let pattern = format!("{}*", front.replace(['*', '?', '[', '\\'], "?"));
        let (mut cursor, mut names) = (0_u64, BTreeSet::new());
        for _ in 0..STEPS {
            let mut scan = cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(STEP).arg("TYPE").arg("set");
            let (next, found): (u64, Vec<Vec<u8>>) = scan.query_async(&mut self.connection()).await?;
            names.extend(found.into_iter().filter_map(|name| String::from_utf8(name).ok()));
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        let exchanges: Vec<String> =
            names.iter().filter_map(|name| name.strip_prefix(&front)).map(str::to_owned).collect();
        let mut members = pipe();
        exchanges.iter().for_each(|exchange| {
            members.smembers(self.keys().binding(exchange));
        });
        let members: Vec<Vec<String>> = match exchanges.len() {
            0 => vec![],
            _ => members.query_async(&mut self.connection()).await?,
        };
        let mut bindings = Bindings::default();
        for (exchange, members) in exchanges.into_iter().zip(members) {
            for member in members {
                let mut fields = member.split(SEP);
                let (key, queue) = (fields.next().unwrap_or_default(), fields.nth(1).unwrap_or_default());
                if !queue.is_empty() && !internal(&exchange, queue) {
                    bindings.0.entry((exchange.clone(), key.to_owned())).or_default().push(queue.to_owned());
                }
            }
        }
        Ok(bindings)
    }

    /// The queues that Petiole's producers have ever sent to, known at once and without a scan.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn sent_queues(&self) -> Result<BTreeSet<String>, RedisError> {
        Ok(self.connection().smembers(sent_queues(self.keys())).await?)
    }

    /// The lengths of several queues' lists, by priority step.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn lengths(&self, queues: &[String]) -> Result<Vec<[u64; 4]>, RedisError> {
        if queues.is_empty() {
            return Ok(vec![]);
        }
        let mut lengths = pipe();
        for list in queues.iter().flat_map(|queue| self.keys().lists(queue)) {
            lengths.llen(list);
        }
        let flat: Vec<u64> = lengths.query_async(&mut self.connection()).await?;
        Ok(flat.as_chunks::<4>().0.to_vec())
    }

    /// How many messages of each queue are being worked on.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn unacked_by_queue(&self, bindings: &Bindings) -> Result<BTreeMap<String, u64>, RedisError> {
        let call = scripts::UNACKED_COUNT.key(self.keys().unacked());
        let counts: Vec<(Vec<u8>, u64)> = call.invoke_async(&mut self.connection()).await?;
        let mut queues = BTreeMap::new();
        for (tail, count) in counts {
            let text = format!("[null{}", String::from_utf8_lossy(&tail));
            let Ok(Value::Array(fields)) = serde_json::from_str(&text) else { continue };
            if let [_, Value::String(exchange), Value::String(key)] = &fields[..] {
                for queue in bindings.route(exchange, key) {
                    *queues.entry(queue).or_default() += count;
                }
            }
        }
        Ok(queues)
    }
}

/// The key of the queues that Petiole's producers have sent to. Petiole's own.
pub fn sent_queues(keys: &Keys) -> String {
    keys.key("petiole:queues")
}

/// Queues of remote control and of those who watch events.
fn internal(exchange: &str, queue: &str) -> bool {
    [pidbox::EXCHANGE, pidbox::REPLY_EXCHANGE, petiole_protocol::event::EXCHANGE].contains(&exchange)
        || queue.ends_with(".pidbox")
        || queue.starts_with("celeryev.")
}
