//! All settings together, and the refusal to start on weak secrets.

use std::str::FromStr;

use secrecy::{ExposeSecret, SecretString};

use crate::ai::AiSettings;
use crate::api::ApiSettings;
use crate::log::{LogFormat, LogSettings};
use crate::reader::{Reader, SettingsError};
use crate::secrets::{SHORTEST_PASSWORD, weakness};
use crate::sentinel;
use crate::url::{Parts, is_local_socket, password_of, redacted_url};

const BROKER_SCHEMES: &[&str] = &["redis", "rediss", "redis+socket", "unix", "sentinel"];
const DATABASE_SCHEMES: &[&str] = &["postgres", "postgresql"];

const BROKER_OPTIONS: [&str; 2] = ["BROKER_TRANSPORT_OPTIONS", "CELERY_BROKER_TRANSPORT_OPTIONS"];
/// Without its own, a result backend at Sentinel has the broker's.
const BACKEND_OPTIONS: [&str; 4] = [
    "RESULT_BACKEND_TRANSPORT_OPTIONS",
    "CELERY_RESULT_BACKEND_TRANSPORT_OPTIONS",
    "BROKER_TRANSPORT_OPTIONS",
    "CELERY_BROKER_TRANSPORT_OPTIONS",
];

/// Where the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppEnv {
    /// A developer's machine: no keys asked for, weak secrets allowed.
    Development,
    /// Production's rules, another place.
    Staging,
    /// The real thing.
    Production,
}

impl FromStr for AppEnv {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.to_ascii_lowercase().as_str() {
            "development" => Ok(Self::Development),
            "staging" => Ok(Self::Staging),
            "production" => Ok(Self::Production),
            _ => Err(()),
        }
    }
}

impl std::fmt::Display for AppEnv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Development => "development",
            Self::Staging => "staging",
            Self::Production => "production",
        })
    }
}

/// Which program reads the settings: a worker needs no API keys, and should not be given any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The HTTP service.
    Api,
    /// The task service.
    Worker,
}

/// Every setting of the application. Celery's own settings are read by the engine, with the same [`Reader`].
#[derive(Clone, Debug)]
pub struct Settings {
    /// `APP_ENV`.
    pub app_env: AppEnv,
    /// `BROKER_URL`, else made from `REDIS_HOST`, `REDIS_PORT`, `REDIS_PASSWORD`, database 0.
    pub broker_url: SecretString,
    /// `RESULT_BACKEND`, else the broker's URL.
    pub result_backend: SecretString,
    /// `DATABASE_URL`, else made from `POSTGRES_HOST`, `POSTGRES_PORT`, `POSTGRES_USER`, `POSTGRES_PASSWORD` and
    /// `POSTGRES_DB`.
    pub database_url: SecretString,
    /// `DATABASE_POOL_SIZE`: the most connections that one process opens.
    pub database_pool_size: u32,
    /// The HTTP service's settings.
    pub api: ApiSettings,
    /// The models' settings.
    pub ai: AiSettings,
    /// Logging.
    pub log: LogSettings,
}

impl Settings {
    /// Reads the settings of the HTTP service from the environment.
    ///
    /// # Errors
    /// Every setting that is malformed, and outside development every secret that is missing or weak.
    pub fn load() -> Result<Self, SettingsError> {
        Self::load_for(Role::Api)
    }

    /// Reads the settings of one of the programs from the environment.
    ///
    /// # Errors
    /// As [`Settings::load`].
    pub fn load_for(role: Role) -> Result<Self, SettingsError> {
        let mut reader = Reader::from_env();
        let settings = Self::read(&mut reader, role);
        reader.finish().map(|()| settings)
    }

    /// Reads the settings by a reader of the caller's, which holds the problems afterwards.
    pub fn read(reader: &mut Reader, role: Role) -> Self {
        let app_env = reader.get(&["APP_ENV"], AppEnv::Development, "development, staging or production");
        let mut broker = read_broker(reader);
        let mut backend = read_url(reader, &["RESULT_BACKEND", "CELERY_RESULT_BACKEND"], None);
        broker.url = sentinel::with_options(reader, broker.url, &BROKER_OPTIONS);
        if let Some(backend) = &mut backend {
            backend.url = sentinel::with_options(reader, backend.url.clone(), &BACKEND_OPTIONS);
        }
        let database = read_database(reader);
        let default_format = match app_env {
            AppEnv::Development => LogFormat::Human,
            AppEnv::Staging | AppEnv::Production => LogFormat::Json,
        };
        let settings = Self {
            app_env,
            result_backend: backend.as_ref().unwrap_or(&broker).url.clone(),
            broker_url: broker.url.clone(),
            database_url: database.url.clone(),
            database_pool_size: reader.number(&["DATABASE_POOL_SIZE"], 10, 1..=1000),
            api: ApiSettings::read(reader),
            ai: AiSettings::read(reader),
            log: LogSettings::read(reader, role, default_format),
        };
        if app_env != AppEnv::Development {
            for url in [Some(&broker), backend.as_ref(), Some(&database)].into_iter().flatten() {
                url.refuse_weak_password(reader, app_env);
            }
            if role == Role::Api {
                settings.api.refuse_weak_keys(reader);
            }
        }
        settings
    }
}

