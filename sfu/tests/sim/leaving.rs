//! Leaving halfway, losing the network, moving to another, restarting ICE, running out of consent.

use std::time::Duration;

use sfu::{Codec, Command, Event, Kind, TransportState};

use crate::browser::Options;
use crate::network::Link;
use crate::world::{Who, World};

const RIDS: &[&str] = &["q", "h", "f"];

fn pair(seed: u64) -> (World, Who, Who) {
    let mut world = World::new(seed);
    let alice = world.join(Options::new("alice").microphone().camera(Codec::Vp8, RIDS));
    let bob = world.join(Options::new("bob").slots(1, 1));
    world.run_ms(1500);
    (world, alice, bob)
}

fn frames_in(world: &mut World, who: Who, ms: u64) -> usize {
    let since = world.now;
    world.run_ms(ms);
    world.browsers[who].video(0).frames_since(since).len()
}

fn states(world: &World, who: Who) -> Vec<TransportState> {
    let asked = world.browsers[who].participant;
    let all = world.events.iter().filter_map(|(_, event)| match event {
        Event::TransportChanged { participant, state } if *participant == asked => Some(*state),
        _ => None,
    });
    all.collect()
}

#[test]
fn who_leaves_halfway_disturbs_nobody() {
    for seed in 0..6 {
        let mut world = World::new(seed);
        let all = ["a", "b", "c", "d"].map(|name| {
            let options = Options::new(name).microphone().camera(Codec::Vp8, RIDS);
            world.join(options.slots(3, 3))
        });
        // One leaves during its handshake, one while it sends.
        world.run_ms(15 + 10 * seed);
        world.leave(all[3]);
        world.run_ms(1500);
        let path = world.browsers[all[2]].path.unwrap();
        let tracks = world.tracks(all[2], Kind::Video);
        world.leave(all[2]);
        let sent = world.checker.sent_to(path);
        assert!(frames_in(&mut world, all[0], 1500) > 35);
        assert_eq!(
            world.checker.sent_to(path),
            sent,
            "nothing goes to who left"
        );
        let ended = world.events.iter().any(|(_, event)| {
            matches!(event, Event::TrackUnpublished { track, .. } if tracks.contains(track))
        });
        assert!(ended);
        assert_eq!(world.metric("plenum_peers"), 2);
        world.finish();
    }
}

#[test]
fn a_slot_goes_from_one_publisher_to_the_next() {
    let (mut world, alice, bob) = pair(10);
    world.leave(alice);
    world.run_ms(300);
    for codec in [Codec::H264, Codec::Vp8, Codec::Vp9, Codec::Vp8] {
        let carol = world.join(Options::new("carol").microphone().camera(codec, RIDS));
        assert!(frames_in(&mut world, bob, 2000) > 40, "{codec:?}");
        let source = world.browsers[bob].video(0).frames().last().unwrap().source;
        assert_eq!(usize::from(source >> 8), carol);
        world.leave(carol);
        world.run_ms(100);
    }
    assert_eq!(world.browsers[bob].video(0).holes(), 0);
    world.finish();
}

#[test]
fn an_ice_restart_interrupts_nothing() {
    let (mut world, alice, bob) = pair(11);
    for who in [alice, bob, alice, bob] {
        world.browsers[who].restart_ice();
        world.offer(who);
        let frames = frames_in(&mut world, bob, 1000);
        assert!(frames >= 29, "{frames}");
    }
    assert_eq!(world.browsers[bob].video(0).holes(), 0);
    assert_eq!(states(&world, bob).last(), Some(&TransportState::Connected));
    world.finish();
}

#[test]
fn two_ice_restarts_in_a_row_and_one_without_an_offer() {
    let (mut world, _, bob) = pair(12);
    let before = world.browsers[bob].answer.clone();
    for _ in 0..2 {
        world.browsers[bob].restart_ice();
        world.offer(bob);
    }
    assert_ne!(before.ufrag, world.browsers[bob].answer.ufrag);
    assert!(frames_in(&mut world, bob, 1000) >= 29);
    // As WHIP's PATCH does it.
    world.browsers[bob].restart_ice();
    let (ufrag, pwd) = world.browsers[bob].credentials();
    let participant = world.browsers[bob].participant;
    world.command(Command::RestartIce {
        participant,
        ufrag,
        pwd,
    });
    let fragment = world
        .events
        .iter()
        .rev()
        .find_map(|(_, event)| match event {
            Event::IceRestarted { fragment, .. } => fragment.clone(),
            _ => None,
        });
    let now = world.now;
    world.browsers[bob].take_fragment(now, &fragment.unwrap());
    world.run_ms(40_000);
    assert!(
        frames_in(&mut world, bob, 1000) >= 29,
        "new credentials carry consent"
    );
    world.finish();
}

