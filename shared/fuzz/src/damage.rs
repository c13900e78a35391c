//! How bytes are damaged: flips, cuts, repeats, pieces of others, and values that stand at the edge of what a number can be.

use proptest::prelude::Rng;
use proptest::test_runner::TestRng;

/// Signs that mean something to one parser or another.
const SIGNS: &[u8] = b"\x00\xff\"\\{}[]():,.!&*-<'|>#%@`~\n\x80\x94\x8c\x06\x16";

/// What a field may come to hold instead of what was there.
const EDGES: &[&str] = &[
    "null",
    "true",
    "0",
    "-1",
    "-0.0",
    "1.5",
    "255",
    "65536",
    "2147483648",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1e308",
    "1e999",
    "-1e999",
    "1e-400",
    "NaN",
    "Infinity",
    "-Infinity",
    "\"\"",
    "[]",
    "{}",
    "[[]]",
    "[null]",
    "{\"\":null}",
    "\"\\ud800\"",
    "\"\\u0000\"",
    "\"inf\"",
    "\"nan\"",
    "\"0001-01-01T00:00:00\"",
    "\"9999-12-31T23:59:59.999999+14:00\"",
    "\"2026-02-30T25:61:61\"",
    "\"-292277022657-01-27T08:29:52Z\"",
    "{\"__type__\":\"datetime\",\"__value__\":\"\"}",
    "{\"__type__\":\"bytes\",\"__value__\":{}}",
    "{\"__type__\":\"decimal\",\"__value__\":\"1e999999999\"}",
    "{\"task\":\"a\"}",
];

/// One of the seeds, damaged at one to six places; now and then mere noise.
pub fn damage(random: &mut TestRng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut below = |n: usize| (random.next_u64() % n.max(1) as u64) as usize;
    let mut bytes = seeds[below(seeds.len())].clone();
    if below(12) == 0 {
        bytes = (0..below(200)).map(|_| below(256) as u8).collect();
    }
    for _ in 0..=below(6) {
        let at = below(bytes.len());
        match below(9) {
            0 if !bytes.is_empty() => bytes[at] ^= 1_u8 << below(8),
            1 if !bytes.is_empty() => bytes[at] = below(256) as u8,
            2 => bytes.truncate(at),
            3 => bytes.insert(at, SIGNS[below(SIGNS.len())]),
            4 => {
                let (from, other) = (below(bytes.len()), &seeds[below(seeds.len())]);
                let (start, length) = (below(other.len()), below(60));
                let piece: Vec<u8> = other.iter().skip(start).take(length).copied().collect();
                bytes.splice(from..from, piece);
            }
            5 => {
                let piece: Vec<u8> = bytes.iter().skip(at).take(below(30)).copied().collect();
                let most = if below(50) == 0 { 2000 } else { 6 };
                let times = below(most);
                bytes.splice(at..at, piece.repeat(times));
            }
            6 | 7 => {
                if let Some((from, to)) = value_after(&bytes, at) {
                    bytes.splice(from..to, EDGES[below(EDGES.len())].bytes());
                }
            }
            _ if !bytes.is_empty() => drop(bytes.remove(at)),
            _ => {}
        }
    }
    bytes
}

/// Where the next simple value of a JSON text begins and ends, seen from somewhere in it.
fn value_after(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let before = at + bytes.get(at..)?.iter().position(|byte| b":[,".contains(byte))? + 1;
    let from = before + bytes[before..].iter().position(|byte| *byte != b' ')?;
    let length = match bytes[from] {
        b'"' => 2 + bytes[from + 1..].iter().position(|byte| *byte == b'"')?,
        _ => bytes[from..].iter().position(|byte| b",]} ".contains(byte))?,
    };
    Some((from, from + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_where_they_stand() {
        let text = b"{\"a\": 12, \"b\": \"c d\"}";
        let found = |at| value_after(text, at).map(|(from, to)| &text[from..to]);
        assert_eq!(found(0), Some(&b"12"[..]));
        assert_eq!(found(8), Some(&b"\"b\""[..]), "a name is as good");
        assert_eq!(found(10), Some(&b"\"c d\""[..]));
        assert_eq!(found(text.len() - 1), None);
    }
}
