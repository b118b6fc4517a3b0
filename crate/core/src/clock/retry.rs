//! How long a reader retries while the page is being updated.

use std::hint;
use std::time::{Duration, Instant};

/// How long a reader waits for an update of the page to end: as long as the kernel's driver waits.
pub const UPDATE_TIMEOUT: Duration = Duration::from_millis(100);

/// Decides after each failed read of the page whether to read again.
///
/// The first retries spin, because an update takes less than a microsecond. Later ones yield the
/// CPU, because the page's writer may be waiting for it.
#[derive(Debug, Default)]
pub(crate) struct RetryDeadline {
    failures: u32,
    deadline: Option<Instant>,
    expired: bool,
}

impl RetryDeadline {
    const SPINS: u32 = 200;

    /// Returns whether to read again. Refuses after [`UPDATE_TIMEOUT`] from the first failed read.
    pub(crate) fn allows_retry(&mut self) -> bool {
        if self.failures == 0 {
            self.deadline = Instant::now().checked_add(UPDATE_TIMEOUT);
        }
        if self.allows_spin() {
            return true;
        }
        // Only a read that began after the deadline may be the last one. A thread that got its CPU
        // back late finds the page at rest by then.
        if self.expired {
            return false;
        }
        // A deadline that an `Instant` cannot hold counts as expired: no wait is without an end.
        self.expired = self.deadline.is_none_or(|end| Instant::now() >= end);
        std::thread::yield_now();
        true
    }

    /// Returns whether to read again at once. For a caller that afterwards waits in its own way.
    pub(crate) fn allows_spin(&mut self) -> bool {
        self.failures = self.failures.saturating_add(1);
        let spins = self.failures < Self::SPINS;
        if spins {
            hint::spin_loop();
        }
        spins
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_returns_after_the_deadline_reads_once_more() {
        let mut late = RetryDeadline {
            failures: RetryDeadline::SPINS,
            deadline: Some(Instant::now()),
            expired: false,
        };
        assert!(late.allows_retry());
        assert!(!late.allows_retry());
    }
}
