//! Where segments begin, and that all renditions begin them there.

use super::*;
use crate::hls::lane::FOLLOW_US;

#[test]
fn sound_that_comes_late_has_every_segment_of_a_picture_that_changes_soon_after_a_border() {
    for (border_us, apart_ms) in [
        (4_001_000, 10),
        (4_000_000, 10),
        (4_000_000, 66),
        (4_000_000, 400),
    ] {
        let mut source = Source::new();
        source.sound_lag_us = 120_000;
        source.show_evenly(&video_config(640), 0, 3_990_000);
        source.show(0, picture(&video_config(640), border_us, true), 5_000);
        source.packager.discontinue();
        let change_us = border_us + apart_ms * 1_000;
        source.show_evenly(&video_config(320), change_us, 8_000_000 + change_us);
        let tape = source.finish();
        let (sounds, pictures) = (tape.of(AUDIO), tape.of(TOP));
        assert_eq!(sounds.len(), pictures.len(), "{apart_ms}");
        assert_eq!(pictures[3].opening.start_us, change_us);
        let gaps = sounds.iter().filter(|cut| cut.is_gap).count();
        // Less than a frame of sound is none.
        assert_eq!(gaps, usize::from(border_us % 20_000 > 0), "{apart_ms}");
        let ends = sounds.windows(2).map(|pair| {
            let (cut, next) = (&pair[0], &pair[1]);
            next.opening.start_us - cut.opening.start_us - cut.duration_us.unwrap()
        });
        assert!(
            ends.clone().all(|off_us| (0..20_000).contains(&off_us)),
            "{apart_ms}: {:?}",
            ends.collect::<Vec<_>>()
        );
    }
}

#[test]
fn sound_that_becomes_another_kind_goes_on_at_the_newest_of_the_borders_it_has_yet_to_meet() {
    // At the first border, and between both.
    for (mono_from, gaps) in [(200, 1), (203, 0)] {
        let mut source = Source::new();
        source.sound_lag_us = 120_000;
        source.mono_from = mono_from;
        source.show_evenly(&video_config(640), 0, 3_990_000);
        source.show(0, picture(&video_config(640), 4_000_000, true), 5_000);
        source.packager.discontinue();
        source.show_evenly(&video_config(320), 4_066_000, 8_066_000);
        let tape = source.finish();
        let (sounds, pictures) = (tape.of(AUDIO), tape.of(TOP));
        assert_eq!(sounds.len(), pictures.len(), "{mono_from}");
        let is_gap: Vec<bool> = sounds.iter().map(|cut| cut.is_gap).collect();
        assert_eq!(
            is_gap,
            [false, false, gaps > 0, false, false],
            "{mono_from}"
        );
        let maps: Vec<u32> = sounds.iter().map(|cut| cut.opening.map).collect();
        assert_eq!(maps, [1, 1, 1, 2, 2], "{mono_from}");
        assert!(sounds[3].opening.is_discontinuity);
    }
}

#[test]
fn a_keyframe_just_after_a_border_without_one_begins_no_segment() {
    let mut source = Source::new();
    let config = video_config(640);
    for index in 0..150 {
        let at_us = index * 1_000_000 / 30;
        source.show(0, picture(&config, at_us, index == 0 || index == 98), 5_000);
    }
    let tape = source.finish();
    let starts: Vec<i64> = tape
        .of(TOP)
        .iter()
        .map(|cut| cut.opening.start_us)
        .collect();
    assert!(
        starts
            .windows(2)
            .all(|pair| pair[1] - pair[0] >= PART_US / 2),
        "{starts:?}"
    );
}

