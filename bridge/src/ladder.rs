//! Which encodings of the track on the air are to feed the rungs: not each one as it comes, but all that come together.
//!
//! A browser's encodings come one after the other, the smallest first, while it finds out how much it may send. A rung
//! that changes its source is a discontinuity for all who watch, so one for each encoding would be two too many.

use std::time::{Duration, Instant};

use crate::rungs::Lane;

/// No encoding came for this long: there will be no more.
const QUIET: Duration = Duration::from_millis(500);
/// Encodings that come and go are waited for no longer.
const PATIENCE: Duration = Duration::from_secs(1);

/// The encodings on the air.
#[derive(Debug, Default)]
pub(crate) struct Ladder {
    taken: Vec<Lane>,
    coming: Option<Coming>,
}

/// Encodings that are live and not on the air yet.
#[derive(Debug)]
struct Coming {
    lanes: Vec<Lane>,
    since: Instant,
    changed: Instant,
}

impl Ladder {
    /// Takes note of the encodings that are live, highest first, of `count` that there can be.
    pub(crate) fn look(&mut self, now: Instant, live: Vec<Lane>, count: usize) {
        let is_new = |lane: &Lane| !self.taken.contains(lane);
        let is_all = live.len() >= count;
        if is_all || !live.iter().any(is_new) || !self.wait(now, &live) {
            self.taken = live;
            self.coming = None;
        }
    }

    /// Those that are to feed the rungs, highest first.
    pub(crate) fn lanes(&self) -> &[Lane] {
        &self.taken
    }

    /// Those that will be.
    pub(crate) fn coming(&self) -> &[Lane] {
        self.coming.as_ref().map_or(&[], |coming| &coming.lanes)
    }

    /// Whether more encodings are waited for.
    fn wait(&mut self, now: Instant, live: &[Lane]) -> bool {
        let is_same = |lane: &Lane| live.iter().any(|other| other.track == lane.track);
        if self.taken.iter().any(is_same) {
            self.taken.retain(|lane| live.contains(lane));
            if self.taken.is_empty() {
                return false;
            }
        }
        let of_another = |coming: &Coming| !coming.lanes.iter().any(is_same);
        if self.coming.as_ref().is_none_or(of_another) {
            self.coming = Some(Coming {
                lanes: live.to_vec(),
                since: now,
                changed: now,
            });
        }
        let Some(coming) = &mut self.coming else {
            return false;
        };
        if coming.lanes != live {
            coming.lanes = live.to_vec();
            coming.changed = now;
        }
        now.saturating_duration_since(coming.changed) < QUIET
            && now.saturating_duration_since(coming.since) < PATIENCE
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "a virtual clock begins at some instant"
)]
mod tests {
    use sfu::TrackId;

    use super::*;

    fn lanes(track: u64, encodings: &[u8]) -> Vec<Lane> {
        let lanes = encodings.iter().map(|&encoding| Lane {
            track: TrackId::new(0, track),
            encoding,
        });
        lanes.collect()
    }

    /// What is on the air after looks at these times, in milliseconds.
    fn run(ladder: &mut Ladder, looks: &[(u64, u64, &[u8])]) -> Vec<Vec<Lane>> {
        let begun = Instant::now();
        let looks = looks.iter().map(|(at_ms, track, live)| {
            let now = begun + Duration::from_millis(*at_ms);
            ladder.look(now, lanes(*track, live), 3);
            ladder.lanes().to_vec()
        });
        looks.collect()
    }

    #[test]
    fn encodings_that_come_one_after_the_other_are_taken_together() {
        let mut ladder = Ladder::default();
        let looks: [(u64, u64, &[u8]); 4] = [
            (0, 1, &[0]),
            (400, 1, &[1, 0]),
            (800, 1, &[1, 0]),
            (850, 1, &[2, 1, 0]),
        ];
        let taken = run(&mut ladder, &looks[..3]);
        assert_eq!(taken, [vec![], vec![], vec![]]);
        assert_eq!(ladder.coming(), lanes(1, &[1, 0]));
        let taken = run(&mut ladder, &looks[3..]);
        assert_eq!(taken, [lanes(1, &[2, 1, 0])]);
        assert_eq!(ladder.coming(), []);
    }

    #[test]
    fn what_does_not_come_is_not_waited_for() {
        let mut ladder = Ladder::default();
        let taken = run(&mut ladder, &[(0, 1, &[0]), (499, 1, &[0]), (500, 1, &[0])]);
        assert_eq!(taken, [vec![], vec![], lanes(1, &[0])]);
        // One that comes and goes.
        let flapping: [&[u8]; 2] = [&[1, 0], &[2, 0]];
        let at = (0u64..=1_000).step_by(100);
        let looks = at.zip(flapping.into_iter().cycle());
        let looks: Vec<_> = looks.map(|(at_ms, live)| (at_ms, 1, live)).collect();
        let taken = run(&mut ladder, &looks);
        assert_eq!(taken[9], lanes(1, &[0]));
        assert_eq!(taken[10], lanes(1, &[1, 0]));
    }

    #[test]
    fn what_is_gone_is_gone_at_once() {
        let mut ladder = Ladder::default();
        let looks: [(u64, u64, &[u8]); 3] = [(0, 1, &[2, 1, 0]), (1, 1, &[1, 0]), (2, 1, &[])];
        let taken = run(&mut ladder, &looks);
        assert_eq!(taken, [lanes(1, &[2, 1, 0]), lanes(1, &[1, 0]), vec![]]);
        // One that takes the place of the only one.
        let taken = run(
            &mut ladder,
            &[(0, 1, &[2, 1, 0]), (1, 1, &[0]), (2, 1, &[1])],
        );
        assert_eq!(taken[2], lanes(1, &[1]));
    }

    #[test]
    fn another_track_takes_over_when_its_encodings_are_there() {
        let mut ladder = Ladder::default();
        let looks: [(u64, u64, &[u8]); 5] = [
            (0, 1, &[2, 1, 0]),
            (100, 2, &[0]),
            (400, 3, &[0]),
            (899, 3, &[0]),
            (900, 3, &[0]),
        ];
        let taken = run(&mut ladder, &looks);
        let old = lanes(1, &[2, 1, 0]);
        assert_eq!(
            taken,
            [old.clone(), old.clone(), old.clone(), old, lanes(3, &[0])]
        );
    }
}
