//! PostgreSQL away, hanging, back.

use std::time::{Duration, Instant};

use petiole_storage::{Storage, StorageError};
use uuid::Uuid;

use crate::database::{message, new_event, ready};

#[tokio::test]
async fn away_at_the_start_is_unavailable_not_fatal() {
    let storage = Storage::connect("postgres://user:hidden-word@127.0.0.1:9/none", 2).await.unwrap();
    let begun = Instant::now();
    let error = storage.event(Uuid::now_v7()).await.unwrap_err();
    assert!(matches!(error, StorageError::Unavailable(_)), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(8));
    assert!(!format!("{error:?}").contains("hidden-word"));
}

#[tokio::test]
async fn a_server_that_never_answers_is_unavailable_in_time() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgres://user:word@{}/none", silent.local_addr().unwrap());
    let storage = Storage::connect(&url, 2).await.unwrap();
    let begun = Instant::now();
    assert!(matches!(storage.ping().await, Err(StorageError::Unavailable(_))));
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_url_that_is_none_is_refused_without_being_shown() {
    let error = Storage::connect("mysql://user:hidden-word@host/db", 2).await.unwrap_err();
    assert!(matches!(error, StorageError::Invalid { field: "DATABASE_URL", .. }), "{error:?}");
    assert!(!format!("{error:?}").contains("hidden-word"));
}

#[tokio::test]
async fn broken_connections_are_replaced() {
    use sea_orm::sqlx::{Connection, Executor, PgConnection};
    let database = ready().await;
    database.storage.ping().await.unwrap();
    let mut other = PgConnection::connect(&database.url).await.unwrap();
    other
        .execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
        .await
        .unwrap();
    database.storage.ping().await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_busy_is_not_away() {
    let database = ready().await;
    let storage = Storage::connect(&database.url, 1).await.unwrap();
    storage.create_event(new_event(), message("m"), None).await.unwrap();
    // longer than a server may take to give a connection
    let holds = tokio::spawn({
        let storage = storage.clone();
        async move {
            let publish = async |_| {
                tokio::time::sleep(Duration::from_secs(6)).await;
                Ok(vec![])
            };
            storage.relay(10, publish).await.unwrap()
        }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let begun = Instant::now();
    storage.create_event(new_event(), message("m"), None).await.unwrap();
    assert!(begun.elapsed() > Duration::from_secs(4), "it had to wait");
    assert_eq!(holds.await.unwrap().published, 1);
}
