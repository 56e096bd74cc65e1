//! Whole sources are cut here; what comes out must hold for any of them.

mod borders;
mod looks;

use std::io::Cursor;
use std::sync::Arc;

use bytes::Bytes;
use mp4_atom::{Any, DecodeMaybe};
use proptest::prelude::*;

use super::super::Part;
use super::*;
use crate::media::{AudioCodec, AudioConfig, VideoConfig};

const AVCC: &[u8] = &[
    1, 0x42, 0xc0, 0x1f, 0xff, 0xe1, 0, 4, 0x67, 0x42, 0xc0, 0x1f, 1, 0, 4, 0x68, 0xce, 0x3c, 0x80,
];
const PART_US: i64 = 200_000;
const AUDIO: RenditionId = RenditionId::Audio;
const TOP: RenditionId = RenditionId::Video(0);

fn video_config(width: u16) -> Arc<VideoConfig> {
    Arc::new(VideoConfig {
        codec: VideoCodec::H264,
        width,
        height: 360,
        record: Bytes::from_static(AVCC),
        name: "avc1.42c01f".to_owned(),
    })
}

fn picture(config: &Arc<VideoConfig>, at_us: i64, is_key: bool) -> VideoFrame {
    VideoFrame {
        config: Arc::clone(config),
        at_us,
        is_key,
        data: Bytes::from_static(&[0, 0, 0, 2, 0x65, 1]),
    }
}

fn sound(index: i64, channels: u8) -> AudioFrame {
    AudioFrame {
        config: Arc::new(AudioConfig {
            codec: AudioCodec::Opus,
            sample_rate: 48_000,
            channels,
            record: Bytes::from_static(&[0, 2, 1, 0x38, 0, 0, 0xbb, 0x80, 0, 0, 0]),
            priming: 312,
        }),
        at_us: index * 20_000,
        samples: 960,
        data: Bytes::from_static(&[0xfc, 0xff, 0xfe]),
    }
}

/// One segment as it was given out.
#[derive(Clone, Debug)]
struct Cut {
    opening: Opening,
    parts: Vec<Part>,
    /// `None`: open.
    duration_us: Option<i64>,
    is_gap: bool,
}

/// Everything a packager gave out.
#[derive(Debug, Default)]
struct Tape {
    cuts: BTreeMap<RenditionId, Vec<Cut>>,
    maps: BTreeMap<RenditionId, u32>,
    /// When each part came out, in the order of parts.
    parts_at: BTreeMap<RenditionId, Vec<i64>>,
    has_ended: bool,
}

impl Tape {
    fn drain(&mut self, now_us: i64, packager: &mut Packager) {
        while let Some(publication) = packager.poll() {
            self.write(now_us, publication);
        }
    }

    fn write(&mut self, now_us: i64, publication: Publication) {
        match publication {
            Publication::Map {
                rendition, number, ..
            } => {
                let before = self.maps.insert(rendition, number);
                assert_eq!(number, before.unwrap_or(0) + 1);
            }
            Publication::Opened { rendition, opening } => {
                let cuts = self.cuts.entry(rendition).or_default();
                assert!(cuts.last().is_none_or(|cut| cut.duration_us.is_some()));
                assert_eq!(self.maps.get(&rendition), Some(&opening.map));
                cuts.push(Cut {
                    opening,
                    parts: Vec::new(),
                    duration_us: None,
                    is_gap: false,
                });
            }
            Publication::Part { rendition, part } => {
                let cut = self.open(rendition);
                cut.parts.push(part);
                self.parts_at.entry(rendition).or_default().push(now_us);
            }
            Publication::Closed {
                rendition,
                duration_us,
            } => self.open(rendition).duration_us = Some(duration_us),
            Publication::Gap {
                rendition,
                opening,
                duration_us,
            } => self.cuts.entry(rendition).or_default().push(Cut {
                opening,
                parts: Vec::new(),
                duration_us: Some(duration_us),
                is_gap: true,
            }),
            Publication::Paused => {}
            Publication::Ended => self.has_ended = true,
        }
    }