#[test]
fn with_keyframes_too_seldom_the_picture_goes_on_and_a_segment_begins_with_each() {
    let mut source = Source::new();
    let config = video_config(640);
    for index in 0..400 {
        let is_key = index == 0 || index == 200;
        source.show(0, picture(&config, index * 33_333, is_key), 5_000);
    }
    let counts = source.packager.counts();
    let tape = source.finish();
    let cuts = tape.of(TOP);
    let frames: u32 = cuts
        .iter()
        .flat_map(|cut| &cut.parts)
        .map(|part| part.frame_count)
        .sum();
    assert_eq!(frames, 400, "nothing is left out: {counts:?}");
    let begun: Vec<(bool, bool)> = cuts
        .iter()
        .map(|cut| (cut.opening.is_continuation, cut.parts[0].is_independent))
        .collect();
    let (key, between) = ((false, true), (true, false));
    assert_eq!(begun, [key, between, between, key, between, between]);
    assert_eq!(cuts[3].opening.start_us, 200 * 33_333);
    assert!(
        cuts.iter()
            .all(|cut| !cut.is_gap && !cut.opening.is_discontinuity)
    );
    assert!(
        cuts.iter()
            .all(|cut| cut.duration_us.is_some_and(|us| us < 3_500_000))
    );
    assert!(tape.of(AUDIO).iter().all(|cut| !cut.is_gap));
}

#[test]
fn another_configuration_is_a_discontinuity_with_another_map_at_once() {
    let mut source = Source::new();
    source.show_evenly(&video_config(640), 0, 2_500_000);
    source.show_evenly(&video_config(320), 2_500_000, 5_000_000);
    let tape = source.finish();
    let cuts = tape.of(TOP);
    let maps: Vec<u32> = cuts.iter().map(|cut| cut.opening.map).collect();
    assert_eq!(maps, [1, 1, 2, 2]);
    let breaks: Vec<bool> = cuts
        .iter()
        .map(|cut| cut.opening.is_discontinuity)
        .collect();
    assert_eq!(breaks, [false, false, true, false]);
    assert_eq!(cuts[2].opening.start_us, 2_500_000);
    let sound = tape.of(AUDIO);
    assert!(sound[2].opening.is_discontinuity);
    assert_eq!(sound[2].opening.map, 1);
}

#[test]
fn another_source_of_the_same_kind_is_a_discontinuity_when_told() {
    let mut source = Source::new();
    let config = video_config(640);
    source.show_evenly(&config, 0, 2_500_000);
    source.packager.discontinue();
    source.show_evenly(&config, 2_500_000, 3_000_000);
    let tape = source.finish();
    let cuts = tape.of(TOP);
    assert_eq!(cuts[2].opening.start_us, 2_500_000);
    assert!(cuts[2].opening.is_discontinuity);
    assert_eq!(cuts[2].opening.discontinuities, 1);
    assert_eq!(cuts[2].opening.map, 1);
}

#[test]
fn a_discontinuity_is_at_one_time_in_all_renditions() {
    // How much later than the larger rung's the smaller one's keyframe is; before it, it shows what it did.
    for later in [-2, 0, 1, 3, 6, 7, 14] {
        let mut source = Source::new();
        let (top, low) = (
            [video_config(640), video_config(1280)],
            [video_config(320), video_config(160)],
        );
        let key_index = 75;
        let change_us = key_index * 33_333;
        for index in 0..200 {
            let at_us = index * 33_333;
            let is_other = index >= key_index;
            let is_key = index == key_index || index % 60 == 0;
            let frame = picture(&top[usize::from(is_other)], at_us, is_key);
            source.show(0, frame, 5_000);
            let is_other = index >= key_index + later;
            let is_key = index == key_index + later || index % 60 == 0;
            let frame = picture(&low[usize::from(is_other)], at_us + 500, is_key);
            source.show(1, frame, 5_000);
        }
        let tape = source.finish();
        for rendition in [TOP, RenditionId::Video(1), AUDIO] {
            let cuts = tape.of(rendition);
            let (old, new) = (&cuts[1], &cuts[2]);
            assert!(new.opening.is_discontinuity && !new.is_gap && !old.is_gap);
            assert_eq!(new.opening.start_us, change_us, "{rendition:?} {later}");
            let end_us = old.opening.start_us + old.duration_us.unwrap();
            assert_eq!(end_us, change_us, "{rendition:?} {later}");
            let listed_us: i64 = new.parts.iter().map(|part| part.duration_us).sum();
            assert_eq!(Some(listed_us), new.duration_us, "{rendition:?} {later}");
        }
        // No picture is missing, and those after the keyframe are when they were.
        let new = &tape.of(RenditionId::Video(1))[2];
        let times: Vec<u64> = new
            .parts
            .iter()
            .flat_map(|part| times(&part.bytes))
            .collect();
        let apart = times.windows(2).map(|pair| pair[1] - pair[0]);
        assert!(apart.max() <= Some(18_000 + 3_000), "{later}: {times:?}");
        if later > 0 {
            assert_eq!(times[0], ticks(change_us), "{later}");
        }
        assert!(times.contains(&ticks((key_index + later.max(0) + 1) * 33_333 + 500)));
    }
}

