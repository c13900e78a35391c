//! Which arguments a command takes, and Python's words for those that it does not.

use petiole_protocol::Map;
use serde_json::Value;

use super::Refusal;

/// What a command's function declares.
struct Signature {
    /// The function: an alias has another name.
    name: &'static str,
    /// What must be given.
    required: &'static [&'static str],
    /// What may be given, where nothing else may; none: anything.
    optional: Option<&'static [&'static str]>,
}

fn signature(method: &str) -> Option<Signature> {
    let (name, required, optional): (_, &[_], Option<&[_]>) = match method {
        "report" => ("report", &[], Some(&[])),
        "enable_events" => ("enable_events", &[], Some(&[])),
        "disable_events" => ("disable_events", &[], Some(&[])),
        "heartbeat" => ("heartbeat", &[], Some(&[])),
        "active_queues" => ("active_queues", &[], Some(&[])),
        "autoscale" => ("autoscale", &[], Some(&["max", "min"])),
        "objgraph" => ("objgraph", &[], Some(&["num", "max_depth", "type"])),
        "query_task" => ("query_task", &["ids"], None),
        "revoke" => ("revoke", &["task_id"], None),
        "terminate" => ("terminate", &["signal", "task_id"], None),
        "revoke_by_stamped_headers" => ("revoke_by_stamped_headers", &["headers"], None),
        "rate_limit" => ("rate_limit", &["task_name", "rate_limit"], None),
        "election" => ("election", &["id", "topic"], None),
        "hello" => ("hello", &["from_node"], None),
        "add_consumer" => ("add_consumer", &["queue"], None),
        "cancel_consumer" => ("cancel_consumer", &["queue"], None),
        _ => return None,
    };
    Some(Signature { name, required, optional })
}

/// Checks that what must be given is given, and nothing that may not.
///
/// # Errors
/// Python's TypeError, as its `repr`.
pub(super) fn check(method: &str, arguments: &Map) -> Result<(), Refusal> {
    let Some(Signature { name, required, optional }) = signature(method) else { return Ok(()) };
    if let Some(optional) = optional
        && let Some(unexpected) = arguments.keys().find(|key| !optional.contains(&key.as_str()))
    {
        return Err(type_error(format!("{name}() got an unexpected keyword argument '{unexpected}'")));
    }
    let missing: Vec<String> =
        required.iter().filter(|key| !arguments.contains_key(**key)).map(|key| format!("'{key}'")).collect();
    let listed = match missing.as_slice() {
        [] => return Ok(()),
        [one] => format!("1 required positional argument: {one}"),
        [one, other] => format!("2 required positional arguments: {one} and {other}"),
        many => format!("{} required positional arguments: {}", many.len(), many.join(", ")),
    };
    Err(type_error(format!("{name}() missing {listed}")))
}

/// Python's TypeError, as its `repr`.
pub(super) fn type_error(message: impl AsRef<str>) -> Refusal {
    exception("TypeError", message)
}

/// An exception with one text, as Python's `repr`.
pub(crate) fn exception(class: &str, message: impl AsRef<str>) -> Refusal {
    format!("{class}({})", quoted(message.as_ref()))
}

/// Text as Python's `repr` writes it: in double quotes where it holds single ones.
pub(super) fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::from(quote);
    for letter in text.chars() {
        match letter {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            letter if letter == quote => out.extend(['\\', letter]),
            letter if letter.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(letter))),
            letter => out.push(letter),
        }
    }
    out.push(quote);
    out
}

/// The name of a value's type in Python.
pub(super) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "NoneType",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_i64() || number.is_u64() => "int",
        Value::Number(_) => "float",
        Value::String(_) => "str",
        Value::Array(_) => "list",
        Value::Object(_) => "dict",
    }
}

/// A signal by its name or number, as Python takes it.
///
/// # Errors
/// Python's words for one that there is not.
pub(super) fn signal(value: Option<&Value>) -> Result<Value, Refusal> {
    let name = match value {
        None | Some(Value::Null) => return Ok("SIGTERM".into()),
        Some(Value::String(name)) if name.is_empty() => return Ok("SIGTERM".into()),
        Some(Value::String(name)) => name,
        Some(number @ Value::Number(_)) => return Ok(number.clone()),
        Some(_) => return Err(type_error("signal name must be uppercase string.")),
    };
    if name.to_uppercase() != *name {
        return Err(type_error("signal name must be uppercase string."));
    }
    let full = if name.starts_with("SIG") { name.clone() } else { format!("SIG{name}") };
    if SIGNALS.contains(&&full[3..]) {
        Ok(name.as_str().into())
    } else {
        Err(exception("AttributeError", format!("module 'signal' has no attribute '{full}'")))
    }
}

/// A signal's name: `SIGSEGV`.
pub(crate) fn signal_name(number: i32) -> String {
    let names = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM",
        "TERM",
    ];
    let name = usize::try_from(number - 1).ok().and_then(|at| names.get(at));
    name.map_or_else(|| number.to_string(), |name| format!("SIG{name}"))
}

/// The signals of Linux.
const SIGNALS: [&str; 32] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "IOT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM",
    "TERM", "CHLD", "CLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH",
    "IO", "POLL", "SYS",
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn python_s_words() {
        let refused = |method: &str, arguments: Value| check(method, arguments.as_object().unwrap()).unwrap_err();
        assert_eq!(
            refused("rate_limit", json!({})),
            "TypeError(\"rate_limit() missing 2 required positional arguments: 'task_name' and 'rate_limit'\")"
        );
        assert!(refused("report", json!({"x": 1})).contains("report() got an unexpected keyword argument 'x'"));
        assert!(refused("revoke", json!({"terminate": true})).contains("missing 1 required positional argument: "));
        assert_eq!(quoted("a'b\"c\n"), "'a\\'b\"c\\n'");
        assert_eq!(
            signal(Some(&json!("NOPE"))),
            Err("AttributeError(\"module 'signal' has no attribute 'SIGNOPE'\")".into())
        );
        assert_eq!((signal(None), signal(Some(&json!(9)))), (Ok(json!("SIGTERM")), Ok(json!(9))));
        assert!(signal(Some(&json!("kill"))).is_err() && signal(Some(&json!("SIGKILL"))).is_ok());
        assert!(check("ping", &Map::from_iter([("x".into(), json!(1))])).is_ok());
    }
}
