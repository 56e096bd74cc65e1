use std::io::Cursor;

use mp4_atom::{Any, Decode, DecodeMaybe, Mdat};
use proptest::prelude::*;

use super::*;
use crate::media::AudioCodec;

/// Baseline 3.1, one SPS and one PPS.
const AVCC: &[u8] = &[
    1, 0x42, 0xc0, 0x1f, 0xff, 0xe1, 0, 4, 0x67, 0x42, 0xc0, 0x1f, 1, 0, 4, 0x68, 0xce, 0x3c, 0x80,
];
const DOPS: &[u8] = &[0, 2, 1, 0x38, 0, 0, 0xbb, 0x80, 0, 0, 0];
const VPCC: &[u8] = &[1, 0, 0, 0, 0, 10, 0x82, 1, 1, 1, 0, 0];
const AV1C: &[u8] = &[0x81, 0x04, 0x0c, 0x00];

fn video(codec: VideoCodec, record: &'static [u8]) -> TrackSpec {
    TrackSpec::Video(Arc::new(VideoConfig {
        codec,
        width: 1280,
        height: 720,
        record: Bytes::from_static(record),
        name: "avc1.42c01f".to_owned(),
    }))
}

fn audio(codec: AudioCodec, record: &'static [u8]) -> TrackSpec {
    TrackSpec::Audio(Arc::new(AudioConfig {
        codec,
        sample_rate: 48_000,
        channels: 2,
        record: Bytes::from_static(record),
        priming: 312,
    }))
}

fn atoms(bytes: &[u8]) -> Vec<Any> {
    let mut cursor = Cursor::new(bytes);
    let mut atoms = Vec::new();
    while let Some(atom) = Any::decode_maybe(&mut cursor).unwrap() {
        atoms.push(atom);
    }
    assert_eq!(usize::try_from(cursor.position()).unwrap(), bytes.len());
    atoms
}

