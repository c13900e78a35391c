//! The same for what takes several scripts, when many do it at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use petiole_protocol::{State, TaskMessage, TaskMeta};
use petiole_redis::claims::Claims;
use petiole_redis::consumer::Consumer;
use petiole_redis::handover::Push;
use petiole_redis::idle::Sign;
use petiole_redis::settle::{Settlement, Write};
use petiole_redis::{Backend, Broker, Connector};
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use redis::AsyncCommands;
use serde_json::json;

use crate::world::{back, id};

const MESSAGES: usize = 600;

/// Fetches, and settles, gives back or forgets what it got, again and again under new names.
async fn work(broker: Broker, backend: Backend, seed: u64, over: Arc<AtomicBool>) {
    let mut chance = StdRng::seed_from_u64(seed);
    let mut start = 0;
    while !over.load(Ordering::Relaxed) {
        start += 1;
        let owner = format!("w{seed}:{start}");
        let mut consumer = Consumer::connect(&broker, &backend, &owner).await.unwrap();
        let claims = Claims::new(broker.clone(), &owner);
        // It is soon taken for dead, whatever it does.
        claims.keep_alive(Duration::from_millis(chance.random_range(1..40)), Duration::from_secs(60)).await.unwrap();
        for _ in 0..chance.random_range(1..12) {
            let found = consumer.exchange(&mut [], &["q".into()], chance.random_range(1..20)).await.unwrap();
            let mut got = found.deliveries;
            if found.drained {
                consumer.begin_waiting(&["q".into()]).await.unwrap();
                let patience = Duration::from_millis(chance.random_range(0..60));
                if let Ok(Ok(Sign::Message(given, _))) = tokio::time::timeout(patience, consumer.wait()).await {
                    got.push(given);
                }
            }
            tokio::time::sleep(Duration::from_millis(chance.random_range(0..30))).await;
            for delivery in got {
                match chance.next_u32() % 10 {
                    0 => continue,
                    1 => drop(
                        broker.give_back(&owner, petiole_redis::broker::Side::Next, &[back(&delivery)]).await.unwrap(),
                    ),
                    _ => {
                        let id = id(&delivery.text);
                        let meta = TaskMeta::new(&id, &State::Success, json!(format!("{owner}")));
                        let writes = vec![
                            Write::Push(Box::new(Push::text(broker.keys(), "follows", 0, id))),
                            Write::result(&backend, &meta, Duration::from_secs(600)),
                        ];
                        let mut settlement = Settlement { tag: Some(delivery.tag), writes };
                        consumer.exchange(std::slice::from_mut(&mut settlement), &[], 0).await.unwrap();
                        consumer.exchange(&mut [settlement], &[], 0).await.unwrap();
                    }
                }
            }
        }
    }
}

/// Gives back what the dead hold, as every living worker does.
async fn restore(broker: Broker, seed: u64, over: Arc<AtomicBool>) {
    let claims = Claims::new(broker, &format!("restorer{seed}"));
    while !over.load(Ordering::Relaxed) {
        let alive = claims.keep_alive(Duration::from_secs(60), Duration::from_secs(60)).await.unwrap();
        claims.restore_dead(&alive.dead).await.unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_restore_at_once_lose_and_double_nothing() {
    let url = std::env::var("TEST_REDIS_URL").expect("TEST_REDIS_URL is not set: run docker/test.sh");
    let connector = Connector::new(&url).unwrap().with_prefix(&format!("test:{}:", uuid::Uuid::new_v4()));
    let (broker, backend) = (Broker::new(&connector).unwrap(), Backend::new(&connector).unwrap());
    let over = Arc::new(AtomicBool::new(false));
    let send = async |n: usize| {
        // Two of three are so long that what comes next is fetched without the script.
        let args = if n.is_multiple_of(3) { vec![] } else { vec![json!("x".repeat(20_000))] };
        let mut message = TaskMessage::new("t", format!("m{n}"), args, Default::default());
        message.properties.routing_key = "q".into();
        broker.publish("q", 0, &message.encode(uuid::Uuid::new_v4().to_string()).to_text()).await.unwrap();
    };
    for n in 0..MESSAGES / 2 {
        send(n).await;
    }
    let mut busy = vec![];
    for seed in 0..4 {
        busy.push(tokio::spawn(work(broker.clone(), backend.clone(), seed, over.clone())));
        busy.push(tokio::spawn(restore(broker.clone(), seed, over.clone())));
    }
    // The others come one by one, when all wait for them.
    for n in MESSAGES / 2..MESSAGES {
        send(n).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut connection = broker.connection();
    let done = async |connection: &mut petiole_redis::Commands| -> usize {
        let ids: Vec<String> = (0..MESSAGES).map(|n| backend.task_key(&format!("m{n}"))).collect();
        let stored: Vec<Option<String>> = redis::cmd("MGET").arg(ids).query_async(connection).await.unwrap();
        stored.iter().flatten().count()
    };
    for _ in 0..600 {
        if done(&mut connection).await == MESSAGES {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    over.store(true, Ordering::Relaxed);
    for task in busy {
        task.await.unwrap();
    }
    let follows: Vec<String> = connection.lrange(broker.keys().list("follows", 0), 0, -1).await.unwrap();
    let left: u64 = broker.queue_lengths("q").await.unwrap().iter().sum();
    let unacked: u64 = connection.hlen(broker.keys().unacked()).await.unwrap();
    let fetched: Vec<String> = connection.keys(broker.keys().key("petiole:fetched:*")).await.unwrap();
    assert_eq!((done(&mut connection).await, follows.len(), left, unacked), (MESSAGES, MESSAGES, 0, 0));
    assert!(fetched.is_empty(), "{fetched:?}");
}
