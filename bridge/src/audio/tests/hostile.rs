use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn garbage_at_any_time_is_survived_within_full_scale(
        packets in vec((any::<u8>(), -2_000_000_i64..2_000_000, vec(any::<u8>(), 0..200)), 0..60),
        steps in vec(0_i64..200_000, 60),
    ) {
        let mut mixer = Mixer::new(0, MixerSettings::default());
        let mut now_us = 0;
        for ((source, at_us, data), step) in packets.iter().zip(&steps) {
            now_us += step;
            let at_us = if *source == 0 { i64::MIN + at_us.abs() } else { now_us + at_us };
            let _ = mixer.push(SourceId(u64::from(source % 3)), &packet(at_us, data));
            while let Some(tick) = mixer.poll_tick(now_us) {
                let values = tick.samples.as_flattened();
                prop_assert!(values.iter().all(|value| value.abs() <= 1.0));
            }
        }
    }

    #[test]
    #[cfg(feature = "aac-fdk")]
    fn garbage_aac_is_an_error_or_sound(
        config in vec(any::<u8>(), 0..20),
        packets in vec((any::<i64>(), vec(any::<u8>(), 0..400)), 0..20),
    ) {
        use super::super::AacIngest;

        for config in [&config[..], &[0x12, 0x08], &[0x2b, 0x09, 0x88, 0x00]] {
            let Ok(mut ingest) = AacIngest::new(config, None) else { continue };
            let mut out = Vec::new();
            let mut bad = 0;
            for (at_us, data) in &packets {
                bad += u64::from(ingest.push(*at_us, data, &mut out).is_err());
            }
            prop_assert_eq!(ingest.counts().bad_frames, bad);
            prop_assert!(out.windows(2).all(|pair| pair[0].at_samples < pair[1].at_samples));
        }
    }
}

#[test]
fn garbage_is_counted() {
    let mut mixer = Mixer::new(0, MixerSettings::default());
    assert!(mixer.push(SourceId(1), &packet(0, &[])).is_err());
    // Code 3 with 63 frames of 60 ms.
    assert!(mixer.push(SourceId(1), &packet(0, &[0xff, 63])).is_err());
    assert_eq!(mixer.counts().bad_packets, 2);
    let mut aac = packet(0, &[1, 2, 3]);
    Arc::make_mut(&mut aac.config).codec = AudioCodec::Aac;
    assert!(mixer.push(SourceId(1), &aac).is_err());
    assert_eq!(mixer.counts().refused, 1);
}
