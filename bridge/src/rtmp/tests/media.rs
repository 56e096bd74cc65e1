//! Pictures and sound through both machines.

use proptest::prelude::*;

use super::wire::{Answer, Encoder, Wire, audio_config, picture, slice, sound, video_config};
use crate::flv::avc::AvcError;
use crate::flv::write;
use crate::media::AudioCodec;
use crate::rtmp::ingest::{Ending, IngestError, Media, Refusal};
use crate::rtmp::message::kind;

/// Times of pictures and of sounds.
fn times(media: &[Media]) -> (Vec<i64>, Vec<i64>) {
    let pictures = media.iter().filter_map(|media| match media {
        Media::Video { dts_ms, .. } => Some(*dts_ms),
        _ => None,
    });
    let sounds = media.iter().filter_map(|media| match media {
        Media::Audio { dts_ms, .. } => Some(*dts_ms),
        _ => None,
    });
    (pictures.collect(), sounds.collect())
}

impl Encoder {
    fn configure(&mut self) {
        self.message(kind::VIDEO, 0, &write::video_config(&video_config()));
        self.message(kind::AUDIO, 0, &write::audio_config(&audio_config()));
    }

    fn picture(&mut self, time: u32, composition: u8, is_key: bool) {
        let head = [if is_key { 0x17 } else { 0x27 }, 1, 0, 0, composition];
        self.message(
            kind::VIDEO,
            time,
            &[head.as_slice(), &slice(is_key, 300)].concat(),
        );
    }