    fn open(&mut self, rendition: RenditionId) -> &mut Cut {
        let cut = self.cuts.get_mut(&rendition).unwrap().last_mut().unwrap();
        assert_eq!(cut.duration_us, None);
        cut
    }

    fn of(&self, rendition: RenditionId) -> &[Cut] {
        self.cuts.get(&rendition).map_or(&[], Vec::as_slice)
    }

    /// What must hold for any source.
    fn check(&self) {
        let mut borders: BTreeMap<u64, (bool, u64)> = BTreeMap::new();
        for (rendition, cuts) in &self.cuts {
            for pair in cuts.windows(2) {
                assert_eq!(
                    pair[1].opening.msn,
                    pair[0].opening.msn + 1,
                    "{rendition:?}"
                );
                assert!(pair[1].opening.start_us > pair[0].opening.start_us);
            }
            let mut decode_times = Vec::new();
            for cut in cuts {
                let Opening {
                    msn,
                    is_discontinuity,
                    discontinuities,
                    ..
                } = cut.opening;
                let border = (is_discontinuity, discontinuities);
                assert_eq!(*borders.entry(msn).or_insert(border), border, "{msn}");
                check_cut(*rendition, cut);
                for part in &cut.parts {
                    decode_times.extend(times(&part.bytes));
                }
            }
            assert!(decode_times.is_sorted_by(|one, next| one < next));
        }
    }
}

fn check_cut(rendition: RenditionId, cut: &Cut) {
    let what = format!("{rendition:?} {:?} {:?}", cut.opening, cut.duration_us);
    if let Some(duration_us) = cut.duration_us {
        // EXTINF must round to the target duration at most.
        assert!((1..3_500_000).contains(&duration_us), "{what}");
        let listed_us: i64 = cut.parts.iter().map(|part| part.duration_us).sum();
        assert!(listed_us <= duration_us + PART_US, "{what}: {listed_us}");
    }
    assert_eq!(cut.is_gap, cut.parts.is_empty());
    if let Some((_, whole)) = cut.parts.split_last() {
        assert!(
            whole.iter().all(|part| part.duration_us == PART_US),
            "{what}"
        );
    }
    for part in &cut.parts {
        assert!((1..=PART_US).contains(&part.duration_us), "{what}");
        assert_eq!(
            usize::try_from(part.frame_count).unwrap(),
            times(&part.bytes).len()
        );
    }
    assert!(
        cut.opening.is_continuation || cut.parts.first().is_none_or(|part| part.is_independent),
        "{what}"
    );
}

/// The decode times of a fragment's frames; durations must not be zero.
fn times(bytes: &[u8]) -> Vec<u64> {
    let mut cursor = Cursor::new(bytes);
    while let Some(atom) = Any::decode_maybe(&mut cursor).unwrap() {
        if let Any::Moof(moof) = atom {
            let traf = &moof.traf[0];
            let mut at = traf.tfdt.as_ref().unwrap().base_media_decode_time;
            let entries = traf.trun[0].samples.iter();
            return entries
                .map(|entry| {
                    let duration = entry.duration.unwrap();
                    assert!(duration > 0);
                    let this = at;
                    at += u64::from(duration);
                    this
                })
                .collect();
        }
    }
    panic!("no moof");
}

/// A source: pictures at times with keys, on some rungs, and sound.
struct Source {
    packager: Packager,
    tape: Tape,
    now_us: i64,
    next_sound: i64,
    has_sound: bool,
    sound_lag_us: i64,
    /// From this frame of sound on it has one channel.
    mono_from: i64,
}

impl Source {
    fn new() -> Self {
        Self::with(&Settings::default())
    }

    fn with(settings: &Settings) -> Self {
        Self {
            packager: Packager::new(settings, 0),
            tape: Tape::default(),
            now_us: 0,
            next_sound: 0,
            has_sound: true,
            sound_lag_us: 20_000,
            mono_from: i64::MAX,
        }
    }

