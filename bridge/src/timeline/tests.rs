mod hour;

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

#[expect(clippy::disallowed_methods, reason = "where the virtual clock starts")]
fn start() -> Instant {
    Instant::now()
}

/// A participant whose clock and media clocks are off, as it truly is; times in microseconds of the
/// server's clock.
#[derive(Clone, Copy, Debug)]
struct Sender {
    zero: Instant,
    /// How much faster its clock runs than ours, in ppm.
    drift_ppm: i64,
    /// How far somebody has set its clock forward.
    set_by_us: i64,
}

impl Sender {
    fn new(zero: Instant) -> Self {
        Self {
            zero,
            drift_ppm: 0,
            set_by_us: 0,
        }
    }

    /// What its clock shows, in µs since the beginning, before somebody set it.
    fn clock_us(&self, true_us: i64) -> i64 {
        true_us + true_us * self.drift_ppm / 1_000_000
    }

    /// What its reports say at a time.
    fn ntp(&self, true_us: i64) -> u64 {
        let micros = 3_900_000_000_000_000 + self.clock_us(true_us) + self.set_by_us;
        u64::try_from((i128::from(micros) << 32) / 1_000_000).unwrap()
    }

    fn instant(&self, true_us: i64) -> Instant {
        self.zero + Duration::from_micros(u64::try_from(true_us).unwrap())
    }
}

/// One of its tracks.
#[derive(Debug)]
struct Track {
    clock: TrackClock,
    rate: i64,
    /// The timestamp at the beginning.
    base: u64,
    /// How much faster its media clock runs than the sender's clock, in ppm.
    drift_ppm: i64,
    last: Option<Mapped>,
}

impl Track {
    fn new(rate: u32, base: u64) -> Self {
        Self {
            clock: TrackClock::new(rate),
            rate: i64::from(rate),
            base,
            drift_ppm: 0,
            last: None,
        }
    }

    fn timestamp(&self, sender: &Sender, true_us: i64) -> u64 {
        let clock_us = sender.clock_us(true_us);
        let media_us = clock_us + clock_us * self.drift_ppm / 1_000_000;
        self.base
            .wrapping_add_signed(media_us * self.rate / 1_000_000)
    }

    /// A frame captured at a time comes some time later; where it is placed.
    fn frame(
        &mut self,
        (sender, clock): (&Sender, &SenderClock),
        true_us: i64,
        late_us: i64,
    ) -> Mapped {
        let timestamp = self.timestamp(sender, true_us);
        let mapped = self
            .clock
            .map(clock, sender.instant(true_us + late_us), timestamp);
        if let Some(last) = self.last {
            assert!(mapped.at_us > last.at_us, "{mapped:?} after {last:?}");
        }
        self.last = Some(mapped);
        mapped
    }

    /// A report made at a time comes some time later.
    fn report(&mut self, (sender, clock): (&Sender, &mut SenderClock), true_us: i64, late_us: i64) {
        let rtp = (self.timestamp(sender, true_us) & 0xffff_ffff) as u32;
        let report = SenderReport {
            arrival: sender.instant(true_us + late_us),
            ntp: sender.ntp(true_us),
            rtp_timestamp: rtp,
        };
        self.clock.handle_report(clock, report);
    }
}

/// Sound and picture of one participant.
struct Pair {
    sender: Sender,
    clock: SenderClock,
    audio: Track,
    video: Track,
}

impl Pair {
    fn new() -> Self {
        let zero = start();
        Self {
            sender: Sender::new(zero),
            clock: SenderClock::new(Timeline::new(zero)),
            audio: Track::new(48_000, (1 << 32) + 77),
            video: Track::new(90_000, (1 << 32) + 4_000_000_000),
        }
    }

    /// 100 ms with five frames of sound and three pictures, the pictures 60 ms late on top; how far
    /// the last ones are from where they belong.
    fn step(&mut self, at_us: i64, late_us: i64) -> (i64, i64) {
        let mut off = (0, 0);
        for place in 0..5 {
            let at_us = at_us + place * 20_000;
            off.0 = self
                .audio
                .frame((&self.sender, &self.clock), at_us, late_us)
                .at_us
                - at_us;
        }
        for place in 0..3 {
            let at_us = at_us + place * 33_333;
            let late_us = late_us + 60_000;
            off.1 = self
                .video
                .frame((&self.sender, &self.clock), at_us, late_us)
                .at_us
                - at_us;
        }
        off
    }

