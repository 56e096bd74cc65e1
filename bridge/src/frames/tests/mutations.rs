//! Bytes that nobody meant.

use proptest::prelude::*;

use super::*;

const TARGETS: [fn(Instant, &[u8]); 4] = [fuzz::h264, fuzz::vp8, fuzz::vp9, fuzz::av1];

/// Packets in the form that fuzz targets read.
fn input(packets: &[&[u8]]) -> Vec<u8> {
    let packets = packets.iter().map(|payload| {
        let length = u8::try_from(payload.len()).unwrap();
        [&[length, 0x10][..], payload].concat()
    });
    packets.collect::<Vec<_>>().concat()
}

/// For each target packets that make frames.
fn seeds() -> [Vec<u8>; 4] {
    let high = [
        0x67, 0x64, 0x00, 0x0c, 0xac, 0xd9, 0x41, 0x41, 0x9f, 0x9f, 0x01, 0x10, 0x00, 0x00, 0x03,
        0x00, 0x10, 0x00, 0x00, 0x03, 0x01, 0x40, 0xf1, 0x42, 0x99, 0x60,
    ];
    let sets = stap_a(&[&SPS, &PPS]);
    let sequence = [
        0x28, 12, 0x08, 0x00, 0x00, 0x00, 0x04, 0x3c, 0xfe, 0xcc, 0xda, 0xf9, 0x00, 0x40, 0x30,
        0x10, 0x00, 0x84, 0x00,
    ];
    [
        input(&[
            &sets,
            &IDR,
            &INTER,
            &high,
            &PPS,
            &[0x7c, 0x85, 0x88],
            &[0x7c, 0x45, 0x88],
        ]),
        input(&[
            &[
                0x90, 0xf0, 0x80, 0x11, 5, 0x20, 0x30, 0x55, 0x00, 0x9d, 1, 0x2a, 0x40, 1, 0xb4, 0,
            ],
            &[0x10, 0xf1, 1, 2],
        ]),
        input(&[
            &[
                0xae, 0x11, 0x00, 0x01, 0x38, 1, 0x40, 0, 0xb4, 2, 0x80, 1, 0x68, 1, 4, 1, 0x82,
                0x49, 0x83, 0x42, 0x00, 0x13, 0xf0, 0x0b, 0x36, 0x0c,
            ],
            &[0xec, 0x11, 0x03, 0x01, 0x86, 0xaa, 0xbb],
        ]),
        input(&[&sequence, &[0x00, 2, 0x12, 0, 4, 0x32, 2, 0x30, 0x03]]),
    ]
}

#[test]
fn every_seed_cut_anywhere_is_survived() {
    for (target, seed) in TARGETS.iter().zip(seeds()) {
        for length in 0..=seed.len() {
            target(start(), &seed[..length]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn noise_is_survived(input in prop::collection::vec(any::<u8>(), 0..600)) {
        for target in TARGETS {
            target(start(), &input);
        }
    }

    #[test]
    fn mutated_packets_are_survived(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        repeat in 1..4usize,
    ) {
        for (target, seed) in TARGETS.iter().zip(seeds()) {
            let mut input = seed.repeat(repeat);
            for (place, value) in &changes {
                let place = place.index(input.len());
                input[place] ^= value;
            }
            target(start(), &input);
        }
    }

    #[test]
    fn parameter_sets_of_noise_are_refused_or_read(
        noise in prop::collection::vec(any::<u8>(), 0..80),
        profile in prop::sample::select(vec![66u8, 77, 100, 110, 122, 244, 44]),
    ) {
        let unit = [&[0x67, profile, 0, 31][..], &noise].concat();
        if let Ok(config) = video_config(&unit, &[&PPS]) {
            prop_assert!(config.width <= PICTURE_SIDE_MAX && config.height <= PICTURE_SIDE_MAX);
        }
        let _ = may_reorder(&unit);
        let _ = has_b_frames([&unit[..], &noise]);
    }
}
