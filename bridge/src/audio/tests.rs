//! Sound through the whole chain: what goes in is what comes out, when it should.
#![expect(
    clippy::cast_possible_truncation,
    reason = "computed in f64, compared as what samples are"
)]

mod chain;
mod decoding;
mod hostile;
#[cfg(feature = "aac-fdk")]
mod ingest;
mod mixing;
mod resampling;
mod solo;

use std::f64::consts::TAU;
use std::sync::Arc;

use bytes::Bytes;

use super::{
    AudioEncoder, MixCounts, Mixer, MixerSettings, SAMPLE_RATE, Sample, SourceId, TICK_SAMPLES,
};
use crate::media::{AudioCodec, AudioConfig, AudioFrame};

/// What a mixer counts when all is well: a sender's sound begins with 312 samples before the first tick.
const ONLY_PRIMING_CAME_TOO_EARLY: MixCounts = MixCounts {
    bad_packets: 0,
    late_packets: 0,
    late_samples: 312,
    overdue: 0,
    delays: 0,
    concealed_samples: 0,
    reanchored: 0,
    refused: 0,
    limited_ticks: 0,
};

/// A tone of this frequency, from `start` seconds on, at 48 kHz.
fn tone(frequency: f64, amplitude: f64, start: f64, count: usize) -> Vec<Sample> {
    (0..count)
        .map(|index| {
            let seconds = start + index as f64 / f64::from(SAMPLE_RATE);
            let value = amplitude * (TAU * frequency * seconds).sin();
            [value as f32; 2]
        })
        .collect()
}

/// Amplitude and phase of a frequency in the left channel, whose first sample is at `start` seconds.
fn measure(samples: &[Sample], frequency: f64, start: f64) -> (f64, f64) {
    let (mut sine, mut cosine) = (0.0, 0.0);
    for (index, sample) in samples.iter().enumerate() {
        let angle = TAU * frequency * (start + index as f64 / f64::from(SAMPLE_RATE));
        sine += f64::from(sample[0]) * angle.sin();
        cosine += f64::from(sample[0]) * angle.cos();
    }
    let scale = 2.0 / samples.len() as f64;
    let (sine, cosine) = (sine * scale, cosine * scale);
    (sine.hypot(cosine), cosine.atan2(sine))
}

/// How late a tone is, in milliseconds; right within half a period.
fn lateness_ms(samples: &[Sample], frequency: f64, start: f64) -> f64 {
    let (_, phase) = measure(samples, frequency, start);
    -phase / TAU / frequency * 1_000.0
}

/// The largest step between two samples.
fn steepest(samples: &[Sample]) -> f32 {
    samples
        .windows(2)
        .flat_map(|pair| {
            [
                (pair[1][0] - pair[0][0]).abs(),
                (pair[1][1] - pair[0][1]).abs(),
            ]
        })
        .fold(0.0, f32::max)
}

/// Ticks of sound, as a sender's encoder gets them.
fn ticks(samples: &[Sample]) -> impl Iterator<Item = &[Sample; TICK_SAMPLES]> {
    samples.as_chunks::<TICK_SAMPLES>().0.iter()
}

/// A sender's packets of this sound, heard from `start_us` on.
fn opus(samples: &[Sample], start_us: i64) -> Vec<AudioFrame> {
    let mut encoder = AudioEncoder::new(AudioCodec::Opus, start_us, Some(128_000)).unwrap();
    ticks(samples)
        .map(|tick| encoder.encode(tick).unwrap().unwrap())
        .collect()
}

/// A packet that is not ours.
fn packet(at_us: i64, data: &[u8]) -> AudioFrame {
    let config = AudioConfig {
        codec: AudioCodec::Opus,
        sample_rate: SAMPLE_RATE,
        channels: 2,
        record: Bytes::new(),
        priming: 312,
    };
    AudioFrame {
        config: Arc::new(config),
        at_us,
        samples: 960,
        data: Bytes::copy_from_slice(data),
    }
}

/// Mixes what a source sends for as long, each packet coming when it is due.
fn mix(frames: &[AudioFrame], until_us: i64) -> (Vec<Sample>, Mixer) {
    let mut mixer = Mixer::new(0, MixerSettings::default());
    let mut mixed = Vec::new();
    let mut frames = frames.iter().peekable();
    let mut now_us = 0;
    while now_us < until_us {
        while let Some(frame) = frames.next_if(|frame| frame.at_us <= now_us) {
            let _ = mixer.push(SourceId(1), frame);
        }
        while let Some(tick) = mixer.poll_tick(now_us) {
            mixed.extend_from_slice(tick.samples);
        }
        now_us += 5_000;
    }
    (mixed, mixer)
}
