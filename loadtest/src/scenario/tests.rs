//! Who plays in scenarios, and what.

use std::collections::BTreeSet;

use super::*;

#[test]
fn a_broadcast_has_one_publisher_and_many_subscribers() {
    let scenario = Preset::Broadcast.scenario();
    let parts = scenario.parts();
    assert_eq!(parts.len(), 101);
    assert_eq!(scenario.bots(), 101);
    assert!(parts[0].publishes && !parts[0].receives);
    assert!(
        parts[1..]
            .iter()
            .all(|part| scenario.expects(part) == (1, 1))
    );
    assert!(parts.iter().all(|part| part.watches.is_none()));
    assert_eq!(scenario.plan(&parts[0]).publish.len(), 2);
    assert_eq!(scenario.plan(&parts[1]).slots, (1, 1));
}

#[test]
fn everybody_in_a_meeting_sees_everybody_else() {
    let scenario = Preset::Meeting.scenario();
    for part in scenario.parts() {
        assert_eq!(scenario.expects(&part), (9, 9));
        assert_eq!(scenario.plan(&part).publish.len(), 2);
    }
    let sound = Preset::Audio.scenario();
    assert_eq!(sound.expects(&sound.parts()[3]), (19, 0));
}

#[test]
fn numbers_identities_and_sources_are_unique() {
    let scenario = Scenario {
        rooms: 3,
        participants: 2,
        publishers: 2,
        subscribers: 4,
        door: Door::Http,
        ..Scenario::default()
    };
    let parts = scenario.parts();
    let names: BTreeSet<_> = parts
        .iter()
        .map(|part| (&part.room, &part.identity))
        .collect();
    let numbers: BTreeSet<_> = parts.iter().map(|part| part.number).collect();
    assert_eq!((names.len(), numbers.len()), (24, 24));
    let plans = parts.iter().map(|part| scenario.plan(part));
    let sources: Vec<u32> = plans
        .flat_map(|plan| plan.publish)
        .flat_map(|track| track.layers)
        .map(|layer| layer.ssrc)
        .collect();
    assert_eq!(sources.iter().collect::<BTreeSet<_>>().len(), 3 * 4 * 2);
    let watched: BTreeSet<_> = parts
        .iter()
        .filter_map(|part| part.watches.clone())
        .collect();
    assert_eq!(watched.len(), 4, "{watched:?}");
}

#[test]
fn a_scenario_grows_by_subscribers_else_by_participants() {
    let mut scenario = Preset::Broadcast.scenario();
    scenario.grow(1.5);
    assert_eq!((scenario.publishers, scenario.subscribers), (1, 150));
    let mut scenario = Preset::Meeting.scenario();
    scenario.grow(1.01);
    assert_eq!(scenario.participants, 11);
}

#[test]
fn some_subscribers_are_hindered_and_nobody_else() {
    let scenario = Scenario {
        stopped: 1,
        slow: 2,
        ..Preset::Broadcast.scenario()
    };
    let parts = scenario.parts();
    let hindered = parts.iter().filter_map(|part| part.hindrance);
    let slow = Hindrance::Slow(SLOW_LINK_BPS);
    assert_eq!(
        hindered.collect::<Vec<_>>(),
        [Hindrance::Stopped, slow, slow]
    );
    assert_eq!(parts[0].hindrance, None);
}

#[test]
fn the_same_seed_plays_the_same() {
    let scenario = Preset::Meeting.scenario();
    let offsets = |scenario: &Scenario| -> Vec<Duration> {
        let plans = scenario
            .parts()
            .into_iter()
            .map(|part| scenario.plan(&part));
        plans
            .flat_map(|plan| plan.publish)
            .map(|track| track.offset)
            .collect()
    };
    assert_eq!(offsets(&scenario), offsets(&scenario.clone()));
    let other = Scenario {
        seed: 2,
        ..scenario.clone()
    };
    assert_ne!(offsets(&scenario), offsets(&other));
}

#[test]
fn simulcast_has_three_layers_that_grow() {
    let video = Video {
        codec: Codec::H264,
        bitrate_bps: 1_200_000,
        simulcast: true,
    };
    let layers = layers(video, 1, 5);
    let bytes = |layer: &LayerPlan| -> u64 {
        layer
            .frames
            .frames
            .iter()
            .flatten()
            .map(|size| u64::from(*size))
            .sum()
    };
    assert_eq!(layers.len(), 3);
    assert!(
        layers
            .windows(2)
            .all(|pair| bytes(&pair[0]) * 2 < bytes(&pair[1]))
    );
}
