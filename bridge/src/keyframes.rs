//! When a program needs its next keyframe: an interval after the one that its last segment begins with.
//!
//! On a grid of time, a source that began just before a turn of it would have its next keyframe after more than an
//! interval: its segment would have to end before, between two keyframes.
//!
//! A keyframe that comes a picture too soon leaves the last part of its segment a picture short, and nobody can tell that
//! it is whole before the keyframe is there. So how long before its time to ask is learned from how far off the last
//! ones were: by the way to the publisher and back, and by where between two pictures it is asked.

use crate::rungs::Placed;

/// Asked for this much before it is due, until more is known: the publisher has to hear of it, and to come to its next
/// picture.
const LEAD_US: i64 = 60_000;
/// The farthest publisher is this far.
const LEAD_US_MAX: i64 = 500_000;
/// One keyframe changes no more: the question for it may have been lost.
const STEP_US_MAX: i64 = 100_000;
/// Pictures farther apart than this are no stream.
const APART_US_MAX: i64 = 250_000;

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
    /// So long before a turn its keyframe is asked for.
    lead_us: i64,
    /// The last picture, and how far apart pictures are.
    picture_us: Option<i64>,
    apart_us: Option<i64>,
}

impl Keyframes {
    pub(crate) fn new(interval_us: i64) -> Self {
        Self {
            interval_us: interval_us.max(1),
            begun_us: None,
            lead_us: LEAD_US.min(interval_us / 2).max(0),
            picture_us: None,
            apart_us: None,
        }
    }

    /// Takes note of a picture that came at `now_us`.
    pub(crate) fn handle_placed(&mut self, now_us: i64, placed: &Placed) {
        if placed.rung == 0 {
            // Whatever its publisher's clock says, it is not yet to come.
            let at_us = placed.frame.at_us.min(now_us);
            self.note(at_us);
            if placed.frame.is_key {
                self.begin(at_us, placed.is_cut);
            }
        }
    }

    fn note(&mut self, at_us: i64) {
        let last_us = self.picture_us.replace(at_us);
        let apart_us = last_us.map(|last_us| at_us.saturating_sub(last_us));
        if let Some(apart_us) = apart_us.filter(|us| (1..APART_US_MAX).contains(us)) {
            let usual_us = self.apart_us.get_or_insert(apart_us);
            *usual_us += (apart_us - *usual_us) / 8;
        }
    }

    fn begin(&mut self, at_us: i64, is_cut: bool) {
        let Some(begun_us) = self.begun_us.filter(|_| !is_cut) else {
            self.begun_us = Some(at_us);
            return;
        };
        let elapsed_us = at_us.saturating_sub(begun_us);
        if elapsed_us >= early_us(self.interval_us) {
            self.learn(elapsed_us - self.interval_us);
            self.begun_us = Some(at_us);
        }
    }

    /// A turn's keyframe came so much later than wanted, or sooner: the next one is asked for between the two pictures
    /// where nothing short of half a picture makes it another one.
    fn learn(&mut self, late_us: i64) {
        let Some(apart_us) = self.apart_us else {
            return;
        };
        // One from before it was asked for is no answer, and the next turn of a lost one is not either.
        let answers = -self.lead_us - apart_us..self.interval_us / 4;
        if !answers.contains(&late_us) {
            return;
        }
        let half_us = apart_us / 2;
        // What is not off by half a picture is as near as can be.
        let off_us = late_us - late_us.clamp(-half_us, half_us);
        let step_us = off_us.clamp(-STEP_US_MAX, STEP_US_MAX);
        let most_us = LEAD_US_MAX.min(self.interval_us / 2);
        self.lead_us = (self.lead_us + step_us).clamp(0, most_us);
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
        let elapsed_us = now_us.saturating_sub(begun_us).saturating_add(self.lead_us);
        elapsed_us.div_euclid(self.interval_us).max(0)
    }

    fn asked_us(&self, begun_us: i64, turns: i64) -> i64 {
        let after_us = turns.saturating_mul(self.interval_us) - self.lead_us;
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

    /// A publisher with a picture every `apart_us` makes the first one a keyframe that it comes to `way_us` after it was
    /// asked, and asked it is when there is time to turn. How long the turns lasted.
    fn turns(apart_us: i64, way_us: impl Fn(i64) -> i64, count: usize) -> Vec<i64> {
        let mut keyframes = Keyframes::new(2_000_000);
        let (mut begun_us, mut asked, mut turns) = (0, Some(i64::MIN), Vec::new());
        for n in 0..100 * i64::try_from(count).unwrap() * 2 {
            let at_us = n * apart_us;
            let is_key = asked.is_some_and(|us| us <= at_us);
            keyframes.note(at_us);
            if is_key {
                keyframes.begin(at_us, n == 0);
                turns.extend((n > 0).then_some(at_us - begun_us));
                (begun_us, asked) = (at_us, None);
            }
            // When it is time, which is between two pictures as a rule.
            let late = (keyframes.due_us(at_us) > begun_us).then_some(at_us);
            let due_us = late.unwrap_or_else(|| keyframes.next_us(at_us));
            if asked.is_none() && due_us < at_us + apart_us {
                asked = Some(due_us + way_us(n));
            }
            if turns.len() == count {
                break;
            }
        }
        turns
    }

    #[test]
    fn turns_come_to_last_what_they_should_whatever_the_way_to_the_publisher() {
        for rate in [15, 24, 25, 30, 50, 60] {
            let apart_us = 1_000_000 / rate;
            for way_us in [0, 5_000, 15_000, 33_000, 80_000, 300_000] {
                let turns = turns(apart_us, |_| way_us, 20);
                let settled = turns.get(8..).unwrap();
                let whole = 2_000_000 - apart_us / 2..=2_000_000 + apart_us / 2;
                assert!(
                    settled.iter().all(|us| whole.contains(us)),
                    "{rate} pictures a second, {way_us} us: {turns:?}"
                );
            }
        }
    }

    #[test]
    fn a_way_that_varies_by_less_than_a_picture_seldom_changes_a_turn() {
        let turns = turns(33_333, |n| 40_000 + n * 7_919 % 12_000, 200);
        let off = turns.iter().filter(|us| (**us - 2_000_000).abs() > 17_000);
        assert!(off.count() < 10, "{turns:?}");
    }

    #[test]
    fn what_is_no_answer_teaches_nothing() {
        let mut keyframes = Keyframes::new(2_000_000);
        (0..30).for_each(|n| keyframes.note(n * 33_333));
        keyframes.begin(0, true);
        // An encoder that decides itself, and a keyframe whose question was lost again and again.
        keyframes.begin(1_800_000, false);
        keyframes.begin(5_800_000, false);
        assert_eq!(keyframes.next_us(5_800_000), 7_740_000);
        // A lost question does not make the next one much too soon.
        keyframes.begin(8_050_000, false);
        assert_eq!(keyframes.next_us(8_050_000), 9_890_000);
    }
}