/// A URL, and the variable to name when its password is not good enough.
struct NamedUrl {
    name: String,
    url: SecretString,
}

impl NamedUrl {
    fn refuse_weak_password(&self, reader: &mut Reader, app_env: AppEnv) {
        let url = self.url.expose_secret();
        // Of a list of Sentinels the one with a login has the master's.
        let is_sentinel = url.starts_with("sentinel://");
        let has_login = |one: &&str| password_of(one).is_some();
        let first = url.split(';').find(has_login).or_else(|| url.split(';').next());
        let judged: Vec<&str> = if is_sentinel { first.into_iter().collect() } else { url.split(';').collect() };
        for one in judged.into_iter().filter(|one| !is_local_socket(one) && !one.starts_with("disabled")) {
            let reason = match password_of(one) {
                None => Some(format!("set: {app_env} needs a password")),
                Some(password) => weakness(&password, SHORTEST_PASSWORD),
            };
            let Some(reason) = reason else { continue };
            let expects = match self.name.ends_with("PASSWORD") {
                true => reason,
                false => format!("a URL with a good password; the password must be {reason}"),
            };
            reader.problem(&self.name, None, expects);
        }
    }
}

fn read_broker(reader: &mut Reader) -> NamedUrl {
    let host = reader.get(&["REDIS_HOST"], "127.0.0.1".to_owned(), "a host name or address");
    let port = reader.number(&["REDIS_PORT"], 6379, 1..=u16::MAX);
    let password = reader.secret(&["REDIS_PASSWORD"]);
    let names = ["BROKER_URL", "CELERY_BROKER_URL"];
    read_url(reader, &names, Some(BROKER_SCHEMES)).unwrap_or_else(|| NamedUrl {
        name: "REDIS_PASSWORD".to_owned(),
        url: Parts { scheme: "redis", user: "", password: password.as_ref(), host: &host, port, path: "0" }.url(),
    })
}

fn read_database(reader: &mut Reader) -> NamedUrl {
    let host = reader.get(&["POSTGRES_HOST"], "127.0.0.1".to_owned(), "a host name or address");
    let port = reader.number(&["POSTGRES_PORT"], 5432, 1..=u16::MAX);
    let user = reader.get(&["POSTGRES_USER"], "petiole".to_owned(), "a user's name");
    let password = reader.secret(&["POSTGRES_PASSWORD"]);
    let database = reader.get(&["POSTGRES_DB"], "petiole".to_owned(), "a database's name");
    read_url(reader, &["DATABASE_URL"], Some(DATABASE_SCHEMES)).unwrap_or_else(|| NamedUrl {
        name: "POSTGRES_PASSWORD".to_owned(),
        url: Parts { scheme: "postgres", user: &user, password: password.as_ref(), host: &host, port, path: &database }
            .url(),
    })
}

