//! Joining, publishing, subscribing.

use std::time::Duration;

use bytes::Bytes;
use sfu::{Codec, Command, DataChannel};

use crate::browser::Options;
use crate::channels::{LOSSY, RELIABLE};
use crate::network::Link;
use crate::offer::Role;
use crate::world::World;

const RIDS: &[&str] = &["q", "h", "f"];

#[test]
fn what_one_publishes_the_other_receives_decrypted() {
    let mut world = World::new(1);
    let alice = world.join(Options::new("alice").microphone().camera(Codec::Vp8, RIDS));
    let bob = world.join(Options::new("bob").slots(1, 1));
    world.run_ms(3000);
    let bob = &world.browsers[bob];
    assert!(bob.is_connected());
    assert!(
        bob.video(0).frames().len() > 60,
        "{}",
        bob.video(0).frames().len()
    );
    assert!(
        bob.audio(0).frames().len() > 120,
        "{}",
        bob.audio(0).frames().len()
    );
    assert_eq!(bob.video(0).holes(), 0);
    assert_eq!(
        bob.video(0).frames().last().unwrap().encoding,
        2,
        "the top layer"
    );
    let alice = &world.browsers[alice];
    assert!(
        alice.transport_feedback > 10,
        "{}",
        alice.transport_feedback
    );
    assert!(alice.receiver_reports > 0);
    world.finish();
}

#[test]
fn every_codec_arrives_with_and_without_simulcast() {
    for (seed, codec) in (0..).zip([Codec::Vp8, Codec::Vp9, Codec::H264]) {
        for rids in [RIDS, &["only"]] {
            let mut world = World::new(seed);
            world.join(Options::new("alice").camera(codec, rids));
            let bob = world.join(Options::new("bob").slots(0, 1));
            world.run_ms(2500);
            let video = world.browsers[bob].video(0);
            assert!(
                video.frames().len() > 50,
                "{codec:?} {rids:?}: {}",
                video.frames().len()
            );
            assert_eq!(video.holes(), 0);
            let last = video.frames().last().copied().unwrap();
            assert_eq!(usize::from(last.encoding) + 1, rids.len(), "{codec:?}");
            world.finish();
        }
    }
}

#[test]
fn a_late_joiner_gets_a_picture_at_once() {
    let mut world = World::new(2);
    let alice = world.join(Options::new("alice").camera(Codec::Vp8, RIDS));
    world.run_ms(3000);
    for sender in &mut world.browsers[alice].senders {
        assert!(sender.keyframe_requests.is_empty(), "nobody watches");
    }
    let joined = world.now;
    let bob = world.join(Options::new("bob").slots(0, 1));
    world.run_ms(700);
    let first = world.browsers[bob].video(0).frames()[0];
    assert!(first.keyframe);
    let asked = &world.browsers[alice].senders[0].keyframe_requests;
    assert!(!asked.is_empty() && asked[0] - joined < Duration::from_millis(300));
    world.finish();
}

#[test]
fn everyone_sees_everyone() {
    let mut world = World::new(3);
    let both = |name| {
        let options = Options::new(name).microphone().camera(Codec::Vp8, RIDS);
        options.slots(4, 4)
    };
    let everyone = ["a", "b", "c", "d", "e"].map(|name| world.join(both(name)));
    world.run_ms(3000);
    for who in everyone {
        for place in 0..4 {
            let browser = &world.browsers[who];
            let (audio, video) = (browser.audio(place), browser.video(place));
            assert!(video.frames().len() > 40 && audio.frames().len() > 80);
            let owner = |frames: &[crate::media::Stamp]| frames.last().unwrap().source >> 8;
            assert_eq!(
                owner(&video.frames()),
                owner(&audio.frames()),
                "lip sync pairs"
            );
        }
    }
    world.finish();
}

