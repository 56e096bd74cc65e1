//! An hour with a sender whose clocks are wrong: nothing drifts.

use super::*;

/// Numbers that look random, the same each time (a linear congruential generator).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: i64) -> i64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        i64::try_from(self.0 >> 33).unwrap() % below
    }
}

/// The greatest and least that was seen.
#[derive(Clone, Copy, Debug)]
struct Range(i64, i64);

impl Range {
    fn see(&mut self, value: i64) {
        *self = Self(self.0.min(value), self.1.max(value));
    }
}

/// How far sound is from picture, and sound from the server's clock, in µs: over the whole hour from
/// the first half minute on, and over its last minute.
fn hour(drift_ppm: i64, media_drift_ppm: i64) -> [Range; 4] {
    let mut pair = Pair::new();
    pair.sender.drift_ppm = drift_ppm;
    pair.audio.drift_ppm = media_drift_ppm;
    let mut dice = Dice(7);
    let mut ranges = [Range(i64::MAX, i64::MIN); 4];
    for step in 0..36_000i64 {
        let at_us = step * 100 * MS;
        // The network's fastest way takes 15 ms; queues add up to 60 ms to it.
        if step % 10 == 5 {
            let late_us = 15 * MS + dice.roll(60 * MS);
            pair.video
                .report((&pair.sender, &mut pair.clock), at_us, late_us);
        }
        if step % 50 == 25 {
            let late_us = 15 * MS + dice.roll(60 * MS);
            pair.audio
                .report((&pair.sender, &mut pair.clock), at_us, late_us);
        }
        let late_us = 15 * MS + dice.roll(60 * MS);
        let (audio, video) = pair.step(at_us, late_us);
        if step >= 300 {
            ranges[0].see(audio - video);
            ranges[1].see(audio);
        }
        if step >= 35_400 {
            ranges[2].see(audio - video);
            ranges[3].see(audio);
        }
    }
    let re_anchored = pair.audio.clock.re_anchored() + pair.video.clock.re_anchored();
    assert_eq!(re_anchored, 0);
    ranges
}

#[test]
fn nothing_drifts_in_an_hour_of_clocks_that_are_200_ppm_apart() {
    for (drift_ppm, media_drift_ppm) in [(200, 50), (-200, 50), (200, -50), (-200, -50)] {
        let [apart, off, apart_at_end, off_at_end] = hour(drift_ppm, media_drift_ppm);
        let figures = format!(
            "sender {drift_ppm} ppm, sound {media_drift_ppm} ppm more; sound less picture {apart:?} \
             µs, in the last minute {apart_at_end:?}; less server {off:?}, in the last minute \
             {off_at_end:?}"
        );
        // In step to the millisecond, and between the fastest way and the half of what may queue.
        assert!(apart.0 > -MS && apart.1 < MS, "{figures}");
        assert!(off.0 > 5 * MS && off.1 < 45 * MS, "{figures}");
        assert!(off_at_end.0 > 5 * MS && off_at_end.1 < 45 * MS, "{figures}");
        eprintln!("{figures}");
    }
}
