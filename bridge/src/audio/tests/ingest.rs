use std::process::Command;

use fdk_aac::enc::{AudioObjectType, BitRate, ChannelMode, Encoder, EncoderParams, Transport};

use super::super::{AacError, AacIngest, OpusPacket};
use super::*;
use crate::recording::tests::media::has_ffmpeg;

const FREQUENCY: f64 = 400.0;

/// An encoder's AAC of a tone: its config, its frames, and the samples by which they are late.
fn encode(sample_rate: u32, channels: ChannelMode, seconds: f64) -> (Vec<u8>, Vec<Vec<u8>>, u32) {
    let width = match channels {
        ChannelMode::Mono => 1,
        ChannelMode::Stereo => 2,
    };
    let encoder = Encoder::new(EncoderParams {
        bit_rate: BitRate::Cbr(64_000),
        sample_rate,
        transport: Transport::Raw,
        channels,
        audio_object_type: AudioObjectType::Mpeg4LowComplexity,
    })
    .unwrap();
    let about = encoder.info().unwrap();
    let config = about.confBuf[..usize::try_from(about.confSize).unwrap()].to_vec();
    let count = (seconds * f64::from(sample_rate)) as usize;
    let samples: Vec<i16> = (0..count)
        .flat_map(|index| {
            let value = (TAU * FREQUENCY * index as f64 / f64::from(sample_rate)).sin();
            vec![(value * 10_000.0) as i16; width]
        })
        .collect();
    let mut frames = Vec::new();
    for chunk in samples.chunks_exact(1_024 * width) {
        let mut packet = vec![0; 6_144];
        let encoded = encoder.encode(chunk, &mut packet).unwrap();
        packet.truncate(encoded.output_size);
        frames.push(packet);
    }
    (config, frames, about.nDelay)
}

/// What the room hears, from time 0 on.
fn decode(packets: &[OpusPacket]) -> Vec<Sample> {
    let mut decoder = ::opus::Decoder::new(48_000, ::opus::Channels::Stereo).unwrap();
    let mut heard = Vec::new();
    for packet in packets {
        let at = usize::try_from(packet.at_samples + 48_000).unwrap();
        let mut pcm = [[0.0_f32; 2]; TICK_SAMPLES];
        decoder
            .decode_float(&packet.data, pcm.as_flattened_mut(), false)
            .unwrap();
        heard.resize(at, [0.0; 2]);
        heard.extend_from_slice(&pcm);
    }
    heard.split_off(48_000)
}

/// Feeds frames with times in whole milliseconds, as RTMP has them.
fn ingest(config: &[u8], frames: &[Vec<u8>], time: impl Fn(usize) -> f64) -> Vec<OpusPacket> {
    let mut ingest = AacIngest::new(config, None).unwrap();
    let mut packets = Vec::new();
    for (index, frame) in frames.iter().enumerate() {
        let at_us = (time(index) * 1_000.0).floor() as i64 * 1_000;
        ingest.push(at_us, frame, &mut packets).unwrap();
    }
    assert_eq!(ingest.counts(), Default::default());
    packets
}

#[test]
fn a_tone_at_any_rate_is_in_time_and_as_loud() {
    for (rate, channels) in [
        (44_100, ChannelMode::Mono),
        (48_000, ChannelMode::Stereo),
        (32_000, ChannelMode::Stereo),
        (16_000, ChannelMode::Mono),
        (8_000, ChannelMode::Mono),
    ] {
        let (config, frames, delay) = encode(rate, channels, 3.0);
        let time = |index: usize| (index * 1_024) as f64 / f64::from(rate);
        let packets = ingest(&config, &frames, time);
        for pair in packets.windows(2) {
            assert_eq!(pair[1].at_samples - pair[0].at_samples, 960);
        }
        let heard = decode(&packets);
        // The encoder's own delay is not ours.
        let start = 1.5 - f64::from(delay) / f64::from(rate);
        let part = &heard[72_000..96_000];
        let (amplitude, _) = measure(part, FREQUENCY, start);
        assert!((amplitude - 0.305).abs() < 0.02, "{rate}: {amplitude}");
        let late = lateness_ms(part, FREQUENCY, start);
        // Whole milliseconds begin with an error of up to one.
        assert!(late.abs() < 1.0, "{rate}: {late} ms");
        assert!(
            (12..16).contains(&packets[80].level),
            "{}",
            packets[80].level
        );
        let steep = (0.305 * TAU * FREQUENCY / 48_000.0) as f32;
        assert!(steepest(part) < steep * 1.3);
    }
}

