//! The service under test, with a database of its own.

use std::time::{Duration, Instant};

use petiole_api::{app, state::State};
use petiole_engine::{App, WorkerConfig};
use petiole_settings::{Reader, Role, Settings};
use poem::listener::{Acceptor, Listener, TcpListener};
use reqwest::{Client, RequestBuilder, StatusCode};
use sea_orm::sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use uuid::Uuid;

pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) http: Client,
    pub(crate) redis_url: String,
    pub(crate) queue: String,
    database: String,
    base: String,
    stop: Option<oneshot::Sender<()>>,
    serving: Option<JoinHandle<()>>,
}

fn needed(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: run docker/test.sh, which starts what the tests need"))
}

/// The service in development, on the tests' Redis.
pub(crate) async fn start() -> Server {
    start_with(&[], &needed("TEST_REDIS_URL")).await
}

/// The service with these settings and this Redis.
pub(crate) async fn start_with(settings: &[(&str, &str)], redis_url: &str) -> Server {
    let base = needed("TEST_DATABASE_URL");
    let database = format!("test_{}", Uuid::now_v7().simple());
    let mut connection = PgConnection::connect(&base).await.expect("PostgreSQL answers at TEST_DATABASE_URL");
    connection.execute(AssertSqlSafe(format!("CREATE DATABASE {database}"))).await.unwrap();
    let (front, _) = base.rsplit_once('/').unwrap();
    let database_url = format!("{front}/{database}");
    let mut all = vec![
        ("DATABASE_URL", database_url.as_str()),
        ("BROKER_URL", redis_url),
        ("RESULT_BACKEND", redis_url),
        ("MODEL_DIR", "/nonexistent"),
        ("DATABASE_POOL_SIZE", "5"),
    ];
    all.extend_from_slice(settings);
    let mut reader = Reader::from_map(all.iter().copied());
    let settings = Settings::read(&mut reader, Role::Api);
    assert!(reader.problems().is_empty(), "{:?}", reader.problems());
    let acceptor = TcpListener::bind("127.0.0.1:0").into_acceptor().await.unwrap();
    let address = acceptor.local_addr()[0].as_socket_addr().unwrap().to_owned();
    let state = State::new(&settings, reader).await.unwrap();
    let (stop, stopped) = oneshot::channel();
    let serving = tokio::spawn(async move {
        let stopped = async { stopped.await.unwrap_or(()) };
        app::serve(acceptor, state, stopped, Duration::from_secs(5)).await.unwrap();
    });
    let server = Server {
        url: format!("http://{address}"),
        http: Client::new(),
        redis_url: redis_url.to_owned(),
        queue: format!("test-{}", Uuid::new_v4()),
        database,
        base,
        stop: Some(stop),
        serving: Some(serving),
    };
    let begun = Instant::now();
    // the schema is made in the background
    while server
        .http
        .get(format!("{}/v1/documents", server.url))
        .header("x-api-key", KEY)
        .send()
        .await
        .unwrap()
        .status()
        != 200
    {
        assert!(begun.elapsed() < Duration::from_secs(20), "the schema was not made");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    server
}

/// The service on a part of Redis where no other test's workers are, and the key prefix of that part.
pub(crate) async fn start_alone(settings: &[(&str, &str)]) -> (Server, String) {
    let prefix = format!("t{}:", Uuid::new_v4().simple());
    let mut all = vec![("BROKER_GLOBAL_KEYPREFIX", prefix.as_str())];
    all.extend_from_slice(settings);
    (start_with(&all, &needed("TEST_REDIS_URL")).await, prefix)
}

impl Server {
    /// A worker without tasks and on a queue of its own, until the test ends; waits for it.
    pub(crate) async fn begin_worker(&self, prefix: &str) {
        let mut reader = Reader::from_map([("BROKER_GLOBAL_KEYPREFIX", prefix)]);
        let mut config = WorkerConfig::read(&mut reader);
        config.default_queue = format!("{}-worker", self.queue);
        config.without_mingle = true;
        let (app, url) = (App::builder().build().unwrap(), self.redis_url.clone());
        tokio::spawn(async move { app.run(config, &url, &url).await });
        let begun = Instant::now();
        while self.get("/v1/workers").await.json["items"].as_array().is_none_or(Vec::is_empty) {
            assert!(begun.elapsed() < Duration::from_secs(20), "the worker does not answer");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// The service beside a worker that has no tasks: it knows that it does not know a name.
pub(crate) async fn start_beside_worker() -> Server {
    let (server, prefix) = start_alone(&[]).await;
    server.begin_worker(&prefix).await;
    server
}

/// A key that is strong enough for staging.
pub(crate) const KEY: &str = "f3b1c0de8a7d4e2b9c6f5a4b3c2d1e0f";

/// An answer: its status, its headers, its JSON.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) json: Value,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    /// Checks the form that every error has, and gives the names of the fields that are wrong.
    pub(crate) fn problem(&self, status: u16) -> Vec<String> {
        assert_eq!(self.status, status, "{}", self.json);
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(self.json["status"], status);
        assert_eq!(self.json["request_id"], self.header("x-request-id"));
        for name in ["type", "title", "detail", "request_id"] {
            assert!(self.json[name].as_str().is_some_and(|text| !text.is_empty()), "{name}: {}", self.json);
        }
        let errors = self.json["errors"].as_array().cloned().unwrap_or_default();
        errors.iter().map(|error| error["field"].as_str().unwrap().to_owned()).collect()
    }
}

pub(crate) async fn answer(request: RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let text = response.text().await.unwrap();
    let json = if status == StatusCode::NO_CONTENT {
        Value::Null
    } else {
        serde_json::from_str(&text).unwrap_or(Value::String(text))
    };
    Answer { status: status.as_u16(), headers, json }
}

impl Server {
    pub(crate) async fn get(&self, path: &str) -> Answer {
        answer(self.http.get(self.url.clone() + path)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        answer(self.http.delete(self.url.clone() + path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        answer(self.http.post(self.url.clone() + path).json(body)).await
    }

    pub(crate) async fn post_text(&self, path: &str, body: &str) -> Answer {
        let request = self.http.post(self.url.clone() + path).header("content-type", "application/json");
        answer(request.body(body.to_owned())).await
    }

    pub(crate) fn database_url(&self) -> String {
        let (front, _) = self.base.rsplit_once('/').unwrap();
        format!("{front}/{}", self.database)
    }

    pub(crate) async fn database(&self) -> PgConnection {
        PgConnection::connect(&self.database_url()).await.unwrap()
    }

    /// Stops as SIGTERM does, and waits for the end.
    pub(crate) async fn stop(&mut self) {
        let _ = self.stop.take().map(|stop| stop.send(()));
        if let Some(serving) = self.serving.take() {
            serving.await.unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.stop.take().map(|stop| stop.send(()));
        if let Some(serving) = self.serving.take() {
            serving.abort();
        }
        let (base, database) = (self.base.clone(), self.database.clone());
        // a runtime of its own: this also runs while a test panics
        let dropped = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
                let mut connection = PgConnection::connect(&base).await.unwrap();
                connection.execute(AssertSqlSafe(format!("DROP DATABASE {database} WITH (FORCE)"))).await.unwrap();
            });
        });
        let _ = dropped.join();
    }
}
