//! The task service: the application's own tasks. Adding one: write the function, add one line to [`app`].

pub mod demo;

use petiole_engine::{App, EngineError};

/// All tasks of this worker.
///
/// # Errors
/// Two tasks of one name.
pub fn app() -> Result<App, EngineError> {
    App::builder()
        .task::<demo::add>()
        .task::<demo::echo>()
        .task::<demo::sleep>()
        .task::<demo::fail>()
        .task::<demo::progress>()
        .build()
}
