//! The application's own tasks. Adding one: write the function, add one line to [`app`].
//!
//! | module | holds |
//! |---|---|
//! | [`demo`] | small tasks to try a worker with |
//! | [`tasks`] | the tasks about documents and events |
//! | [`documents`] | a document becomes passages with vectors |
//! | [`answers`] | a question becomes an answer with citations |
//! | [`events`] | event types and what each of them does |
//! | [`workflows`] | event types whose work is a graph of steps |
//! | [`schedules`], [`beat`] | what is sent when, and by whom |
//! | [`services`] | what tasks work with: the database, the models, the chunker |

pub mod answers;
pub mod beat;
pub mod demo;
pub mod documents;
pub mod events;
mod retry;
pub mod schedules;
pub mod services;
pub mod tasks;
pub mod workflows;

use petiole_engine::{App, EngineError};

pub use services::Services;

/// All tasks of this worker.
///
/// # Errors
/// Two tasks of one name.
pub fn app() -> Result<App, EngineError> {
    let builder = App::builder()
        .task::<demo::add>()
        .task::<demo::echo>()
        .task::<demo::sleep>()
        .task::<demo::fail>()
        .task::<demo::progress>()
        .task::<demo::compose>()
        .task::<tasks::ingest_document>()
        .register(tasks::ProcessIncomingEvent)
        .task::<tasks::generate_answer>();
    let workflows = workflows::tasks(tasks::registry().workflows());
    workflows.into_iter().fold(builder, |builder, task| builder.register(task)).build()
}
