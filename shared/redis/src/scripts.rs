//! The Lua scripts. Each may run twice without harm: a connection can break after it ran.

use std::sync::LazyLock;

use redis::aio::ConnectionLike;
use redis::{ErrorKind, Script, ServerErrorKind, cmd};

use crate::error::RedisError;

/// A script that is called by its hash, in calls that are put together elsewhere.
pub(crate) struct Lua {
    code: &'static str,
    hash: LazyLock<String>,
}

/// Moves messages from the lists into `unacked`.
pub(crate) static FETCH: Lua = Lua::new(include_str!("scripts/fetch.lua"), || hash(&FETCH));
/// Settles deliveries.
pub(crate) static SETTLE: Lua = Lua::new(include_str!("scripts/settle.lua"), || hash(&SETTLE));

impl Lua {
    const fn new(code: &'static str, hash: fn() -> String) -> Self {
        Self { code, hash: LazyLock::new(hash) }
    }

    /// The name by which Redis knows it.
    pub(crate) fn hash(&self) -> &str {
        &self.hash
    }
}

/// What stands in `unacked` behind a message of this queue.
pub(crate) fn tail(queue: &str) -> String {
    format!(", \"\", {}]", serde_json::Value::from(queue))
}

fn hash(lua: &Lua) -> String {
    Script::new(lua.code).get_hash().to_owned()
}

macro_rules! script {
    ($(#[$doc:meta])* $name:ident, $($file:literal),+) => {
        $(#[$doc])*
        pub(crate) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(concat!($(include_str!(concat!("scripts/", $file))),+)));
    };
}

script!(
    /// Gives messages back to their lists.
    RESTORE, "place.lua", "record.lua", "restore.lua"
);
script!(
    /// Claims places for messages.
    PREPARE, "prepare.lua"
);
script!(
    /// Fetches a message once more that has been fetched without the script.
    MOVE_ON, "move_on.lua", "fetch.lua"
);
script!(
    /// Records messages in `unacked` that were fetched without the script.
    RECORD, "place.lua", "record.lua", "record_all.lua"
);
script!(
    /// Strikes tags without messages.
    FORGET, "forget.lua"
);
script!(
    /// Strikes places into which nothing came.
    STRIKE, "place.lua", "strike.lua"
);
script!(
    /// Forgets an owner that holds nothing.
    BURY, "bury.lua"
);
script!(
    /// Deletes a lock that is still one's own.
    UNLOCK, "unlock.lua"
);
script!(
    /// Says that a worker lives, and asks who does not.
    ALIVE, "alive.lua"
);
script!(
    /// Adds a binding that may be swept after its deadline.
    BIND, "bind.lua"
);
script!(
    /// Renews the claim on a chord's body.
    CHORD_RENEW, "chord_renew.lua"
);
script!(
    /// Sends a dead letter again.
    REPLAY, "replay.lua"
);
script!(
    /// Lets a message wait for its time.
    WAIT, "place.lua", "record.lua", "wait.lua"
);
script!(
    /// Puts messages whose time has come back to their queues.
    DUE, "due.lua"
);
script!(
    /// Takes a message that waits.
    TAKE, "take.lua"
);
script!(
    /// Publishes messages that were not published before.
    PUBLISH_ONCE, "publish_once.lua"
);
script!(
    /// Counts unacknowledged messages by where they came from.
    UNACKED_COUNT, "unacked_count.lua"
);

/// Does Redis not know the script?
pub(crate) fn is_unknown(error: &redis::RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

/// Loads a script.
pub(crate) async fn load(connection: &mut impl ConnectionLike, script: &Lua) -> Result<(), RedisError> {
    Ok(cmd("SCRIPT").arg("LOAD").arg(script.code).query_async::<()>(connection).await?)
}
