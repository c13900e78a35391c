//! What the tests share.

use petiole_protocol::TaskMessage;
use petiole_redis::consumer::{Consumer, Delivery};
use petiole_redis::{Backend, Broker, Connector};
use redis::AsyncCommands;

pub(crate) struct Fixture {
    pub(crate) connector: Connector,
    pub(crate) broker: Broker,
    pub(crate) backend: Backend,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let url = std::env::var("TEST_REDIS_URL").expect("TEST_REDIS_URL is not set: run docker/test.sh");
        let prefix = format!("test:{}:", uuid::Uuid::new_v4());
        let connector = Connector::new(&url).unwrap().with_prefix(&prefix);
        Self { broker: Broker::new(&connector).unwrap(), backend: Backend::new(&connector).unwrap(), connector }
    }

    pub(crate) async fn send(&self, queue: &str, priority: i64, name: &str) {
        let mut message = TaskMessage::new(name, uuid::Uuid::new_v4().to_string(), vec![], Default::default());
        message.properties.priority = priority;
        message.properties.routing_key = queue.into();
        let text = message.encode(uuid::Uuid::new_v4().to_string()).to_text();
        self.broker.publish(queue, priority, &text).await.unwrap();
    }

    pub(crate) async fn consumer(&self, owner: &str) -> Consumer {
        Consumer::connect(&self.broker, &self.backend, owner).await.unwrap()
    }

    /// Fetches for a worker.
    pub(crate) async fn fetch(&self, owner: &str, room: usize) -> Vec<Delivery> {
        self.consumer(owner).await.exchange(&mut [], &["q".into()], room).await.unwrap().deliveries
    }

    /// Messages in the queue, in `unacked`, in its index.
    pub(crate) async fn counts(&self, queue: &str) -> (u64, u64, u64) {
        let mut connection = self.broker.connection();
        let keys = self.broker.keys();
        let lengths: u64 = self.broker.queue_lengths(queue).await.unwrap().iter().sum();
        (lengths, connection.hlen(keys.unacked()).await.unwrap(), connection.zcard(keys.unacked_index()).await.unwrap())
    }
}

pub(crate) fn names(deliveries: &[Delivery]) -> Vec<String> {
    let name = |delivery: &Delivery| {
        let envelope = petiole_protocol::Envelope::parse(delivery.text.as_bytes()).unwrap();
        envelope.headers["task"].as_str().unwrap().to_owned()
    };
    deliveries.iter().map(name).collect()
}