    fn sound(&mut self, time: u32) {
        self.message(
            kind::AUDIO,
            time,
            &write::audio_frame(AudioCodec::Aac, b"aac"),
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn what_is_pushed_arrives_however_it_is_cut(
        cuts in prop::collection::vec(1usize..3000, 1..20),
        lengths in prop::collection::vec(1usize..150_000, 1..12),
    ) {
        let mut wire = Wire::new(true, Answer::Accept, cuts);
        wire.settle();
        let (mut sent, mut sounds) = (Vec::new(), 0);
        wire.push.send_audio(&sound(900_000));
        wire.push.send_video(&picture(950_000, false, 10));
        for (place, length) in (0..).zip(&lengths) {
            let frame = picture(1_000_000 + place * 33_333, place == 0, *length);
            wire.push.send_video(&frame);
            wire.push.send_audio(&sound(1_010_000 + place * 33_333));
            sent.push(frame);
            sounds += 1;
            wire.settle();
        }
        let media = wire.media();
        let Media::Metadata(metadata) = &media[0] else { panic!("{:?}", media[0]) };
        prop_assert_eq!((metadata.width, metadata.height), (Some(320.0), Some(240.0)));
        prop_assert_eq!(metadata.encoder.as_deref(), Some("Plenum"));
        prop_assert_eq!(&media[1], &Media::VideoConfig(video_config()));
        prop_assert_eq!(&media[2], &Media::AudioConfig(audio_config()));
        let pictures: Vec<_> = media.iter().filter(|m| matches!(m, Media::Video { .. })).collect();
        let expected: Vec<_> = sent.iter().map(|frame| Media::Video {
            dts_ms: (frame.at_us - 1_000_000) / 1000,
            composition_ms: 0,
            is_key: frame.is_key,
            data: frame.data.clone(),
        }).collect();
        prop_assert_eq!(pictures, expected.iter().collect::<Vec<_>>());
        prop_assert_eq!(times(&media).1.len(), sounds);
        prop_assert_eq!(wire.ingest.held_bytes(), 0);
    }

    #[test]
    fn spoilt_recordings_are_survived(
        spots in prop::collection::vec((0usize..20_000, any::<u8>()), 1..12),
        cut in 1usize..4000,
    ) {
        let mut wire = Wire::new(true, Answer::Accept, vec![5000]);
        wire.settle();
        for place in 0..20 {
            wire.push.send_video(&picture(place * 40_000, place % 10 == 0, 700));
            wire.push.send_audio(&sound(place * 40_000 + 5));
            wire.settle();
        }
        let mut bytes = wire.recorded;
        for (spot, value) in spots {
            let spot = spot % bytes.len();
            bytes[spot] = value;
        }
        let mut encoder = Encoder::new();
        for piece in bytes[1 + 2 * 1536..].chunks(cut) {
            encoder.bytes(piece);
            encoder.ingest.accept(encoder.now);
            prop_assert!(encoder.ingest.held_bytes() <= bytes.len());
        }
    }
}

#[test]
fn sound_alone_begins_at_once_and_late_pictures_join_it() {
    let mut wire = Wire::new(false, Answer::Accept, vec![1000]);
    wire.settle();
    wire.push.send_audio(&sound(5_000_000));
    wire.push.send_audio(&sound(5_021_333));
    wire.push.send_video(&picture(5_030_000, false, 10));
    wire.push.send_video(&picture(5_040_000, true, 10));
    wire.settle();
    assert_eq!(times(&wire.media()), (vec![40], vec![0, 21]));

    let mut wire = Wire::new(true, Answer::Accept, vec![1000]);
    wire.settle();
    for step in 0..100 {
        wire.push.send_audio(&sound(step * 21_333));
    }
    wire.settle();
    assert_eq!(times(&wire.media()).1, [0, 21, 42, 63, 85, 106]);
    assert_eq!(wire.push.counts().dropped_early, 94);
}

#[test]
fn pushed_times_go_on_over_24_and_32_bits() {
    for wrap in [1_i64 << 24, 1 << 32] {
        let mut wire = Wire::new(true, Answer::Accept, vec![777]);
        wire.settle();
        wire.push.send_video(&picture(0, true, 10));
        // In steps that a clock of 32 bits can follow.
        let steps = (1..4).map(|quarter| (wrap - 5000) / 4 * quarter);
        let near: Vec<_> = (0..250).map(|step| wrap - 5000 + step * 40).collect();
        let expected: Vec<_> = std::iter::once(0).chain(steps).chain(near).collect();
        for at in &expected[1..] {
            wire.push.send_video(&picture(at * 1000, false, 200));
            wire.settle();
        }
        assert_eq!(times(&wire.media()).0, expected);
    }
}

#[test]
fn times_of_encoders_go_on_over_24_and_32_bits() {
    for start in [(1_u32 << 24) - 5000, u32::MAX - 4999] {
        let mut encoder = Encoder::publishing();
        encoder.configure();
        let expected: Vec<_> = (0..250).map(|step| i64::from(start) + step * 40).collect();
        for step in 0..250 {
            let time = start.wrapping_add(step * 40);
            encoder.picture(time, 0, step == 0);
            encoder.sound(time);
        }
        assert_eq!(times(&encoder.media()), (expected.clone(), expected));
        assert_eq!(encoder.ingest.counts().jumps, 0);
    }
}

#[test]
fn b_frames_are_reported_once() {
    let mut encoder = Encoder::publishing();
    encoder.configure();
    // Shown at 80, 200, 120, 160, 320, 240, 280.
    for (time, composition) in [
        (0, 80),
        (40, 160),
        (80, 40),
        (120, 40),
        (160, 160),
        (200, 40),
        (240, 40),
    ] {
        encoder.picture(time, composition, time == 0);
    }
    let reports = encoder
        .media()
        .iter()
        .filter(|media| **media == Media::BFrames)
        .count();
    assert_eq!(reports, 1);
    assert_eq!(times(&encoder.media()).0.len(), 7);
}

#[test]
fn a_constant_delay_is_not_b_frames() {
    let mut encoder = Encoder::publishing();
    encoder.configure();
    for step in 0..10 {
        encoder.picture(step * 40, 80, step == 0);
    }
    assert!(!encoder.media().contains(&Media::BFrames));
}

#[test]
fn broken_pictures_cost_those_that_need_them() {
    let mut encoder = Encoder::publishing();
    encoder.configure();
    encoder.picture(0, 0, true);
    encoder.message(kind::VIDEO, 40, b"\x27\x01\0\0\0\0\0\xff\xff\x41abc");
    encoder.picture(80, 0, false);
    encoder.sound(90);
    encoder.picture(120, 0, true);
    encoder.picture(160, 0, false);
    assert_eq!(times(&encoder.media()), (vec![0, 120, 160], vec![90]));
    assert_eq!(encoder.ingest.counts().dropped_broken, 2);
}

#[test]
fn nothing_but_broken_pictures_ends() {
    let mut encoder = Encoder::publishing();
    encoder.configure();
    for step in 0..61 {
        assert_eq!(encoder.ending(), None);
        encoder.message(kind::VIDEO, step * 40, b"\x27\x01\0\0\0\0\0\xff\xff\x41abc");
    }
    assert_eq!(
        encoder.ending(),
        Some(&Ending::Failed(IngestError::Avc(AvcError::Nal)))
    );
    assert!(encoder.has_heard("the H264 data is broken"));
}

#[test]
fn broken_metadata_are_left() {
    let mut encoder = Encoder::publishing();
    encoder.message(kind::DATA, 0, b"\x02\0\x0aonMetaData\x11");
    encoder.message(kind::DATA, 0, &[5; 70_000]);
    encoder.message(kind::DATA, 0, b"\x02\0\x06onText\x05");
    assert_eq!(
        (encoder.events.len(), encoder.ingest.counts().dropped_broken),
        (0, 2)
    );
}

#[test]
fn frames_before_their_parameters_are_dropped() {
    let mut encoder = Encoder::publishing();
    encoder.picture(0, 0, true);
    encoder.sound(0);
    assert_eq!(encoder.media(), []);
    assert_eq!(encoder.ingest.counts().dropped_early, 2);
}

#[test]
fn the_same_parameters_again_are_not_given() {
    let mut encoder = Encoder::publishing();
    encoder.configure();
    encoder.configure();
    assert_eq!(encoder.media().len(), 2);
}

#[test]
fn codecs_and_parameters_not_carried_are_refused_by_name() {
    for (kind, body, name) in [
        (
            kind::VIDEO,
            b"\x90hvc1".as_slice(),
            "HEVC (hvc1) is not carried; set the encoder to H264",
        ),
        (kind::AUDIO, b"\x90Opus", "Opus (Opus) is not carried"),
        (
            kind::VIDEO,
            b"\x17\0\0\0\0\x01\x42",
            "the H264 configuration is broken",
        ),
        (
            kind::AUDIO,
            b"\xaf\0\x0a\x10",
            "AAC object type 1 is not carried",
        ),
    ] {
        let mut encoder = Encoder::publishing();
        encoder.message(kind, 0, body);
        assert!(
            matches!(encoder.ending(), Some(Ending::Failed(_))),
            "{name}"
        );
        assert!(
            encoder.has_heard(name) && encoder.has_heard("NetStream.Publish.Rejected"),
            "{name}"
        );
    }
}

#[test]
fn aggregates_come_apart() {
    let mut encoder = Encoder::publishing();
    encoder.configure();
    let picture = |is_key| [[0x17, 1, 0, 0, 0].as_slice(), &slice(is_key, 20)].concat();
    let tags = [
        write::tag(9, 5000, &picture(true)),
        write::tag(8, 5010, &write::audio_frame(AudioCodec::Aac, b"aac")),
        write::tag(9, 5040, &picture(false)),
    ];
    encoder.message(kind::AGGREGATE, 700, &tags.concat());
    assert_eq!(times(&encoder.media()), (vec![700, 740], vec![710]));
}

#[test]
fn the_service_can_end_it_with_words() {
    let mut encoder = Encoder::publishing();
    let refusal = Refusal::b_frames();
    encoder.ingest.refuse(refusal.clone());
    encoder.drain();
    assert_eq!(encoder.ending(), Some(&Ending::Refused(refusal)));
    assert!(encoder.has_heard("ffmpeg: -bf 0"));
}
