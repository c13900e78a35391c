//! Rate limits: at most so many starts of a task in a time, evenly spaced (celery.worker.consumer: task_buckets,
//! kombu.utils.limits: TokenBucket of capacity 1).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::state::{Locked, lock};

/// The limits of one worker, by task name.
#[derive(Default)]
pub(crate) struct RateLimits(Locked<HashMap<String, Bucket>>);

struct Bucket {
    text: String,
    /// None: the limit was lifted by a number, which is still told.
    interval: Option<Duration>,
    next: Instant,
}

impl RateLimits {
    /// Sets the limit of a task. `10/s`, `10/m`, `10/h`, or a number a second; 0 or nothing lifts it.
    ///
    /// # Errors
    /// As Celery tells it.
    pub(crate) fn set(&self, task: &str, text: Option<&str>) -> Result<(), String> {
        let mut buckets = lock(&self.0);
        match text {
            Some(text) => {
                let bucket = Bucket { text: text.to_owned(), interval: interval(text)?, next: Instant::now() };
                buckets.insert(task.to_owned(), bucket);
            }
            None => drop(buckets.remove(task)),
        }
        Ok(())
    }

    /// The limit of a task, as it was set.
    pub(crate) fn get(&self, task: &str) -> Option<String> {
        lock(&self.0).get(task).map(|bucket| bucket.text.clone())
    }

    /// Takes the next place. How long it is until then; none: at once.
    pub(crate) fn wait(&self, task: &str) -> Option<Duration> {
        let mut buckets = lock(&self.0);
        let bucket = buckets.get_mut(task)?;
        let interval = bucket.interval?;
        let now = Instant::now();
        let at = bucket.next.max(now);
        bucket.next = at + interval;
        (at > now).then(|| at - now)
    }
}

/// Is it a rate?
///
/// # Errors
/// As Celery tells it.
pub(crate) fn check(text: &str) -> Result<(), String> {
    interval(text).map(drop)
}

/// The time between two starts; none: no limit (celery.utils.time: rate).
fn interval(text: &str) -> Result<Option<Duration>, String> {
    let (number, unit) = text.split_once('/').unwrap_or((text, "s"));
    let seconds = match unit {
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        other => return Err(format!("KeyError('{other}')")),
    };
    let number: f64 = number.trim().parse().map_err(|_| {
        let why = crate::control::exception("ValueError", format!("could not convert string to float: '{number}'"));
        format!("Invalid rate limit string: {why}")
    })?;
    Ok(if number > 0.0 { Duration::try_from_secs_f64(seconds / number).ok() } else { None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn celery_s_notation() {
        assert_eq!(interval("10/s"), Ok(Some(Duration::from_millis(100))));
        assert_eq!(interval("2/m"), Ok(Some(Duration::from_secs(30))));
        assert_eq!(interval("4"), Ok(Some(Duration::from_millis(250))));
        assert_eq!(interval("0"), Ok(None));
        assert_eq!(interval("1/y"), Err("KeyError('y')".into()));
        assert!(interval("fast").is_err_and(|text| text.starts_with("Invalid rate limit string")));
    }

    #[test]
    fn starts_are_evenly_spaced() {
        let limits = RateLimits::default();
        assert_eq!(limits.set("a", Some("10/s")), Ok(()));
        assert!(limits.wait("a").is_none() && limits.wait("b").is_none());
        let second = limits.wait("a").unwrap_or_default();
        assert!(second > Duration::from_millis(80) && second <= Duration::from_millis(100), "{second:?}");
        assert_eq!(limits.set("a", Some("0")), Ok(()));
        assert!(limits.wait("a").is_none() && limits.wait("a").is_none());
        assert_eq!(limits.get("a").as_deref(), Some("0"));
    }
}
