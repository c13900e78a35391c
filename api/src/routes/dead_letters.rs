//! Dead letters: messages that no worker will run, looked at, sent again or thrown away.

use petiole_client::dead_letters::DeadLetter;
use poem::web::Data;
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::types::Example;
use poem_openapi::{ApiResponse, Object, OpenApi};

use crate::failures::{Answer, One};
use crate::problem::Problem;
use crate::routes::Group;
use crate::routes::default_limit;
use crate::routes::tasks::within;
use crate::state::State;

#[derive(Clone, Default)]
pub(crate) struct DeadLetters;

/// A message that no worker will run: one that cannot be read, or one that took its worker with it each time.
#[derive(Debug, Object)]
#[oai(rename = "DeadLetter")]
pub(crate) struct DeadLetterView {
    /// Its delivery tag, by which it is found here.
    id: String,
    /// The task it calls; null when that cannot be read.
    task: Option<String>,
    /// The task's id; null when that cannot be read.
    task_id: Option<String>,
    /// The queue it came from, and goes back to when it is sent again.
    queue: String,
    /// Why it is here.
    reason: String,
    /// How often it was begun again after it had been delivered before.
    redeliveries: u64,
    /// The worker that gave it up.
    worker: String,
    /// When, RFC 3339.
    time: String,
    /// The message as it was fetched; long ones are cut.
    message: String,
}

/// So much of a message is shown.
const SHOWN: usize = 4000;

impl From<DeadLetter> for DeadLetterView {
    fn from(letter: DeadLetter) -> Self {
        Self {
            id: letter.id,
            task: letter.task,
            task_id: letter.task_id,
            queue: letter.queue,
            reason: letter.reason,
            redeliveries: letter.redeliveries,
            worker: letter.worker,
            time: letter.time,
            message: letter.message.chars().take(SHOWN).collect(),
        }
    }
}

/// A page of dead letters.
#[derive(Debug, Object)]
#[oai(example)]
pub(crate) struct DeadLetterPage {
    /// The letters, the latest first.
    items: Vec<DeadLetterView>,
    /// Where the next page begins; null on the last one.
    next_cursor: Option<String>,
}

impl Example for DeadLetterPage {
    fn example() -> Self {
        let text = str::to_owned;
        let letter = DeadLetterView {
            id: text("4c0d5e1c-2f3a-4f6e-9d1b-5b1c8a7e6f00"),
            task: Some(text("demo.add")),
            task_id: Some(text("0f8fad5b-d9cb-469f-a165-70867728950e")),
            queue: text("celery"),
            reason: text("Worker exited prematurely 4 times while it ran this task"),
            redeliveries: 4,
            worker: text("celery@host"),
            time: text("2026-01-31T12:00:00.000000+00:00"),
            message: text(r#"{"body":"…","headers":{"task":"demo.add"}}"#),
        };
        Self { items: vec![letter], next_cursor: None }
    }
}

#[derive(ApiResponse)]
pub(crate) enum Replayed {
    /// It is in its queue again, as a new message.
    #[oai(status = 202)]
    Accepted,
}

#[derive(ApiResponse)]
pub(crate) enum DeletedLetter {
    /// It is gone.
    #[oai(status = 204)]
    Deleted,
}

#[OpenApi]
impl DeadLetters {
    /// List dead letters
    ///
    /// Messages that could not be read, and those that took their worker with them more than `TASK_MAX_REDELIVERIES` times.
    /// The latest first, by pages: give `next_cursor` as `cursor` for the next one. The last 10,000 are kept.
    #[oai(path = "/v1/dead-letters", method = "get", operation_id = "listDeadLetters", tag = "Group::Workers")]
    async fn list(
        &self,
        state: Data<&State>,
        /// At most this many.
        #[oai(default = "default_limit", validator(minimum(value = "1"), maximum(value = "200")))]
        limit: Query<u64>,
        /// Where the page begins: `next_cursor` of the page before.
        #[oai(validator(pattern = r"^[^\x00]*$"))]
        cursor: Query<Option<String>>,
    ) -> Answer<Json<DeadLetterPage>, One> {
        let after = cursor.0.as_deref().filter(|cursor| !cursor.is_empty());
        let found =
            within(state.limits.request, async { Ok(state.client.dead_letters(after, limit.0 as usize + 1).await?) })
                .await?;
        let mut letters = found.ok_or_else(|| {
            Problem::not_found("cursor: is no next_cursor of this list, or its letter has gone; begin again without it")
        })?;
        let more = letters.len() as u64 > limit.0;
        letters.truncate(limit.0 as usize);
        let next_cursor = letters.last().filter(|_| more).map(|letter| letter.id.clone());
        Ok(Json(DeadLetterPage { items: letters.into_iter().map(Into::into).collect(), next_cursor }))
    }

    /// Send a dead letter again
    ///
    /// To its queue, as a new message without a past: it may be begun as often as any other. It is no dead letter any more.
    #[oai(
        path = "/v1/dead-letters/:id/replay",
        method = "post",
        operation_id = "replayDeadLetter",
        tag = "Group::Workers"
    )]
    async fn replay(
        &self,
        state: Data<&State>,
        /// The letter's id.
        id: Path<String>,
    ) -> Answer<Replayed, One> {
        let replayed = within(state.limits.request, async { Ok(state.client.replay_dead_letter(&id.0).await?) });
        if replayed.await? { Ok(Replayed::Accepted) } else { Err(unknown().into()) }
    }

    /// Throw a dead letter away
    ///
    /// Its task keeps the failure that was stored for it.
    #[oai(path = "/v1/dead-letters/:id", method = "delete", operation_id = "deleteDeadLetter", tag = "Group::Workers")]
    async fn delete(
        &self,
        state: Data<&State>,
        /// The letter's id.
        id: Path<String>,
    ) -> Answer<DeletedLetter, One> {
        let deleted = within(state.limits.request, async { Ok(state.client.delete_dead_letter(&id.0).await?) });
        if deleted.await? { Ok(DeletedLetter::Deleted) } else { Err(unknown().into()) }
    }
}

fn unknown() -> Problem {
    Problem::not_found("there is no such dead letter")
}
