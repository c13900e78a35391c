//! Requests that are under way together.

use std::time::Duration;

use petiole_redis::settle::{Settled, Settlement};

use crate::fixture::{Fixture, names};

/// Fetches two, and starts two requests, each of which acknowledges one of them and fetches two more.
#[tokio::test]
async fn redis_goes_on_with_the_next_before_the_first_answer_is_read() {
    let f = Fixture::new();
    let queues = ["a".to_owned(), "b".to_owned()];
    for n in 0..6 {
        f.send(["a", "b"][n % 2], 0, &format!("{n}")).await;
    }
    let mut consumer = f.consumer("w").await;
    let held = consumer.exchange(&mut [], &queues, 2).await.unwrap().deliveries;
    assert_eq!(names(&held).len(), 2);
    let [mut one, mut two] = [&held[0], &held[1]].map(|delivery| [Settlement::acknowledge(&delivery.tag)]);
    let first = consumer.start(&one, &queues, 2).await.unwrap();
    assert!(consumer.goes_beside(&first));
    let second = consumer.start(&two, &queues, 2).await.unwrap();
    for _ in 0..200 {
        if f.counts("a").await.0 + f.counts("b").await.0 == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(f.counts("a").await, (0, 4, 4), "both are done, and none was read");
    let first = consumer.finish(first, &mut one).await.unwrap();
    let second = consumer.finish(second, &mut two).await.unwrap();
    let mut of = vec![];
    for exchange in [&first, &second] {
        assert!(matches!(exchange.settled[..], [Settled::Done]) && exchange.looked);
        assert_eq!(exchange.deliveries.len(), 2);
        of.extend(exchange.deliveries.iter().map(|delivery| delivery.queue.as_str()).zip(names(&exchange.deliveries)));
    }
    assert!(!first.drained && second.drained);
    // Each is of the queue that it was sent to, whosever turn it was.
    of.sort();
    assert!(of.iter().all(|(queue, name)| *queue == queues[name.parse::<usize>().unwrap() % 2]), "{of:?}");
}
