use opus::{Application, Channels};

use super::super::decoder::Decoder;
use super::super::source::Source;
use super::*;

const PACKETS: usize = 50;

/// A tone in packets of 20 ms; those from `wide_from` on have two channels, the right one half as loud.
fn packets(wide_from: usize) -> Vec<Vec<u8>> {
    let mut encoder =
        opus::Encoder::new(SAMPLE_RATE, Channels::Stereo, Application::Audio).unwrap();
    let samples = tone(440.0, 0.5, 0.0, PACKETS * TICK_SAMPLES);
    let ticks = samples.chunks(TICK_SAMPLES).enumerate();
    ticks
        .map(|(index, tick)| {
            let is_wide = index >= wide_from;
            let channels = if is_wide {
                Channels::Stereo
            } else {
                Channels::Mono
            };
            encoder.set_force_channels(Some(channels)).unwrap();
            let right = if is_wide { 0.5 } else { 1.0 };
            let tick: Vec<Sample> = tick.iter().map(|[left, _]| [*left, left * right]).collect();
            let packet = encoder
                .encode_vec_float(tick.as_flattened(), 1_275)
                .unwrap();
            assert_eq!(
                opus::packet::get_nb_channels(&packet).unwrap(),
                channels,
                "{index}"
            );
            packet
        })
        .collect()
}

/// What comes of them, and what a decoder of two channels makes of them from the beginning.
fn decoded(packets: &[Vec<u8>]) -> (Vec<Sample>, Vec<Sample>) {
    let mut decoder = Decoder::new().unwrap();
    let mut source = Source::new(0);
    let mut reference = opus::Decoder::new(SAMPLE_RATE, Channels::Stereo).unwrap();
    let (mut seen, mut wanted) = (Vec::new(), Vec::new());
    for (index, packet) in (0..).zip(packets) {
        let decoded = decoder.push(index * 20_000, packet, &mut source);
        assert!(!decoded.is_bad && decoded.concealed == 0);
        let mut pcm = vec![[0.0; 2]; TICK_SAMPLES];
        let count = reference
            .decode_float(packet, pcm.as_flattened_mut(), false)
            .unwrap();
        assert_eq!(count, TICK_SAMPLES);
        wanted.extend(pcm);
        // The resampler has the last samples still.
        if index > 0 {
            let mut tick = [[0.0; 2]; TICK_SAMPLES];
            source.mix(&mut tick);
            seen.extend(tick);
        }
    }
    wanted.truncate(seen.len());
    (seen, wanted)
}

/// The largest difference from a time on, the fade at the very beginning aside.
fn apart((seen, wanted): &(Vec<Sample>, Vec<Sample>), from: usize) -> f32 {
    let pairs = seen.iter().zip(wanted).skip(from.max(TICK_SAMPLES));
    let apart =
        pairs.map(|(seen, wanted)| (seen[0] - wanted[0]).abs().max((seen[1] - wanted[1]).abs()));
    apart.fold(0.0, f32::max)
}

#[test]
fn one_channel_is_decoded_as_one_and_heard_on_both_sides() {
    let both = decoded(&packets(PACKETS));
    assert!(both.0.iter().all(|[left, right]| left == right));
    assert!(apart(&both, 0) < 1e-4, "{}", apart(&both, 0));
}

#[test]
fn the_first_packet_with_two_channels_goes_on_where_one_was_without_a_click() {
    let both = decoded(&packets(25));
    let change = 25 * TICK_SAMPLES;
    assert!(apart(&both, 0) < 0.02, "{}", apart(&both, 0));
    assert!(
        apart(&both, change + 5 * TICK_SAMPLES) < 1e-3,
        "{}",
        apart(&both, change)
    );
    let steps = both
        .0
        .windows(2)
        .map(|pair| (pair[1][0] - pair[0][0]).abs());
    let steepest = steps.fold(0.0, f32::max);
    assert!(steepest < 0.04, "{steepest}");
    let right = both
        .0
        .iter()
        .skip(change + 960)
        .map(|sample| sample[1].abs());
    assert!(
        (0.2..0.3).contains(&right.fold(0.0, f32::max)),
        "both sides are told apart"
    );
}
