use super::*;

/// What a decoder makes of frames, cut so that the first sample is at time 0.
fn decode_opus(frames: &[AudioFrame]) -> Vec<Sample> {
    let mut decoder = ::opus::Decoder::new(48_000, ::opus::Channels::Stereo).unwrap();
    let mut out = Vec::new();
    for frame in frames {
        let mut pcm = [[0.0_f32; 2]; TICK_SAMPLES];
        let count = decoder
            .decode_float(&frame.data, pcm.as_flattened_mut(), false)
            .unwrap();
        out.extend_from_slice(&pcm[..count]);
    }
    out
}

#[test]
fn opus_times_are_exact_and_continuous() {
    let frames = opus(&tone(440.0, 0.5, 0.0, 48_000), 1_000_000);
    let priming = frames[0].config.priming;
    assert_eq!(priming, 312);
    assert_eq!(frames[0].at_us, 1_000_000 - 6_500);
    for (index, frame) in frames.iter().enumerate() {
        let expected = 993_500 + i64::try_from(index).unwrap() * 20_000;
        assert_eq!(frame.at_us, expected);
    }
    let dops = &frames[0].config.record[..];
    assert_eq!(dops, [0, 2, 1, 56, 0, 0, 0xbb, 0x80, 0, 0, 0]);
}

#[test]
fn a_tone_is_as_loud_and_in_time_after_encoding_mixing_and_encoding_again() {
    let frequency = 400.0;
    let frames = opus(&tone(frequency, 0.5, 0.0, 48_000 * 3), 0);
    let (mixed, mixer) = mix(&frames, 3_000_000);
    assert_eq!(mixer.counts(), ONLY_PRIMING_CAME_TOO_EARLY);
    let start = 1.0;
    let second = &mixed[48_000..96_000];
    let (amplitude, _) = measure(second, frequency, start);
    assert!((amplitude - 0.5).abs() < 0.02, "{amplitude}");
    let late = lateness_ms(second, frequency, start);
    assert!(late.abs() < 0.2, "mixed {late} ms late");

    let again = opus(&mixed, 0);
    let decoded = decode_opus(&again);
    // Cut so that sample 0 is at time 0.
    let decoded = &decoded[312..];
    let second = &decoded[48_000..96_000];
    let (amplitude, _) = measure(second, frequency, start);
    assert!((amplitude - 0.5).abs() < 0.02, "{amplitude}");
    let late = lateness_ms(second, frequency, start);
    assert!(late.abs() < 0.5, "encoded {late} ms late");
}

#[test]
#[cfg(feature = "aac-fdk")]
fn aac_is_in_time_once_its_priming_is_subtracted() {
    let frequency = 300.0;
    let input = tone(frequency, 0.5, 0.0, 48_000 * 2);
    let mut encoder = AudioEncoder::new(AudioCodec::Aac, 7_000, None).unwrap();
    let config = Arc::clone(encoder.config());
    assert_eq!(config.record[..], [0x11, 0x90]);
    let mut decoder = super::super::AacDecoder::new(&config.record).unwrap();
    let (mut frames, mut decoded) = (Vec::new(), Vec::new());
    for tick in ticks(&input) {
        if let Some(frame) = encoder.encode(tick).unwrap() {
            decoded.extend_from_slice(decoder.decode(&frame.data).unwrap());
            frames.push(frame);
        }
    }
    let priming = i64::from(config.priming);
    assert_eq!(frames[0].at_us, 7_000 - priming * 125 / 6 - 1);
    for (index, pair) in frames.windows(2).enumerate() {
        let gap = pair[1].at_us - pair[0].at_us;
        assert!((21_333..=21_334).contains(&gap), "{index}: {gap}");
    }
    assert_eq!(frames[15].at_us - frames[0].at_us, 320_000);
    let skip = config.priming + decoder.delay();
    let decoded = &decoded[usize::try_from(skip).unwrap()..];
    let second = &decoded[24_000..72_000];
    let (amplitude, _) = measure(second, frequency, 0.5);
    assert!((amplitude - 0.5).abs() < 0.01, "{amplitude}");
    let late = lateness_ms(second, frequency, 0.5);
    assert!(
        late.abs() < 0.1,
        "{late} ms late, delay {}",
        decoder.delay()
    );
    // The tone begins when it should, not a whole period sooner or later.
    let onset = decoded.iter().position(|sample| sample[0] > 0.25).unwrap();
    assert!((8..20).contains(&onset), "{onset}");
}

#[test]
#[cfg(not(feature = "aac-fdk"))]
fn without_aac_the_error_says_so() {
    use super::super::{AacError, AacIngest, EncoderError};

    let encoder = AudioEncoder::new(AudioCodec::Aac, 0, None);
    assert_eq!(encoder.err(), Some(EncoderError::AacUnavailable));
    let ingest = AacIngest::new(&[0x11, 0x90], None);
    assert_eq!(ingest.err(), Some(AacError::Unavailable));
}

#[test]
fn bitrates_out_of_range_are_refused() {
    assert!(AudioEncoder::new(AudioCodec::Opus, 0, Some(0)).is_err());
}
