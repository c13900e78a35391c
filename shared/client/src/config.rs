//! The settings of whoever sends tasks (celery.app.defaults).

use std::fmt;
use std::time::Duration;

use petiole_protocol::compression::Compression;
use petiole_protocol::serializer::{ResultFormat, Serializer};
use petiole_settings::{Reader, redacted_url};

use crate::routes::Routes;

/// Where the client finds its broker and its results.
#[derive(Clone)]
pub struct ClientConfig {
    /// `redis://…` of the broker.
    pub broker_url: String,
    /// `redis://…` of the result backend.
    pub result_backend: String,
    /// The queue of tasks that name none (`task_default_queue`).
    pub default_queue: String,
    /// Which queue a task goes to by its name (`task_routes`).
    pub routes: Routes,
    /// How long results are kept (`result_expires`).
    pub result_expires: Duration,
    /// How long the counts of chords are kept (`result_chord_expires`).
    pub chord_expires: Duration,
    /// `global_keyprefix` of the broker's transport options.
    pub global_keyprefix: String,
    /// How messages are written that do not say it themselves (`task_serializer`).
    pub serializer: Serializer,
    /// How messages are compressed that do not say it themselves (`task_compression`).
    pub compression: Option<Compression>,
    /// How results and parts of chords are written (`result_serializer`, `result_compression`).
    pub result_format: ResultFormat,
    /// Send the event `task-sent` for every message (`task_send_sent_event`).
    pub send_sent_event: bool,
}

/// Without the URLs' passwords.
impl fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientConfig")
            .field("broker_url", &redacted_url(&self.broker_url))
            .field("result_backend", &redacted_url(&self.result_backend))
            .field("default_queue", &self.default_queue)
            .finish_non_exhaustive()
    }
}

impl ClientConfig {
    /// Celery's defaults.
    pub fn new(broker_url: impl Into<String>, result_backend: impl Into<String>) -> Self {
        Self {
            broker_url: broker_url.into(),
            result_backend: result_backend.into(),
            default_queue: "celery".into(),
            routes: Routes::default(),
            result_expires: Duration::from_secs(86_400),
            chord_expires: Duration::from_secs(86_400),
            global_keyprefix: String::new(),
            serializer: Serializer::default(),
            compression: None,
            result_format: ResultFormat::default(),
            send_sent_event: false,
        }
    }

    /// The settings of whoever sends tasks, by Celery's names in upper case, also with the prefix `CELERY_`
    /// (celery.app.defaults); problems are the reader's.
    pub fn read(reader: &mut Reader, broker_url: impl Into<String>, result_backend: impl Into<String>) -> Self {
        let names = |name: &str| [name.to_owned(), format!("CELERY_{name}")];
        macro_rules! with {
            ($method:ident, $name:literal $(, $argument:expr)*) => {{
                let names = names($name);
                reader.$method(&[&names[0], &names[1]] $(, $argument)*)
            }};
        }
        let new = Self::new(broker_url, result_backend);
        let result_expires = with!(seconds, "RESULT_EXPIRES", new.result_expires);
        Self {
            default_queue: with!(text, "TASK_DEFAULT_QUEUE").map_or(new.default_queue, |(_, queue)| queue),
            routes: Routes::read(reader),
            result_expires,
            chord_expires: with!(seconds, "RESULT_CHORD_EXPIRES", result_expires),
            global_keyprefix: with!(text, "BROKER_GLOBAL_KEYPREFIX").map(|(_, prefix)| prefix).unwrap_or_default(),
            serializer: named(reader, &names("TASK_SERIALIZER"), Serializer::from_name, SERIALIZERS)
                .unwrap_or_default(),
            compression: named(reader, &names("TASK_COMPRESSION"), Compression::from_name, COMPRESSIONS),
            result_format: ResultFormat {
                serializer: named(reader, &names("RESULT_SERIALIZER"), Serializer::from_name, SERIALIZERS)
                    .unwrap_or_default(),
                compression: named(reader, &names("RESULT_COMPRESSION"), Compression::from_name, COMPRESSIONS),
            },
            send_sent_event: with!(boolean, "TASK_SEND_SENT_EVENT", false),
            broker_url: new.broker_url,
            result_backend: new.result_backend,
        }
    }
}

const SERIALIZERS: &str = "json, yaml or msgpack (pickle is only read, and only when ACCEPT_CONTENT says so)";
const COMPRESSIONS: &str = "gzip, bzip2, lzma, zstd or brotli";

/// A setting that holds one of several names.
fn named<T>(
    reader: &mut Reader,
    names: &[String; 2],
    parse: impl Fn(&str) -> Option<T>,
    expects: &'static str,
) -> Option<T> {
    let (name, text) = reader.text(&[&names[0], &names[1]])?;
    let value = parse(&text);
    if value.is_none() {
        reader.problem(&name, Some(&text), expects);
    }
    value
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn by_celery_s_names() {
        let mut reader = Reader::from_map([
            ("TASK_DEFAULT_QUEUE", "work"),
            ("CELERY_TASK_SERIALIZER", "msgpack"),
            ("RESULT_EXPIRES", "60"),
            ("BROKER_GLOBAL_KEYPREFIX", "mine:"),
            ("TASK_SEND_SENT_EVENT", "1"),
            ("TASK_ROUTES", r#"{"images.*": "images"}"#),
        ]);
        let config = ClientConfig::read(&mut reader, "redis://:s3cret@a/0", "redis://b/1");
        reader.finish().unwrap();
        assert_eq!((config.default_queue.as_str(), config.routes.queue("images.resize")), ("work", Some("images")));
        assert_eq!((config.serializer, config.send_sent_event), (Serializer::from_name("msgpack").unwrap(), true));
        assert_eq!((config.chord_expires, config.global_keyprefix.as_str()), (Duration::from_secs(60), "mine:"));
        let shown = format!("{config:?}");
        assert!(shown.contains("redis://b/1") && !shown.contains("s3cret"), "{shown}");
    }
}
