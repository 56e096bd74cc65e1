//! Simulcast and temporal layers: chosen by the view, lost, found again; keyframes within a budget.

use std::time::Duration;

use sfu::{Codec, StreamState, View};

use crate::browser::Options;
use crate::world::{Who, World};

const RIDS: &[&str] = &["q", "h", "f"];

fn pair(seed: u64, codec: Codec) -> (World, Who, Who) {
    let mut world = World::new(seed);
    let alice = world.join(Options::new("alice").camera(codec, RIDS));
    let bob = world.join(Options::new("bob").slots(0, 1));
    world.run_ms(2000);
    (world, alice, bob)
}

fn encoding(world: &World, who: Who) -> u8 {
    let since = world.now - Duration::from_millis(200);
    let frames = world.browsers[who].video(0).frames_since(since);
    frames.last().expect("frames come").encoding
}

#[test]
fn the_view_chooses_the_layer() {
    for codec in [Codec::Vp8, Codec::Vp9, Codec::H264] {
        let (mut world, alice, bob) = pair(1, codec);
        let camera = world.camera(alice);
        for (height, layer) in [(180, 0), (720, 2), (360, 1), (90, 0), (0, 2)] {
            let view = View {
                height,
                ..View::default()
            };
            world.view(bob, camera, view);
            world.run_ms(1300);
            assert_eq!(encoding(&world, bob), layer, "{codec:?} at {height}");
            assert_eq!(
                world.state(bob, camera),
                Some(StreamState::Active { layer })
            );
        }
        assert_eq!(world.browsers[bob].video(0).holes(), 0);
        world.finish();
    }
}

#[test]
fn a_vanished_layer_is_replaced_at_once_and_taken_back_later() {
    let (mut world, alice, bob) = pair(2, Codec::Vp8);
    assert_eq!(encoding(&world, bob), 2);
    world.browsers[alice].senders[2].is_active = false;
    let stopped = world.now;
    world.run_ms(3000);
    assert_eq!(encoding(&world, bob), 1);
    let arrived = world.browsers[bob].video(0).arrived.values();
    let resumed = arrived.filter_map(|a| a.stamp.filter(|s| s.encoding == 1).map(|_| a.at));
    let pause = resumed.filter(|at| *at > stopped).min().unwrap() - stopped;
    assert!(
        pause < Duration::from_millis(1200),
        "{pause:?} without a picture"
    );
    world.browsers[alice].senders[1].is_active = false;
    world.run_ms(2000);
    assert_eq!(encoding(&world, bob), 0);
    for sender in &mut world.browsers[alice].senders {
        sender.is_active = true;
    }
    world.run_ms(3000);
    assert_eq!(encoding(&world, bob), 2);
    assert_eq!(world.browsers[bob].video(0).holes(), 0);
    world.finish();
}

#[test]
fn layers_may_begin_late() {
    let mut world = World::new(3);
    let alice = world.join(Options::new("alice").camera(Codec::Vp8, RIDS));
    for layer in [1, 2] {
        world.browsers[alice].senders[layer].is_active = false;
    }
    let bob = world.join(Options::new("bob").slots(0, 1));
    world.run_ms(2000);
    assert_eq!(encoding(&world, bob), 0);
    for layer in [1, 2] {
        world.browsers[alice].senders[layer].is_active = true;
        world.run_ms(2000);
        assert_eq!(encoding(&world, bob), layer as u8);
    }
    world.finish();
}

#[test]
fn temporal_layers_are_dropped_and_given_back() {
    for codec in [Codec::Vp8, Codec::Vp9] {
        let (mut world, alice, bob) = pair(4, codec);
        for sender in &mut world.browsers[alice].senders {
            sender.encoder.temporal_layers = 3;
        }
        world.run_ms(1000);
        let camera = world.camera(alice);
        for (temporal, share) in [(Some(0), 4), (Some(1), 2), (None, 1)] {
            let view = View {
                temporal,
                ..View::default()
            };
            world.view(bob, camera, view);
            world.run_ms(500);
            let since = world.now;
            world.run_ms(2000);
            let frames = world.browsers[bob].video(0).frames_since(since);
            let highest = frames.iter().map(|frame| frame.temporal).max();
            assert_eq!(highest, Some(temporal.unwrap_or(2)), "{codec:?}");
            let expected = 60 / share;
            assert!(
                (expected - 4..=expected + 4).contains(&frames.len()),
                "{codec:?} {temporal:?}: {} frames",
                frames.len()
            );
        }
        assert_eq!(world.browsers[bob].video(0).holes(), 0);
        world.finish();
    }
}

