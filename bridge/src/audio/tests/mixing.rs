use super::*;

/// As steep as a tone may be; a little more for what coding adds.
fn slope(frequency: f64, amplitude: f64) -> f32 {
    (amplitude * frequency * TAU / 48_000.0 * 1.5) as f32
}

#[test]
fn two_tones_are_both_heard_and_never_beyond_full_scale() {
    for amplitude in [0.3, 0.9] {
        let high = opus(&tone(900.0, amplitude, 0.0, 96_000), 0);
        let low = opus(&tone(200.0, amplitude, 0.0, 96_000), 0);
        let mut mixer = Mixer::new(0, MixerSettings::default());
        let mut mixed = Vec::new();
        for (index, (high, low)) in high.iter().zip(&low).enumerate() {
            mixer.push(SourceId(1), high).unwrap();
            mixer.push(SourceId(2), low).unwrap();
            let now_us = i64::try_from(index).unwrap() * 20_000;
            while let Some(tick) = mixer.poll_tick(now_us) {
                assert!(!tick.is_silent);
                mixed.extend_from_slice(tick.samples);
            }
        }
        let middle = &mixed[48_000..72_000];
        let (first, _) = measure(middle, 900.0, 1.0);
        let (second, _) = measure(middle, 200.0, 1.0);
        assert!((first / second - 1.0).abs() < 0.05, "{first} {second}");
        let expected = amplitude.min(0.46);
        assert!((first - expected).abs() < 0.03, "{first}");
        assert!(mixed.as_flattened().iter().all(|value| value.abs() <= 1.0));
        assert!(steepest(&mixed) < slope(900.0, amplitude) + slope(200.0, amplitude));
        assert_eq!(mixer.counts().limited_ticks > 0, amplitude > 0.5);
    }
}

#[test]
fn nobody_is_exact_silence_on_a_steady_grid() {
    let mut mixer = Mixer::new(5, MixerSettings::default());
    assert!(mixer.poll_tick(100_004).is_none());
    for index in 0..50 {
        assert_eq!(mixer.poll_timeout(), 100_005 + index * 20_000);
        let tick = mixer.poll_tick(2_000_000).unwrap();
        assert_eq!(tick.at_us, 5 + index * 20_000);
        assert!(tick.is_silent);
        assert!(tick.samples.iter().all(|sample| *sample == [0.0; 2]));
    }
}

#[test]
fn lost_packets_are_concealed_and_do_not_click() {
    let mut frames = opus(&tone(440.0, 0.5, 0.0, 96_000), 0);
    frames.remove(70);
    frames.remove(50);
    frames.remove(50);
    let (mixed, mixer) = mix(&frames, 2_000_000);
    assert_eq!(mixer.counts().concealed_samples, 3 * 960);
    assert!(
        steepest(&mixed) < slope(440.0, 0.5) * 2.0,
        "{}",
        steepest(&mixed)
    );
    let hole = &mixed[50 * 960..52 * 960];
    assert!(measure(hole, 440.0, 1.0).0 > 0.2);
    let after = &mixed[75 * 960..85 * 960];
    assert!(lateness_ms(after, 440.0, 1.5).abs() < 0.1);
}

#[test]
fn after_60_ms_a_hole_is_silent_and_what_follows_is_in_place() {
    let mut frames = opus(&tone(440.0, 0.5, 0.0, 96_000), 0);
    frames.drain(30..50);
    let (mixed, mixer) = mix(&frames, 2_000_000);
    assert_eq!(mixer.counts().concealed_samples, 2_880);
    assert_eq!(mixer.counts().reanchored, 0);
    let silent = &mixed[35 * 960..49 * 960];
    assert!(silent.iter().all(|sample| *sample == [0.0; 2]));
    assert!(steepest(&mixed) < slope(440.0, 0.5) * 2.0);
    let after = &mixed[55 * 960..65 * 960];
    assert!(lateness_ms(after, 440.0, 1.1).abs() < 0.1);
}

#[test]
fn a_sender_that_transmits_nothing_is_silent_at_no_loss() {
    let mut frames = opus(&tone(440.0, 0.5, 0.0, 19_200), 0);
    for index in 0..5_i64 {
        // Every 400 ms, as browsers do.
        frames.push(packet(400_000 + index * 400_000, &[0xf8, 0xff, 0xfe]));
    }
    frames.extend(opus(&tone(440.0, 0.5, 0.0, 19_200), 2_400_000));
    let (mixed, mixer) = mix(&frames, 3_000_000);
    assert_eq!(mixer.counts(), ONLY_PRIMING_CAME_TOO_EARLY);
    assert!(
        mixed[24_000..114_800]
            .iter()
            .all(|sample| *sample == [0.0; 2])
    );
    assert!(steepest(&mixed) < slope(440.0, 0.5) * 2.0);
    assert!(measure(&mixed[120_000..129_600], 440.0, 0.1).0 > 0.4);
}

#[test]
fn sources_come_go_and_are_muted_without_a_click() {
    let frames = opus(&tone(440.0, 0.5, 0.0, 144_000), 0);
    let mut mixer = Mixer::new(0, MixerSettings::default());
    let mut mixed = Vec::new();
    let mut silent = 0;
    for (index, frame) in frames.iter().enumerate() {
        match index {
            30 => mixer.set_muted(SourceId(1), true),
            60 => mixer.set_muted(SourceId(1), false),
            90 => mixer.remove(SourceId(1)),
            _ => {}
        }
        if !(91..120).contains(&index) {
            mixer.push(SourceId(1), frame).unwrap();
        }
        while let Some(tick) = mixer.poll_tick(frame.at_us) {
            silent += usize::from(tick.is_silent);
            mixed.extend_from_slice(tick.samples);
        }
    }
    assert!(
        steepest(&mixed) < slope(440.0, 0.5) * 1.4,
        "{}",
        steepest(&mixed)
    );
    assert!((50..66).contains(&silent), "{silent}");
}

