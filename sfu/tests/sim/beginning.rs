//! How soon a subscriber has its first picture, and with which keyframe.

use std::ops::Range;
use std::time::{Duration, Instant};

use sfu::{Codec, Command, SubscribeChange, View};

use crate::browser::Options;
use crate::network::Link;
use crate::world::{Who, World};

const ALONE: &[&str] = &["only"];
const RIDS: &[&str] = &["q", "h", "f"];
/// When what is kept begins, after the end of the handshake: a client has its keys in use by then.
const KEYS_TAKE: Range<Duration> = Duration::from_millis(50)..Duration::from_millis(65);

fn viewer(name: &'static str) -> Options {
    Options::new(name).slots(0, 1)
}

/// Requests that reached a publisher for any of its layers.
fn asked(world: &World, who: Who) -> usize {
    let senders = world.browsers[who].senders.iter();
    senders.map(|sender| sender.keyframe_requests.len()).sum()
}

/// When the first packet of a browser's first video came in.
fn first_packet(world: &World, who: Who) -> Instant {
    let arrived = world.browsers[who].video(0).arrived.values();
    arrived.map(|packet| packet.at).min().expect("video came")
}

fn starts(world: &World) -> u64 {
    world.metric("plenum_kept_keyframe_starts_total")
}

/// A publisher, and a first viewer who has just received the keyframe that was asked for it.
fn watched(seed: u64, codec: Codec, rids: &[&'static str]) -> (World, Who) {
    let mut world = World::new(seed);
    let alice = world.join(Options::new("alice").camera(codec, rids));
    world.run_ms(3000);
    let bob = world.join(viewer("bob"));
    world.run_ms(120);
    assert!(!world.browsers[bob].video(0).frames().is_empty());
    (world, alice)
}

#[test]
fn who_joins_just_after_a_keyframe_sees_it_at_once_and_asks_for_none() {
    for (seed, codec) in (0..).zip([Codec::Vp8, Codec::Vp9, Codec::H264]) {
        for rids in [ALONE, RIDS] {
            let (mut world, alice) = watched(seed, codec, rids);
            let (asked_before, starts_before) = (asked(&world, alice), starts(&world));
            let carol = world.join(viewer("carol"));
            world.run_ms(150);
            let secured = world.browsers[carol].secured_at.unwrap();
            let waited = first_packet(&world, carol).saturating_duration_since(secured);
            assert!(KEYS_TAKE.contains(&waited), "{codec:?}: {waited:?}");
            world.run_ms(1000);
            assert_eq!(asked(&world, alice), asked_before, "{codec:?} {rids:?}");
            assert_eq!(starts(&world), starts_before + 1);
            let video = world.browsers[carol].video(0);
            let frames = video.frames();
            assert!(frames[0].keyframe && frames.len() > 35, "{}", frames.len());
            assert_eq!(
                usize::from(frames[0].encoding) + 1,
                rids.len(),
                "the target"
            );
            assert_eq!(video.holes(), 0);
            world.finish();
        }
    }
}

#[test]
fn a_crowd_that_joins_at_once_shares_a_keyframe() {
    let mut world = World::new(10);
    let alice = world.join(Options::new("alice").camera(Codec::Vp8, ALONE));
    world.run_ms(3000);
    let crowd = ["b", "c", "d", "e", "f"].map(|name| {
        let who = world.join(viewer(name));
        world.run_ms(60);
        who
    });
    world.run_ms(500);
    for who in crowd {
        let secured = world.browsers[who].secured_at.unwrap();
        let waited = first_packet(&world, who).saturating_duration_since(secured);
        assert!(waited < KEYS_TAKE.end, "{waited:?}");
    }
    assert_eq!(asked(&world, alice), 1);
    world.finish();
}

#[test]
fn behind_a_hole_a_new_keyframe_is_asked_for() {
    let (mut world, alice) = watched(13, Codec::Vp8, ALONE);
    world.browsers[alice].senders[0].is_forgetful = true;
    world.link(alice, Link::losing(1.0), Link::GOOD);
    world.run_ms(34);
    world.link(alice, Link::GOOD, Link::GOOD);
    let (asked_before, starts_before) = (asked(&world, alice), starts(&world));
    let carol = world.join(viewer("carol"));
    world.run_ms(1000);
    assert!(asked(&world, alice) > asked_before);
    assert_eq!(starts(&world), starts_before, "the new one came as it went");
    let frames = world.browsers[carol].video(0).frames();
    assert!(frames[0].keyframe && frames.len() > 15, "{}", frames.len());
    world.finish();
}

#[test]
fn a_running_stream_never_goes_back() {
    let (mut world, alice) = watched(14, Codec::Vp8, RIDS);
    let bob = 1;
    let camera = world.camera(alice);
    for height in [90, 720, 180, 720, 0, 90] {
        let view = View {
            height,
            ..View::default()
        };
        world.view(bob, camera, view);
        world.run_ms(250);
    }
    let participant = world.browsers[bob].participant;
    for wanted in [false, true, false, true] {
        let change = SubscribeChange::Tracks(vec![(camera, wanted)]);
        world.command(Command::Subscribe {
            participant,
            change,
        });
        world.run_ms(60);
    }
    world.run_ms(1000);
    let arrived = world.browsers[bob].video(0).arrived.values();
    let frames: Vec<u32> = arrived.filter_map(|a| a.stamp).map(|s| s.frame).collect();
    assert!(frames.is_sorted(), "{frames:?}");
    world.finish();
}

#[test]
fn many_begin_over_a_lossy_reordering_network() {
    let mut starts_in_all = 0;
    for seed in 20..30 {
        let mut world = World::new(seed);
        let codec = [Codec::Vp8, Codec::Vp9, Codec::H264][seed as usize % 3];
        let rids = [ALONE, RIDS][seed as usize % 2];
        let alice = world.join(Options::new("alice").camera(codec, rids));
        let rough = Link {
            loss: 0.03,
            reorder: 0.1,
            duplicate: 0.05,
            jitter: Duration::from_millis(15),
            ..Link::GOOD
        };
        // A first packet that is lost on the way down is one no receiver knows to be missing.
        let shaky = Link { loss: 0.0, ..rough };
        world.run_ms(1000);
        world.link(alice, rough, Link::GOOD);
        let crowd = ["b", "c", "d", "e", "f", "g"].map(|name| {
            let who = world.join(viewer(name));
            world.link(who, rough, shaky);
            world.run_ms(90);
            who
        });
        world.run_ms(2000);
        for who in crowd {
            let browser = &world.browsers[who];
            let frames = browser.video(0).frames();
            assert!(frames.len() > 20, "seed {seed}: {}", frames.len());
            assert!(frames[0].keyframe || browser.early > 0, "seed {seed}");
        }
        starts_in_all += starts(&world);
        world.finish();
    }
    assert!(starts_in_all >= 10, "{starts_in_all} of 60");
}
