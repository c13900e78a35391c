//! Settling deliveries: results, messages that follow, chord counts and the acknowledgement in one script, so that a crash
//! finds all of it done or nothing, and a worker that has lost its claim does nothing.

use petiole_protocol::TaskMeta;
use redis::{Cmd, Pipeline, Value, cmd, pipe};

use crate::ahead::{self, LONG};
use crate::backend::Backend;
use crate::broker::Broker;
use crate::chord::Claim;
use crate::commands::Commands;
use crate::error::RedisError;
use crate::handover::Push;
use crate::keys::Keys;
use crate::scripts;

/// How long it is remembered that something was done once: longer than anybody tries to do it again.
const ONCE: u64 = 300;

/// What is to be done with a delivery. All of it happens together with the acknowledgement.
#[derive(Debug, Clone, Default)]
pub struct Settlement {
    /// The delivery tag. None: nothing to acknowledge.
    pub tag: Option<String>,
    /// What is written, in order.
    pub writes: Vec<Write>,
}

/// One write of a settlement.
#[derive(Debug, Clone)]
pub enum Write {
    /// What comes after happens once, however often the settlement is tried.
    Once(String),
    /// A message to the end of its queue.
    Push(Box<Push>),
    /// A message to whoever listens.
    Publish {
        /// The channel.
        channel: String,
        /// The envelope's JSON text.
        text: String,
    },
    /// A value under a key.
    Set {
        /// The key.
        key: String,
        /// How long it is kept; 0 for ever.
        seconds: u64,
        /// The value.
        text: Vec<u8>,
    },
    /// A key goes.
    Delete(String),
    /// A field of a hash goes.
    DeleteField {
        /// The hash.
        key: String,
        /// The field.
        field: String,
    },
    /// A message is put among the dead letters: see [`crate::dead::DeadLetter::write`].
    DeadLetter {
        /// The key of the ids.
        index: String,
        /// The key of the letters.
        letters: String,
        /// The letter's id.
        id: String,
        /// Seconds since the epoch.
        score: f64,
        /// The letter.
        text: String,
        /// How many are kept.
        kept: u64,
    },
    /// A result is stored and announced, unless a SUCCESS is there.
    Result {
        /// The key.
        key: String,
        /// How long it is kept; 0 for ever.
        seconds: u64,
        /// The meta as it is stored.
        text: Vec<u8>,
        /// No other comes after it.
        last: bool,
    },
    /// A part of a chord is counted. Only as the last write.
    ChordPart {
        /// `.j`, `.t`, `.s`, `.d`, the group's meta, `.c`
        keys: [String; 6],
        /// What tells a part from another: id and index.
        seen: String,
        /// The part as it is stored.
        encoded: Vec<u8>,
        /// Its place.
        score: String,
        /// How long the keys are kept.
        seconds: u64,
        /// How long the right to send the body holds.
        claim_seconds: u64,
        /// The right to send the body, if it is the last part.
        claim: Claim,
        /// Its message was delivered before.
        redelivered: bool,
    },
    /// A chord ends; what comes after happens only if the claim still holds.
    ChordEnd {
        /// As above.
        keys: [String; 6],
        /// The claim.
        claim: Claim,
        /// How long the end is remembered.
        seconds: u64,
    },
}

/// What became of a settlement.
#[derive(Debug, Clone)]
pub enum Settled {
    /// Done.
    Done,
    /// The message is no longer this worker's: nothing was done.
    Lost,
    /// Done, but for the acknowledgement: the chord's body is to be sent first.
    Claimed(Claim),
    /// One of the writes was refused; the rest was done.
    Refused(String),
}

impl Write {
    /// A result of a task.
    pub fn result(backend: &Backend, meta: &TaskMeta, expires: std::time::Duration) -> Self {
        Self::Result {
            key: backend.task_key(&meta.task_id),
            seconds: expires.as_secs(),
            text: meta.encode(backend.format()),
            last: meta.state().is_final(),
        }
    }

