//! Node names (celery.utils.nodenames: host_format, default_nodename).

/// A node's name: `default@host`, or what `given` makes of it: a name, a name with a host, or one with `%h` (the host), `%n` (its
/// first part) and `%d` (the rest).
pub fn node_name(given: Option<&str>, default: &str) -> String {
    let host = gethostname::gethostname().to_string_lossy().into_owned();
    let (short, domain) = host.split_once('.').unwrap_or((&host, ""));
    let given = given.unwrap_or(default);
    let (name, at) = given.split_once('@').unwrap_or((given, "%h"));
    let format = |text: &str| text.replace("%h", &host).replace("%n", short).replace("%d", domain).replace("%%", "%");
    format!("{}@{}", if name.is_empty() { default.to_owned() } else { format(name) }, format(at))
}
