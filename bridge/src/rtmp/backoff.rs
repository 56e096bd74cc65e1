//! How long to wait before the next attempt: from 1 s to 30 s, spread so that not all come at once.

use std::time::Duration;

/// Attempts that failed in a row.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// An attempt failed: how long to wait. `random` spreads it by a quarter to either side.
    pub(crate) fn fail(&mut self, random: u64) -> Duration {
        let delay = FIRST.saturating_mul(1 << self.failures.min(5)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        let thousandths = u32::try_from(random % 501).unwrap_or(0) + 750;
        (delay * thousandths / 1000).min(LONGEST)
    }

    /// It works.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Attempts that failed in a row.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }
}

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_from_one_second_to_thirty() {
        let mut backoff = Backoff::default();
        let middle: Vec<_> = (0..8).map(|_| backoff.fail(250).as_secs()).collect();
        assert_eq!(middle, [1, 2, 4, 8, 16, 30, 30, 30]);
        backoff.reset();
        assert_eq!(backoff.fail(0), Duration::from_millis(750));
        assert_eq!(backoff.fail(500), Duration::from_millis(2500));
    }
}
