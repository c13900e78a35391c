//! Names of lists, sets and channels, as kombu gives them (kombu.transport.redis).

/// Between the fields of a binding, and between a queue and its priority step.
pub const SEP: &str = "\u{6}\u{16}";
/// The priority steps; 0 is served first.
pub const PRIORITY_STEPS: [u8; 4] = [0, 3, 6, 9];

/// The names of one broker database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// `global_keyprefix` of the transport options, put in front of every key and channel.
    pub prefix: String,
    /// The database number, part of channel names.
    pub database: i64,
}

impl Keys {
    /// Names without a prefix.
    pub fn new(database: i64) -> Self {
        Self { prefix: String::new(), database }
    }

    /// Any key with the prefix.
    pub fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// The list of a queue for a priority: the greatest step that is not above it.
    pub fn list(&self, queue: &str, priority: i64) -> String {
        match step(priority) {
            0 => self.key(queue),
            step => format!("{}{queue}{SEP}{step}", self.prefix),
        }
    }

    /// The lists of a queue, in the order of service.
    pub fn lists(&self, queue: &str) -> [String; 4] {
        PRIORITY_STEPS.map(|step| self.list(queue, i64::from(step)))
    }

    /// Delivery tag → `[envelope, exchange, routing key]` of what is being worked on.
    pub fn unacked(&self) -> String {
        self.key("unacked")
    }

    /// Delivery tag → time of delivery.
    pub fn unacked_index(&self) -> String {
        self.key("unacked_index")
    }

    /// The lock of a restore scan.
    pub fn unacked_mutex(&self) -> String {
        self.key("unacked_mutex")
    }

    /// Delivery tags that a worker holds. Petiole's own, beside kombu's keys.
    pub fn held(&self, owner: &str) -> String {
        format!("{}petiole:held:{owner}", self.prefix)
    }

    /// Workers that hold something, with the time (ms) at which they count as dead. Petiole's own.
    pub fn owners(&self) -> String {
        self.key("petiole:owners")
    }

    /// When (ms) any worker last said that it lives. Petiole's own.
    pub fn heard(&self) -> String {
        self.key("petiole:heard")
    }

    /// Is there for a while after Redis was away: nobody could renew a claim, and nothing is taken for forgotten. Petiole's own.
    pub fn unjudged(&self) -> String {
        self.key("petiole:unjudged")
    }

    /// Ids of dead letters, with the time at which they were put there. Petiole's own.
    pub fn dead(&self) -> String {
        self.key("petiole:dead")
    }

    /// Dead letters by their ids. Petiole's own.
    pub fn dead_letters(&self) -> String {
        self.key("petiole:dead:letters")
    }

    /// Delivery tag → how often a message that was delivered before was begun again. Petiole's own.
    pub fn redeliveries(&self) -> String {
        self.key("petiole:redeliveries")
    }

    /// What a producer remembers of a task that has no result yet. Petiole's own.
    pub fn sent(&self, task_id: &str) -> String {
        format!("{}petiole:sent:{task_id}", self.prefix)
    }

    /// The bindings of an exchange.
    pub fn binding(&self, exchange: &str) -> String {
        format!("{}_kombu.binding.{exchange}", self.prefix)
    }

    /// The bindings that are never swept.
    pub fn binding_permanent(&self, exchange: &str) -> String {
        format!("{}_kombu.binding_permanent.{exchange}", self.prefix)
    }

    /// Exchanges with the time at which their bindings may be swept.
    pub fn binding_deadlines(&self) -> String {
        self.key("_kombu.binding_deadlines")
    }

    /// The channel of a fanout exchange.
    pub fn channel(&self, exchange: &str, routing_key: &str) -> String {
        match routing_key {
            "" => format!("{}/{}.{exchange}", self.prefix, self.database),
            key => format!("{}/{}.{exchange}/{key}", self.prefix, self.database),
        }
    }
}

/// The priority step of a priority: 0, 3, 6 or 9.
pub fn step(priority: i64) -> u8 {
    match priority {
        ..3 => 0,
        3..6 => 3,
        6..9 => 6,
        9.. => 9,
    }
}

/// A member of a binding set: routing key, pattern and queue.
pub fn binding_member(routing_key: &str, pattern: &str, queue: &str) -> String {
    format!("{routing_key}{SEP}{pattern}{SEP}{queue}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_kombu_names_them() {
        let keys = Keys::new(5);
        assert_eq!(keys.list("celery", 0), "celery");
        assert_eq!(keys.list("celery", 5), "celery\u{6}\u{16}3");
        assert_eq!(keys.list("celery", 12), "celery\u{6}\u{16}9");
        assert_eq!(keys.list("celery", -1), "celery");
        assert_eq!(keys.channel("celeryev", "task.sent"), "/5.celeryev/task.sent");
        assert_eq!(keys.channel("celery.pidbox", ""), "/5.celery.pidbox");
        assert_eq!(binding_member("celery", "", "celery"), "celery\u{6}\u{16}\u{6}\u{16}celery");
    }
}