    /// What comes after happens once, under a token of its own.
    pub fn once(keys: &Keys) -> Self {
        Self::Once(keys.key(&format!("petiole:once:{}", uuid::Uuid::new_v4().simple())))
    }

    /// Does it belong to the broker's database? The others belong to the results'.
    fn is_brokers(&self) -> bool {
        matches!(
            self,
            Self::Once(_) | Self::Push(_) | Self::Publish { .. } | Self::DeleteField { .. } | Self::DeadLetter { .. }
        )
    }

    fn encode(&self, call: &mut Cmd, place: usize) {
        match self {
            Self::Once(key) => call.arg("O").arg(key).arg(ONCE),
            Self::Push(push) => {
                push.encode(call);
                call
            }
            Self::Publish { channel, text } => call.arg("U").arg(channel).arg(text),
            Self::Set { key, seconds, text } => call.arg("S").arg(key).arg(seconds).arg(text),
            Self::DeleteField { key, field } => call.arg("X").arg(key).arg(field),
            Self::DeadLetter { index, letters, id, score, text, kept } => {
                call.arg("L").arg(index).arg(letters).arg(id).arg(score).arg(text).arg(kept)
            }
            Self::Delete(key) => call.arg("D").arg(key),
            Self::Result { key, seconds, text, .. } if text.len() >= LONG => {
                call.arg("G").arg(key).arg(seconds).arg(ahead::temporary(key, place))
            }
            Self::Result { key, seconds, text, .. } => call.arg("R").arg(key).arg(seconds).arg(text),
            Self::ChordPart { keys, seen, encoded, score, seconds, claim_seconds, claim, redelivered } => call
                .arg("C")
                .arg(keys)
                .arg(seen)
                .arg(encoded)
                .arg(score)
                .arg(seconds)
                .arg(claim_seconds)
                .arg(claim.token())
                .arg(u8::from(*redelivered)),
            Self::ChordEnd { keys: [j, t, s, d, _, c], claim, seconds } => {
                call.arg("E").arg(c).arg(j).arg(t).arg(s).arg(d).arg(claim.token()).arg(seconds)
            }
        };
    }
}

impl Settlement {
    /// Only an acknowledgement.
    pub fn acknowledge(tag: impl Into<String>) -> Self {
        Self { tag: Some(tag.into()), writes: vec![] }
    }

    /// Writes with nothing to acknowledge.
    pub fn writes(writes: Vec<Write>) -> Self {
        Self { tag: None, writes }
    }

    fn claim(&self) -> Option<&Claim> {
        self.writes.iter().find_map(|write| match write {
            Write::ChordPart { claim, .. } => Some(claim),
            _ => None,
        })
    }

    /// What goes to the results' database, and what to the broker's, when they are two.
    fn split(&self) -> (Self, Self) {
        let (broker, results) = self.writes.iter().cloned().partition(Write::is_brokers);
        (Self { tag: None, writes: results }, Self { tag: self.tag.clone(), writes: broker })
    }
}

/// The call of the script, behind what [goes ahead](ahead::go_ahead) of it. Its answer is the last.
pub(crate) fn add(pipe: &mut Pipeline, keys: &Keys, owner: &str, settlements: &[Settlement]) {
    let transaction = ahead::go_ahead(keys, settlements, pipe);
    pipe.add_command(call(keys, owner, settlements));
    if transaction {
        pipe.cmd("EXEC");
    }
}

/// The script's answer among those to what was [added](add): the last, or in a transaction the last of the last.
pub(crate) fn answer(mut answers: Vec<Value>) -> Value {
    let alone = answers.len() < 2;
    match answers.pop() {
        Some(Value::Array(mut of_all)) if !alone => of_all.pop().unwrap_or(Value::Nil),
        answer => answer.unwrap_or(Value::Nil),
    }
}

