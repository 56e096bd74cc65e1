//! Loss, reordering, duplicates, jitter, narrow links.

use std::time::Duration;

use sfu::Codec;

use crate::browser::Options;
use crate::network::Link;
use crate::world::{Who, World};

const RIDS: &[&str] = &["q", "h", "f"];

fn pair(seed: u64, codec: Codec) -> (World, Who, Who) {
    let mut world = World::new(seed);
    let alice = world.join(Options::new("alice").microphone().camera(codec, RIDS));
    let bob = world.join(Options::new("bob").slots(1, 1));
    world.run_ms(1500);
    (world, alice, bob)
}

#[test]
fn what_is_lost_on_the_way_down_is_sent_again() {
    for seed in 0..5 {
        let (mut world, _, bob) = pair(seed, Codec::Vp8);
        world.link(bob, Link::GOOD, Link::losing(0.08));
        world.run_ms(3000);
        world.link(bob, Link::GOOD, Link::GOOD);
        world.run_ms(1000);
        let video = world.browsers[bob].video(0);
        assert!(video.recovered > 10, "seed {seed}: {}", video.recovered);
        assert_eq!(video.holes(), 0, "seed {seed}");
        assert!(world.checker.retransmissions >= video.recovered);
        world.finish();
    }
}

#[test]
fn what_is_lost_on_the_way_up_is_asked_for() {
    for seed in 10..15 {
        let (mut world, alice, bob) = pair(seed, Codec::Vp8);
        world.link(alice, Link::losing(0.08), Link::GOOD);
        world.run_ms(3000);
        world.link(alice, Link::GOOD, Link::GOOD);
        world.run_ms(1000);
        let asked: usize = world.browsers[alice].senders.iter().map(|s| s.nacked).sum();
        assert!(asked > 20, "seed {seed}: {asked}");
        let video = world.browsers[bob].video(0);
        assert_eq!(video.holes(), 0, "seed {seed}");
        world.finish();
    }
}

#[test]
fn both_hops_may_lose_at_once() {
    for (seed, codec) in (20..).zip([Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Vp8]) {
        let (mut world, alice, bob) = pair(seed, codec);
        world.link(alice, Link::losing(0.1), Link::losing(0.1));
        world.link(bob, Link::losing(0.1), Link::losing(0.1));
        world.run_ms(4000);
        world.link(alice, Link::GOOD, Link::GOOD);
        world.link(bob, Link::GOOD, Link::GOOD);
        let healed = world.now;
        world.run_ms(1500);
        let recent = world.browsers[bob].video(0).frames_since(healed);
        assert!(recent.len() > 35, "seed {seed}: {}", recent.len());
        world.finish();
    }
}

#[test]
fn reordering_changes_no_number() {
    for seed in 30..35 {
        let (mut world, alice, bob) = pair(seed, Codec::Vp8);
        world.link(alice, Link::reordering(0.1), Link::GOOD);
        world.run_ms(3000);
        world.link(alice, Link::GOOD, Link::GOOD);
        world.run_ms(100);
        let video = world.browsers[bob].video(0);
        assert_eq!(video.holes(), 0, "seed {seed}");
        assert!(
            video.frames().len() > 100,
            "seed {seed}: {}",
            video.frames().len()
        );
        world.finish();
    }
}

#[test]
fn duplicates_are_forwarded_once() {
    for seed in 40..44 {
        let (mut world, alice, bob) = pair(seed, Codec::Vp8);
        world.link(alice, Link::duplicating(0.3), Link::GOOD);
        world.run_ms(2000);
        assert_eq!(world.browsers[bob].video(0).holes(), 0);
        assert_eq!(world.browsers[bob].unreadable, 0, "seed {seed}");
        world.finish();
    }
}

#[test]
fn jitter_alone_harms_nothing() {
    let (mut world, alice, bob) = pair(50, Codec::Vp8);
    let shaky = Link {
        jitter: Duration::from_millis(40),
        ..Link::GOOD
    };
    world.link(alice, shaky, shaky);
    world.link(bob, shaky, shaky);
    world.run_ms(3000);
    let video = world.browsers[bob].video(0);
    assert!(video.frames().len() > 110 && video.holes() == 0);
    world.finish();
}

#[test]
fn a_narrow_link_gets_a_lower_layer() {
    let (mut world, _, bob) = pair(60, Codec::Vp8);
    let narrow = Link {
        rate_bps: Some(170_000),
        ..Link::GOOD
    };
    world.link(bob, Link::GOOD, narrow);
    world.run_ms(8000);
    let since = world.now - Duration::from_millis(2000);
    let frames = world.browsers[bob].video(0).frames_since(since);
    assert!(frames.len() > 20, "{} frames", frames.len());
    let low = frames.iter().filter(|frame| frame.encoding < 2).count();
    assert!(low * 2 > frames.len(), "{low} of {}", frames.len());
    world.finish();
}
