//! When a program needs its next keyframe: an interval after the one that its last segment begins with.
//!
//! On a grid of time, a source that began just before a turn of it would have its next keyframe after more than an
//! interval: its segment would have to end before, between two keyframes.

use crate::rungs::Placed;

/// Asked for this much before it is due: the publisher has to hear of it, and to come to its next picture.
const LEAD_US: i64 = 60_000;

/// How long after the beginning of a segment a keyframe ends it, if segments are to last `interval_us`. Those that
/// come sooner are not waited for: another one is asked for in time.
pub(crate) fn early_us(interval_us: i64) -> i64 {
    interval_us / 4 * 3
}

/// The turns of a program, in microseconds of its timeline: each begins with a keyframe of the largest rung.
#[derive(Debug)]
pub(crate) struct Keyframes {
    interval_us: i64,
    begun_us: Option<i64>,
}

impl Keyframes {
    pub(crate) fn new(interval_us: i64) -> Self {
        Self {
            interval_us: interval_us.max(1),
            begun_us: None,
        }
    }

    /// Takes note of a picture that came at `now_us`.
    pub(crate) fn handle_placed(&mut self, now_us: i64, placed: &Placed) {
        if placed.rung == 0 && placed.frame.is_key {
            // Whatever its publisher's clock says, it is not yet to come.
            self.begin(placed.frame.at_us.min(now_us), placed.is_cut);
        }
    }

    fn begin(&mut self, at_us: i64, is_cut: bool) {
        let is_next = |begun_us: i64| at_us.saturating_sub(begun_us) >= early_us(self.interval_us);
        if is_cut || self.begun_us.is_none_or(is_next) {
            self.begun_us = Some(at_us);
        }
    }

    /// Since when there should be a keyframe.
    pub(crate) fn due_us(&self, now_us: i64) -> i64 {
        match self.begun_us {
            None => i64::MIN,
            Some(begun_us) => match self.turns(now_us, begun_us) {
                0 => begun_us,
                turns => self.asked_us(begun_us, turns),
            },
        }
    }

    /// When the next one is to be asked for.
    pub(crate) fn next_us(&self, now_us: i64) -> i64 {
        match self.begun_us {
            None => now_us.saturating_add(self.interval_us),
            Some(begun_us) => self.asked_us(begun_us, self.turns(now_us, begun_us) + 1),
        }
    }

    /// How many have been due since the last one that came.
    fn turns(&self, now_us: i64, begun_us: i64) -> i64 {
        let elapsed_us = now_us.saturating_sub(begun_us).saturating_add(LEAD_US);
        elapsed_us.div_euclid(self.interval_us).max(0)
    }

    fn asked_us(&self, begun_us: i64, turns: i64) -> i64 {
        let after_us = turns.saturating_mul(self.interval_us) - LEAD_US;
        begun_us.saturating_add(after_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_go_on_from_the_last_keyframe_whether_the_next_one_comes_or_not() {
        let mut keyframes = Keyframes::new(2_000_000);
        keyframes.begin(500_000, true);
        assert_eq!(keyframes.next_us(600_000), 2_440_000);
        assert_eq!(keyframes.due_us(2_439_999), 500_000);
        assert_eq!(keyframes.due_us(2_440_000), 2_440_000);
        assert_eq!(keyframes.next_us(2_440_000), 4_440_000);
        assert_eq!(keyframes.due_us(9_000_000), 8_440_000);
        // One that comes too soon, and one that is another source's.
        keyframes.begin(1_999_999, false);
        assert_eq!(keyframes.next_us(2_000_000), 2_440_000);
        keyframes.begin(1_999_999, true);
        assert_eq!(keyframes.next_us(2_000_000), 3_939_999);
        keyframes.begin(3_950_000, false);
        assert_eq!(keyframes.next_us(4_000_000), 5_890_000);
    }
}
