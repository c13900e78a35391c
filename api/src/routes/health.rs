//! Health and readiness.

use std::future::Future;
use std::time::Duration;

use poem::web::Data;
use poem_openapi::payload::Json;
use poem_openapi::types::Example;
use poem_openapi::{Object, OpenApi};

use crate::failures::{Answer, Open, Ready};
use crate::problem::{FieldError, Problem};
use crate::routes::Group;
use crate::state::State;

/// Each check's time: all run side by side, and the answer must come within five seconds.
const CHECK: Duration = Duration::from_secs(3);

#[derive(Clone, Default)]
pub(crate) struct Health;

/// The service lives.
#[derive(Object)]
#[oai(example)]
pub(crate) struct Alive {
    /// Always `ok`.
    status: String,
}

impl Example for Alive {
    fn example() -> Self {
        Self { status: "ok".into() }
    }
}

/// The service can work.
#[derive(Object)]
#[oai(example)]
pub(crate) struct Readiness {
    /// Always `ok`.
    status: String,
    /// What was looked at.
    checks: Checks,
}

/// What the service needs.
#[derive(Object)]
pub(crate) struct Checks {
    /// PostgreSQL answers and has the schema of this version, or of a newer one.
    database: String,
    /// Redis answers.
    redis: String,
    /// How many workers answer.
    workers: u32,
}

impl Example for Readiness {
    fn example() -> Self {
        let checks = Checks { database: "ok".into(), redis: "ok".into(), workers: 2 };
        Self { status: "ok".into(), checks }
    }
}

#[OpenApi]
impl Health {
    /// Is it alive?
    ///
    /// 200 as long as the process serves, whatever else is away.
    #[oai(path = "/health", method = "get", operation_id = "getHealth", tag = "Group::Health")]
    async fn health(&self) -> Answer<Json<Alive>, Open> {
        Ok(Json(Alive { status: "ok".into() }))
    }

    /// Can it work?
    ///
    /// 200 when PostgreSQL, its schema, Redis and a worker are there; else 503, with every failing check named in `errors`.
    /// Answers within five seconds.
    #[oai(path = "/ready", method = "get", operation_id = "getReady", tag = "Group::Health")]
    async fn ready(&self, state: Data<&State>) -> Answer<Json<Readiness>, Ready> {
        let database = within(async {
            match state.storage.schema_is_current().await {
                Ok(true) => Ok(()),
                Ok(false) => Err("its schema is older than this version".to_owned()),
                Err(error) => Err(Problem::from(error).to_string()),
            }
        });
        let redis = within(async { state.client.ping().await.map_err(|_| "does not answer".to_owned()) });
        let workers = within(async { state.workers().await.map_err(|_| "cannot be asked: Redis is away".to_owned()) });
        let (database, redis, workers) = tokio::join!(database, redis, workers);
        let workers = workers.and_then(|count| if count > 0 { Ok(count) } else { Err("none answers".to_owned()) });
        let mut errors = Vec::new();
        for (name, failed) in [
            ("database", database.as_ref().err()),
            ("redis", redis.as_ref().err()),
            ("workers", workers.as_ref().err()),
        ] {
            errors.extend(failed.map(|reason| FieldError::new(name, reason.clone())));
        }
        match workers {
            Ok(count) if errors.is_empty() => {
                let workers = u32::try_from(count).unwrap_or(u32::MAX);
                let checks = Checks { database: "ok".into(), redis: "ok".into(), workers };
                Ok(Json(Readiness { status: "ok".into(), checks }))
            }
            _ => {
                let list: Vec<_> = errors.iter().map(|error| format!("{} {}", error.field, error.message)).collect();
                Err(Problem::unavailable(format!("not ready: {}", list.join("; "))).with_errors(errors).into())
            }
        }
    }
}

async fn within<T>(check: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    tokio::time::timeout(CHECK, check).await.unwrap_or_else(|_| Err("does not answer in time".into()))
}
