//! What happens when somebody empties a database. Redis tells all who listen, also in other databases: no other test runs beside.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use petiole_protocol::TaskMessage;
use petiole_redis::consumer::Consumer;
use petiole_redis::idle::Sign;
use petiole_redis::settle::{Settled, Settlement};
use petiole_redis::{Backend, Broker, Connector};
use redis::AsyncCommands;

#[tokio::test]
async fn who_waits_for_a_message_still_gets_it_and_settles_it() {
    let url = std::env::var("TEST_REDIS_URL").expect("TEST_REDIS_URL is not set: run docker/test.sh");
    let url = format!("{}/14", url.trim_end_matches(|sign: char| sign.is_ascii_digit()).trim_end_matches('/'));
    let connector = Connector::new(&url).unwrap().with_prefix(&format!("test:{}:", uuid::Uuid::new_v4()));
    let (broker, backend) = (Broker::new(&connector).unwrap(), Backend::new(&connector).unwrap());
    let mut consumer = Consumer::connect(&broker, &backend, "w").await.unwrap();
    let queues = ["q".to_owned()];
    assert!(consumer.exchange(&mut [], &queues, 4).await.unwrap().drained);
    consumer.begin_waiting(&queues).await.unwrap();
    assert!(consumer.given().unwrap().is_none());
    tokio::time::sleep(Duration::from_millis(50)).await;
    let () = redis::cmd("FLUSHDB").query_async(&mut broker.connection()).await.unwrap();
    let sign = tokio::time::timeout(Duration::from_secs(10), consumer.wait()).await.unwrap().unwrap();
    assert!(matches!(sign, Sign::Changed), "{sign:?}");
    consumer.exchange(&mut [], &queues, 2).await.unwrap();
    let held: Vec<String> = broker.connection().smembers(broker.keys().held("w")).await.unwrap();
    assert_eq!(held.len(), 8, "the places are claimed again");
    let mut message = TaskMessage::new("one", "1", vec![], Default::default());
    message.properties.routing_key = "q".into();
    broker.publish("q", 0, &message.encode("tag".to_owned()).to_text()).await.unwrap();
    let sign = tokio::time::timeout(Duration::from_secs(10), consumer.wait()).await.unwrap().unwrap();
    let Sign::Message(one, _) = sign else { panic!("{sign:?}") };
    assert!(held.contains(&one.tag));
    let settled = consumer.exchange(&mut [Settlement::acknowledge(&one.tag)], &queues, 4).await.unwrap().settled;
    assert!(matches!(settled[..], [Settled::Done]), "{settled:?}");
    // Also when it did not wait just then: it is told before it waits the next time.
    let () = redis::cmd("FLUSHDB").query_async(&mut broker.connection()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!consumer.begin_waiting(&queues).await.unwrap());
    assert!(consumer.exchange(&mut [], &queues, 4).await.unwrap().drained);
    assert!(consumer.begin_waiting(&queues).await.unwrap());
    broker.publish("q", 0, &message.encode("tag".to_owned()).to_text()).await.unwrap();
    let sign = tokio::time::timeout(Duration::from_secs(10), consumer.wait()).await.unwrap().unwrap();
    let Sign::Message(one, _) = sign else { panic!("{sign:?}") };
    let settled = consumer.exchange(&mut [Settlement::acknowledge(&one.tag)], &queues, 4).await.unwrap().settled;
    assert!(matches!(settled[..], [Settled::Done]), "{settled:?}");
}
