//! Headers that go from a running task to the messages that it sends: the trace they belong to, and whatever follows a request
//! through all its tasks.

use std::future::Future;

use petiole_protocol::{Map, TaskMessage};
use petiole_settings::trace_context;

tokio::task_local! {
    static CARRIED: Map;
}

/// Does `work`; messages that it makes get these headers, unless they have headers of these names.
pub async fn carrying<F: Future>(headers: Map, work: F) -> F::Output {
    CARRIED.scope(headers, work).await
}

/// Gives a message the headers that it is to carry. What tells of a trace is written anew: a message that is sent again is sent
/// by another span.
pub(crate) fn load(message: &mut TaskMessage) {
    // Outside of a task nothing is carried.
    let _ = CARRIED.try_with(|headers| {
        for (name, value) in headers {
            if !message.custom.contains_key(name) {
                message.custom.insert(name.clone(), value.clone());
            }
        }
    });
    let trace = trace_context::headers();
    message.custom.extend(trace.into_iter().map(|(name, value)| (name.to_owned(), value.into())));
}
