//! Commands about the queues that are consumed (celery.worker.control: add_consumer, cancel_consumer, active_queues).

use petiole_protocol::Map;
use serde_json::{Value, json};

use super::{Refusal, ok, required};
use crate::config::DIRECT_EXCHANGE;
use crate::worker::Worker;

/// The queues that are consumed, as kombu describes a queue.
pub(super) fn active_queues(worker: &Worker) -> Value {
    let row = |name: &String| {
        let Exchange { exchange, kind, routing_key } = worker.exchange_of(name);
        json!({
            "name": name,
            "exchange": {
                "name": exchange, "type": kind, "arguments": null, "durable": true, "passive": false, "auto_delete": false,
                "delivery_mode": null, "no_declare": false,
            },
            "routing_key": routing_key, "queue_arguments": null, "binding_arguments": null, "consumer_arguments": null,
            "durable": true, "exclusive": false, "auto_delete": false, "no_ack": false, "alias": null, "bindings": [],
            "no_declare": null, "expires": null, "message_ttl": null, "max_length": null, "max_length_bytes": null,
            "max_priority": null,
        })
    };
    worker.queues().iter().map(row).collect()
}

fn queue(arguments: &Map, command: &str) -> Result<String, Refusal> {
    required(arguments, "queue", command)?
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| "TypeError('queue must be text')".into())
}

/// What a queue is bound to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Exchange {
    pub(crate) exchange: String,
    /// `direct` or `topic`; a fanout exchange has no queues that last.
    pub(crate) kind: String,
    pub(crate) routing_key: String,
}

impl Exchange {
    /// An exchange and a routing key of the queue's own name.
    pub(crate) fn own(queue: &str) -> Self {
        Self { exchange: queue.to_owned(), kind: "direct".to_owned(), routing_key: queue.to_owned() }
    }

    /// That of a worker's own queue: one exchange for all of them, by the workers' names.
    pub(crate) fn direct(node: &str) -> Self {
        Self { exchange: DIRECT_EXCHANGE.to_owned(), kind: "direct".to_owned(), routing_key: node.to_owned() }
    }

    /// The regular expression for the routing keys, as kombu writes it; none for a direct exchange.
    pub(crate) fn pattern(&self) -> String {
        if self.kind != "topic" {
            return String::new();
        }
        let word = |word: &str| match word {
            "*" => r"[^\.]+".to_owned(),
            "#" => ".*?".to_owned(),
            other => regex::escape(other),
        };
        format!("^{}$", self.routing_key.split('.').map(word).collect::<Vec<_>>().join(r"\."))
    }
}

/// One queue more. The settings of one that is known stay as they are.
pub(super) async fn add_consumer(worker: &Worker, arguments: &Map) -> Result<Value, Refusal> {
    let queue = queue(arguments, "add_consumer")?;
    let text = |name: &str| arguments.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    if !worker.queues().contains(&queue) && text("exchange").is_some_and(|exchange| exchange != queue) {
        let own = Exchange::own(&queue);
        let bound = Exchange {
            exchange: text("exchange").map_or(own.exchange, str::to_owned),
            kind: text("exchange_type").map_or(own.kind, str::to_owned),
            routing_key: text("routing_key").map_or(own.routing_key, str::to_owned),
        };
        let (exchange, pattern) = (&bound.exchange, bound.pattern());
        // A topic's routing key stands in the pattern and in the key, as kombu writes it.
        let broker = worker.client.broker();
        if let Err(error) = broker.bind(exchange, &bound.routing_key, &pattern, &queue).await {
            return Err(super::exception("OperationalError", error.to_string()));
        }
        worker.bind_to(&queue, bound);
    }
    worker.change_queues(|queues| {
        if !queues.contains(&queue) {
            queues.push(queue.clone());
        }
    });
    Ok(ok(format!("add consumer {queue}")))
}

/// One queue less.
pub(super) fn cancel_consumer(worker: &Worker, arguments: &Map) -> Result<Value, Refusal> {
    let queue = queue(arguments, "cancel_consumer")?;
    worker.change_queues(|queues| queues.retain(|known| *known != queue));
    Ok(ok(format!("no longer consuming from {queue}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_as_kombu_writes_them() {
        let topic =
            |key: &str| Exchange { kind: "topic".into(), routing_key: key.into(), ..Exchange::own("q") }.pattern();
        assert_eq!((topic("r.#").as_str(), topic("*.b").as_str()), (r"^r\..*?$", r"^[^\.]+\.b$"));
        assert_eq!(Exchange::own("q").pattern(), "");
    }
}