#[test]
fn a_rung_whose_old_source_has_a_keyframe_of_the_same_picture_begins_with_the_new_one() {
    let mut source = Source::new();
    let (top, low) = (
        [video_config(640), video_config(1280)],
        [video_config(160), video_config(320)],
    );
    for index in 0..150 {
        let at_us = index * 33_333;
        let is_key = index == 40 || index % 60 == 0;
        let config = usize::from(index >= 40);
        source.show(0, picture(&top[config], at_us, is_key), 5_000);
        if index == 40 {
            source.show(1, picture(&low[0], at_us, true), 5_000);
        }
        let at_us = at_us + 1_000 * i64::from(index >= 40);
        source.show(1, picture(&low[config], at_us, is_key), 5_000);
    }
    let tape = source.finish();
    let (top, low) = (tape.of(TOP), tape.of(RenditionId::Video(1)));
    assert_eq!(low.len(), top.len());
    for (top, low) in top.iter().zip(low) {
        assert!(!low.is_gap, "{low:?}");
        assert_eq!(low.parts.len(), top.parts.len());
    }
    assert_eq!(low[1].opening.start_us, 40 * 33_333);
}

#[test]
fn the_first_picture_of_the_largest_rung_is_no_discontinuity_whatever_came_before() {
    let mut source = Source::new();
    let configs = [video_config(640), video_config(320)];
    for index in 0..240 {
        let is_key = index % 60 == 0;
        source.show(1, picture(&configs[1], index * 33_333, is_key), 5_000);
        if index == 1 {
            source.packager.discontinue();
        }
        if index >= 1 {
            let is_key = is_key || index == 1;
            source.show(0, picture(&configs[0], index * 33_333, is_key), 5_000);
        }
    }
    let tape = source.finish();
    let cuts = tape.cuts.values().flatten();
    assert!(cuts.clone().count() >= 12);
    assert!(
        cuts.clone()
            .all(|cut| !cut.is_gap && !cut.opening.is_discontinuity)
    );
}

/// In the units of pictures' decode times.
fn ticks(us: i64) -> u64 {
    u64::try_from((us * 9 + 50) / 100).unwrap()
}

#[test]
fn a_rung_that_does_not_show_what_is_new_in_time_ends_at_the_discontinuity() {
    let mut source = Source::new();
    let (top, low) = (video_config(640), video_config(320));
    for index in 0..240 {
        let at_us = index * 33_333;
        if index == 75 {
            source.packager.discontinue();
        }
        let is_key = index == 75 || index % 60 == 0;
        source.show(0, picture(&top, at_us, is_key), 5_000);
        let is_key = index == 100 || (index % 60 == 0 && index != 120);
        source.show(1, picture(&low, at_us, is_key), 5_000);
    }
    let tape = source.finish();
    let (top, low) = (tape.of(TOP), tape.of(RenditionId::Video(1)));
    assert_eq!(
        low[1].opening.start_us + low[1].duration_us.unwrap(),
        75 * 33_333
    );
    assert!(top[2].opening.is_discontinuity && !low[2].is_gap);
    assert_eq!(low[2].opening.start_us, 100 * 33_333);
}

/// Both rungs for eight seconds; the smaller one's keyframes are `later_us` after the larger one's.
fn two_rungs(later_us: i64) -> Tape {
    let mut source = Source::new();
    let configs = [video_config(640), video_config(320)];
    let mut frames = Vec::new();
    for index in 0..240 {
        let at_us = 100_000 + index * 33_333;
        let later = (later_us + 33_332) / 33_333;
        frames.push((at_us, 0, index % 60 == 0));
        let is_key = (index - later) % 60 == 0;
        frames.push((at_us + later_us % 33_333, 1, is_key));
    }
    frames.sort_unstable();
    for (at_us, rung, is_key) in frames {
        let config = &configs[usize::from(rung)];
        source.show(rung, picture(config, at_us, is_key), 5_000);
    }
    source.finish()
}

