//! Workflows: event types whose work is a graph of steps. Each step is a Celery task of its own, so that it shows in Flower with
//! its parent and its root, is tried again by itself, and may live in another worker; what went in and what came out is kept
//! with the event.
//!
//! | module | holds |
//! |---|---|
//! | [`flow`] | the graph: steps, sequences, branches, what runs side by side |
//! | `canvas` | the Celery canvas that a graph becomes |
//! | `run` | the tasks: steps, the choice of a way, the end, failures |
//! | [`digest`] | the workflow that ships: `text.digest` |

mod canvas;
pub mod digest;
pub mod flow;
mod run;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use canvas::{Begun, Plan};
pub use flow::{Flow, Step};
pub(crate) use run::tasks;

/// An event type that is a workflow. To add one: implement this, and add one line to
/// [`Registry::shipped`](crate::events::Registry::shipped).
pub trait Workflow: Send + Sync + 'static {
    /// The event's type, such as `text.digest`.
    const TYPE: &'static str;
    /// What the event's `data` must hold: the input of the first step.
    type Data: Serialize + DeserializeOwned + Send + 'static;
    /// What becomes the event's `output`: that of the last step.
    type Output: Serialize + DeserializeOwned + Send + 'static;

    /// The graph.
    fn flow(&self) -> Flow<Self::Data, Self::Output>;
}
