//! One codec after the other, with headers as encoders write them.

use super::*;

#[test]
fn h264_configurations_change_only_with_keyframes() {
    let mut feed = Feed::h264();
    let sets = stap_a(&[&SPS, &PPS]);
    let first = feed.whole(&[&sets, &IDR]).config.unwrap();
    assert_eq!(
        (first.width, first.height, &*first.name),
        (1280, 720, "avc1.42c01f")
    );
    assert!(Arc::ptr_eq(
        &first,
        &feed.whole(&[&sets, &IDR]).config.unwrap()
    ));
    let small = stap_a(&[&SPS_SMALL, &PPS]);
    assert_eq!(
        feed.refused(&[&small, &INTER]),
        FrameError::ChangedBetweenKeyframes
    );
    assert!(feed.assembler.needs_keyframe());
    let second = feed.whole(&[&IDR]).config.unwrap();
    assert_eq!((second.width, second.height), (640, 360));
    assert!(Arc::ptr_eq(&second, &feed.whole(&[&INTER]).config.unwrap()));
}

#[test]
fn h264_without_parameter_sets_is_no_frame() {
    let mut feed = Feed::h264();
    assert_eq!(feed.refused(&[&IDR]), FrameError::NoParameterSets);
    assert_eq!(feed.refused(&[&SPS, &IDR]), FrameError::NoParameterSets);
    // Some encoders mark the packet of parameter sets like a frame of its own.
    feed.timestamp += 3000;
    assert_eq!(feed.packet(&PPS, true), []);
    assert_eq!(feed.packet(&IDR, true).len(), 1);
}

#[test]
fn h264_is_put_together_from_all_kinds_of_packets() {
    let mut feed = Feed::h264();
    let (delimiter, information) = ([0x09, 0xf0], [0x06, 5, 1, 0, 0x80]);
    let key = feed.whole(&[
        &delimiter,
        &stap_a(&[&SPS, &PPS, &information]),
        &[0x7c, 0x85, 0x88, 0x84],
        &[0x7c, 0x05, 0x21, 0x22],
        &[0x7c, 0x45, 0x23],
        &[0x65, 0x40, 0x11],
    ]);
    let fragmented = [0x65, 0x88, 0x84, 0x21, 0x22, 0x23];
    assert_eq!(key.data, avcc(&[&fragmented, &[0x65, 0x40, 0x11]]));
    assert!(key.is_key);
}

#[test]
fn h264_units_in_fragments_are_kept_or_left_out_like_whole_ones() {
    let mut feed = Feed::h264();
    let (begin, end) = SPS.split_at(4);
    let sets = [&[0x7c, 0x87][..], &begin[1..]].concat();
    let key = feed.whole(&[
        &sets,
        &[&[0x7c, 0x47][..], end].concat(),
        &PPS,
        &[0x65, 0x88, 0x84],
        // Supplemental information between two slices.
        &[0x7c, 0x86, 5, 1],
        &[0x7c, 0x46, 0, 0x80],
        &[0x7c, 0x85, 0x40],
        &[0x7c, 0x45, 0x11],
    ]);
    assert_eq!(key.config.unwrap().width, 1280);
    let slices: [&[u8]; 2] = [&[0x65, 0x88, 0x84], &[0x65, 0x40, 0x11]];
    assert_eq!(key.data, avcc(&slices));
}

#[test]
fn h264_that_does_not_fit_together_is_refused() {
    let cases: [(&[&[u8]], FrameError); 9] = [
        (&[&[0x7c, 0x05, 0x88]], FrameError::Beginning),
        (&[&[0x7c, 0x85, 0x88], &IDR], FrameError::Fragments),
        (
            &[&[0x7c, 0x85, 0x88], &[0x7c, 0x85, 0x88]],
            FrameError::Fragments,
        ),
        (&[&[0x7c, 0x85, 0x88]], FrameError::Fragments),
        (&[&[0x65, 0b0101_1000]], FrameError::Beginning),
        (&[&[0x78, 0, 9, 1]], FrameError::CutShort),
        (&[&[0x7c]], FrameError::CutShort),
        (&[&[0x42, 1, 2]], FrameError::Unsupported(2)),
        (&[&[0x79, 1, 2]], FrameError::Unsupported(25)),
    ];
    for (payloads, error) in cases {
        assert_eq!(Feed::h264().refused(payloads), error, "{payloads:x?}");
    }
    // 9600 x 160.
    let wide = [0x67, 0x42, 0xc0, 0x3e, 0xda, 0x00, 0x25, 0x81, 0x59];
    let error = ParameterSetError::PictureSize(9600, 160);
    assert_eq!(Feed::h264().refused(&[&wide]), error.into());
}

