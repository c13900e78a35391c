//! What the result backend stores for a task (celery.backends.base: Backend._get_result_meta).

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Map;
use crate::exception::TaskException;
use crate::serializer::{DecodeError, ResultFormat, decode_result, json_writer};

/// The state of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Waiting, or unknown: never stored.
    Pending,
    /// Taken by a worker: in events only.
    Received,
    /// Running; stored with `track_started`.
    Started,
    /// Ended with a result.
    Success,
    /// Ended with an exception.
    Failure,
    /// Will run again.
    Retry,
    /// Revoked, expired or terminated.
    Revoked,
    /// Rejected by its worker.
    Rejected,
    /// A state of the application's own, as `PROGRESS`.
    Custom(String),
}

impl State {
    /// The state's name on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Pending => "PENDING",
            Self::Received => "RECEIVED",
            Self::Started => "STARTED",
            Self::Success => "SUCCESS",
            Self::Failure => "FAILURE",
            Self::Retry => "RETRY",
            Self::Revoked => "REVOKED",
            Self::Rejected => "REJECTED",
            Self::Custom(name) => name,
        }
    }

    /// True for SUCCESS, FAILURE and REVOKED: nothing comes after.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Success | Self::Failure | Self::Revoked)
    }

    /// True where the result is an exception.
    pub fn is_exception(&self) -> bool {
        matches!(self, Self::Failure | Self::Retry | Self::Revoked)
    }
}

impl From<&str> for State {
    fn from(name: &str) -> Self {
        match name {
            "PENDING" => Self::Pending,
            "RECEIVED" => Self::Received,
            "STARTED" => Self::Started,
            "SUCCESS" => Self::Success,
            "FAILURE" => Self::Failure,
            "RETRY" => Self::Retry,
            "REVOKED" => Self::Revoked,
            "REJECTED" => Self::Rejected,
            other => Self::Custom(other.to_owned()),
        }
    }
}

/// A stored result, with its fields in Celery's order. `children` is null when it was written without a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskMeta {
    /// The state's name.
    pub status: String,
    /// The return value, the meta of a custom state, or an exception map.
    #[serde(default)]
    pub result: Value,
    /// The traceback's text.
    #[serde(default)]
    pub traceback: Option<String>,
    /// Result tuples of what the task sent.
    #[serde(default)]
    pub children: Option<Vec<Value>>,
    /// When it ended, ISO 8601; null unless final.
    #[serde(default)]
    pub date_done: Option<String>,
    /// The group of the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_id: Option<String>,
    /// The parent of the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_id: Option<String>,
    /// The task's name (`result_extended`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The arguments (`result_extended`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Value>,
    /// The keyword arguments (`result_extended`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kwargs: Option<Value>,
    /// The worker's node name (`result_extended`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// Retries so far (`result_extended`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// The routing key of the delivery (`result_extended`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// The names of the stamps (`result_extended`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamped_headers: Option<Vec<String>>,
    /// The stamps (`result_extended`), each a key of its own on the wire.
    #[serde(skip)]
    pub stamps: Map,
    /// The task's id.
    #[serde(default)]
    pub task_id: String,
}

impl TaskMeta {
    /// A meta of a state, with nothing else said.
    pub fn new(task_id: impl Into<String>, state: &State, result: Value) -> Self {
        Self {
            status: state.as_str().to_owned(),
            result,
            traceback: None,
            children: Some(vec![]),
            date_done: None,
            group_id: None,
            parent_id: None,
            name: None,
            args: None,
            kwargs: None,
            worker: None,
            retries: None,
            queue: None,
            stamped_headers: None,
            stamps: Map::new(),
            task_id: task_id.into(),
        }
    }

    /// The state.
    pub fn state(&self) -> State {
        State::from(self.status.as_str())
    }

    /// The exception, where the state has one.
    pub fn exception(&self) -> Option<TaskException> {
        self.state().is_exception().then(|| serde_json::from_value(self.result.clone()).ok()).flatten()
    }

    /// The bytes that are stored and published.
    pub fn encode(&self, format: ResultFormat) -> Vec<u8> {
        if format == ResultFormat::default()
            && self.stamps.is_empty()
            && let Ok(text) = self.to_json()
        {
            return text;
        }
        format.encode(&self.to_value())
    }

    fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        if !json_writer::holds_long_text(&self.result) {
            return serde_json::to_vec(self);
        }
        let around = serde_json::to_vec(&self.without_result())?;
        // The result is the second field, behind the name of the state.
        let at = r#"{"status":,"result":"#.len() + serde_json::to_vec(&self.status)?.len();
        let (before, behind) = around.split_at(at);
        let length = self.result.as_str().map_or(0, str::len);
        let mut text = Vec::with_capacity(around.len() + length);
        text.extend_from_slice(before);
        json_writer::write(&mut text, &self.result)?;
        text.extend_from_slice(behind.strip_prefix(b"null").unwrap_or(behind));
        Ok(text)
    }

    /// All but the result, which may be long.
    fn without_result(&self) -> Self {
        Self {
            status: self.status.clone(),
            result: Value::Null,
            traceback: self.traceback.clone(),
            children: self.children.clone(),
            date_done: self.date_done.clone(),
            group_id: self.group_id.clone(),
            parent_id: self.parent_id.clone(),
            name: self.name.clone(),
            args: self.args.clone(),
            kwargs: self.kwargs.clone(),
            worker: self.worker.clone(),
            retries: self.retries,
            queue: self.queue.clone(),
            stamped_headers: self.stamped_headers.clone(),
            stamps: self.stamps.clone(),
            task_id: self.task_id.clone(),
        }
    }

    /// Reads what is stored or published, in whatever format.
    ///
    /// # Errors
    /// Bytes that cannot be read, or are no result.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        Ok(serde_json::from_value(decode_result(bytes)?)?)
    }

    /// The JSON text that is stored and published when nothing else is asked for.
    pub fn to_text(&self) -> String {
        self.to_value().to_string()
    }

    fn to_value(&self) -> Value {
        let mut value = crate::signature::to_value(self);
        if let Value::Object(map) = &mut value
            && !self.stamps.is_empty()
        {
            let task_id = map.shift_remove("task_id");
            map.extend(self.stamps.clone());
            map.insert("task_id".into(), task_id.unwrap_or_default());
        }
        value
    }
}

/// The tuple form of a task's result, for `children`: `[[id, parent], null]`.
pub fn task_tuple(id: &str, parent: Option<Value>) -> Value {
    json!([[id, parent], null])
}

/// The tuple form of a group's result: `[[id, parent], [members…]]`.
pub fn group_tuple(id: &str, parent: Option<Value>, members: Vec<Value>) -> Value {
    json!([[id, parent], members])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_long_result_is_written_as_any_other() {
        let long = "a long text, ".repeat(200);
        for result in
            [json!(long), json!(format!("{long}\n\"é\"")), json!({"text": long, "more": [1, null, {"b": 2.5}]})]
        {
            for state in [State::Success, State::Custom("MY \"OWN\"".into())] {
                let mut meta = TaskMeta::new("id", &state, result.clone());
                meta.retries = Some(3);
                meta.args = Some(json!(["null", 1]));
                assert_eq!(meta.encode(ResultFormat::default()), serde_json::to_vec(&meta).unwrap());
                assert_eq!(TaskMeta::decode(&meta.encode(ResultFormat::default())).unwrap(), meta);
            }
        }
    }
}