    fn reports(&mut self, at_us: i64, late_us: i64) {
        self.audio
            .report((&self.sender, &mut self.clock), at_us, late_us);
        self.video
            .report((&self.sender, &mut self.clock), at_us, late_us);
    }
}

const MS: i64 = 1_000;
const SECOND: i64 = 1_000_000;

#[test]
fn without_reports_frames_are_where_they_came() {
    let mut pair = Pair::new();
    let (mut audio, mut video) = (0, 0);
    for step in 0..1200 {
        (audio, video) = pair.step(step * 100 * MS, 20 * MS + step % 7 * MS);
    }
    assert!((19 * MS..21 * MS).contains(&audio), "{audio}");
    assert!((79 * MS..81 * MS).contains(&video), "{video}");
    assert!(!pair.audio.clock.is_synchronized());
}

#[test]
fn the_first_report_is_slewed_to_and_then_sound_and_picture_are_in_step() {
    let mut pair = Pair::new();
    for step in 0..15 {
        pair.step(step * 100 * MS, 30 * MS);
    }
    pair.reports(1500 * MS, 10 * MS);
    let (mut audio, mut video) = (0, 0);
    for step in 15..45 {
        (audio, video) = pair.step(step * 100 * MS, 30 * MS);
        let corrections = [&pair.audio, &pair.video].map(|track| track.last.unwrap().correction_us);
        // A tenth of 20 and of 33 ms.
        let [audio, video] = corrections.map(i64::abs);
        assert!(audio <= 2 * MS && video <= 3_334, "{corrections:?}");
    }
    // 60 ms of video at a tenth of the time, the rest ever more gently: three seconds.
    assert!((audio - video).abs() < MS, "{audio} {video}");
    assert!((audio - 10 * MS).abs() < MS, "{audio}");
}

#[test]
fn what_is_corrected_for_both_leaves_sound_and_picture_in_step_all_the_way() {
    let mut pair = Pair::new();
    // The first second comes late, as the burst does with which an encoder begins.
    for step in 0..10 {
        pair.step(step * 100 * MS, 300 * MS);
    }
    for step in 10..60 {
        let (audio, video) = pair.step(step * 100 * MS, 20 * MS);
        let apart = video - audio - 60 * MS;
        assert!(apart.abs() < 5 * MS, "{audio} {video} at {step}");
        if step == 59 {
            assert!(audio < 30 * MS, "{audio}");
        }
    }
}

#[test]
fn a_report_before_any_frame_counts_from_the_first_frame_on() {
    let mut pair = Pair::new();
    // The timestamps' 32 bits wrap between the reports and the first frames.
    pair.audio.base = (1 << 32) + 0xffff_ffff - 48_000;
    pair.video.base = (2 << 32) + 45_000 - 90_000;
    pair.reports(400 * MS, 5 * MS);
    assert!(pair.audio.clock.is_synchronized());
    for step in 12..20 {
        let (audio, video) = pair.step(step * 100 * MS, 30 * MS);
        assert!(
            (audio - 5 * MS).abs() <= 50 && (video - 5 * MS).abs() <= 50,
            "{audio} {video}"
        );
    }
}

#[test]
fn reports_wrap_around() {
    let mut pair = Pair::new();
    pair.audio.base = (7 << 32) - 48_000 * 5;
    pair.video.base = (3 << 32) - 90_000 * 9;
    for step in 0..200 {
        if step % 10 == 3 {
            pair.reports(step * 100 * MS, 5 * MS);
        }
        let (audio, video) = pair.step(step * 100 * MS, 5 * MS);
        assert!(
            step < 60 || (audio - video).abs() < MS,
            "{step}: {audio} {video}"
        );
    }
    assert_eq!(
        pair.audio.clock.re_anchored() + pair.video.clock.re_anchored(),
        0
    );
}

