//! Damaged bytes for parsers, on stable Rust: a target is a test that hands a parser what Celery writes, damaged, and nothing of
//! it may panic, hang or eat memory. Each crate has its targets beside its parsers; their names begin with `fuzz`.
//!
//! ```no_run
//! petiole_fuzz::run("numbers", &[b"12".to_vec()], |bytes| {
//!     let _ = std::str::from_utf8(bytes).map(str::parse::<u64>);
//! });
//! ```
//!
//! A target runs for a second or two. `FUZZ_SECONDS=600 cargo test fuzz` gives each of them ten minutes; `FUZZ_SEED` takes other ways.
#![allow(clippy::panic, reason = "a failed test is a panic")]

mod damage;
mod samples;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::test_runner::{RngAlgorithm, TestRng};

pub use damage::damage;
pub use samples::{Kind, samples, texts};

/// How long a target runs where nobody says more.
const USUAL: Duration = Duration::from_millis(1500);
/// No input may take longer, on a machine that does other things as well.
const LONGEST: Duration = Duration::from_secs(20);

/// How long each target runs: `FUZZ_SECONDS`, or a moment.
pub fn duration() -> Duration {
    let asked = std::env::var("FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    asked.map_or(USUAL, Duration::from_secs)
}

/// Chance that can be repeated: `FUZZ_SEED` and the target's name decide.
pub fn random(name: &str) -> TestRng {
    let seed = std::env::var("FUZZ_SEED").ok().and_then(|text| text.parse::<u64>().ok()).unwrap_or(1);
    let mut bytes = [0_u8; 32];
    for (at, byte) in seed.to_le_bytes().into_iter().chain(name.bytes()).enumerate() {
        bytes[at % 32] = bytes[at % 32].wrapping_mul(31).wrapping_add(byte);
    }
    TestRng::from_seed(RngAlgorithm::ChaCha, &bytes)
}

/// Hands the seeds to a parser as they are, and then damaged for as long as [`duration`] says.
///
/// # Panics
/// When the parser does, or takes far too long; the input is printed before.
pub fn run(name: &str, seeds: &[Vec<u8>], parse: impl Fn(&[u8])) {
    assert!(!seeds.is_empty(), "{name}: there are no seeds");
    let mut random = random(name);
    let (begun, at_most, mut inputs, mut slowest) = (Instant::now(), duration(), 0_u64, Duration::ZERO);
    let mut one = |bytes: &[u8]| {
        let begun = Instant::now();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| parse(bytes))) {
            eprintln!("{name}: input, in base64: {}", STANDARD.encode(bytes));
            resume_unwind(panic);
        }
        inputs += 1;
        slowest = slowest.max(begun.elapsed());
        assert!(slowest < LONGEST, "{name}: {slowest:?} for {}", STANDARD.encode(bytes));
    };
    seeds.iter().for_each(|seed| one(seed));
    while begun.elapsed() < at_most {
        one(&damage(&mut random, seeds));
    }
    println!("{name}: {inputs} inputs in {:?}, the slowest {slowest:?}", begun.elapsed());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_a_parser_is_found() {
        let found = catch_unwind(|| {
            run("finds", &[b"{\"a\": 1}".to_vec()], |bytes| assert!(bytes.first() == Some(&b'{'), "another start"));
        });
        assert!(found.is_err(), "1.5 s of damage did not change the first byte");
    }

    #[test]
    fn the_same_seed_takes_the_same_way() {
        let some = |name| (0..20).map(|_| damage(&mut random(name), &texts(&["abc", "defg"]))).collect::<Vec<_>>();
        assert_eq!(some("a"), some("a"));
        assert_ne!(some("a"), some("b"));
    }
}
