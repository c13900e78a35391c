//! Composing calls in Rust, as `celery.canvas` does in Python: chains, groups and chords of `#[celery::task]` functions and of
//! tasks that only have a name, because another program, or Python, has their code.
//!
//! ```
//! use celery::prelude::*;
//! use petiole_client::{chain, chord, group, partial, sig};
//!
//! #[celery::task(name = "demo.add")]
//! async fn add(x: i64, y: i64) -> TaskResult<i64> {
//!     Ok(x + y)
//! }
//!
//! // (1 + 2 + 3) * 10, the last step by a Python worker.
//! let steps = chain![add::new(1, 2), partial::<add>((3,)), sig("proj.multiply", (10,)).queue("python")];
//! // All members side by side, and then the list of their results to one task.
//! let sums = chord(group![add::new(1, 1), add::new(2, 2)], sig("proj.tsum", ()));
//! let safe = steps.link_error(sig("proj.on_error", ()).immutable()).stamp("tenant", "acme");
//! # assert_eq!((safe.task.as_str(), sums.task.as_str()), ("celery.chain", "celery.chord"));
//! ```
//! [`Client::call`](crate::Client::call) sends any of them and gives an [`AsyncResult`](crate::AsyncResult).

use celery::protocol::Message;
use celery::task::Task;
use petiole_protocol::serializer::from_json;
use petiole_protocol::{Signature, time, to_value};
use serde::Serialize;
use serde_json::Value;

/// What can be a part of a canvas.
pub trait IntoSignature {
    /// The signature.
    fn into_signature(self) -> Signature;
}

impl IntoSignature for Signature {
    fn into_signature(self) -> Signature {
        self
    }
}

impl IntoSignature for &Signature {
    fn into_signature(self) -> Signature {
        self.clone()
    }
}

/// rusty-celery's own signatures, with their times and limits. Their queue cannot be seen from outside of that crate: give it
/// by [`Signature::queue`].
impl<T: Task> IntoSignature for celery::task::Signature<T> {
    fn into_signature(self) -> Signature {
        let mut signature = Signature::new(T::NAME, vec![]);
        // The crate writes parameters as keywords; a result of a step before can only come before positional arguments.
        let Ok(message) = Message::try_from(self) else { return signature };
        if let Ok(Value::Array(mut body)) = from_json(&message.raw_body)
            && let Some(Value::Object(kwargs)) = body.get_mut(1)
        {
            signature.args = T::ARGS.iter().map(|name| kwargs.remove(*name).unwrap_or_default()).collect();
        }
        let headers = message.headers;
        let mut set = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                signature.options.insert(name.to_owned(), value);
            }
        };
        set("eta", headers.eta.map(|at| time::format(at).into()));
        set("expires", headers.expires.map(|at| time::format(at).into()));
        set("time_limit", headers.timelimit.0.map(Value::from));
        set("soft_time_limit", headers.timelimit.1.map(Value::from));
        signature
    }
}

/// A call of a task by its name, with a tuple of its arguments: `sig("proj.add", (1, 2))`.
pub fn sig(task: impl Into<String>, args: impl Serialize) -> Signature {
    let args = match serde_json::to_value(args) {
        Ok(Value::Array(args)) => args,
        // `()` is no argument at all.
        Ok(Value::Null) | Err(_) => vec![],
        Ok(one) => vec![one],
    };
    Signature::new(task, args)
}

/// A call of a `#[celery::task]` function without its first arguments, which the step before gives: `partial::<add>((3,))`.
pub fn partial<T: Task>(args: impl Serialize) -> Signature {
    sig(T::NAME, args)
}

/// A header and a task that gets the list of its results. A header that is no group is the only member of one.
pub fn chord(header: impl IntoSignature, body: impl IntoSignature) -> Signature {
    let (header, body) = (header.into_signature(), body.into_signature());
    let mut chord = Signature::chord(&[], &body);
    let header = if header.subtask_type.as_deref() == Some("group") { header } else { Signature::group(&[header]) };
    chord.kwargs.insert("header".into(), to_value(&header));
    chord
}

/// Tasks one after the other, each with the result of the one before.
#[macro_export]
macro_rules! chain {
    ($($task:expr),* $(,)?) => {
        $crate::Signature::chain(&[$($crate::IntoSignature::into_signature($task)),*])
    };
}

/// Tasks side by side.
#[macro_export]
macro_rules! group {
    ($($task:expr),* $(,)?) => {
        $crate::Signature::group(&[$($crate::IntoSignature::into_signature($task)),*])
    };
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, missing_docs)]
    use super::*;
    use celery::prelude::*;
    use serde_json::json;

    #[celery::task(name = "t.join")]
    async fn join(left: String, right: Option<String>) -> TaskResult<String> {
        Ok(left + &right.unwrap_or_default())
    }

    #[test]
    fn a_rusty_call_is_a_signature_with_its_arguments_in_order() {
        let call = join::new("a".to_owned(), None).with_expires_in(60).with_hard_time_limit(9).into_signature();
        assert_eq!((call.task.as_str(), call.args.as_slice()), ("t.join", &[json!("a"), Value::Null][..]));
        assert!(call.options["expires"].as_str().is_some_and(|at| time::parse(at).is_some()));
        assert_eq!(call.options["time_limit"], 9);
    }

    #[test]
    fn compositions_hold_what_they_are_made_of() {
        let chain = chain![join::new("a".to_owned(), None), partial::<join>(("b",)), sig("py.f", ())];
        let tasks = chain.kwargs["tasks"].as_array().unwrap();
        assert_eq!((tasks.len(), &tasks[1]["args"], &tasks[2]["args"]), (3, &json!(["b"]), &json!([])));
        let chord = chord(group![&chain, sig("py.g", (1, "x"))], sig("py.sum", ()));
        assert_eq!(chord.kwargs["header"]["kwargs"]["tasks"][1]["args"], json!([1, "x"]));
        let single = super::chord(sig("py.g", ()), sig("py.sum", ()));
        assert_eq!(single.kwargs["header"]["subtask_type"], "group");
    }
}