/// Settles in one round trip.
async fn settle_by(
    connection: &mut Commands,
    keys: &Keys,
    owner: &str,
    settlements: &[Settlement],
) -> Result<Vec<Settled>, RedisError> {
    let mut pipe = pipe();
    add(&mut pipe, keys, owner, settlements);
    let answers: Vec<Value> = match pipe.query_async(connection).await {
        Err(error) if scripts::is_unknown(&error) => {
            scripts::load(connection, &scripts::SETTLE).await?;
            pipe.query_async(connection).await?
        }
        answers => answers?,
    };
    outcome(settlements, &answer(answers))
}

fn call(keys: &Keys, owner: &str, settlements: &[Settlement]) -> Cmd {
    let mut call = cmd("EVALSHA");
    call.arg(scripts::SETTLE.hash()).arg(3);
    call.arg(keys.unacked()).arg(keys.unacked_index()).arg(keys.held(owner));
    call.arg(settlements.len());
    for settlement in settlements {
        call.arg(settlement.tag.as_deref().unwrap_or_default());
    }
    let mut places = 0..;
    for settlement in settlements {
        call.arg(settlement.writes.len());
        for (write, place) in settlement.writes.iter().zip(&mut places) {
            write.encode(&mut call, place);
        }
    }
    call
}

/// Reads the script's answer. What follows it tells what was [taken](crate::handover::taken).
pub(crate) fn outcome(settlements: &[Settlement], answer: &Value) -> Result<Vec<Settled>, RedisError> {
    let Value::Array(answers) = answer else {
        return Err(RedisError::Data(format!("settling was answered by {answer:?}")));
    };
    let read = |(settlement, answer): (&Settlement, &Value)| match answer {
        Value::Int(0) => Settled::Lost,
        Value::Int(2) => settlement.claim().cloned().map_or(Settled::Done, Settled::Claimed),
        Value::BulkString(text) => Settled::Refused(String::from_utf8_lossy(text).into_owned()),
        Value::SimpleString(text) => Settled::Refused(text.clone()),
        _ => Settled::Done,
    };
    Ok(settlements.iter().zip(answers).map(read).collect())
}

impl Broker {
    /// Settles deliveries of `owner`. When results live in another database, theirs come first, and are not undone when
    /// a claim turns out to be lost.
    ///
    /// # Errors
    /// Redis is away: to be called again with the same settlements.
    pub async fn settle(
        &self,
        owner: &str,
        backend: &Backend,
        settlements: &[Settlement],
    ) -> Result<Vec<Settled>, RedisError> {
        if !backend.shares(self) {
            let (at_broker, claims) = backend.settle_results(settlements).await?;
            let settled = self.settle_here(owner, &at_broker).await?;
            return Ok(merge(settled, claims));
        }
        self.settle_here(owner, settlements).await
    }

    async fn settle_here(&self, owner: &str, settlements: &[Settlement]) -> Result<Vec<Settled>, RedisError> {
        settle_by(&mut self.connection(), self.keys(), owner, settlements).await
    }
}

impl Backend {
    /// The results' half of settlements, when they do not live on the broker. Gives the other half, and the claims.
    ///
    /// # Errors
    /// Redis is away: to be called again.
    pub async fn settle_results(
        &self,
        settlements: &[Settlement],
    ) -> Result<(Vec<Settlement>, Vec<Option<Claim>>), RedisError> {
        let (results, mut broker): (Vec<_>, Vec<_>) = settlements.iter().map(Settlement::split).unzip();
        let mut claims = vec![None; settlements.len()];
        if results.iter().any(|settlement| !settlement.writes.is_empty()) {
            let settled = settle_by(&mut self.connection(), self.keys(), "", &results).await?;
            for (place, settled) in settled.into_iter().enumerate() {
                if let Settled::Claimed(claim) = settled {
                    claims[place] = Some(claim);
                    broker[place].tag = None;
                }
            }
        }
        Ok((broker, claims))
    }
}

/// Puts claims that were won at the results' database to what the broker's said.
pub(crate) fn merge(settled: Vec<Settled>, claims: Vec<Option<Claim>>) -> Vec<Settled> {
    settled.into_iter().zip(claims).map(|(settled, claim)| claim.map_or(settled, Settled::Claimed)).collect()
}