#[test]
fn a_clock_that_is_set_moves_nothing() {
    for set_by_us in [
        3 * SECOND,
        -3 * SECOND,
        4000 * SECOND,
        -4000 * SECOND,
        300 * MS,
    ] {
        let mut pair = Pair::new();
        for step in 0..600 {
            if step == 305 {
                pair.sender.set_by_us += set_by_us;
            }
            // Sound says so first, the picture a second later.
            if step % 20 == 3 {
                let clocks = (&pair.sender, &mut pair.clock);
                pair.audio
                    .report(clocks, step * 100 * MS, 5 * MS + step % 3 * MS);
            }
            if step % 20 == 13 {
                let clocks = (&pair.sender, &mut pair.clock);
                pair.video
                    .report(clocks, step * 100 * MS, 5 * MS + step % 3 * MS);
            }
            let (audio, video) = pair.step(step * 100 * MS, 20 * MS);
            let is_settled = step > 60;
            assert!(
                !is_settled || (audio - video).abs() < MS,
                "{step}: {audio} {video}"
            );
            assert!(
                !is_settled || (audio - 5 * MS).abs() < 2 * MS,
                "{step}: {audio}"
            );
        }
        let re_anchored = pair.audio.clock.re_anchored() + pair.video.clock.re_anchored();
        assert_eq!(re_anchored, 0, "{set_by_us}");
    }
}

#[test]
fn timestamps_that_jump_are_placed_by_arrival_again() {
    for jump in [48_000 * 3600, 48_000 * 8, -48_000 * 8] {
        let mut pair = Pair::new();
        for step in 0..200 {
            if step % 10 == 3 {
                pair.reports(step * 100 * MS, 5 * MS);
            }
            if step == 100 {
                pair.audio.base = pair.audio.base.wrapping_add_signed(jump);
            }
            let (audio, _) = pair.step(step * 100 * MS, 20 * MS);
            assert!((audio - 10 * MS).abs() < 20 * MS, "{step}: {audio}");
        }
        assert_eq!(pair.audio.clock.re_anchored(), 1);
        assert_eq!(pair.video.clock.re_anchored(), 0);
    }
}

#[test]
fn a_sender_without_a_clock_is_placed_by_arrival() {
    let mut pair = Pair::new();
    for step in 0..20 {
        let report = SenderReport {
            arrival: pair.sender.zero,
            ntp: 0,
            rtp_timestamp: 5,
        };
        pair.audio.clock.handle_report(&mut pair.clock, report);
        let (audio, _) = pair.step(step * 100 * MS, 20 * MS);
        assert!((audio - 20 * MS).abs() < 50, "{audio}");
    }
    assert!(!pair.clock.is_synchronized());
}

#[test]
fn frames_out_of_order_neither_stop_time_nor_move_what_follows() {
    let mut pair = Pair::new();
    pair.reports(0, 10 * MS);
    for place in 1..300 {
        // The third of each five comes after the fifth.
        let order = [0, 1, 3, 4, 2][place % 5];
        let at_us = i64::try_from(place / 5 * 5 + order).unwrap() * 33 * MS;
        let clocks = (&pair.sender, &pair.clock);
        let off = pair.video.frame(clocks, at_us, 50 * MS).at_us - at_us;
        let is_late = order == 2;
        assert!(is_late || (off - 10 * MS).abs() < 100, "{place}: {off}");
        assert!(!is_late || (off - 76 * MS).abs() < 100, "{place}: {off}");
    }
}

#[test]
fn corrections_in_samples_add_up_to_the_way_that_was_slewed() {
    let mut pair = Pair::new();
    pair.step(0, 30 * MS);
    pair.reports(100 * MS, 10 * MS);
    let (mut samples, mut last) = (0.0, 0);
    for place in 5..400 {
        let at_us = place * 20 * MS;
        let mapped = pair
            .audio
            .frame((&pair.sender, &pair.clock), at_us, 30 * MS);
        samples += mapped.correction_samples(48_000);
        last = mapped.at_us - at_us;
    }
    assert!((last - 10 * MS).abs() < 100, "{last}");
    assert!((samples + 960.0).abs() < 6.0, "{samples}");
}