/// Three people and a chat over links that lose, shake, reorder and repeat from the first check on.
fn rough_meeting(seed: u64) -> u64 {
    let mut world = World::new(seed);
    let lossy = Link {
        loss: 0.1,
        jitter: Duration::from_millis(20),
        reorder: 0.05,
        duplicate: 0.05,
        ..Link::GOOD
    };
    for name in ["a", "b", "c"] {
        let options = Options::new(name).microphone().camera(Codec::Vp8, RIDS);
        let who = world.join(options.slots(2, 2).data());
        world.link(who, lossy, lossy);
    }
    world.run_ms(4000);
    for browser in &mut world.browsers {
        let channels = browser.channels.as_mut().filter(|data| data.is_open());
        let channels = channels.unwrap_or_else(|| panic!("seed {seed}: no channels"));
        channels.send(RELIABLE, &[7; 5000]);
        channels.send(LOSSY, b"hi");
        browser.send_data(world.now);
    }
    for channel in [DataChannel::Reliable, DataChannel::Lossy] {
        let message = Bytes::from_static(&[9; 3000]);
        world.command(Command::SendData {
            room: world.room,
            to: None,
            except: None,
            channel,
            message,
        });
    }
    world.run_ms(2000);
    for browser in &world.browsers {
        let media: usize = browser.receivers.values().map(|r| r.frames().len()).sum();
        assert!(media > 100, "seed {seed}: {media} frames");
    }
    world.finish()
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 77..81 {
        assert_eq!(rough_meeting(seed), rough_meeting(seed), "seed {seed}");
    }
    assert_ne!(rough_meeting(77), rough_meeting(78));
}

#[test]
fn a_second_offer_publishes_without_disturbing_the_first() {
    let mut world = World::new(4);
    let alice = world.join(Options::new("alice").microphone().slots(1, 1));
    let bob = world.join(Options::new("bob").microphone().slots(2, 2));
    world.run_ms(1000);
    let now = world.now;
    let role = Role::Video {
        codec: Codec::Vp8,
        rids: RIDS.to_vec(),
    };
    world.browsers[alice].add_line(now, role);
    world.offer(alice);
    world.run_ms(2000);
    assert!(world.browsers[bob].video(0).frames().len() > 40);
    let sound = world.browsers[bob].audio(0);
    assert!(sound.holes() == 0 && sound.frames().len() > 120);
    world.finish();
}

#[test]
fn the_server_takes_either_dtls_role_and_cut_up_hellos() {
    let modes = [
        ("passive", None),
        ("active", None),
        ("actpass", Some(220)),
        ("passive", Some(220)),
    ];
    for (setup, bytes_max) in modes {
        let mut world = World::new(5);
        let mut alice = Options::new("alice").camera(Codec::Vp8, &["only"]);
        alice.setup = setup;
        alice.dtls_bytes_max = bytes_max;
        world.join(alice);
        let bob = world.join(Options::new("bob").slots(0, 1));
        world.run_ms(2000);
        let count = world.browsers[bob].video(0).frames().len();
        assert!(count > 30, "{setup} {bytes_max:?}: {count}");
        world.finish();
    }
}

#[test]
fn the_handshake_survives_loss() {
    for seed in 0..6 {
        let mut world = World::new(seed);
        let alice = world.join(Options::new("alice").camera(Codec::Vp8, &["only"]));
        let bob = world.join(Options::new("bob").slots(0, 1));
        for who in [alice, bob] {
            world.link(who, Link::losing(0.2), Link::losing(0.2));
        }
        world.run_ms(6000);
        for who in [alice, bob] {
            assert!(world.browsers[who].is_connected(), "seed {seed}");
        }
        world.finish();
    }
}

#[test]
fn media_flows_over_ice_tcp() {
    let mut world = World::new(6);
    for name in ["alice", "bob"] {
        let mut options = Options::new(name)
            .microphone()
            .camera(Codec::Vp8, RIDS)
            .slots(1, 1);
        options.uses_tcp = true;
        world.join(options);
    }
    world.run_ms(2500);
    for who in 0..2 {
        let browser = &world.browsers[who];
        assert!(browser.video(0).frames().len() > 40 && browser.audio(0).frames().len() > 80);
        assert_eq!(browser.video(0).holes(), 0);
    }
    // One connection breaks: nothing more may be sent on it.
    let path = world.browsers[1].path.unwrap();
    world.browsers[1].is_gone = true;
    world.shard.handle_closed(world.now, path);
    let sent = world.checker.sent_to(path);
    world.run_ms(1000);
    assert_eq!(world.checker.sent_to(path), sent);
    world.finish();
}

#[test]
fn a_nomination_after_the_handshake_starts_the_picture() {
    let mut world = World::new(12);
    world.join(Options::new("alice").camera(Codec::Vp8, RIDS));
    world.run_ms(3000);
    let joined = world.now;
    let mut bob = Options::new("bob").slots(0, 1);
    bob.nominates_late = true;
    let bob = world.join(bob);
    world.run_ms(1000);
    let arrived = world.browsers[bob].video(0).arrived.values();
    let first = arrived.map(|packet| packet.at).min().unwrap();
    // The second check goes out 50 ms after the first; the publisher's next frame is a keyframe.
    let waited = first - joined;
    assert!(waited < Duration::from_millis(150), "{waited:?}");
    world.finish();
}
