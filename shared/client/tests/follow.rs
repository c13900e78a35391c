//! Following a task, against a real Redis.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use petiole_client::{Client, ClientConfig, Follow, Update};
use serde_json::json;
use uuid::Uuid;

const KEPT: Duration = Duration::from_secs(60);

fn client() -> Client {
    let url = std::env::var("TEST_REDIS_URL").expect("TEST_REDIS_URL is not set: run docker/test.sh");
    Client::new(ClientConfig::new(&url, &url)).unwrap()
}

async fn say(client: &Client, id: &str, attempt: &str, texts: &[&str]) {
    let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
    client.backend().add_tokens(id, attempt, &texts, KEPT).await.unwrap();
}

/// Stores and announces the result, as Celery's backend does.
async fn end(client: &Client, id: &str) {
    let meta = json!({"status": "SUCCESS", "result": 7, "task_id": id, "traceback": null, "children": []}).to_string();
    let key = client.backend().task_key(id);
    let mut pipe = redis::pipe();
    pipe.atomic().set_ex(&key, &meta, 60).ignore().publish(&key, &meta).ignore();
    pipe.exec_async(&mut client.backend().connection()).await.unwrap();
}

async fn next(follow: &mut Follow) -> Option<String> {
    let next = tokio::time::timeout(Duration::from_secs(3), follow.next()).await.expect("nothing came in time");
    next.map(|update| match update {
        Update::Token(text) => text,
        Update::End(meta) => format!("END {}", meta.result),
    })
}

#[tokio::test]
async fn words_come_as_they_are_said_and_then_the_end() {
    let (client, id) = (client(), Uuid::new_v4().to_string());
    let mut follow = client.follow(&id).await.unwrap();
    say(&client, &id, "a", &["one"]).await;
    assert_eq!(next(&mut follow).await.as_deref(), Some("one"));
    say(&client, &id, "a", &["two", "", "ü🦀\n"]).await;
    for expected in ["two", "", "ü🦀\n"] {
        assert_eq!(next(&mut follow).await.as_deref(), Some(expected));
    }
    let nothing = tokio::time::timeout(Duration::from_millis(100), follow.next()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    say(&client, &id, "a", &["three"]).await;
    end(&client, &id).await;
    assert_eq!(next(&mut follow).await.as_deref(), Some("three"));
    assert_eq!(next(&mut follow).await.as_deref(), Some("END 7"));
    assert_eq!(next(&mut follow).await, None);
}

#[tokio::test]
async fn who_comes_late_gets_the_whole() {
    let (client, id) = (client(), Uuid::new_v4().to_string());
    let words: Vec<String> = (0..2_500).map(|n| format!("{n} ")).collect();
    for part in words.chunks(500) {
        client.backend().add_tokens(&id, "a", part, KEPT).await.unwrap();
    }
    end(&client, &id).await;
    let (mut follow, mut heard) = (client.follow(&id).await.unwrap(), Vec::new());
    while let Some(text) = next(&mut follow).await {
        heard.push(text);
    }
    assert_eq!(heard.pop().as_deref(), Some("END 7"));
    assert_eq!(heard, words);
}

#[tokio::test]
async fn a_second_attempt_does_not_say_it_again() {
    let (client, id) = (client(), Uuid::new_v4().to_string());
    let mut follow = client.follow(&id).await.unwrap();
    say(&client, &id, "a", &["half an"]).await;
    assert_eq!(next(&mut follow).await.as_deref(), Some("half an"));
    client.backend().clear_tokens(&id).await.unwrap();
    say(&client, &id, "b", &["a whole", " answer"]).await;
    end(&client, &id).await;
    assert_eq!(next(&mut follow).await.as_deref(), Some("END 7"));
    // who did not hear the first one hears the second
    let mut late = client.follow(&id).await.unwrap();
    assert_eq!(next(&mut late).await.as_deref(), Some("a whole"));
}