#[test]
fn media_follows_a_nominated_move_to_another_address() {
    let (mut world, alice, bob) = pair(13);
    for (round, who) in [bob, alice, bob, alice, bob].into_iter().enumerate() {
        let old = world.browsers[who].path.unwrap();
        let now = world.now;
        world.browsers[who].move_to(now, 6000 + round as u16);
        let frames = frames_in(&mut world, bob, 1000);
        assert!(frames >= 26, "round {round}: {frames}");
        let sent = world.checker.sent_to(old);
        world.run_ms(500);
        assert_eq!(world.checker.sent_to(old), sent, "round {round}");
    }
    world.finish();
}

#[test]
fn without_consent_nothing_more_is_sent() {
    let (mut world, _, bob) = pair(14);
    let path = world.browsers[bob].path.unwrap();
    world.link(bob, Link::losing(1.0), Link::GOOD);
    world.run_ms(7000);
    assert_eq!(
        states(&world, bob).last(),
        Some(&TransportState::Disconnected)
    );
    // The checker fails the scenario if anything is sent after 30 s.
    world.run_ms(27_000);
    assert_eq!(states(&world, bob).last(), Some(&TransportState::Failed));
    let sent = world.checker.sent_to(path);
    world.run_ms(3000);
    assert_eq!(world.checker.sent_to(path), sent);
    world.finish();
}

#[test]
fn a_short_silence_is_forgiven() {
    let (mut world, _, bob) = pair(15);
    world.link(bob, Link::losing(1.0), Link::losing(1.0));
    world.run_ms(10_000);
    world.link(bob, Link::GOOD, Link::GOOD);
    world.run_ms(3000);
    assert_eq!(states(&world, bob).last(), Some(&TransportState::Connected));
    assert!(frames_in(&mut world, bob, 2000) > 50);
    world.finish();
}

#[test]
fn unpublishing_ends_a_track_for_everyone() {
    let (mut world, alice, bob) = pair(16);
    let participant = world.browsers[alice].participant;
    let track = world.camera(alice);
    world.command(Command::Unpublish { participant, track });
    world.run_ms(100);
    assert_eq!(frames_in(&mut world, bob, 1000), 0);
    let sound = world.browsers[bob].audio(0);
    let since = world.now - Duration::from_millis(1000);
    assert!(sound.frames_since(since).len() > 45);
    world.finish();
}

/// Packets dropped because their track has ended.
fn ended(world: &World) -> u64 {
    world.metric_where("plenum_dropped_total", ("reason", "ended_source"))
}

#[test]
fn what_is_sent_of_a_track_that_was_ended_goes_into_no_other() {
    for names_mid in [true, false] {
        let mut world = World::new(18);
        let cameras = Options::new("alice").camera(Codec::Vp8, &["only"]);
        let alice = world.join(cameras.camera(Codec::Vp8, &["only"]));
        let bob = world.join(Options::new("bob").slots(0, 2));
        world.run_ms(1500);
        for sender in &mut world.browsers[alice].senders {
            sender.names_mid = names_mid;
        }
        let participant = world.browsers[alice].participant;
        let track = world.tracks(alice, Kind::Video)[1];
        world.command(Command::Unpublish { participant, track });
        world.run_ms(100);
        // Its sender goes on as if nothing was.
        assert_eq!(world.metric("plenum_dropped_total"), ended(&world));
        assert!(frames_in(&mut world, bob, 1000) > 20);
        assert!(ended(&world) > 20);
        world.finish();
    }
}

#[test]
fn rooms_come_and_go_without_a_trace() {
    let mut world = World::new(17);
    for _ in 0..20 {
        let who = [0, 1].map(|_| {
            let options = Options::new("x").microphone().camera(Codec::Vp8, RIDS);
            world.join(options.slots(1, 1).data())
        });
        world.run_ms(400);
        for who in who {
            world.leave(who);
        }
        world.run_ms(100);
    }
    for gauge in ["plenum_peers", "plenum_tracks", "plenum_subscriptions"] {
        assert_eq!(world.metric(gauge), 0, "{gauge}");
    }
    world.finish();
}
