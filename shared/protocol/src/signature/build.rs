//! Saying more of a signature: its arguments, options, links and stamps (celery.canvas: Signature.set, link, stamp).

use serde_json::Value;

use super::{Signature, signatures, to_value};

impl Signature {
    /// Adds a positional argument.
    pub fn arg(mut self, value: impl Into<Value>) -> Self {
        self.args.push(value.into());
        self
    }

    /// Sets a keyword argument.
    pub fn kwarg(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.kwargs.insert(name.to_owned(), value.into());
        self
    }

    /// Calls another with the result, on success. Of a chain the last step does, of a chord its body.
    pub fn link(self, callback: Signature) -> Self {
        self.add_to("link", callback)
    }

    /// Calls another on failure, with the id of the failed task. Of a chain whichever step fails does.
    pub fn link_error(self, errback: Signature) -> Self {
        self.add_to("link_error", errback)
    }

    fn add_to(mut self, option: &str, signature: Signature) -> Self {
        let mut all = self.option_signatures(option);
        if !all.contains(&signature) {
            all.push(signature);
        }
        self.options.insert(option.to_owned(), to_value(&all));
        self
    }

    /// The queue it goes to.
    pub fn queue(self, queue: &str) -> Self {
        self.set("queue", queue)
    }

    /// 0 (first) to 9 (last).
    pub fn priority(self, priority: u8) -> Self {
        self.set("priority", priority)
    }

    /// Seconds until it may start.
    pub fn countdown(self, seconds: f64) -> Self {
        self.set("countdown", seconds)
    }

    /// Seconds until it is no longer started.
    pub fn expires(self, seconds: f64) -> Self {
        self.set("expires", seconds)
    }

    /// An id of the caller's.
    pub fn task_id(self, id: &str) -> Self {
        self.set("task_id", id)
    }

    /// Stamps it, its links and everything it is made of. A stamp of the same name is replaced.
    pub fn stamp(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.put_stamp(name, &value.into());
        self
    }

    fn put_stamp(&mut self, name: &str, value: &Value) {
        let mut names = match self.options.remove("stamped_headers") {
            Some(Value::Array(names)) => names,
            _ => vec![],
        };
        if !names.iter().any(|known| known == name) {
            names.push(name.into());
        }
        self.options.insert("stamped_headers".into(), Value::Array(names));
        self.options.insert(name.to_owned(), value.clone());
        let inner = [&mut self.options, &mut self.kwargs].map(|map| {
            map.iter_mut()
                .filter(|(key, _)| matches!(key.as_str(), "link" | "link_error" | "tasks" | "header" | "body"))
        });
        let composed = self.subtask_type.is_some();
        let [options, kwargs] = inner;
        for (_, part) in options.chain(kwargs.filter(|_| composed)) {
            stamp_part(part, name, value);
        }
    }
}

/// One signature or a list of them.
fn stamp_part(part: &mut Value, name: &str, value: &Value) {
    let Ok(mut stamped) = signatures(part) else { return };
    stamped.iter_mut().for_each(|signature| signature.put_stamp(name, value));
    *part = match (part.is_array(), stamped.as_slice()) {
        (false, [one]) => to_value(one),
        (false, []) => Value::Null,
        (_, many) => to_value(many),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn links_add_up_and_stamps_reach_every_part() {
        let call = |name: &str| Signature::new(name, vec![]);
        let chord = Signature::chord(&[call("a"), call("b")], &call("c"));
        let chain = Signature::chain(&[call("x").link(call("y")).link(call("y")).link(call("z")), chord]);
        let stamped = chain.link_error(call("e")).stamp("tenant", "acme").stamp("tenant", json!(["b"])).stamp("n", 1);
        let mut found = 0;
        fn walk(value: &Value, found: &mut i32) {
            match value {
                Value::Object(map) => {
                    if map.contains_key("task") && map.contains_key("options") {
                        assert_eq!(map["options"]["stamped_headers"], json!(["tenant", "n"]), "{value}");
                        assert_eq!(map["options"]["tenant"], json!(["b"]));
                        *found += 1;
                    }
                    map.values().for_each(|value| walk(value, found));
                }
                Value::Array(items) => items.iter().for_each(|value| walk(value, found)),
                _ => {}
            }
        }
        walk(&to_value(&stamped), &mut found);
        // chain, x, y, z, chord, header, a, b, c, e
        assert_eq!(found, 10);
    }
}
