//! Bits per second over the last second.

use std::time::{Duration, Instant};

const SLOT: Duration = Duration::from_millis(50);
const SLOT_COUNT: usize = 20;

/// Bytes counted in 20 slots of 50 ms; adding and reading cost no more than the slots passed.
#[derive(Clone, Debug)]
pub(crate) struct RateWindow {
    slots: [u32; SLOT_COUNT],
    newest: usize,
    /// When the newest slot ends.
    newest_end: Option<Instant>,
    total_bytes: u64,
}

impl RateWindow {
    /// An empty window.
    pub(crate) fn new() -> Self {
        Self {
            slots: [0; SLOT_COUNT],
            newest: 0,
            newest_end: None,
            total_bytes: 0,
        }
    }

    /// Counts bytes that came or went at `now`.
    pub(crate) fn add(&mut self, now: Instant, bytes: usize) {
        self.advance(now);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        if let Some(slot) = self.slots.get_mut(self.newest) {
            let grown = slot.saturating_add(bytes);
            self.total_bytes += u64::from(grown - *slot);
            *slot = grown;
        }
    }

    /// Bits per second over the second before `now`.
    pub(crate) fn bits_per_second(&mut self, now: Instant) -> u64 {
        self.advance(now);
        self.total_bytes * 8
    }

    fn advance(&mut self, now: Instant) {
        let Some(end) = self.newest_end else {
            self.newest_end = Some(now + SLOT);
            return;
        };
        if now < end {
            return; // nearly every packet
        }
        let passed = now.saturating_duration_since(end).as_nanos() / SLOT.as_nanos() + 1;
        let Ok(passed) = u32::try_from(passed) else {
            *self = Self {
                newest_end: Some(now + SLOT),
                ..Self::new()
            };
            return;
        };
        for _ in 0..usize::try_from(passed)
            .unwrap_or(SLOT_COUNT)
            .min(SLOT_COUNT)
        {
            self.newest = (self.newest + 1) % SLOT_COUNT;
            if let Some(slot) = self.slots.get_mut(self.newest) {
                self.total_bytes -= u64::from(*slot);
                *slot = 0;
            }
        }
        self.newest_end = Some(end + SLOT * passed);
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "tests need some instant to count from"
)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_came_within_one_second() {
        let start = Instant::now();
        let mut rate = RateWindow::new();
        for step in 0..300 {
            rate.add(start + Duration::from_millis(10 * step), 1250);
        }
        let end = start + Duration::from_millis(2990);
        assert_eq!(rate.bits_per_second(end), 1_000_000);
        assert_eq!(
            rate.bits_per_second(end + Duration::from_millis(500)),
            500_000
        );
        assert_eq!(
            rate.bits_per_second(end + Duration::from_secs(3600 * 24 * 400)),
            0
        );
        rate.add(end, 10);
        assert_eq!(rate.bits_per_second(end), 80);
    }
}