#[test]
fn b_frames_are_seen_in_slices_and_expected_from_parameter_sets() {
    // first_mb_in_slice 0, then slice_type 1 (010) or 6 (00111), 0 (1) or 5 (00110).
    assert!(has_b_frames([&[0x01, 0b1010_1000][..]]));
    assert!(has_b_frames([
        &[0x41, 0b1001_1110][..],
        &[0x01, 0b1001_1110]
    ]));
    assert!(!has_b_frames([
        &[0x41, 0b1100_0000][..],
        &[0x41, 0b1001_1010],
        &[],
        &[0x41]
    ]));
    assert_eq!(may_reorder(&SPS), Ok(false));
    // x264, high profile, without and with B-frames.
    let without = [
        0x67, 0x64, 0x00, 0x0b, 0xac, 0xb2, 0x02, 0x83, 0x3f, 0x3e, 0x02, 0x20, 0x00, 0x00, 0x03,
        0x00, 0x20, 0x00, 0x00, 0x03, 0x02, 0x81, 0xe2, 0x85, 0x49,
    ];
    let with = [
        0x67, 0x64, 0x00, 0x0c, 0xac, 0xd9, 0x41, 0x41, 0x9f, 0x9f, 0x01, 0x10, 0x00, 0x00, 0x03,
        0x00, 0x10, 0x00, 0x00, 0x03, 0x01, 0x40, 0xf1, 0x42, 0x99, 0x60,
    ];
    assert_eq!(may_reorder(&without), Ok(false));
    assert_eq!(may_reorder(&with), Ok(true));
    assert_eq!(may_reorder(&[0x67, 1]), Err(ParameterSetError::Broken));
    // High profile says how colour is sampled, as ffmpeg writes it.
    let pps = [0x68, 0xeb, 0xc3, 0xcb, 0x22, 0xc0];
    let config = video_config(&without, &[&pps]).unwrap();
    assert_eq!(
        (config.width, config.height, &*config.name),
        (320, 180, "avc1.64000b")
    );
    assert_eq!(
        config.record[config.record.len() - 4..],
        [0xfd, 0xf8, 0xf8, 0]
    );
    assert_eq!(config.record[..8], [1, 0x64, 0, 0x0b, 0xff, 0xe1, 0, 0x19]);
}

/// The beginning of a keyframe of libvpx, 320x180.
const VP8: [u8; 16] = [
    0x30, 0x55, 0x00, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xb4, 0x00, 0x00, 0x47, 0x08, 0x85, 0x85, 0x88,
];

#[test]
fn vp8_is_put_together() {
    let mut feed = Feed::new(Coding::Video(VideoCodec::Vp8));
    // X, S; I L T K with a picture id of 15 bits; then a continuation without extensions.
    let first = [&[0x90, 0xf0, 0x80, 0x11, 5, 0x20][..], &VP8[..12]].concat();
    let key = feed.whole(&[&first, &[&[0x00][..], &VP8[12..]].concat()]);
    assert_eq!(key.data, VP8[..]);
    let config = key.config.unwrap();
    assert_eq!(
        (config.width, config.height, &*config.name),
        (320, 180, "vp08.00.00.08")
    );
    assert_eq!(config.record, vec![1, 0, 0, 0, 0, 0, 0x82, 2, 2, 2, 0, 0]);
    let inter = feed.whole(&[&[0x10, 0xf1, 1, 2]]);
    assert!(!inter.is_key && Arc::ptr_eq(&inter.config.unwrap(), &config));
    assert_eq!(feed.refused(&[&[0x00, 0xf1, 1]]), FrameError::Beginning);
    assert_eq!(
        feed.refused(&[&[0x10, 0xf1], &[0x10, 0xf1]]),
        FrameError::Fragments
    );
    assert_eq!(feed.refused(&[&[0x90, 0x80]]), FrameError::CutShort);
    let mut broken = [&[0x10][..], &VP8].concat();
    broken[4] = 0;
    assert_eq!(feed.refused(&[&broken]), FrameError::Header);
    let mut empty = [&[0x10][..], &VP8].concat();
    empty[7..9].fill(0);
    assert_eq!(feed.refused(&[&empty]), FrameError::PictureSize(0, 180));
}