    /// Lets time pass, with sound.
    fn run_until(&mut self, until_us: i64) {
        while self.now_us < until_us {
            self.now_us = (self.now_us + 10_000).min(until_us);
            while self.has_sound && self.next_sound * 20_000 + self.sound_lag_us <= self.now_us {
                let channels = if self.next_sound < self.mono_from {
                    2
                } else {
                    1
                };
                let frame = sound(self.next_sound, channels);
                self.packager.push_audio(self.now_us, frame);
                self.next_sound += 1;
            }
            if !self.has_sound {
                self.next_sound = self.now_us / 20_000;
            }
            self.packager.advance(self.now_us);
            self.tape.drain(self.now_us, &mut self.packager);
        }
    }

    /// A picture that comes `lag_us` after its time.
    fn show(&mut self, rung: u8, frame: VideoFrame, lag_us: i64) {
        self.run_until(frame.at_us + lag_us);
        self.packager.push_video(self.now_us, rung, frame);
        self.tape.drain(self.now_us, &mut self.packager);
    }

    /// Thirty pictures a second with a keyframe every two seconds.
    fn show_evenly(&mut self, config: &Arc<VideoConfig>, from_us: i64, until_us: i64) {
        for index in 0.. {
            let at_us = from_us + index * 1_000_000 / 30;
            if at_us >= until_us {
                return;
            }
            self.show(0, picture(config, at_us, index % 60 == 0), 5_000);
        }
    }

    fn finish(mut self) -> Tape {
        self.packager.finish();
        self.tape.drain(self.now_us, &mut self.packager);
        assert!(self.tape.has_ended);
        self.tape.check();
        self.tape
    }
}

#[test]
fn an_even_source_gives_even_segments_and_parts() {
    let mut source = Source::new();
    source.show_evenly(&video_config(640), 100_000, 10_100_000);
    let counts = source.packager.counts();
    let tape = source.finish();
    let cuts = tape.of(TOP);
    assert_eq!(cuts.len(), 5);
    for cut in cuts {
        assert_eq!(cut.duration_us, Some(2_000_000));
        assert_eq!(cut.parts.len(), 10);
        assert!(cut.parts.iter().all(|part| part.frame_count == 6));
        assert!(!cut.opening.is_discontinuity);
        let independent = cut.parts.iter().filter(|part| part.is_independent);
        assert_eq!(independent.count(), 1);
    }
    // Sound is cut at its first frame after the border: never more than one frame later.
    for (sound, picture) in tape.of(AUDIO).iter().zip(cuts) {
        let late_us = sound.opening.start_us - picture.opening.start_us;
        assert!((0..20_000).contains(&late_us), "{late_us}");
    }
    assert_eq!(tape.of(AUDIO).len(), 5);
    // Sound before the first picture is left out, nothing else.
    assert_eq!(
        counts,
        Counts {
            before_keyframe: 5,
            ..Counts::default()
        }
    );
}

#[test]
fn a_part_is_out_80_ms_after_its_newest_frame() {
    for fps in [25, 30, 60] {
        let mut source = Source::new();
        let config = video_config(640);
        for index in 0..fps * 6 {
            let at_us = index * 1_000_000 / fps;
            source.show(0, picture(&config, at_us, index % (2 * fps) == 0), 5_000);
        }
        let parts_at = source.tape.parts_at[&TOP].clone();
        for (index, at_us) in (1..).zip(parts_at) {
            let newest_us = index * PART_US - 1_000_000 / fps;
            assert!(at_us - newest_us <= 80_000, "{fps}: {at_us} {newest_us}");
        }
    }
}

#[test]
fn a_part_does_not_wait_for_a_picture_that_never_comes() {
    let mut source = Source::new();
    let config = video_config(640);
    for index in 0..5 {
        source.show(0, picture(&config, index * 33_333, index == 0), 5_000);
    }
    source.run_until(260_000);
    assert_eq!(source.tape.of(TOP)[0].parts.len(), 1);
    source.finish();
}

