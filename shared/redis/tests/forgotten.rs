//! Redis has forgotten its scripts. Apart from the other tests, which it would hold up.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "transport/fixture.rs"]
#[allow(dead_code)]
mod fixture;

use petiole_redis::settle::{Settled, Settlement};

use fixture::Fixture;

#[tokio::test]
async fn scripts_that_redis_has_forgotten_are_loaded_and_both_are_settled() {
    let f = Fixture::new();
    let queues = ["q".to_owned()];
    for n in 0..3 {
        f.send("q", 0, &format!("{n}")).await;
    }
    let mut consumer = f.consumer("w").await;
    let held = consumer.exchange(&mut [], &queues, 2).await.unwrap().deliveries;
    let [mut one, mut two] = [&held[0], &held[1]].map(|delivery| [Settlement::acknowledge(&delivery.tag)]);
    redis::cmd("SCRIPT").arg("FLUSH").query_async::<()>(&mut f.broker.connection()).await.unwrap();
    let first = consumer.start(&one, &queues, 1).await.unwrap();
    let second = consumer.start(&two, &queues, 1).await.unwrap();
    let mut fetched = 0;
    for (started, settlement) in [(first, &mut one), (second, &mut two)] {
        let exchange = consumer.finish(started, settlement).await.unwrap();
        assert!(matches!(exchange.settled[..], [Settled::Done]), "{exchange:?}");
        fetched += exchange.deliveries.len();
    }
    fetched += consumer.exchange(&mut [], &queues, 1).await.unwrap().deliveries.len();
    assert_eq!((fetched, f.counts("q").await), (1, (0, 1, 1)));
}
