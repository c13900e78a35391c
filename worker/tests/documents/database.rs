//! A database of its own for each test, dropped at its end, and the services that tasks work with.

use std::str::FromStr;
use std::sync::Arc;

use petiole_ai::{Chunker, Embedder, embedder_from};
use petiole_settings::{AiSettings, Reader};
use petiole_storage::{Filter, NewDocument, NewEvent, NewOutboxMessage, OnDuplicate, SearchMode, SearchQuery, Storage};
use petiole_worker::Services;
use petiole_worker::services::Language;
use sea_orm::sqlx::postgres::{PgConnectOptions, PgConnection};
use sea_orm::sqlx::{AssertSqlSafe, Connection, Executor};
use serde_json::{Map, Value};
use uuid::Uuid;

pub(crate) struct World {
    pub(crate) services: Services,
    server: PgConnectOptions,
    name: String,
}

/// A database with the schema, and the real model.
pub(crate) async fn world() -> World {
    let ai = ai_settings(&[]);
    let model = petiole_ai::local::embedding_model_dir(&ai.model_dir);
    assert!(model.is_ok(), "this test needs the embedding model: run docker/fetch-models.sh");
    world_with(embedder_from(&ai).unwrap(), Chunker::from_settings(&ai).unwrap()).await
}

/// The same with a language model on this server.
pub(crate) async fn world_with_language(url: &str) -> World {
    let mut world = world().await;
    let base = format!("{url}/v1");
    let ai = [("LANGUAGE_MODEL", "tiny-chat"), ("OPENAI_BASE_URL", base.as_str()), ("AI_MAX_RETRIES", "1")];
    world.services.language = Language::from_settings(&ai_settings(&ai)).unwrap();
    world
}

/// A database with the schema, and this model.
pub(crate) async fn world_with(embedder: Arc<dyn Embedder>, chunker: Chunker) -> World {
    let base = std::env::var("TEST_DATABASE_URL")
        .expect("TEST_DATABASE_URL is not set: run docker/test.sh, which starts what the tests need");
    let server = PgConnectOptions::from_str(&base).expect("TEST_DATABASE_URL is a URL");
    let name = format!("test_{}", Uuid::now_v7().simple());
    let mut connection = PgConnection::connect_with(&server).await.expect("PostgreSQL answers at TEST_DATABASE_URL");
    connection.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
    let (front, _) = base.rsplit_once('/').expect("TEST_DATABASE_URL names a database");
    let storage = Storage::connect(&format!("{front}/{name}"), 8).await.unwrap();
    storage.migrate().await.unwrap();
    let services = Services::new(storage, embedder, chunker, Language::from_settings(&ai_settings(&[])).unwrap());
    services.declare_model().await.unwrap();
    World { services, server, name }
}

pub(crate) fn ai_settings(more: &[(&str, &str)]) -> AiSettings {
    let here = ["MODEL_DIR", "XDG_CACHE_HOME", "HOME"];
    let environment = here.iter().filter_map(|name| Some((*name, std::env::var(name).ok()?)));
    let more = more.iter().map(|(name, value)| (*name, (*value).to_owned()));
    let mut reader = Reader::from_map(environment.chain(more));
    let settings = AiSettings::read(&mut reader);
    reader.finish().unwrap();
    settings
}

impl World {
    pub(crate) fn storage(&self) -> &Storage {
        &self.services.storage
    }

    /// Stores a document as the API does.
    pub(crate) async fn document(&self, text: &str, media_type: &str) -> Uuid {
        let id = Uuid::now_v7();
        let new = NewDocument {
            id,
            title: Some("a test".into()),
            collection: "default".into(),
            metadata: Map::new(),
            language: "english".into(),
            media_type: media_type.into(),
            content: text.into(),
            file: None,
            task_id: Uuid::new_v4().to_string(),
        };
        self.storage().create_document(new, message(), OnDuplicate::Store, None).await.unwrap();
        id
    }

    /// Stores an event as the API does.
    pub(crate) async fn event(&self, kind: &str, data: Value) -> Uuid {
        let id = Uuid::now_v7();
        let new = NewEvent { id, kind: kind.into(), data, task_id: Uuid::new_v4().to_string() };
        self.storage().create_event(new, message(), None).await.unwrap();
        id
    }

    /// The texts that are found by meaning, best first.
    pub(crate) async fn found(&self, question: &str) -> Vec<String> {
        let vector = self.services.embedder.embed(&[question.to_owned()]).await.unwrap().remove(0);
        let query = SearchQuery {
            text: question.into(),
            mode: SearchMode::Vector(vector),
            top_k: 100,
            collection: None,
            filter: Filter::default(),
        };
        self.storage().search(&query).await.unwrap().into_iter().map(|hit| hit.text).collect()
    }
}

pub(crate) fn message() -> NewOutboxMessage {
    NewOutboxMessage { queue: "celery".into(), priority: 0, task_id: Uuid::new_v4().to_string(), message: "{}".into() }
}

impl Drop for World {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        // A runtime of its own: this also runs while a test panics.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut connection = PgConnection::connect_with(&server).await.unwrap();
                let sql = format!("DROP DATABASE {name} WITH (FORCE)");
                connection.execute(AssertSqlSafe(sql)).await.unwrap();
            });
        });
        let _ = dropped.join();
    }
}
