//! The application's own tasks, as plain functions; the binary `worker` hands them to the engine.
//!
//! | module | holds |
//! |---|---|
//! | [`services`] | what tasks work with: the database, the embedder, the chunker |
//! | [`documents`] | a document becomes passages with vectors |
//! | [`events`] | event types and what each of them does |

pub mod documents;
pub mod events;
pub mod services;

pub use services::Services;