#[test]
fn an_encoder_whose_clock_is_off_by_200_ppm_is_followed() {
    let (config, frames, _) = encode(44_100, ChannelMode::Mono, 30.0);
    for drift in [200e-6, -200e-6] {
        let time = |index: usize| (index * 1_024) as f64 / 44_100.0 * (1.0 + drift);
        let packets = ingest(&config, &frames, time);
        let last = packets.last().unwrap().at_samples as f64 / 48_000.0;
        let first = packets[0].at_samples as f64 / 48_000.0;
        let sent = time(frames.len());
        // Up to a packet waits in the encoder.
        assert!(
            (sent - (last - first + 0.02)).abs() < 0.024,
            "{sent} {last}"
        );
    }
}

#[test]
fn a_pause_is_a_pause_and_what_comes_twice_is_left_out() {
    let (config, frames, _) = encode(48_000, ChannelMode::Stereo, 2.0);
    let mut ingest = AacIngest::new(&config, None).unwrap();
    let mut packets = Vec::new();
    for (index, frame) in frames.iter().enumerate() {
        let pause = if index < 40 { 0 } else { 500_000 };
        let at_us = i64::try_from(index).unwrap() * 64_000 / 3 + pause;
        ingest.push(at_us, frame, &mut packets).unwrap();
    }
    assert_eq!(ingest.counts().gaps, 1);
    let jumps: Vec<i64> = packets
        .windows(2)
        .map(|pair| pair[1].at_samples - pair[0].at_samples)
        .filter(|step| *step != 960)
        .collect();
    assert_eq!(jumps.len(), 1);
    assert!((24_000 - 960..=24_960).contains(&jumps[0]), "{jumps:?}");
    let count = packets.len();
    ingest.push(0, &frames[0], &mut packets).unwrap();
    assert_eq!(ingest.counts().late_frames, 1);
    assert_eq!(packets.len(), count);
}

#[test]
fn garbage_becomes_silence_in_its_place() {
    let (config, frames, _) = encode(48_000, ChannelMode::Stereo, 2.0);
    let mut ingest = AacIngest::new(&config, None).unwrap();
    let mut packets = Vec::new();
    for (index, frame) in frames.iter().enumerate() {
        let at_us = i64::try_from(index).unwrap() * 64_000 / 3;
        let pushed = match index {
            30 => ingest.push(at_us, &[0xff; 100], &mut packets),
            31 => ingest.push(at_us, &[], &mut packets),
            32 => ingest.push(at_us, &[0; 7_000], &mut packets),
            _ => ingest.push(at_us, frame, &mut packets),
        };
        assert_eq!(pushed.is_err(), (30..33).contains(&index), "{pushed:?}");
    }
    assert_eq!(ingest.counts().bad_frames, 3);
    for pair in packets.windows(2) {
        assert_eq!(pair[1].at_samples - pair[0].at_samples, 960);
    }
}

#[test]
fn a_garbage_config_is_refused() {
    for config in [&[][..], &[0xff; 2], &[0; 65], &[0xff; 64]] {
        let refused = AacIngest::new(config, None).err();
        assert!(matches!(refused, Some(AacError::Config(_))), "{config:?}");
    }
}

#[test]
fn surround_is_mixed_down() {
    if !has_ffmpeg() {
        return;
    }
    let source = "aevalsrc=exprs='0|0|0.3*sin(2*PI*400*t)|0|0|0':c=5.1:s=48000:d=2";
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-i", source])
        .args(["-c:a", "aac", "-b:a", "256k", "-f", "adts", "-"])
        .output()
        .unwrap();
    // ISO/IEC 14496-3 §1.A.2.2: the length has 13 bits, and headers are 7 bytes long.
    let (mut rest, mut frames) = (&made.stdout[..], Vec::new());
    while let [_, _, _, high, middle, low, ..] = *rest {
        let length = usize::from(high & 3) << 11 | usize::from(middle) << 3 | usize::from(low >> 5);
        frames.push(rest[7..length].to_vec());
        rest = &rest[length..];
    }
    let config = [0x11, 0x80 | 6 << 3];
    let packets = ingest(&config, &frames, |index| index as f64 * 1_024.0 / 48_000.0);
    let heard = decode(&packets);
    // The centre is heard on both sides.
    let (left, _) = measure(&heard[48_000..72_000], FREQUENCY, 0.0);
    let right: Vec<Sample> = heard[48_000..72_000]
        .iter()
        .map(|[l, r]| [*r, *l])
        .collect();
    let (right, _) = measure(&right, FREQUENCY, 0.0);
    assert!((0.08..0.3).contains(&left), "{left}");
    assert!((left - right).abs() < 0.01, "{left} {right}");
}
