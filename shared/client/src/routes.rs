//! Which queue a task goes to by its name (celery.app.routes; `task_routes`).

use petiole_protocol::pidbox::glob_to_regex;
use petiole_protocol::serializer::from_json;
use petiole_settings::Reader;
use regex::Regex;
use serde_json::Value;

const EXPECTS: &str =
    "an object of task names or patterns, each with a queue or with {\"queue\": …, \"priority\": …}, in JSON";

/// Where a task goes that does not say it itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Route {
    /// The queue.
    pub queue: Option<String>,
    /// The priority.
    pub priority: Option<u8>,
}

/// Routes by name: a name itself first, then patterns such as `images.*`, in their order.
#[derive(Debug, Clone, Default)]
pub struct Routes {
    names: Vec<(String, Route)>,
    patterns: Vec<(Regex, Route)>,
}

impl Routes {
    /// `TASK_ROUTES`; problems are the reader's.
    pub fn read(reader: &mut Reader) -> Self {
        let Some((name, text)) = reader.text(&["TASK_ROUTES", "CELERY_TASK_ROUTES"]) else { return Self::default() };
        Self::from_json(&text).unwrap_or_else(|| {
            reader.problem(&name, Some(&text), EXPECTS);
            Self::default()
        })
    }

    /// Reads what Celery takes as a map of routes, or a list of such maps.
    fn from_json(text: &str) -> Option<Self> {
        let maps = match from_json(text.as_bytes()).ok()? {
            Value::Array(maps) => maps,
            map => vec![map],
        };
        let mut routes = Self::default();
        for (name, value) in maps.iter().map(Value::as_object).collect::<Option<Vec<_>>>()?.into_iter().flatten() {
            let route = route(value)?;
            if name.contains('*') {
                routes.patterns.push((Regex::new(&format!("^(?s:{})$", glob_to_regex(name))).ok()?, route));
            } else {
                routes.names.push((name.clone(), route));
            }
        }
        Some(routes)
    }

    /// The route of a task.
    pub fn of(&self, task: &str) -> Option<&Route> {
        let by_name = self.names.iter().find(|(name, _)| name == task).map(|(_, route)| route);
        by_name.or_else(|| self.patterns.iter().find(|(pattern, _)| pattern.is_match(task)).map(|(_, route)| route))
    }

    /// The queue of a task, if its name decides it.
    pub fn queue(&self, task: &str) -> Option<&str> {
        self.of(task)?.queue.as_deref()
    }
}

/// `"queue"`, or an object; with another exchange than the queue's own there is no message.
fn route(value: &Value) -> Option<Route> {
    let Value::Object(fields) = value else {
        return Some(Route { queue: Some(value.as_str()?.to_owned()), priority: None });
    };
    let mut route = Route::default();
    for (name, value) in fields {
        match name.as_str() {
            "queue" => route.queue = Some(value.as_str()?.to_owned()),
            "routing_key" => drop(route.queue.get_or_insert(value.as_str()?.to_owned())),
            "priority" => route.priority = Some(u8::try_from(value.as_u64()?).ok()?),
            _ => return None,
        }
    }
    Some(route)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(text: &str) -> Result<Routes, String> {
        let mut reader = Reader::from_map([("TASK_ROUTES", text)]);
        let routes = Routes::read(&mut reader);
        reader.finish().map(|()| routes).map_err(|error| error.to_string())
    }

    #[test]
    fn a_name_comes_before_patterns_and_these_in_their_order() {
        let routes = read(
            r#"[{"images.*": {"queue": "slow", "priority": 3}, "images.small": "quick"}, {"images.a*": "never", "*.mail": "mail"}]"#,
        )
        .unwrap();
        assert_eq!(routes.queue("images.small"), Some("quick"));
        assert_eq!(routes.of("images.art"), Some(&Route { queue: Some("slow".into()), priority: Some(3) }));
        assert_eq!(
            (routes.queue("team.mail"), routes.queue("images"), routes.queue("mail")),
            (Some("mail"), None, None)
        );
    }

    #[test]
    fn what_is_no_map_of_routes_is_told() {
        for text in ["celery", "[1]", r#"{"a": 1}"#, r#"{"a": {"exchange": "e"}}"#, r#"{"a": {"priority": "high"}}"#] {
            let error = read(text).unwrap_err();
            assert!(error.contains("TASK_ROUTES holds"), "{error}");
        }
    }
}