fn read_url(reader: &mut Reader, names: &[&str], schemes: Option<&[&str]>) -> Option<NamedUrl> {
    let (name, url) = reader.named_secret(names)?;
    let scheme = url.expose_secret().split_once("://").map(|(scheme, _)| scheme);
    let known = match (scheme, schemes) {
        (Some(scheme), Some(schemes)) => schemes.contains(&scheme),
        (Some(_), None) => true,
        (None, _) => false,
    };
    if !known {
        let expects = match schemes {
            Some(schemes) => format!("a URL that begins with {}://", schemes.join("://, ")),
            None => "a URL".to_owned(),
        };
        // Without a scheme there is no telling which part is the password.
        let held = scheme.map(|_| redacted_url(url.expose_secret()));
        reader.problem(&name, held.as_deref(), expects);
        return None;
    }
    Some(NamedUrl { name, url })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    const KEY: &str = "9f86d081884c7d659a2feaa0c55ad015";

    fn read(values: &[(&str, &str)], role: Role) -> Result<Settings, SettingsError> {
        let mut reader = Reader::from_map(values.iter().copied());
        let settings = Settings::read(&mut reader, role);
        reader.finish().map(|()| settings)
    }

    #[test]
    fn development_needs_nothing() {
        let settings = read(&[], Role::Api).unwrap();
        assert_eq!(settings.app_env, AppEnv::Development);
        assert_eq!(settings.broker_url.expose_secret(), "redis://127.0.0.1:6379/0");
        assert_eq!(settings.result_backend.expose_secret(), "redis://127.0.0.1:6379/0");
        assert_eq!(settings.database_url.expose_secret(), "postgres://petiole@127.0.0.1:5432/petiole");
        assert_eq!(settings.log.format, LogFormat::Human);
    }

    #[test]
    fn urls_are_made_from_their_parts_and_a_whole_url_wins() {
        let values = [
            ("REDIS_HOST", "cache"),
            ("REDIS_PASSWORD", "a/b"),
            ("POSTGRES_PASSWORD", "c@d"),
            ("POSTGRES_HOST", "db"),
            ("RESULT_BACKEND", "redis://other/3"),
        ];
        let settings = read(&values, Role::Worker).unwrap();
        assert_eq!(settings.broker_url.expose_secret(), "redis://:a%2Fb@cache:6379/0");
        assert_eq!(settings.result_backend.expose_secret(), "redis://other/3");
        assert_eq!(settings.database_url.expose_secret(), "postgres://petiole:c%40d@db:5432/petiole");
        let settings = read(&[("REDIS_HOST", "a"), ("CELERY_BROKER_URL", "rediss://b:1/2")], Role::Worker).unwrap();
        assert_eq!(settings.broker_url.expose_secret(), "rediss://b:1/2");
    }

    #[test]
    fn production_lists_every_weak_secret_and_shows_none() {
        let values = [
            ("APP_ENV", "production"),
            ("BROKER_URL", "redis://:letmein@cache/0"),
            ("POSTGRES_PASSWORD", "postgres"),
            ("API_KEYS", "tinykey"),
        ];
        let text = read(&values, Role::Api).unwrap_err().to_string();
        for name in ["BROKER_URL", "POSTGRES_PASSWORD", "API_KEYS"] {
            assert!(text.contains(name), "{name} not in {text}");
        }
        assert!(!text.contains("letmein") && !text.contains("tinykey"), "{text}");
        let text = read(&[("APP_ENV", "staging")], Role::Api).unwrap_err().to_string();
        for name in ["REDIS_PASSWORD", "POSTGRES_PASSWORD", "API_KEYS"] {
            assert!(text.contains(name), "{name} not in {text}");
        }
    }

    #[test]
    fn production_starts_on_good_secrets_and_the_worker_without_keys() {
        let mut values = vec![("APP_ENV", "production"), ("REDIS_PASSWORD", KEY), ("POSTGRES_PASSWORD", KEY)];
        let settings = read(&values, Role::Worker).unwrap();
        assert_eq!(settings.log.format, LogFormat::Json);
        assert!(read(&values, Role::Api).is_err());
        values.push(("API_KEYS", KEY));
        read(&values, Role::Api).unwrap();
    }

    #[test]
    fn a_socket_file_needs_no_password() {
        let values = [
            ("APP_ENV", "production"),
            ("BROKER_URL", "redis+socket:///run/redis.sock"),
            ("DATABASE_URL", "postgres://petiole@%2Frun%2Fpostgresql/petiole"),
        ];
        read(&values, Role::Worker).unwrap();
    }

    #[test]
    fn a_url_of_the_wrong_kind_is_named_without_its_password() {
        let values = [("BROKER_URL", "amqp://guest:letmein@h//"), ("DATABASE_URL", "letmein"), ("APP_ENV", "prod")];
        let text = read(&values, Role::Worker).unwrap_err().to_string();
        assert!(text.contains("BROKER_URL holds \"amqp://guest:***@h//\""), "{text}");
        assert!(text.contains("APP_ENV holds \"prod\"; it must be development, staging or production"), "{text}");
        assert!(text.contains("DATABASE_URL") && !text.contains("letmein"), "{text}");
    }

    #[test]
    fn debug_output_holds_no_secret() {
        let values = [("REDIS_PASSWORD", KEY), ("POSTGRES_PASSWORD", KEY), ("API_KEYS", KEY), ("OPENAI_API_KEY", KEY)];
        assert!(!format!("{:?}", read(&values, Role::Api).unwrap()).contains(KEY));
    }
}
