//! Counting the parts of a chord (celery.backends.redis: RedisBackend.set_chord_size, on_chord_part_return). The keys and
//! their transitions are Celery's: Python workers may report parts of the same chord.

use std::time::Duration;

use petiole_protocol::serializer::decode_result;
use redis::AsyncCommands;
use serde_json::Value;

use crate::backend::Backend;
use crate::error::RedisError;
use crate::scripts;
use crate::settle::Write;

/// How long a worker has, once all parts are there, to send the body: twice Celery's `result_chord_join_timeout`.
const CLAIM: Duration = Duration::from_secs(6);
/// The same while it joins and publishes.
const RENEWED_CLAIM: Duration = Duration::from_secs(21);
/// How long the end of a chord is remembered, for parts that come late.
const DONE: Duration = Duration::from_secs(300);

/// A part of a chord that is done.
#[derive(Debug, Clone)]
pub struct Part<'a> {
    /// The chord's header.
    pub group_id: &'a str,
    /// The place in the header; none: at the end.
    pub index: Option<i64>,
    /// The task that is the part.
    pub task_id: &'a str,
    /// Its state.
    pub state: &'a str,
    /// Its result or exception map.
    pub result: &'a Value,
    /// Its message was delivered before: it may have been counted.
    pub redelivered: bool,
}

/// A part as it lies in the chord's key: `[1, id, state, result]`.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredPart {
    /// The task.
    pub task_id: String,
    /// Its state.
    pub state: String,
    /// Its result or exception map.
    pub result: Value,
}

/// The right to send a chord's body.
#[derive(Debug, Clone)]
pub struct Claim {
    group_id: String,
    token: String,
}

impl Claim {
    /// What is under the chord's `.c` while it holds.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }
}

impl Backend {
    fn chord_keys(&self, group_id: &str) -> [String; 6] {
        let key = self.group_key(group_id);
        [".j", ".t", ".s", ".d", "", ".c"].map(|suffix| format!("{key}{suffix}"))
    }

    /// Says how many parts a chord has, before its last one is sent.
    pub fn chord_size(&self, group_id: &str, size: usize, expires: Duration) -> [Write; 2] {
        let [_, _, s, _, _, c] = self.chord_keys(group_id);
        [
            Write::Delete(c),
            Write::Set { key: s, seconds: expires.as_secs().max(1), text: size.to_string().into_bytes() },
        ]
    }

    /// One more part is coming: a task adds one to its own chord.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn add_chord_member(&self, group_id: &str, members: usize) -> Result<(), RedisError> {
        let [_, t, ..] = self.chord_keys(group_id);
        Ok(self.connection().incr(t, members).await?)
    }

    /// Counts a part, once, however often it is written. The last one has a claim: whoever has it sends the body, and
    /// [ends](Self::chord_end) the chord with it.
    pub fn chord_part(&self, part: &Part<'_>, expires: Duration) -> Write {
        let score = part.index.map_or("+inf".to_owned(), |index| index.to_string());
        Write::ChordPart {
            keys: self.chord_keys(part.group_id),
            seen: format!("{}:{score}", part.task_id),
            encoded: self.format().encode(&Value::Array(vec![
                1.into(),
                part.task_id.into(),
                part.state.into(),
                part.result.clone(),
            ])),
            score,
            seconds: expires.as_secs().max(1),
            claim_seconds: CLAIM.as_secs(),
            claim: Claim { group_id: part.group_id.to_owned(), token: uuid::Uuid::new_v4().simple().to_string() },
            redelivered: part.redelivered,
        }
    }

    /// The parts of a chord, in order.
    ///
    /// # Errors
    /// Redis is away, or something else lies there.
    pub async fn chord_parts(&self, group_id: &str) -> Result<Vec<StoredPart>, RedisError> {
        let [j, ..] = self.chord_keys(group_id);
        let texts: Vec<Vec<u8>> = self.connection().zrange(j, 0, -1).await?;
        let unreadable = || RedisError::Data(format!("a part of chord {group_id} cannot be read"));
        texts.iter().map(|text| stored_part(text).ok_or_else(unreadable)).collect()
    }

    /// Keeps the right to send the body while it is being joined and sent. False: another has it now.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn renew_chord(&self, claim: &Claim) -> Result<bool, RedisError> {
        let [_, _, s, _, _, c] = self.chord_keys(&claim.group_id);
        let mut call = scripts::CHORD_RENEW.prepare_invoke();
        call.key(c).key(s).arg(&claim.token).arg(RENEWED_CLAIM.as_secs());
        Ok(call.invoke_async::<i64>(&mut self.connection()).await? == 1)
    }

    /// The keys go, and what is written after this, the body, is written if the claim still holds.
    pub fn chord_end(&self, claim: &Claim) -> Write {
        Write::ChordEnd { keys: self.chord_keys(&claim.group_id), claim: claim.clone(), seconds: DONE.as_secs() }
    }

    /// The body failed: no part can complete the chord any more; the parts stay to be looked at.
    ///
    /// # Errors
    /// Redis is away: to be called again.
    pub async fn fail_chord(&self, claim: &Claim) -> Result<(), RedisError> {
        let [_, _, s, ..] = self.chord_keys(&claim.group_id);
        Ok(self.connection().del(s).await?)
    }
}

/// A part as [`Backend::chord_part`] or a Python worker wrote it.
pub(crate) fn stored_part(text: &[u8]) -> Option<StoredPart> {
    let Ok(Value::Array(mut items)) = decode_result(text) else { return None };
    if items.len() != 4 {
        return None;
    }
    Some(StoredPart {
        result: items.pop()?,
        state: items.pop()?.as_str()?.to_owned(),
        task_id: items.pop()?.as_str()?.to_owned(),
    })
}