/// The beginning of a keyframe of libvpx, 320x180: 8 bits 4:2:0, and 10 bits 4:4:4.
const VP9: [u8; 12] = [
    0x82, 0x49, 0x83, 0x42, 0x00, 0x13, 0xf0, 0x0b, 0x36, 0x0c, 0x38, 0x24,
];
const VP9_DEEP: [u8; 12] = [
    0xb1, 0x24, 0xc1, 0xa1, 0x00, 0x00, 0x9f, 0x80, 0x59, 0xb0, 0x81, 0xc1,
];

#[test]
fn vp9_is_put_together() {
    let mut feed = Feed::new(Coding::Video(VideoCodec::Vp9));
    let key = feed.whole(&[
        &[&[0x88, 0x11][..], &VP9[..5]].concat(),
        &[&[0x84, 0x11][..], &VP9[5..]].concat(),
    ]);
    assert_eq!(key.data, VP9[..]);
    let config = key.config.unwrap();
    assert_eq!(
        (config.width, config.height, &*config.name),
        (320, 180, "vp09.00.11.08")
    );
    // As ffmpeg writes it.
    assert_eq!(
        config.record,
        vec![1, 0, 0, 0, 0, 0x0b, 0x82, 2, 2, 2, 0, 0]
    );
    assert!(!feed.whole(&[&[0xcc, 0x12, 0x86, 0x00, 0x40]]).is_key);
    let deep = feed
        .whole(&[&[&[0x8c, 0x13][..], &VP9_DEEP].concat()])
        .config
        .unwrap();
    assert_eq!((&*deep.name, deep.width), ("vp09.03.11.10", 320));
    assert_eq!(deep.record, vec![1, 0, 0, 0, 3, 0x0b, 0xa6, 2, 2, 2, 0, 0]);
    assert_eq!(
        feed.refused(&[&[0x84, 0x14, 0x86, 0]]),
        FrameError::Beginning
    );
    assert_eq!(feed.refused(&[&[0x8c, 0x14, 0x06, 0]]), FrameError::Header);
    assert_eq!(feed.refused(&[&[0x8c]]), FrameError::CutShort);
}

#[test]
fn vp9_spatial_layers_make_a_superframe() {
    let mut feed = Feed::new(Coding::Video(VideoCodec::Vp9));
    // I L B E V, TID 0 SID 0, TL0; SS: 2 layers with sizes. Then I P L B E, SID 1 D.
    let structure = [0x30, 0x01, 0x40, 0x00, 0xb4, 0x02, 0x80, 0x01, 0x68];
    let base = [&[0xae, 0x11, 0x00, 0x01][..], &structure, &VP9].concat();
    let upper = [0xec, 0x11, 0x03, 0x01, 0x86, 0xaa, 0xbb];
    let key = feed.whole(&[&base, &upper]);
    let mut data = [&VP9[..], &[0x86, 0xaa, 0xbb]].concat();
    data.extend_from_slice(&[0xd9, 12, 0, 0, 0, 3, 0, 0, 0, 0xd9]);
    assert_eq!(key.data, data);
    let config = key.config.unwrap();
    assert_eq!((config.width, config.height), (640, 360));
    // The upper layer is not forwarded: what comes is what there is.
    let alone = feed.whole(&[&base]);
    assert_eq!(alone.data, VP9[..]);
    assert_eq!(alone.config.unwrap().width, 320);
}

