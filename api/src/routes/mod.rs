//! The operations of the contract, one file a resource.

pub(crate) mod answers;
pub(crate) mod collections;
pub(crate) mod conversations;
pub(crate) mod dead_letters;
pub(crate) mod document_stream;
pub(crate) mod documents;
pub(crate) mod events;
pub(crate) mod health;
pub(crate) mod keys;
pub(crate) mod metrics;
pub(crate) mod page;
pub(crate) mod queues;
pub(crate) mod recent_tasks;
pub(crate) mod schedules;
pub(crate) mod search;
pub(crate) mod task_stream;
pub(crate) mod tasks;
pub(crate) mod workers;
pub(crate) mod workflows;

use poem_openapi::Tags;

/// All operations.
pub(crate) type Operations = (
    (health::Health, page::Page),
    (documents::Documents, document_stream::DocumentStream, collections::Collections),
    (search::Search, answers::Answers, conversations::Conversations),
    events::Events,
    tasks::Tasks,
    task_stream::TaskStream,
    workflows::Workflows,
    schedules::Schedules,
    workers::Workers,
    // Tuples have a default up to twelve.
    (queues::Queues, dead_letters::DeadLetters),
    metrics::MetricsPage,
    keys::KeysApi,
);

/// The groups of operations in the description.
#[derive(Tags)]
#[oai(rename_all = "lowercase")]
pub(crate) enum Group {
    /// Whether the service lives, and whether it can work.
    Health,
    /// Texts that are cut into passages, embedded and found again.
    Documents,
    /// Passages by meaning, by words, or by both.
    Search,
    /// Questions, answered from the documents.
    Answers,
    /// Work that is asked for by what happened: stored first, then done.
    Events,
    /// Celery tasks: sent, followed, revoked.
    Tasks,
    /// Tasks that depend on each other: chains, groups, chords.
    Workflows,
    /// Tasks that are sent again and again.
    Schedules,
    /// Who works, and what waits to be worked on.
    Workers,
    /// Who may use the service, and how far.
    Keys,
}

/// How many items a page of a list has, when nobody says.
pub(crate) fn default_limit() -> u64 {
    50
}
