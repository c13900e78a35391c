//! The outbox's way to Redis when the connection breaks at the worst moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use redis::AsyncCommands;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::server::{start, start_with};

/// How many messages wait to be published.
pub(crate) const WAITING: &str = "SELECT count(*) FROM outbox WHERE published_at IS NULL";

/// Passes everything on to Redis, but cuts the first `cuts` connections that publish, before the answer comes back.
async fn cutting_proxy(redis: String, cuts: Arc<AtomicUsize>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let server = TcpStream::connect(&redis).await.unwrap();
            tokio::spawn(pass(client, server, cuts.clone()));
        }
    });
    port
}

async fn pass(mut client: TcpStream, mut server: TcpStream, cuts: Arc<AtomicUsize>) {
    let (mut asked, mut answered, mut cut) = (vec![0; 65_536], vec![0; 65_536], false);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(length @ 1..) = read else { return };
                // the script's arguments: the message's envelope
                let publishes = asked[..length].windows(13).any(|part| part == b"body_encoding");
                cut = cut || publishes && cuts.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
                if server.write_all(&asked[..length]).await.is_err() { return }
            }
            read = server.read(&mut answered) => {
                let Ok(length @ 1..) = read else { return };
                if cut { return }
                if client.write_all(&answered[..length]).await.is_err() { return }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_of_redis_does_not_double_a_message() {
    let url = std::env::var("TEST_REDIS_URL").expect("TEST_REDIS_URL is not set: run docker/test.sh");
    let (front, database) = url.rsplit_once('/').unwrap();
    let (login, host) = front
        .rsplit_once('@')
        .map_or(("", front.trim_start_matches("redis://")), |(l, h)| (l.trim_start_matches("redis://"), h));
    let cuts = Arc::new(AtomicUsize::new(3));
    let port = cutting_proxy(host.to_owned(), cuts.clone()).await;
    let at = if login.is_empty() { String::new() } else { format!("{login}@") };
    let server = start_with(&[], &format!("redis://{at}127.0.0.1:{port}/{database}")).await;
    let mut tasks = vec![];
    for n in 0..5 {
        let body = json!({"type": "document.ingest", "data": {"text": format!("Note {n}.")}});
        let accepted = server.post("/v1/events", &body).await;
        assert_eq!(accepted.status, 202);
        tasks.push(accepted.json["task_id"].as_str().unwrap().to_owned());
    }
    let begun = Instant::now();
    let mut connection = redis::Client::open(url.as_str()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let mut sql = server.database().await;
    while sea_orm::sqlx::query_scalar::<_, i64>(WAITING).fetch_one(&mut sql).await.unwrap() > 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "the outbox is not empty");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(cuts.load(Ordering::SeqCst), 0, "no answer was lost");
    let queue: Vec<String> = connection.lrange("celery", 0, -1).await.unwrap();
    for task in tasks {
        // the task's id stands in a message several times
        let copies = queue.iter().filter(|message| message.contains(&task)).count();
        assert_eq!(copies, 1, "task {task} is in its queue {copies} times");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_redis_loses_is_published_again() {
    let server = start().await;
    let body = json!({"type": "document.ingest", "data": {"text": "Note."}});
    let accepted = server.post("/v1/events", &body).await;
    let task_id = accepted.json["task_id"].as_str().unwrap();
    crate::tasks::message_of(&server, "celery", task_id).await;
    let mut sql = server.database().await;
    while sea_orm::sqlx::query_scalar::<_, i64>(WAITING).fetch_one(&mut sql).await.unwrap() > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The message, its mark and the count go, as with a restart from an older file.
    let mut redis = crate::tasks::connection(&server).await;
    let queue: Vec<String> = redis.lrange("celery", 0, -1).await.unwrap();
    let text = queue.iter().find(|message| message.contains(task_id)).unwrap();
    let mut pipe = redis::pipe();
    pipe.atomic().lrem("celery", 1, text).del(format!("petiole:sent:{task_id}")).del("petiole:outbox");
    pipe.query_async::<()>(&mut redis).await.unwrap();
    let found = crate::tasks::message_of(&server, "celery", task_id).await;
    assert_eq!(found["headers"]["task"], "process_incoming_event");
}
