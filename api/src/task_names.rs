//! Which tasks may be sent over HTTP, and which exist at all.

use std::collections::HashSet;
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use petiole_client::Client;
use poem::http::StatusCode;
use serde_json::Value;
use tokio::sync::Mutex;

use crate::problem::Problem;

/// The tasks of the worker that ships with this API: known even while no worker runs.
const SHIPPED: &[&str] = &[
    "demo.add",
    "demo.echo",
    "demo.sleep",
    "demo.fail",
    "demo.progress",
    "process_incoming_event",
    "documents.ingest",
    "answers.generate",
];
/// How long workers have to say which tasks they have.
const ANSWER: Duration = Duration::from_secs(1);
/// Asked again at most this often for names that nobody knows.
const PAUSE: Duration = Duration::from_secs(2);
/// How often what workers have is asked in the background.
pub(crate) const REFRESH: Duration = Duration::from_secs(30);

/// Names of tasks: allowed ones by pattern, existing ones by what workers say.
pub(crate) struct TaskNames {
    client: Client,
    allowed: Vec<String>,
    registered: RwLock<HashSet<String>>,
    asked: Mutex<Option<Asked>>,
}

/// The last time that workers were asked.
struct Asked {
    at: Instant,
    /// Did any answer? Without, nobody can tell what exists.
    answered: bool,
}

impl TaskNames {
    pub(crate) fn new(client: Client, allowed: &[String]) -> Self {
        Self { client, allowed: allowed.to_vec(), registered: RwLock::default(), asked: Mutex::new(None) }
    }

    /// Whether a task of this name may be sent and is known to anybody. While no worker runs, every name that may be sent is
    /// taken: the worker that knows it may be about to start.
    ///
    /// # Errors
    /// 403 when it is not allowed, 404 when there are workers and none knows it, 503 when Redis is away and nothing is known of
    /// it.
    pub(crate) async fn check(&self, name: &str) -> Result<(), Problem> {
        let celerys = name == "celery" || name.starts_with("celery.");
        if celerys || !self.allowed.iter().any(|pattern| matches(pattern, name)) {
            return Err(Problem::new(StatusCode::FORBIDDEN, format!("the task {name} may not be sent over HTTP")));
        }
        if self.known(name) {
            return Ok(());
        }
        let mut asked = self.asked.lock().await;
        // another request may have asked while this one waited
        if !self.known(name) && asked.as_ref().is_none_or(|asked| asked.at.elapsed() > PAUSE) {
            let answered = self.refresh().await?;
            *asked = Some(Asked { at: Instant::now(), answered });
        }
        let nobody = asked.as_ref().is_some_and(|asked| !asked.answered);
        drop(asked);
        if nobody || self.known(name) {
            return Ok(());
        }
        Err(Problem::not_found(format!("no worker knows a task {name}")))
    }

    /// Asks all workers which tasks they have. True: some answered.
    pub(crate) async fn refresh(&self) -> Result<bool, Problem> {
        let replies = self.client.inspect("registered", Default::default(), None, ANSWER).await?;
        let names = replies.values().filter_map(Value::as_array).flatten().filter_map(Value::as_str);
        // a name may be followed by attributes: "demo.add [rate_limit=10/m]"
        let names = names.filter_map(|name| name.split(" [").next()).map(str::to_owned);
        self.registered.write().unwrap_or_else(PoisonError::into_inner).extend(names);
        Ok(!replies.is_empty())
    }

    /// What ships with this API, what workers have said, and what the list of allowed tasks names in full.
    fn known(&self, name: &str) -> bool {
        SHIPPED.contains(&name)
            || self.allowed.iter().any(|allowed| allowed == name)
            || self.registered.read().unwrap_or_else(PoisonError::into_inner).contains(name)
    }
}

/// Whether a pattern, in which `*` stands for any text, is this name.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(head) else { return false };
    let mut parts: Vec<_> = rest.split('*').collect();
    let tail = parts.pop().unwrap_or_default();
    for part in parts {
        match name.find(part) {
            Some(at) => name = &name[at + part.len()..],
            None => return false,
        }
    }
    name.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, name, expected) in [
            ("*", "demo.add", true),
            ("demo.*", "demo.add", true),
            ("demo.*", "demos.add", false),
            ("demo.add", "demo.add", true),
            ("demo.add", "demo.add2", false),
            ("*.add", "demo.add", true),
            ("*.add", "demo.add2", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("", "demo.add", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
