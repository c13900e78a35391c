//! Headers that go from a running task to the messages that it sends: the trace they belong to, and whatever follows a request
//! through all its tasks.

use std::borrow::Cow;
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

/// The message with the headers that it is to carry. What tells of a trace is written anew: a message that is sent again is
/// sent by another span.
pub(crate) fn loaded(message: &TaskMessage) -> Cow<'_, TaskMessage> {
    let trace = trace_context::headers();
    let carries = |headers: &Map| headers.keys().any(|name| !message.custom.contains_key(name));
    let carried = CARRIED.try_with(|headers| carries(headers).then(|| headers.clone())).ok().flatten();
    if trace.is_empty() && carried.is_none() {
        return Cow::Borrowed(message);
    }
    let mut message = message.clone();
    for (name, value) in carried.into_iter().flatten() {
        message.custom.entry(name).or_insert(value);
    }
    message.custom.extend(trace.into_iter().map(|(name, value)| (name.to_owned(), value.into())));
    Cow::Owned(message)
}