#[test]
fn rungs_share_borders_where_each_has_its_keyframe() {
    for later_us in [0, 10_000, 66_666, 300_000, -66_666] {
        let tape = two_rungs(later_us);
        let (top, low) = (tape.of(TOP), tape.of(RenditionId::Video(1)));
        assert!(low.len() >= 3, "{later_us}: {low:?}");
        for low in low.iter().filter(|cut| !cut.is_gap).skip(1) {
            let msn = low.opening.msn;
            let Some(top) = top.iter().find(|cut| cut.opening.msn == msn) else {
                continue;
            };
            let apart_us = low.opening.start_us - top.opening.start_us;
            assert!(apart_us.abs() <= FOLLOW_US, "{later_us}: {apart_us}");
        }
    }
}

#[test]
fn a_rung_that_comes_late_joins_with_the_same_numbers() {
    let mut source = Source::new();
    let (top, low) = (video_config(640), video_config(320));
    source.show_evenly(&top, 0, 4_500_000);
    for index in 135..300 {
        let at_us = index * 1_000_000 / 30;
        source.show(0, picture(&top, at_us, index % 60 == 0), 5_000);
        source.show(1, picture(&low, at_us + 1000, index % 60 == 0), 5_000);
    }
    let tape = source.finish();
    let low = tape.of(RenditionId::Video(1));
    assert_eq!(low[0].opening.msn, 3);
    assert_eq!(low[0].opening.start_us, 6_001_000);
}

#[test]
fn a_rung_that_is_gone_leaves_gaps_and_the_next_one_leads() {
    let mut source = Source::new();
    let (top, low) = (video_config(640), video_config(320));
    for index in 0..420 {
        let at_us = index * 1_000_000 / 30;
        let is_key = index % 60 == 0;
        if index < 150 {
            source.show(0, picture(&top, at_us, is_key), 5_000);
        }
        source.show(1, picture(&low, at_us + 1000, is_key), 5_000);
    }
    let tape = source.finish();
    assert!(tape.of(TOP).last().unwrap().is_gap);
    let low = tape.of(RenditionId::Video(1));
    assert!(low.iter().all(|cut| !cut.is_gap), "{low:?}");
    assert_eq!(
        low.last().unwrap().opening.msn,
        tape.of(TOP).last().unwrap().opening.msn
    );
}

#[test]
fn sound_alone_begins_after_a_second_and_time_makes_its_borders() {
    let mut source = Source::new();
    source.run_until(8_000_000);
    let tape = source.finish();
    let cuts = tape.of(AUDIO);
    assert_eq!(cuts.len(), 4);
    for cut in &cuts[..3] {
        assert_eq!(cut.duration_us, Some(2_000_000));
        assert_eq!(cut.parts.len(), 10);
    }
}

#[test]
fn pictures_alone_and_late_sound() {
    let mut source = Source::new();
    source.has_sound = false;
    let config = video_config(640);
    source.show_evenly(&config, 0, 5_000_000);
    source.has_sound = true;
    for index in 150..300 {
        let at_us = index * 1_000_000 / 30;
        source.show(0, picture(&config, at_us, index % 60 == 0), 5_000);
    }
    let tape = source.finish();
    assert_eq!(tape.of(TOP).len(), 5);
    assert_eq!(tape.of(AUDIO)[0].opening.msn, 2);
    assert_eq!(tape.of(AUDIO).len(), 3);
}

#[test]
fn a_source_that_leaves_and_returns_begins_anew_at_its_keyframe() {
    let mut source = Source::with(&Settings {
        holds_picture: false,
        ..Settings::default()
    });
    let config = video_config(640);
    source.show_evenly(&config, 0, 3_000_000);
    source.run_until(11_000_000);
    source.show_evenly(&config, 11_100_000, 14_000_000);
    let tape = source.finish();
    let back = tape.of(TOP).iter().find(|cut| cut.opening.is_discontinuity);
    assert_eq!(back.unwrap().opening.start_us, 11_100_000);
    assert!(tape.of(TOP).iter().any(|cut| cut.is_gap));
    assert!(tape.of(AUDIO).iter().all(|cut| !cut.is_gap));
}