#[test]
fn a_clock_that_is_off_by_more_than_80_ms_moves_its_source_once() {
    let mut frames = opus(&tone(440.0, 0.5, 0.0, 96_000), 0);
    for frame in &mut frames[50..] {
        frame.at_us += 3_000;
    }
    let (_, mixer) = mix(&frames, 2_000_000);
    assert_eq!(mixer.counts().reanchored, 0);
    // Each packet 5 ms earlier than the last would have it: too much to be drift, no hole, no repeat.
    for (index, frame) in frames[50..].iter_mut().enumerate() {
        frame.at_us -= 5_000 * i64::try_from(index.min(20)).unwrap();
    }
    let (mixed, mixer) = mix(&frames, 2_000_000);
    assert_eq!(mixer.counts().reanchored, 1);
    assert!(steepest(&mixed) < slope(440.0, 0.5) * 2.0);
}

#[test]
fn what_is_mixed_is_bounded() {
    let frames = opus(&tone(440.0, 0.5, 0.0, 1_920), 0);
    let settings = MixerSettings {
        sources_max: 2,
        ..MixerSettings::default()
    };
    let mut mixer = Mixer::new(0, settings);
    mixer.push(SourceId(1), &frames[0]).unwrap();
    mixer.push(SourceId(2), &frames[0]).unwrap();
    let third = mixer.push(SourceId(3), &frames[0]);
    assert_eq!(third, Err(super::super::PushError::TooManySources));
    let mut far = frames[1].clone();
    far.at_us = i64::MAX;
    let refused = mixer.push(SourceId(1), &far);
    assert_eq!(refused, Err(super::super::PushError::Early));
    let twice = mixer.push(SourceId(2), &frames[0]);
    assert_eq!(twice, Err(super::super::PushError::Late));
    assert_eq!(mixer.counts().refused, 2);
    assert_eq!(mixer.counts().late_packets, 1);
}

#[test]
fn where_packets_take_longer_the_mixer_waits_longer_and_sound_does_not_break_off() {
    let frames = opus(&tone(440.0, 0.5, 0.0, 96_000), 0);
    for late_us in [0, 90_000, 110_000, 150_000] {
        let mut mixer = Mixer::new(0, MixerSettings::default());
        let mut mixed = Vec::new();
        let mut waiting = frames.iter().peekable();
        for now_us in (0..2_200_000).step_by(5_000) {
            while let Some(frame) = waiting.next_if(|frame| frame.at_us + late_us <= now_us) {
                let _ = mixer.push(SourceId(1), frame);
            }
            while let Some(tick) = mixer.poll_tick(now_us) {
                mixed.extend_from_slice(tick.samples);
            }
        }
        assert_eq!(mixer.counts().overdue > 0, late_us > 0, "{late_us}");
        let waits_us = mixer.poll_timeout() - i64::try_from(mixed.len() / 960).unwrap() * 20_000;
        assert!((100_000..=200_000).contains(&waits_us), "{waits_us}");
        for (index, piece) in mixed[48_000..86_400].chunks(480).enumerate() {
            let loud = piece
                .iter()
                .fold(0.0, |most: f32, sample| most.max(sample[0].abs()));
            assert!(loud > 0.4, "{late_us}: {loud} at {index}");
        }
    }
}

#[test]
fn what_is_nearly_late_is_waited_for_longer_before_sound_breaks_off() {
    let frames = opus(&tone(440.0, 0.5, 0.0, 96_000), 0);
    let mut mixer = Mixer::new(0, MixerSettings::default());
    let mut mixed = Vec::new();
    let mut now_us = 0;
    for (index, frame) in (0..).zip(&frames) {
        // It takes 40 ms, later on 75, and one of the last 95: with the delay of the beginning that one would be overdue.
        let late_us = match index {
            0..20 => 40_000,
            70 => 95_000,
            _ => 75_000,
        };
        let came_us = frame.at_us + late_us;
        while now_us < came_us {
            now_us += 1_000;
            while let Some(tick) = mixer.poll_tick(now_us) {
                mixed.extend_from_slice(tick.samples);
            }
        }
        mixer.push(SourceId(1), frame).unwrap();
        mixer.note_late(late_us);
    }
    assert_eq!(mixer.counts().overdue, 0);
    let waits_us = mixer.poll_timeout() - i64::try_from(mixed.len() / 960).unwrap() * 20_000;
    assert_eq!(waits_us, 140_000);
    let loudest = |piece: &[Sample]| {
        let samples = piece.iter().map(|sample| sample[0].abs());
        samples.fold(0.0, f32::max)
    };
    for (index, piece) in mixed[4_800..84_000].chunks(480).enumerate() {
        assert!(loudest(piece) > 0.4, "{} at {index}", loudest(piece));
    }
    // A stall of half a second is no reason to wait as long as can be: the delay becomes more by two steps at most.
    for packet in (0..25).rev() {
        mixer.note_late(packet * 20_000);
    }
    let stalled_us = mixer.poll_timeout() - mixer.next_us();
    assert!((140_000..=180_000).contains(&stalled_us), "{stalled_us}");
    // However late, there is an end to it.
    for _ in 0..100 {
        mixer.note_late(mixer.poll_timeout() - mixer.next_us());
    }
    assert_eq!(mixer.poll_timeout() - mixer.next_us(), 200_000);
    // From 100 ms on, in steps of 20, and said once.
    assert_eq!((mixer.take_counts().delays, mixer.counts().delays), (5, 0));
}
