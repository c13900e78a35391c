//! How much memory this process uses, for the metrics of each program.

/// Bytes of memory that are resident, by Linux's account of this process; nothing where there is no such account.
pub fn resident_memory() -> Option<i64> {
    resident(&std::fs::read_to_string("/proc/self/statm").ok()?, rustix::param::page_size())
}

/// The second number of `statm` counts pages.
fn resident(statm: &str, page_size: usize) -> Option<i64> {
    let pages: i64 = statm.split(' ').nth(1)?.parse().ok()?;
    pages.checked_mul(i64::try_from(page_size).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_have_the_size_that_the_system_says() {
        assert_eq!(resident("9000 123 45 1 0 600 0\n", 4096), Some(123 * 4096));
        assert_eq!(resident("9000 123 45 1 0 600 0\n", 65_536), Some(123 * 65_536));
        assert_eq!([resident("", 4096), resident("1 x", 4096)], [None, None]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_some() {
        assert!(resident_memory().is_some_and(|bytes| bytes > 100_000));
    }
}