/// Temporal delimiter, sequence header and the beginning of a frame of encoders, each with size.
const AV1_AOM: [u8; 24] = [
    0x12, 0x00, 0x0a, 0x0b, 0x00, 0x00, 0x00, 0x04, 0x3c, 0xfe, 0xcc, 0xda, 0xf9, 0x00, 0x40, 0x32,
    0x07, 0x10, 0x00, 0x84, 0x00, 0x02, 0x08, 0x20,
];
const AV1_SVT: [u8; 13] = [
    0x0a, 0x0b, 0x00, 0x00, 0x00, 0x2d, 0x4c, 0xff, 0xb3, 0xcf, 0xbf, 0x94, 0x04,
];
const AV1_444: [u8; 12] = [
    0x0a, 0x0a, 0x20, 0x00, 0x00, 0x04, 0x3c, 0xfe, 0xcc, 0xda, 0xf9, 0x02,
];

#[test]
fn av1_is_put_together() {
    let mut feed = Feed::new(Coding::Video(VideoCodec::Av1));
    // W = 2: a sequence header without size, and the beginning of a frame; then its end.
    let sequence = [&[0x08][..], &AV1_AOM[4..15]].concat();
    let first = [&[0x68, 12][..], &sequence, &[0x30, 0x10, 0x00, 0x84]].concat();
    let key = feed.whole(&[&first, &[0x90, 0x00, 0x02, 0x08, 0x20]]);
    assert_eq!(key.data, AV1_AOM[2..]);
    assert!(key.is_key);
    let config = key.config.unwrap();
    assert_eq!(
        (config.width, config.height, &*config.name),
        (320, 180, "av01.0.00M.08")
    );
    // As ffmpeg writes it.
    assert_eq!(
        config.record,
        [&[0x81, 0, 0x0c, 0][..], &AV1_AOM[2..15]].concat()
    );
    // W = 0: each element with its length; a delimiter that should not be there, and sizes.
    let inter = feed.whole(&[&[0x00, 2, 0x12, 0, 4, 0x32, 2, 0x30, 0x03]]);
    assert_eq!(inter.data, vec![0x32, 2, 0x30, 0x03]);
    assert!(!inter.is_key && Arc::ptr_eq(&inter.config.unwrap(), &config));
    // With its sequence header repeated, a picture that refers to others is no keyframe.
    let repeated = [&[0x20, 12][..], &sequence, &[0x30, 0x30, 0x03]].concat();
    assert!(!feed.whole(&[&repeated]).is_key);
}

#[test]
fn av1_sequence_headers_of_encoders_are_read() {
    for (header, name, width, flags) in [
        (&AV1_SVT[..], "av01.0.05M.10", 1280, 0x4c),
        (&AV1_444[..], "av01.1.00M.08", 320, 0x00),
    ] {
        let mut feed = Feed::new(Coding::Video(VideoCodec::Av1));
        let length = u8::try_from(header.len()).unwrap();
        let packet = [&[0x28, length][..], header, &[0x30, 0x10, 0x00]].concat();
        let config = feed.whole(&[&packet]).config.unwrap();
        assert_eq!(
            (&*config.name, config.width, config.record[2]),
            (name, width, flags)
        );
        assert_eq!(config.record[4..], *header);
    }
}

#[test]
fn av1_that_does_not_fit_together_is_refused() {
    let cases: [(&[&[u8]], FrameError); 7] = [
        (&[&[0x90, 1]], FrameError::Beginning),
        (&[&[0x50, 0x30, 0x10], &[0x10, 1]], FrameError::Fragments),
        (&[&[0x50, 0x30, 0x10]], FrameError::Fragments),
        (&[&[0x00, 9, 0x30]], FrameError::CutShort),
        (&[&[0x20, 1, 0x30]], FrameError::CutShort),
        (&[&[0x10, 0xb0, 1]], FrameError::Header),
        (&[&[0x10, 0x32, 9, 1]], FrameError::CutShort),
    ];
    for (payloads, error) in cases {
        let mut feed = Feed::new(Coding::Video(VideoCodec::Av1));
        assert_eq!(feed.refused(payloads), error, "{payloads:x?}");
    }
}