/// How long after its newest frame each part came, in microseconds; pictures come 20 ms late.
fn delays(intervals_us: impl Iterator<Item = i64>) -> Vec<i64> {
    let config = video_config(640);
    let mut source = Source::new();
    let (mut at_us, mut key_us) = (0, 0);
    let mut frames = vec![(0, true)];
    for interval_us in intervals_us {
        at_us += interval_us;
        let is_key = at_us - key_us >= 2_000_000;
        if is_key {
            key_us = at_us;
        }
        frames.push((at_us, is_key));
    }
    let times: Vec<i64> = frames.iter().map(|(at_us, _)| *at_us).collect();
    for (at_us, is_key) in frames {
        source.show(0, picture(&config, at_us, is_key), 20_000);
    }
    let parts_at = source.tape.parts_at[&TOP].clone();
    let tape = source.finish();
    let parts = tape.of(TOP).iter().flat_map(|cut| &cut.parts);
    let mut count = 0;
    let newest = parts.map(|part| {
        count += usize::try_from(part.frame_count).unwrap();
        times[count - 1]
    });
    newest
        .zip(parts_at)
        .map(|(newest_us, at_us)| at_us - newest_us)
        .collect()
}

#[test]
fn a_part_does_not_wait_for_the_frame_after_it() {
    for fps in [15, 20, 24, 25, 30, 50, 60] {
        let interval_us = 1_000_000 / fps;
        let mut delays = delays((0..fps * 10).map(|_| interval_us));
        // The first ones tell what is usual.
        delays.drain(..4);
        let late = delays.iter().filter(|delay| **delay > 30_000);
        // Where keyframes are not a whole number of parts apart, the last part waits for them.
        assert!(late.count() <= 5, "{fps}: {delays:?}");
    }
}

#[test]
fn frames_at_odd_times_are_all_there() {
    // Twenty a second on average, 13 ms early or late, and one twice as early now and then.
    let odd =
        |index: i64| 50_000 + (index * 7 % 5 - 2) * 6_500 - 25_000 * i64::from(index % 17 == 0);
    let delays = delays((0..400).map(odd));
    assert!(delays.len() >= 90, "{}", delays.len());
    assert!(
        delays.iter().all(|delay| (0..150_000).contains(delay)),
        "{delays:?}"
    );
}

#[test]
fn the_last_keyframe_is_shown_while_there_is_nothing_else() {
    let config = video_config(640);
    // Wherever in its segment the source leaves.
    for left_us in (2_100_000..=4_000_000).step_by(100_000) {
        let mut source = Source::new();
        source.show_evenly(&config, 0, left_us);
        source.run_until(11_000_000);
        // What builds on pictures that were shown before the held one cannot be decoded.
        source.show(0, picture(&config, 11_050_000, false), 5_000);
        source.show_evenly(&config, 11_100_000, 14_000_000);
        assert_eq!(source.packager.counts().before_keyframe, 1, "{left_us}");
        let tape = source.finish();
        for cut in tape.cuts.values().flatten() {
            assert!(!cut.is_gap && !cut.opening.is_discontinuity, "{left_us}");
        }
        let parts = tape.of(TOP).iter().flat_map(|cut| &cut.parts);
        let times: Vec<u64> = parts.flat_map(|part| times(&part.bytes)).collect();
        // Never far apart, and all of the returning source.
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] <= 117_000));
        assert_eq!(times.iter().filter(|time| **time >= 999_000).count(), 87);
    }
}

#[test]
fn pictures_that_ended_before_the_sound_are_held_to_its_end() {
    let config = video_config(640);
    for left_us in (2_100_000..=5_000_000).step_by(100_000) {
        let mut source = Source::new();
        source.show_evenly(&config, 0, left_us);
        source.run_until(5_000_000);
        let tape = source.finish();
        let end_us = |rendition| {
            let last = tape.of(rendition).last().unwrap();
            assert!(!last.is_gap, "{left_us}");
            last.opening.start_us + last.duration_us.unwrap()
        };
        let apart_us = end_us(TOP) - end_us(AUDIO);
        assert!(apart_us.abs() <= 100_000, "{apart_us} after {left_us}");
        let parts = tape.of(TOP).iter().flat_map(|cut| &cut.parts);
        let last = parts.last().unwrap();
        assert!(times(&last.bytes).last().unwrap() / 90 >= 4_800);
    }
}

