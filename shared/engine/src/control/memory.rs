//! Commands about memory (celery.utils.debug: sample_mem, memdump).

use petiole_protocol::Map;
use serde_json::Value;

use crate::state::{Locked, lock};

/// What was sampled since the last dump.
static SAMPLES: Locked<Vec<String>> = Locked::new(Vec::new());
/// The oldest samples go when there are more.
const MOST: usize = 10_000;

/// Resident memory now, in Celery's words: `59.406MB`.
fn resident() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    let (number, unit) = match kib {
        kib if kib >= 1024.0 * 1024.0 => (kib / 1024.0 / 1024.0, "GB"),
        kib if kib >= 1024.0 => (kib / 1024.0, "MB"),
        kib => (kib, "KB"),
    };
    let number = format!("{number:.3}");
    Some(format!("{}{unit}", number.trim_end_matches('0').trim_end_matches('.')))
}

/// Takes a sample, and tells it.
pub(super) fn sample() -> Value {
    let Some(now) = resident() else { return Value::Null };
    let mut samples = lock(&SAMPLES);
    samples.push(now.clone());
    if samples.len() > MOST {
        samples.remove(0);
    }
    now.into()
}

/// Tells the samples since the last dump, evenly picked where there are many, and forgets them.
pub(super) fn dump(arguments: &Map) -> Value {
    let wanted = arguments.get("samples").and_then(Value::as_u64).unwrap_or(10).max(1) as usize;
    let samples = std::mem::take(&mut *lock(&SAMPLES));
    let step = samples.len().div_ceil(wanted).max(1);
    let mut out = String::new();
    if !samples.is_empty() {
        out.push_str("- rss (sample):\n");
        samples.iter().step_by(step).for_each(|sample| out.push_str(&format!("-    > {sample},\n")));
    }
    out.push_str(&format!("- rss (end): {}.\n", resident().unwrap_or_else(|| "None".into())));
    out.into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_dump_tells_the_samples_and_forgets_them() {
        let one = sample();
        assert!(one.as_str().unwrap().ends_with("MB"), "{one}");
        let told = dump(&Map::new());
        assert!(
            told.as_str().unwrap().contains(&format!("- rss (sample):\n-    > {},", one.as_str().unwrap())),
            "{told}"
        );
        assert!(dump(&Map::new()).as_str().unwrap().starts_with("- rss (end): "));
    }
}
