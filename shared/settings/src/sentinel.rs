//! The transport options of a `sentinel://` URL: the master's name, and the Sentinels' own login (kombu: `master_name`,
//! `sentinel_kwargs`). They become part of the URL, so that it alone says where a connection goes.

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

use crate::reader::Reader;
use crate::url::percent_encoded;

const EXPECTS: &str = "a JSON object, as {\"master_name\": \"mymaster\", \"sentinel_kwargs\": {\"password\": \"…\"}}";

/// The URL with the transport options that one of these variables holds. Another URL than Sentinel's stays as it is.
pub(crate) fn with_options(reader: &mut Reader, url: SecretString, names: &[&str]) -> SecretString {
    if !url.expose_secret().starts_with("sentinel://") || url.expose_secret().contains("master_name=") {
        return url;
    }
    let Some((name, text)) = reader.named_secret(names) else {
        reader.problem(names[0], None, "set: the URL is Sentinel's, and its master has a name (master_name)");
        return url;
    };
    let options = serde_json::from_str::<Map<String, Value>>(text.expose_secret()).ok();
    let Some((master, login)) = options.as_ref().and_then(read) else {
        reader.problem(&name, None, EXPECTS);
        return url;
    };
    let mut query = vec![format!("master_name={}", percent_encoded(master))];
    query.extend(login.iter().map(|(name, value)| format!("sentinel_{name}={}", percent_encoded(value))));
    let separator = if url.expose_secret().contains('?') { '&' } else { '?' };
    SecretString::from(format!("{}{separator}{}", url.expose_secret(), query.join("&")))
}

/// The master's name, and what of user and password the Sentinels want.
fn read(options: &Map<String, Value>) -> Option<(&str, Vec<(&str, &str)>)> {
    let master = options.get("master_name")?.as_str().filter(|name| !name.is_empty())?;
    let login = match options.get("sentinel_kwargs") {
        None | Some(Value::Null) => vec![],
        Some(Value::Object(login)) => {
            let texts =
                ["username", "password"].into_iter().filter_map(|name| Some((name, login.get(name)?.as_str()?)));
            texts.collect()
        }
        Some(_) => return None,
    };
    Some((master, login))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(url: &str, options: &str) -> (String, usize) {
        let mut reader = Reader::from_map([("BROKER_TRANSPORT_OPTIONS", options)]);
        let url = with_options(&mut reader, SecretString::from(url), &["BROKER_TRANSPORT_OPTIONS"]);
        (url.expose_secret().to_owned(), reader.problems().len())
    }

    #[test]
    fn options_become_part_of_the_url() {
        let options = r#"{"master_name": "my master", "sentinel_kwargs": {"password": "p&w"}, "socket_timeout": 1}"#;
        assert_eq!(
            read("sentinel://a:1;sentinel://b:2/3", options),
            ("sentinel://a:1;sentinel://b:2/3?master_name=my%20master&sentinel_password=p%26w".to_owned(), 0)
        );
        assert_eq!(read("redis://a/0", "no json"), ("redis://a/0".to_owned(), 0));
        for bad in ["", "{}", "no json", r#"{"master_name": 1}"#, r#"{"master_name": "m", "sentinel_kwargs": 1}"#] {
            assert_eq!(read("sentinel://a", bad).1, 1, "{bad}");
        }
    }
}