fn moov_of(tracks: &[TrackSpec]) -> Moov {
    let init = init_segment(tracks).unwrap();
    match atoms(&init).as_slice() {
        [Any::Ftyp(_), Any::Moov(moov)] => moov.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_carried_codec_has_its_sample_entry() {
    let specs = [
        (video(VideoCodec::H264, AVCC), "avc1"),
        (video(VideoCodec::Vp9, VPCC), "vp09"),
        (video(VideoCodec::Av1, AV1C), "av01"),
        (audio(AudioCodec::Opus, DOPS), "Opus"),
        (audio(AudioCodec::Aac, &[0x11, 0x90]), "mp4a"),
    ];
    for (spec, kind) in specs {
        let moov = moov_of(std::slice::from_ref(&spec));
        let trak = &moov.trak[0];
        assert_eq!(trak.mdia.mdhd.timescale, spec.timescale());
        let init = init_segment(&[spec]).unwrap();
        let found = init.windows(4).filter(|bytes| *bytes == kind.as_bytes());
        assert_eq!(found.count(), 1, "{kind}");
    }
}

#[test]
fn decoder_configurations_come_out_as_they_went_in() {
    let records: [(TrackSpec, &[u8]); 5] = [
        (video(VideoCodec::H264, AVCC), AVCC),
        (video(VideoCodec::Vp9, VPCC), VPCC),
        (video(VideoCodec::Av1, AV1C), AV1C),
        (audio(AudioCodec::Opus, DOPS), DOPS),
        (audio(AudioCodec::Aac, &[0x11, 0x90]), &[0x11, 0x90]),
    ];
    for (spec, record) in records {
        let init = init_segment(&[spec]).unwrap();
        assert!(init.windows(record.len()).any(|bytes| bytes == record));
    }
}

#[test]
fn two_tracks_are_numbered_in_their_order() {
    let moov = moov_of(&[
        video(VideoCodec::H264, AVCC),
        audio(AudioCodec::Aac, &[0x11, 0x90]),
    ]);
    let ids: Vec<u32> = moov.trak.iter().map(|trak| trak.tkhd.track_id).collect();
    assert_eq!(ids, [1, 2]);
    let extends = moov.mvex.unwrap().trex;
    let ids: Vec<u32> = extends.iter().map(|trex| trex.track_id).collect();
    assert_eq!(ids, [1, 2]);
}

#[test]
fn what_cannot_be_carried_is_refused_by_name() {
    let vp8 = init_segment(&[video(VideoCodec::Vp8, &[])]);
    assert!(matches!(vp8, Err(InitError::Codec(VideoCodec::Vp8))));
    let short = init_segment(&[video(VideoCodec::H264, &[1, 2])]);
    assert!(matches!(short, Err(InitError::Record(_))));
    assert!(matches!(init_segment(&[]), Err(InitError::NoTrack)));
}

#[test]
fn names_are_those_of_rfc_6381() {
    assert_eq!(
        audio(AudioCodec::Aac, &[0x11, 0x90]).codec_name(),
        "mp4a.40.2"
    );
    assert_eq!(audio(AudioCodec::Opus, DOPS).codec_name(), "opus");
}

#[test]
fn sound_less_than_half_a_frame_off_has_no_hole() {
    let mut clock = AudioClock::new(48_000);
    assert_eq!(clock.place(0, 960), Some(0));
    assert_eq!(clock.place(20_009, 960), Some(960));
    assert_eq!(clock.place(39_995, 960), Some(1920));
    // A hole of one frame stays one.
    assert_eq!(clock.place(80_000, 960), Some(3840));
    // Twice the same time is heard once.
    assert_eq!(clock.place(80_000, 960), None);
    assert_eq!(clock.place(100_000, 960), Some(4800));
}

#[test]
fn what_is_before_the_timeline_has_no_place() {
    assert_eq!(AudioClock::new(48_000).place(-42_667, 1024), None);
    assert_eq!(VideoClock::default().place(-1), None);
}

fn samples() -> impl Strategy<Value = Vec<Sample>> {
    let sample = (1u32..9000, any::<bool>(), 0usize..200).prop_map(|(duration, is_key, size)| {
        let data = Bytes::from(vec![u8::try_from(size % 251).unwrap(); size]);
        Sample {
            duration,
            is_key,
            data,
        }
    });
    proptest::collection::vec(sample, 1..20)
}

proptest! {
    #[test]
    fn fragments_come_back_through_a_reader(
        samples in samples(),
        decode_time in any::<u64>(),
        reference in any::<Option<u64>>(),
        begins in any::<bool>(),
    ) {
        let mut fragment = Fragment::new(1, 7, decode_time);
        for sample in &samples {
            fragment.push(sample.clone());
        }
        if let Some(ntp) = reference {
            fragment.set_reference_time(ntp);
        }
        if begins {
            fragment.set_begins_segment();
        }
        let bytes = fragment.finish().unwrap();
        let mut atoms = atoms(&bytes);
        let Some(Any::Mdat(Mdat { data })) = atoms.pop() else { panic!("no mdat") };
        let Some(Any::Moof(moof)) = atoms.pop() else { panic!("no moof") };
        if let Some(ntp) = reference {
            let Some(Any::Prft(prft)) = atoms.pop() else { panic!("no prft") };
            prop_assert_eq!((prft.ntp_timestamp, prft.media_time), (ntp, decode_time));
        }
        prop_assert_eq!(matches!(atoms.pop(), Some(Any::Styp(_))), begins);
        let traf = &moof.traf[0];
        prop_assert_eq!(traf.tfdt.as_ref().unwrap().base_media_decode_time, decode_time);
        let mut at = 0;
        for (entry, sample) in traf.trun[0].samples.iter().zip(&samples) {
            prop_assert_eq!(entry.duration, Some(sample.duration));
            prop_assert_eq!(entry.flags.unwrap() & 0x0001_0000 == 0, sample.is_key);
            let size = usize::try_from(entry.size.unwrap()).unwrap();
            prop_assert_eq!(&data[at..at + size], &sample.data[..]);
            at += size;
        }
        prop_assert_eq!(at, data.len());
        // The offset counts from the first byte of the moof.
        let moof_at = bytes.windows(4).position(|kind| kind == b"moof").unwrap() - 4;
        let offset = usize::try_from(traf.trun[0].data_offset.unwrap()).unwrap();
        prop_assert_eq!(&bytes[moof_at + offset..], &data[..]);
    }

    #[test]
    fn decode_times_of_pictures_always_increase(
        steps in proptest::collection::vec(-20_000i64..100_000, 1..200),
    ) {
        let mut clock = VideoClock::default();
        let (mut at_us, mut last) = (0i64, None);
        for step in steps {
            at_us += step;
            if let Some(at) = clock.place(at_us) {
                prop_assert!(last.is_none_or(|last| at > last));
                last = Some(at);
            }
        }
    }

    #[test]
    fn readers_never_see_sound_go_back(
        steps in proptest::collection::vec(-40_000i64..60_000, 1..200),
    ) {
        let mut clock = AudioClock::new(48_000);
        let (mut at_us, mut end) = (0i64, 0);
        for step in steps {
            at_us += step;
            if let Some(at) = clock.place(at_us, 960) {
                prop_assert!(at >= end);
                end = at + 960;
            }
        }
    }

    #[test]
    fn garbage_for_a_decoder_configuration_is_an_error_not_a_panic(
        record in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        for codec in [VideoCodec::H264, VideoCodec::Vp9, VideoCodec::Av1] {
            let spec = TrackSpec::Video(Arc::new(VideoConfig {
                codec,
                width: 16,
                height: 16,
                record: record.clone().into(),
                name: String::new(),
            }));
            if let Ok(init) = init_segment(&[spec]) {
                let mut cursor = Cursor::new(&init[..]);
                prop_assert!(Any::decode(&mut cursor).is_ok());
            }
        }
    }
}
