//! Long texts that go ahead of the settling script, in the same transaction: Lua copies and hashes every byte of what it is given,
//! at a nanosecond each, and a plain command does not.

use redis::{Cmd, Pipeline};

use crate::keys::Keys;
use crate::settle::{Settlement, Write};

/// From this length on, in bytes, a text does not pass through the script.
pub(crate) const LONG: usize = 8 * 1024;

/// Room for the other arguments of a command, in bytes.
const ROOM: usize = 256;

/// How long a result that went ahead is kept if its transaction did not end, in seconds.
const KEPT: u64 = 60;

/// Puts long messages into `unacked` and long results under temporary keys, where the script finds them. Gives whether there were
/// any: the script then has to follow in the same transaction.
pub(crate) fn go_ahead(keys: &Keys, settlements: &[Settlement], pipe: &mut Pipeline) -> bool {
    let before = pipe.cmd_iter().count();
    for (place, write) in settlements.iter().flat_map(|settlement| &settlement.writes).enumerate() {
        let ahead = match write {
            Write::Push(push) if push.goes_ahead() => {
                let mut command = command(push.text.len(), "HSET");
                command.arg(keys.unacked()).arg(&push.tag).arg(push.entry());
                command
            }
            Write::Result { key, text, .. } if text.len() >= LONG => {
                command(text.len(), "SET").arg(temporary(key, place)).arg(text).arg("EX").arg(KEPT).take()
            }
            _ => continue,
        };
        if pipe.cmd_iter().count() == before {
            pipe.cmd("MULTI");
        }
        pipe.add_command(ahead);
    }
    pipe.cmd_iter().count() > before
}

/// A command with room for a text of that length, so that the text is copied but once.
fn command(text: usize, name: &str) -> Cmd {
    let mut command = Cmd::with_capacity(5, text + ROOM);
    command.arg(name);
    command
}

/// Where a long result lies until the script puts it in its place. `place` counts the writes of a call: one task may have several.
pub(crate) fn temporary(key: &str, place: usize) -> String {
    format!("{key}:ahead:{place}")
}
