//! Frames per second of a stream, by temporal layer.

use std::time::Instant;

use super::RateWindow;

/// Temporal layers that are told apart; browsers send three at most.
const TEMPORAL_MAX: usize = 4;

/// Counts the frames of each temporal layer over the last second.
#[derive(Clone, Debug)]
pub(crate) struct FrameRates {
    /// Their "bytes" are frames.
    counts: [RateWindow; TEMPORAL_MAX],
}

impl FrameRates {
    pub(crate) fn new() -> Self {
        Self {
            counts: std::array::from_fn(|_| RateWindow::new()),
        }
    }

    /// Counts a frame.
    pub(crate) fn add(&mut self, now: Instant, temporal: u8) {
        let at = usize::from(temporal).min(TEMPORAL_MAX - 1);
        if let Some(count) = self.counts.get_mut(at) {
            count.add(now, 1);
        }
    }

    /// The lowest temporal layer that has, with those below it, about so many frames a second; the highest
    /// there may be when all together have fewer.
    pub(crate) fn enough_for(&mut self, now: Instant, fps: u8) -> u8 {
        let mut frames = 0;
        for (temporal, count) in (0..).zip(&mut self.counts) {
            frames += count.bits_per_second(now) / 8;
            // A second holds a frame more or less, and cameras do not keep to their rate.
            if frames * 5 >= u64::from(fps) * 4 {
                return temporal;
            }
        }
        u8::MAX
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "tests need some instant to count from"
)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_lowest_layer_with_enough_frames_is_found() {
        let start = Instant::now();
        let mut rates = FrameRates::new();
        let at = |frame: u32| start + Duration::from_millis(33) * frame;
        for frame in 0..90 {
            let temporal = match frame % 4 {
                0 => 0,
                2 => 1,
                _ => 2,
            };
            rates.add(at(frame), temporal);
        }
        let limits = [1, 8, 15, 30, 60].map(|fps| rates.enough_for(at(90), fps));
        assert_eq!(limits, [0, 0, 1, 2, u8::MAX]);
        // Nothing came lately: nothing is dropped of what may come.
        let later = at(90) + Duration::from_secs(2);
        assert_eq!(rates.enough_for(later, 15), u8::MAX);
    }
}
