//! A database of its own for each test, dropped at its end, whatever the end is.

use std::str::FromStr;

use petiole_storage::{CreatedDocument, EmbeddingModel, NewDocument, NewEvent, NewOutboxMessage, OnDuplicate, Storage};
use sea_orm::sqlx::postgres::{PgConnectOptions, PgConnection};
use sea_orm::sqlx::{AssertSqlSafe, Connection, Executor};
use serde_json::json;
use uuid::Uuid;

pub(crate) struct TestDatabase {
    pub(crate) storage: Storage,
    pub(crate) url: String,
    server: PgConnectOptions,
    name: String,
}

pub(crate) fn model() -> EmbeddingModel {
    EmbeddingModel { name: "test-model".into(), dimensions: 3 }
}

/// An empty database.
pub(crate) async fn empty() -> TestDatabase {
    let base = std::env::var("TEST_DATABASE_URL")
        .expect("TEST_DATABASE_URL is not set: run docker/test.sh, which starts what the tests need");
    let server = PgConnectOptions::from_str(&base).expect("TEST_DATABASE_URL is a URL");
    let name = format!("test_{}", Uuid::now_v7().simple());
    let mut connection = PgConnection::connect_with(&server).await.expect("PostgreSQL answers at TEST_DATABASE_URL");
    connection.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
    let (front, _) = base.rsplit_once('/').expect("TEST_DATABASE_URL names a database");
    let url = format!("{front}/{name}");
    TestDatabase { storage: Storage::connect(&url, 8).await.unwrap(), url, server, name }
}

/// A database with the schema and a model of three dimensions.
pub(crate) async fn ready() -> TestDatabase {
    let database = empty().await;
    database.storage.migrate().await.unwrap();
    database.storage.use_embedding_model(&model()).await.unwrap();
    database
}

impl TestDatabase {
    /// Does something to it that no program does.
    pub(crate) async fn execute(&self, statement: &str) {
        let mut connection = PgConnection::connect(&self.url).await.unwrap();
        connection.execute(AssertSqlSafe(statement.to_owned())).await.unwrap();
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        // a runtime of its own: this also runs while a test panics
        let dropped = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
                let mut connection = PgConnection::connect_with(&server).await.unwrap();
                connection.execute(AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)"))).await.unwrap();
            });
        });
        let _ = dropped.join();
    }
}

pub(crate) fn new_event() -> NewEvent {
    NewEvent {
        id: Uuid::now_v7(),
        kind: "document.ingest".into(),
        data: json!({"text": "x", "big": 123_456_789_012_345_678_901_234_567_890_f64.to_string()}),
        task_id: Uuid::new_v4().to_string(),
    }
}

pub(crate) fn message(text: &str) -> NewOutboxMessage {
    NewOutboxMessage { queue: "celery".into(), priority: 3, task_id: Uuid::new_v4().to_string(), message: text.into() }
}

/// Stores a document as the API does.
pub(crate) async fn store(storage: &Storage, new: NewDocument) {
    let created = storage.create_document(new, message("m"), OnDuplicate::Store, None).await.unwrap();
    assert_eq!(created, CreatedDocument::New);
}

pub(crate) fn new_document(collection: &str, title: &str, metadata: serde_json::Value) -> NewDocument {
    NewDocument {
        id: Uuid::now_v7(),
        title: Some(title.into()),
        collection: collection.into(),
        metadata: metadata.as_object().unwrap().clone(),
        language: "english".into(),
        media_type: "text/plain".into(),
        content: format!("The text of {title}."),
        file: None,
        task_id: Uuid::new_v4().to_string(),
    }
}