#[test]
fn a_view_that_needs_fewer_frames_gets_fewer() {
    let (mut world, alice, bob) = pair(6, Codec::Vp8);
    for sender in &mut world.browsers[alice].senders {
        sender.encoder.temporal_layers = 3;
    }
    world.run_ms(1500);
    let camera = world.camera(alice);
    for (fps, expected) in [(15, 30), (7, 15), (0, 60)] {
        let view = View {
            fps,
            ..View::default()
        };
        world.view(bob, camera, view);
        world.run_ms(500);
        let since = world.now;
        world.run_ms(2000);
        let frames = world.browsers[bob].video(0).frames_since(since).len();
        let near = expected - 4..=expected + 4;
        assert!(near.contains(&frames), "{fps} frames/s: {frames}");
    }
    assert_eq!(world.browsers[bob].video(0).holes(), 0);
    world.finish();
}

#[test]
fn temporal_layers_are_dropped_over_a_lossy_reordering_network() {
    for seed in 100..105 {
        let (mut world, alice, bob) = pair(seed, Codec::Vp8);
        for sender in &mut world.browsers[alice].senders {
            sender.encoder.temporal_layers = 3;
        }
        let rough = crate::network::Link {
            loss: 0.05,
            reorder: 0.1,
            duplicate: 0.05,
            jitter: Duration::from_millis(15),
            ..crate::network::Link::GOOD
        };
        world.link(alice, rough, rough);
        let camera = world.camera(alice);
        for temporal in [Some(0), None, Some(1), Some(0), Some(2)] {
            let view = View {
                temporal,
                ..View::default()
            };
            world.view(bob, camera, view);
            world.run_ms(700);
        }
        world.finish();
    }
}

#[test]
fn a_storm_of_keyframe_requests_stays_within_the_budget() {
    let mut world = World::new(5);
    let alice = world.join(Options::new("alice").camera(Codec::Vp8, RIDS));
    let viewers: Vec<Who> = ["b", "c", "d", "e"]
        .map(|name| world.join(Options::new(name).slots(0, 1)))
        .to_vec();
    world.run_ms(2000);
    let asked = |world: &World| -> usize {
        let senders = world.browsers[alice].senders.iter();
        senders.map(|sender| sender.keyframe_requests.len()).sum()
    };
    let before = asked(&world);
    for _ in 0..200 {
        for viewer in &viewers {
            let media = world.browsers[*viewer].video(0).media;
            world.browsers[*viewer].ask_for_keyframe(media);
        }
        world.run_ms(10);
    }
    let storm = asked(&world) - before;
    assert!((2..=5).contains(&storm), "{storm} requests in 2 s");
    world.finish();
}

#[test]
fn a_paused_view_costs_nothing_and_comes_back() {
    let (mut world, alice, bob) = pair(6, Codec::Vp8);
    let camera = world.camera(alice);
    let paused = View {
        paused: true,
        ..View::default()
    };
    world.view(bob, camera, paused);
    world.run_ms(100);
    let since = world.now;
    world.run_ms(2000);
    assert!(world.browsers[bob].video(0).frames_since(since).is_empty());
    world.view(bob, camera, View::default());
    let since = world.now;
    world.run_ms(2000);
    assert!(world.browsers[bob].video(0).frames_since(since).len() > 40);
    assert_eq!(world.browsers[bob].video(0).holes(), 0);
    world.finish();
}

#[test]
fn a_receivers_own_estimate_caps_the_layer_while_it_lasts() {
    let mut world = World::new(7);
    let alice = world.join(Options::new("alice").camera(Codec::Vp8, RIDS));
    let mut bob = Options::new("bob").slots(0, 1);
    bob.transport_wide = false;
    let bob = world.join(bob);
    world.run_ms(2000);
    assert_eq!(encoding(&world, bob), 2, "no feedback means no limit");
    let media = world.browsers[bob].video(0).media;
    for _ in 0..6 {
        let remb = crate::rtp::write_remb(9, 180_000, media);
        world.browsers[bob].send_rtcp(&remb);
        world.run_ms(500);
    }
    assert!(encoding(&world, bob) < 2);
    world.run_ms(7000);
    assert_eq!(encoding(&world, bob), 2);
    assert!(world.browsers[alice].is_connected());
    world.finish();
}