#[test]
fn instants_before_the_beginning_are_negative() {
    let zero = start() + Duration::from_secs(10);
    let timeline = Timeline::new(zero);
    assert_eq!(timeline.at_us(zero - Duration::from_millis(3)), -3 * MS);
    assert_eq!(timeline.at_us(zero + Duration::from_secs(3)), 3 * SECOND);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Drift, jitter, reports that are lost and delayed.
    #[test]
    fn sound_and_picture_stay_in_step_whatever_the_network_does(
        drift_ppm in -200..=200i64,
        media_drift_ppm in -50..=50i64,
        jitter in prop::collection::vec(0..80 * MS, 64),
        report_jitter in prop::collection::vec(0..40 * MS, 64),
        lost in prop::collection::vec(prop::bool::weighted(0.3), 64),
        bases in (any::<u32>(), any::<u32>()),
    ) {
        let mut pair = Pair::new();
        pair.sender.drift_ppm = drift_ppm;
        pair.audio.drift_ppm = media_drift_ppm;
        pair.audio.base = (1 << 32) + u64::from(bases.0);
        pair.video.base = (1 << 32) + u64::from(bases.1);
        // The first reports come, so that there is something to converge to.
        let mut reported = 0;
        for step in 0..900i64 {
            let dice = usize::try_from(step / 10 % 64).unwrap();
            if step % 10 == 7 && (step < 40 || !lost[dice]) {
                let clocks = (&pair.sender, &mut pair.clock);
                pair.video.report(clocks, step * 100 * MS, report_jitter[dice]);
            }
            if step % 30 == 17 && (step < 40 || !lost[63 - dice]) {
                let clocks = (&pair.sender, &mut pair.clock);
                reported = step;
                pair.audio.report(clocks, step * 100 * MS, report_jitter[63 - dice]);
            }
            let late_us = jitter[usize::try_from(step % 64).unwrap()];
            let (audio, video) = pair.step(step * 100 * MS, late_us);
            // Four reports of one, 30 of the other, then 30 seconds of window.
            if step > 120 {
                // What the sound's clock is off can be learned from reports only.
                let unknown_us = media_drift_ppm.abs() * (step - reported) / 10;
                let apart_max = MS + unknown_us;
                prop_assert!((audio - video).abs() < apart_max, "{}: {} {}", step, audio, video);
                prop_assert!((-8 * MS..50 * MS).contains(&audio), "{}: {}", step, audio);
            }
        }
    }

    /// Nothing that a sender can say makes time stand still, run backwards, or overflow.
    #[test]
    fn time_goes_on_whatever_a_sender_says(
        inputs in prop::collection::vec(
            (any::<bool>(), any::<u64>(), any::<u32>(), any::<u64>(), 0..2_000_000u64), 1..120),
        rate in prop::sample::select(vec![1u32, 8_000, 48_000, 90_000, u32::MAX]),
        is_wild in any::<bool>(),
    ) {
        let zero = start();
        let mut sender = SenderClock::new(Timeline::new(zero));
        let mut track = TrackClock::new(rate);
        let (mut now, mut last, mut timestamp, mut ticks_us) = (zero, None, 1u64 << 32, 0);
        for (is_report, ntp, rtp, wild, elapsed) in inputs {
            now += Duration::from_micros(elapsed);
            if is_report {
                let report = SenderReport { arrival: now, ntp, rtp_timestamp: rtp };
                track.handle_report(&mut sender, report);
                continue;
            }
            timestamp = if is_wild { wild } else { timestamp.wrapping_add_signed(i64::from(rtp.cast_signed())) };
            let mapped = track.map(&sender, now, timestamp);
            let at_us = Timeline::new(zero).at_us(now);
            prop_assert!(last.is_none_or(|last| mapped.at_us > last));
            // Never far ahead of what has come, but for the ticks that lie between frames at least.
            ticks_us += SECOND / i64::from(rate) + 1;
            prop_assert!(mapped.at_us <= at_us + 6 * SECOND + ticks_us, "{:?} at {}", mapped, at_us);
            prop_assert!(mapped.at_us >= at_us - 10 * SECOND, "{:?} at {}", mapped, at_us);
            last = Some(mapped.at_us);
        }
    }
}
