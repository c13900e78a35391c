//! The Lua scripts. Each may run twice without harm: a connection can break after it ran.

use std::sync::LazyLock;

use redis::Script;

macro_rules! script {
    ($(#[$doc:meta])* $name:ident, $file:literal) => {
        $(#[$doc])*
        pub(crate) static $name: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!(concat!("scripts/", $file))));
    };
}

script!(
    /// Moves messages from the lists into `unacked`.
    FETCH, "fetch.lua"
);
script!(
    /// Gives messages back to their lists.
    RESTORE, "restore.lua"
);
script!(
    /// Deletes a lock that is still one's own.
    UNLOCK, "unlock.lua"
);
script!(
    /// Stores a result unless a SUCCESS is there, and publishes it.
    STORE, "store.lua"
);
script!(
    /// Adds a binding that may be swept after its deadline.
    BIND, "bind.lua"
);
script!(
    /// Counts a chord part and claims the body when it was the last.
    CHORD_PART, "chord_part.lua"
);
script!(
    /// Renews the claim on a chord's body.
    CHORD_RENEW, "chord_renew.lua"
);
script!(
    /// Ends a chord: its keys go, the claim stays as `done`.
    CHORD_DONE, "chord_done.lua"
);
script!(
    /// Counts unacknowledged messages by where they came from.
    UNACKED_COUNT, "unacked_count.lua"
);
