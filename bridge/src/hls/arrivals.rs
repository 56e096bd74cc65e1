//! How the frames of a source arrive: how late, and how far apart.

use std::collections::VecDeque;

/// What was learned of a source from the frames that came.
#[derive(Debug)]
pub(super) struct Arrivals {
    /// When the last frame came.
    heard_us: i64,
    /// How long after its time a frame comes, at worst of late.
    lag_us: i64,
    /// How long it usually takes, and how much that varies.
    usual_lag: Option<(i64, i64)>,
    intervals: VecDeque<i64>,
    /// The time of the last frame.
    last_at_us: Option<i64>,
}

/// A part is cut without waiting for the frame after it this long after its end, the usual lag aside:
/// at 25 frames a second and more it is out 80 ms after its newest frame, whatever comes next.
const PATIENCE_US: i64 = 40_000;
/// A picture is left out when it is so much later than pictures are, what they vary by aside.
const LEFT_OUT_US: i64 = 5_000;
/// A look that finds no picture costs as much as one that does, so it comes a little later than most pictures; where they
/// vary much, no more than this.
const LOOK_LATER_US_MAX: i64 = 15_000;
/// What comes later than this is no lag but a hole.
const LAG_US_MAX: i64 = 400_000;
/// A source without frames for this long is gone. Still screens send a picture when they are asked for a
/// keyframe, which is every two seconds.
const SILENCE_US: i64 = 2_500_000;
/// How many distances between frames are remembered.
const INTERVALS_MAX: usize = 8;

impl Arrivals {
    pub(super) fn new() -> Self {
        Self {
            heard_us: i64::MIN,
            lag_us: 0,
            usual_lag: None,
            intervals: VecDeque::new(),
            last_at_us: None,
        }
    }

    /// A frame of the time `at_us` came at `now_us`.
    pub(super) fn observe(&mut self, now_us: i64, at_us: i64) {
        let lag_us = now_us.saturating_sub(at_us).clamp(0, LAG_US_MAX);
        self.lag_us = lag_us.max(self.lag_us - self.lag_us / 32);
        self.usual_lag = Some(match self.usual_lag {
            None => (lag_us, 0),
            Some((usual_us, varies_us)) => {
                let off_us = lag_us - usual_us;
                (
                    usual_us + off_us / 8,
                    varies_us + (off_us.abs() - varies_us) / 8,
                )
            }
        });
        if let Some(last_us) = self.note(now_us, at_us) {
            self.intervals.push_back(at_us.saturating_sub(last_us));
            if self.intervals.len() > INTERVALS_MAX {
                self.intervals.pop_front();
            }
        }
    }

    /// As if a frame of that time had come, which tells nothing of the source; the time of the one before.
    pub(super) fn note(&mut self, now_us: i64, at_us: i64) -> Option<i64> {
        self.heard_us = now_us;
        self.last_at_us.replace(at_us)
    }

    /// Another source may be another way; only how late frames come at worst is remembered.
    pub(super) fn forget(&mut self) {
        *self = Self {
            lag_us: self.lag_us,
            ..Self::new()
        };
    }

    /// The time of the last frame.
    pub(super) fn last_at_us(&self) -> Option<i64> {
        self.last_at_us
    }

    /// Frames have come of late.
    pub(super) fn is_alive(&self, now_us: i64) -> bool {
        now_us.saturating_sub(self.heard_us) < SILENCE_US
    }

    /// No frame has come since a moment.
    pub(super) fn is_silent_since(&self, since_us: i64) -> bool {
        self.heard_us < since_us
    }

    /// The time of the broadcast up to which all frames must have come.
    pub(super) fn settled_us(&self, now_us: i64) -> i64 {
        now_us - self.lag_us - PATIENCE_US
    }

    /// When a frame of that time is likely to have come.
    pub(super) fn expected_us(&self, at_us: i64) -> i64 {
        let (lag_us, varies_us) = self.usual_lag.unwrap_or_default();
        at_us + lag_us + varies_us
    }

