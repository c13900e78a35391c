//! Which secrets are too weak to start with outside development.

use secrecy::{ExposeSecret, SecretString};

/// A password shorter than this is refused outside development.
pub const SHORTEST_PASSWORD: usize = 12;
/// An API key shorter than this is refused outside development: 22 characters of base64 are 128 bits.
pub const SHORTEST_API_KEY: usize = 22;

/// Words that stand where a secret should be, in examples and first drafts.
const STAND_INS: &[&str] =
    &["changeme", "changethis", "replaceme", "replacethis", "placeholder", "example", "yourpassword"];
const DEFAULTS: &[&str] =
    &["password", "passw0rd", "secret", "admin", "root", "postgres", "redis", "petiole", "flower", "guest", "default"];

/// Why `secret` must not guard anything that others can reach, as the end of a sentence; `None` if it may.
pub fn weakness(secret: &SecretString, shortest: usize) -> Option<String> {
    let secret = secret.expose_secret();
    let plain: String = secret.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    let letters = plain.trim_end_matches(|c: char| c.is_ascii_digit());
    if STAND_INS.iter().any(|word| plain.contains(word)) || DEFAULTS.contains(&letters) {
        return Some("a random secret, not a well-known one".to_owned());
    }
    let mut kinds: Vec<char> = secret.chars().collect();
    let length = kinds.len();
    kinds.sort_unstable();
    kinds.dedup();
    if length < shortest {
        return Some(format!("at least {shortest} characters long; it has {length}"));
    }
    if kinds.len() < 5 {
        return Some("a random secret, not a few characters repeated".to_owned());
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn weak_ones_are_refused_and_random_ones_are_not() {
        for weak in ["", "short", "changethis", "Change-Me-Please-Now", "postgres123456789", "aaaaaaaaaaaaaaaaaaaaaaaa"]
        {
            assert!(weakness(&SecretString::from(weak), SHORTEST_PASSWORD).is_some(), "{weak}");
        }
        for good in ["Zk3vT9qLr0Xw", "correct horse battery staple", "9f86d081884c7d659a2feaa0c55ad015"] {
            assert_eq!(weakness(&SecretString::from(good), SHORTEST_PASSWORD), None, "{good}");
        }
    }
}