#[test]
fn a_pause_keeps_the_numbers_and_is_a_discontinuity() {
    let mut source = Source::new();
    let config = video_config(640);
    source.show_evenly(&config, 0, 3_000_000);
    source.packager.pause();
    source.tape.drain(source.now_us, &mut source.packager);
    source.next_sound = 2_000;
    source.now_us = 40_000_000;
    source.show_evenly(&config, 40_000_000, 43_000_000);
    let tape = source.finish();
    let msns: Vec<u64> = tape.of(TOP).iter().map(|cut| cut.opening.msn).collect();
    assert_eq!(msns, [0, 1, 2, 3]);
    assert!(tape.of(TOP)[2].opening.is_discontinuity);
}

#[test]
fn what_hls_does_not_carry_is_counted() {
    let mut source = Source::new();
    let mut config = (*video_config(640)).clone();
    config.codec = VideoCodec::Vp8;
    source.show(0, picture(&Arc::new(config.clone()), 0, true), 0);
    config.codec = VideoCodec::H264;
    config.record = Bytes::from_static(&[7]);
    source.show(0, picture(&Arc::new(config), 0, true), 0);
    source.show(RUNGS_MAX, picture(&video_config(640), 0, true), 0);
    assert_eq!(source.packager.counts().unsupported, 3);
    assert!(source.tape.cuts.is_empty());
}

/// What may be between a picture and the next one.
fn step() -> impl Strategy<Value = (i64, i64, bool)> {
    let apart = prop_oneof![
        20 => 15_000i64..45_000,
        3 => 60_000i64..400_000,
        1 => 400_000i64..5_000_000,
    ];
    let lag = prop_oneof![10 => 0i64..40_000, 1 => 0i64..300_000];
    (apart, lag, prop::bool::weighted(0.03))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_frame_rate_keeps_the_constants(
        interval_us in 8_000i64..150_000,
        key_every in 1usize..120,
        jitter in proptest::collection::vec(0i64..8_000, 1..50),
    ) {
        let mut source = Source::new();
        let config = video_config(640);
        for (index, jitter_us) in (0..).zip(jitter.iter().cycle().take(400)) {
            let at_us = i64::try_from(index).unwrap() * interval_us + jitter_us * interval_us / 16_000;
            source.show(0, picture(&config, at_us, index % key_every == 0), 3_000);
            if at_us > 12_000_000 {
                break;
            }
        }
        source.finish();
    }

    #[test]
    fn any_source_at_all_keeps_the_constants(
        steps in proptest::collection::vec((step(), 0u8..3, 0usize..40), 1..400),
    ) {
        let mut source = Source::new();
        let configs: Vec<_> = [640, 320, 160, 1280].map(video_config).into();
        let mut at_us = 50_000;
        for ((apart_us, lag_us, is_key), rung, odd) in steps {
            at_us += apart_us;
            let rung = if odd < 30 { 0 } else { rung };
            let is_other = odd == 7 && is_key;
            let config = &configs[if is_other { 3 } else { usize::from(rung) }];
            if odd == 9 {
                source.packager.discontinue();
            }
            source.show(rung, picture(config, at_us, is_key), lag_us);
        }
        source.finish();
    }

    #[test]
    fn no_picture_after_a_keyframe_is_lost_while_keyframes_come(
        key_every in 30i64..90,
        jitter in proptest::collection::vec(0i64..6_000, 300),
    ) {
        let mut source = Source::new();
        source.has_sound = false;
        let config = video_config(640);
        for (index, jitter_us) in (0..).zip(&jitter) {
            let at_us = index * 33_333 + jitter_us;
            source.show(0, picture(&config, at_us, index % key_every == 0), 5_000);
        }
        prop_assert_eq!(source.packager.counts(), Counts::default());
        let tape = source.finish();
        let cuts = tape.of(TOP).iter();
        let count: u32 = cuts.flat_map(|cut| &cut.parts).map(|part| part.frame_count).sum();
        prop_assert_eq!(count, 300);
    }
}
