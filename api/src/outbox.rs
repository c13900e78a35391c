//! Messages for the outbox: they are published once the rows that cause them are stored.

use petiole_client::TaskSend;
use petiole_storage::NewOutboxMessage;
use serde_json::json;
use uuid::Uuid;

use crate::problem::Problem;
use crate::request_id::RequestId;
use crate::state::State;

/// The message that starts the task `name` on the row `id`, for the outbox.
pub(crate) fn outbox_message(
    state: &State,
    name: &str,
    id: Uuid,
    task_id: &str,
    request_id: &RequestId,
) -> Result<NewOutboxMessage, Problem> {
    let mut task = TaskSend::new(name);
    task.args = vec![json!(id)];
    task.task_id = Some(task_id.to_owned());
    task.headers.insert("request_id".into(), json!(request_id.0));
    let prepared = state.client.prepare(task)?;
    Ok(NewOutboxMessage {
        queue: prepared.queue.clone(),
        priority: prepared.priority,
        task_id: task_id.to_owned(),
        message: json!(prepared).to_string(),
    })
}
