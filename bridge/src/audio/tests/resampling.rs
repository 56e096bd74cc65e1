use super::super::pace::Pace;
use super::super::resampler::Resampler;
use super::super::source::Source;
use super::*;

/// The part of a signal that is not the tone, in dB below it.
fn distortion_db(samples: &[Sample], frequency: f64, start: f64) -> f64 {
    let (amplitude, phase) = measure(samples, frequency, start);
    let mut rest = 0.0;
    for (index, sample) in samples.iter().enumerate() {
        let seconds = start + index as f64 / f64::from(SAMPLE_RATE);
        let ideal = amplitude * (TAU * frequency * seconds + phase).sin();
        rest += (f64::from(sample[0]) - ideal).powi(2);
    }
    let power = amplitude * amplitude / 2.0;
    10.0 * (power / (rest / samples.len() as f64)).log10()
}

#[test]
fn at_the_same_rate_samples_pass_unchanged() {
    let input = tone(1_000.0, 0.5, 0.0, 4_800);
    let mut out = Vec::new();
    let mut resampler = Resampler::new(48_000, 48_000);
    for chunk in input.chunks(77) {
        resampler.push(chunk, 0.0, &mut out);
    }
    assert_eq!(out, input[..out.len()]);
    assert_eq!(out.len() + 16, input.len());
    assert!((resampler.pending() - 16.0).abs() < 1e-9);
}

#[test]
fn samples_pass_unchanged_again_after_a_correction() {
    let input = tone(1_000.0, 0.5, 0.0, 48_000);
    let mut out = Vec::new();
    let mut resampler = Resampler::new(48_000, 48_000);
    let (corrected, after) = input.split_at(9_600);
    resampler.push(corrected, 0.000_1, &mut out);
    resampler.push(after, 0.0, &mut out);
    // Each is one that came in, and none is left out or there twice.
    let tail = &out[out.len() - 30_000..];
    let from = input.len() - 16 - tail.len();
    assert_eq!(*tail, input[from..input.len() - 16]);
    // On the way there nothing clicks.
    assert!(steepest(&out[100..]) < 0.5 * 1_000.0 * TAU as f32 / 48_000.0 * 1.02);
}

#[test]
fn a_tone_survives_other_rates_and_corrections() {
    for (rate, correction, frequency) in [
        (44_100, 0.0, 1_000.0),
        (44_100, 0.0, 10_000.0),
        (8_000, 0.0, 1_000.0),
        (16_000, 0.0, 3_000.0),
        (96_000, 0.0, 5_000.0),
        (48_000, 0.005, 997.0),
        (48_000, -0.000_2, 8_000.0),
    ] {
        let count = usize::try_from(rate).unwrap();
        let input: Vec<Sample> = (0..count)
            .map(|index| {
                let seconds = index as f64 / f64::from(rate);
                [(0.5 * (TAU * frequency * seconds).sin()) as f32; 2]
            })
            .collect();
        let mut out = Vec::new();
        let mut resampler = Resampler::new(rate, 48_000);
        for chunk in input.chunks(1_024) {
            resampler.push(chunk, correction, &mut out);
        }
        let heard = frequency * (1.0 - correction);
        let middle = &out[1_000..out.len() - 1_000];
        let start = 1_000.0 / 48_000.0;
        let (amplitude, phase) = measure(middle, heard, start);
        assert!((amplitude - 0.5).abs() < 0.005, "{rate} {amplitude}");
        assert!(phase.abs() < 0.02, "{rate} {correction} {phase}");
        let distortion = distortion_db(middle, heard, start);
        assert!(distortion > 70.0, "{rate} {frequency}: {distortion} dB");
    }
}

#[test]
fn the_pace_settles_without_swinging_for_an_hour() {
    for drift in [200e-6, -200e-6, 0.003] {
        let mut pace = Pace::default();
        let (mut error, mut worst) = (0.0_f64, 0.0_f64);
        for _ in 0..3_600 * 50 {
            let correction = pace.correct(error, 960.0);
            assert!(correction.abs() <= 0.005);
            error += 960.0 * (drift - correction);
            worst = worst.max(error.abs());
        }
        // 1 ms for clocks 200 ppm apart; those 3000 ppm apart lag a little more and stay in step too.
        let bound = if drift < 0.001 { 48.0 } else { 480.0 };
        assert!(worst < bound, "{drift}: {worst} samples");
    }
}

#[test]
fn times_that_count_whole_milliseconds_change_nothing() {
    let mut pace = Pace::default();
    for frame in 0..10_000 {
        let exact = f64::from(frame) * 1_024.0 / 44_100.0 * 1_000.0;
        let error = (exact.floor() - exact) * 48.0;
        assert!(pace.correct(error, 1_114.6).abs() < 1e-12);
    }
}

#[test]
fn a_source_whose_clock_is_fast_stays_in_step_and_does_not_click() {
    // 20 s of a sender whose samples are 200 ppm too short.
    let mut source = Source::new(0);
    let mut mixed = Vec::new();
    let mut at = 0.0;
    let mut worst = 0.0_f64;
    for packet in 0..1_000 {
        let samples: Vec<Sample> = (0..960)
            .map(|index| {
                let phase = f64::from(packet * 960 + index) / 48_000.0 * 100.0 * TAU;
                [(0.5 * phase.sin()) as f32; 2]
            })
            .collect();
        let placed = source.push(at, &samples);
        assert_eq!(placed, Default::default());
        at += 960.0 * (1.0 - 200e-6);
        if packet >= 5 {
            let mut tick = [[0.0; 2]; TICK_SAMPLES];
            assert!(source.mix(&mut tick));
            mixed.extend_from_slice(&tick);
        }
    }
    let heard = 100.0 / (1.0 - 200e-6);
    for (second, samples) in mixed.chunks(4_800).enumerate().skip(1) {
        let start = second as f64 * 0.1;
        worst = worst.max(lateness_ms(samples, heard, start).abs());
    }
    // Half a period is 5 ms: more could not be told.
    assert!(worst < 1.0, "{worst} ms");
    assert!(steepest(&mixed) < 0.5 * 100.0 * TAU as f32 / 48_000.0 * 1.02);
}
