//! Connection URLs: made from their parts, and shown without their passwords.

use secrecy::{ExposeSecret, SecretString};

const HIDDEN: &str = "***";

/// `url` without what must not be seen: passwords, and query values whose name speaks of a secret. User, host, port and
/// path stay, so that the line still tells where a connection goes. Several URLs separated by `;` are handled each.
///
/// ```
/// # use petiole_settings::redacted_url;
/// assert_eq!(redacted_url("redis://:s3cret@cache:6379/0"), "redis://:***@cache:6379/0");
/// ```
pub fn redacted_url(url: &str) -> String {
    url.split(';').map(redact_one).collect::<Vec<_>>().join(";")
}

fn redact_one(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return redact_query(url) };
    // The last `@` of all: a password with an unescaped `/`, `?` or `@` in it must not slip through.
    match rest.rsplit_once('@') {
        Some((user, place)) => {
            let user = match user.split_once(':') {
                Some((name, _)) => format!("{name}:{HIDDEN}"),
                None => user.to_owned(),
            };
            format!("{scheme}://{user}@{}", redact_query(place))
        }
        None => format!("{scheme}://{}", redact_query(rest)),
    }
}

fn redact_query(rest: &str) -> String {
    let Some((place, query)) = rest.split_once('?') else { return rest.to_owned() };
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, _)) if speaks_of_a_secret(name) => format!("{name}={HIDDEN}"),
        _ => pair.to_owned(),
    });
    format!("{place}?{}", pairs.collect::<Vec<_>>().join("&"))
}

fn speaks_of_a_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["pass", "secret", "token", "key"].iter().any(|word| name.contains(word))
}

/// Where a service listens and how to get in, before it becomes a URL.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) scheme: &'a str,
    pub(crate) user: &'a str,
    pub(crate) password: Option<&'a SecretString>,
    pub(crate) host: &'a str,
    pub(crate) port: u16,
    pub(crate) path: &'a str,
}

impl Parts<'_> {
    pub(crate) fn url(&self) -> SecretString {
        let password = self.password.map(|password| format!(":{}", percent_encoded(password.expose_secret())));
        let user = percent_encoded(self.user);
        let login = match (user.is_empty(), password) {
            (true, None) => String::new(),
            (_, password) => format!("{user}{}@", password.unwrap_or_default()),
        };
        // An IPv6 address needs brackets, or its colons would be taken for the port's.
        let host = match self.host {
            host if host.contains(':') && !host.starts_with('[') => format!("[{host}]"),
            host => host.to_owned(),
        };
        SecretString::from(format!("{}://{login}{host}:{}/{}", self.scheme, self.port, percent_encoded(self.path)))
    }
}

/// Everything but RFC 3986's unreserved characters becomes `%XX`.
pub(crate) fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// The password inside a URL, percent-decoded; `None` when it has none, or an empty one.
pub(crate) fn password_of(url: &str) -> Option<SecretString> {
    let (_, rest) = url.split_once("://")?;
    let (user, _) = rest.rsplit_once('@')?;
    let (_, password) = user.split_once(':')?;
    (!password.is_empty()).then(|| SecretString::from(percent_decoded(password)))
}

/// Whether a URL names a socket file of this machine, which file permissions guard in place of a password.
pub(crate) fn is_local_socket(url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else { return false };
    let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
    scheme.ends_with("socket") || scheme.ends_with("unix") || place.starts_with("%2F") || place.starts_with("%2f")
}

fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = text.get(at + 1..at + 3).and_then(|code| u8::from_str_radix(code, 16).ok());
        match (bytes[at], code) {
            (b'%', Some(byte)) => {
                decoded.push(byte);
                at += 3;
            }
            (byte, _) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn passwords_are_hidden_however_they_are_written() {
        for (url, shown) in [
            ("redis://localhost:6379/0", "redis://localhost:6379/0"),
            ("redis://:pw@h/1", "redis://:***@h/1"),
            ("postgres://u:pw@h:5432/db?sslmode=require", "postgres://u:***@h:5432/db?sslmode=require"),
            ("postgres://u@h/db?password=pw", "postgres://u@h/db?password=***"),
            ("redis://:p@s/w?d#@h/1", "redis://:***@h/1"),
            ("sentinel://:a@h1:1;sentinel://:b@h2:2", "sentinel://:***@h1:1;sentinel://:***@h2:2"),
            ("not a url", "not a url"),
        ] {
            assert_eq!(redacted_url(url), shown);
        }
    }

    #[test]
    fn parts_are_escaped_and_come_back() {
        let password = SecretString::from("p@ss/w:rd%ä");
        let parts =
            Parts { scheme: "postgres", user: "us er", password: Some(&password), host: "::1", port: 5, path: "d/b" };
        let url = parts.url();
        assert_eq!(url.expose_secret(), "postgres://us%20er:p%40ss%2Fw%3Ard%25%C3%A4@[::1]:5/d%2Fb");
        assert_eq!(password_of(url.expose_secret()).unwrap().expose_secret(), "p@ss/w:rd%ä");
    }

    #[test]
    fn no_password_is_none() {
        for url in ["redis://h/0", "redis://:@h/0", "redis://u@h/0", "nothing"] {
            assert!(password_of(url).is_none(), "{url}");
        }
        assert!(is_local_socket("redis+socket:///run/redis.sock"));
        assert!(is_local_socket("postgres://u@%2Frun%2Fpostgresql/db"));
        assert!(!is_local_socket("redis://h/0"));
    }
}