    /// When it is worth a look whether a picture of that time has come: few are later than this, or it was left out.
    pub(super) fn worth_a_look_us(&self, at_us: i64) -> i64 {
        let latest_us = self.expected_us(at_us) + LOOK_LATER_US_MAX;
        self.left_out_from_us(at_us)
            .map_or(latest_us, |left_out_us| left_out_us.min(latest_us))
    }

    /// From when on a picture of that time is later than pictures are: its source has left it out.
    pub(super) fn left_out_from_us(&self, at_us: i64) -> Option<i64> {
        let (lag_us, varies_us) = self.usual_lag?;
        Some(at_us + lag_us + 2 * varies_us + LEFT_OUT_US)
    }

    /// What most frames are apart, once there were enough of them.
    pub(super) fn usual_interval_us(&self) -> Option<i64> {
        if self.intervals.len() < INTERVALS_MAX {
            return None;
        }
        let mut sorted: Vec<i64> = self.intervals.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied()
    }

    /// The same of a source that begins anew, and may be quicker than the one before.
    pub(super) fn quick_interval_us(&self) -> Option<i64> {
        let last_us = self.intervals.back().copied().unwrap_or(i64::MAX);
        Some(self.usual_interval_us()?.min(last_us))
    }

    /// The farthest that frames were apart of late.
    pub(super) fn longest_interval_us(&self) -> Option<i64> {
        self.intervals.iter().max().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames every 33 ms that come 20 ms late.
    fn even(count: i64) -> Arrivals {
        let mut arrivals = Arrivals::new();
        for n in 0..count {
            arrivals.observe(n * 33_000 + 20_000, n * 33_000);
        }
        arrivals
    }

    #[test]
    fn a_distance_is_usual_once_there_were_enough_of_them() {
        assert_eq!(even(8).usual_interval_us(), None);
        assert_eq!(even(9).usual_interval_us(), Some(33_000));
        // One hole is not usual, but the longest.
        let mut arrivals = even(9);
        arrivals.observe(420_000, 400_000);
        assert_eq!(arrivals.usual_interval_us(), Some(33_000));
        assert_eq!(arrivals.longest_interval_us(), Some(400_000 - 8 * 33_000));
    }

    #[test]
    fn one_that_is_quicker_from_now_on_is_looked_for_sooner() {
        let mut arrivals = even(9);
        arrivals.observe(8 * 33_000 + 30_000, 8 * 33_000 + 10_000);
        assert_eq!(arrivals.usual_interval_us(), Some(33_000));
        assert_eq!(arrivals.quick_interval_us(), Some(10_000));
    }

    #[test]
    fn the_worst_of_late_is_waited_for_and_forgotten_slowly() {
        let mut arrivals = even(9);
        assert_eq!(arrivals.settled_us(1_000_000), 1_000_000 - 60_000);
        arrivals.observe(500_000, 300_000);
        assert_eq!(arrivals.settled_us(1_000_000), 1_000_000 - 240_000);
        for n in 0..100 {
            arrivals.observe(n * 33_000 + 620_000, n * 33_000 + 600_000);
        }
        assert!(arrivals.settled_us(1_000_000) > 1_000_000 - 70_000);
    }

    #[test]
    fn a_hole_is_no_lag() {
        let mut arrivals = even(1);
        arrivals.observe(9_000_000, 1_000_000);
        assert_eq!(arrivals.settled_us(0), -LAG_US_MAX - PATIENCE_US);
    }

    #[test]
    fn what_does_not_come_when_it_should_was_left_out() {
        let arrivals = even(40);
        let at_us = 40 * 33_000;
        assert_eq!(arrivals.expected_us(at_us), at_us + 20_000);
        assert_eq!(arrivals.left_out_from_us(at_us), Some(at_us + 25_000));
        assert_eq!(Arrivals::new().left_out_from_us(at_us), None);
    }

    #[test]
    fn a_new_source_is_only_known_by_the_worst_lag_of_the_one_before() {
        let mut arrivals = even(40);
        arrivals.forget();
        assert!(!arrivals.is_alive(40 * 33_000));
        assert_eq!(
            (arrivals.last_at_us(), arrivals.usual_interval_us()),
            (None, None)
        );
        assert_eq!(arrivals.settled_us(0), -60_000);
    }
}
