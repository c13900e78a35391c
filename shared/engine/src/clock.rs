//! The Lamport clock of the process (kombu.clocks).

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts events and messages, such that what caused another has the lower number.
#[derive(Debug, Default)]
pub(crate) struct Clock(AtomicU64);

impl Clock {
    /// The next number.
    pub(crate) fn forward(&self) -> u64 {
        self.adjust(0)
    }

    /// Takes note of another's number.
    pub(crate) fn adjust(&self, other: u64) -> u64 {
        let mut now = self.0.load(Ordering::Relaxed);
        loop {
            let next = now.max(other).saturating_add(1);
            match self.0.compare_exchange_weak(now, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return next,
                Err(current) => now = current,
            }
        }
    }

    /// The number now.
    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_than_all_it_knows() {
        let clock = Clock::default();
        assert_eq!(clock.forward(), 1);
        assert_eq!(clock.adjust(10), 11);
        assert_eq!(clock.adjust(3), 12);
        assert_eq!(clock.value(), 12);
        assert_eq!(clock.forward(), 13);
    }

    #[test]
    fn a_liar_s_number_is_not_the_end_of_it() {
        let clock = Clock::default();
        assert_eq!((clock.adjust(u64::MAX), clock.forward()), (u64::MAX, u64::MAX));
    }
}
