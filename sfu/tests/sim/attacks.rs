//! What strangers and broken peers send changes nothing for anybody.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sfu::{Codec, TransportState};

use crate::browser::Options;
use crate::stun::Check;
use crate::world::{Who, World, stranger};

const RIDS: &[&str] = &["q", "h", "f"];

fn pair(seed: u64) -> (World, Who, Who) {
    let mut world = World::new(seed);
    let alice = world.join(Options::new("alice").microphone().camera(Codec::Vp8, RIDS));
    let bob = world.join(Options::new("bob").slots(1, 1));
    world.run_ms(1500);
    (world, alice, bob)
}

/// The trace of a room while `disturb` is called every 10 ms.
fn trace_with(mut disturb: impl FnMut(&mut World, u64)) -> u64 {
    let (mut world, _, bob) = pair(1);
    for round in 0..100 {
        disturb(&mut world, round);
        world.run_ms(10);
    }
    assert!(world.browsers[bob].video(0).frames().len() > 60);
    world.finish()
}

#[test]
fn strangers_change_nothing_and_get_nothing() {
    let undisturbed = trace_with(|_, _| {});
    let mut random = StdRng::seed_from_u64(1);
    let disturbed = trace_with(|world, round| {
        let first: &[u8] = &[0, 1, 20, 22, 63, 64, 100, 128, 144, 191, 192, 255];
        for first in first {
            let length = random.random_range(1..1400usize);
            let mut bytes: Vec<u8> = (0..length).map(|_| random.random()).collect();
            bytes[0] = *first;
            world.inject(stranger(round as u16), bytes);
        }
        // Whole packets of a real publisher, from elsewhere: the next one it will send.
        let check = Check {
            transaction: [9; 12],
            username: &format!("{}:abcd", world.browsers[0].answer.ufrag),
            password: "guessed-guessed-guessed-",
            nominates: true,
        };
        world.inject(stranger(round as u16), check.write());
    });
    assert_eq!(
        undisturbed, disturbed,
        "the shard's output is the same byte for byte"
    );
}

#[test]
fn replays_and_bad_tags_from_a_proven_address_change_nothing() {
    let undisturbed = trace_with(|_, _| {});
    let mut captured: Vec<Vec<u8>> = Vec::new();
    let disturbed = trace_with(|world, _| {
        let path = world.browsers[0].path.unwrap();
        captured.append(&mut world.captured);
        for bytes in captured.iter().rev().take(5) {
            world.inject(path, bytes.clone());
            let mut broken = bytes.clone();
            let at = broken.len() - 1;
            broken[at] ^= 1;
            world.inject(path, broken);
            let mut later = bytes.clone();
            later[2] ^= 0x10;
            world.inject(path, later);
            world.inject(stranger(1), bytes.clone());
            world.inject(path, bytes[..bytes.len() / 2].to_vec());
        }
    });
    assert!(captured.len() > 100);
    assert_eq!(undisturbed, disturbed);
}

#[test]
fn a_wrong_certificate_gets_no_keys() {
    for setup in ["actpass", "passive"] {
        let mut world = World::new(3);
        let alice = world.join(Options::new("alice").microphone().camera(Codec::Vp8, RIDS));
        let mut mallory = Options::new("mallory").microphone().slots(1, 1);
        mallory.lies_about_certificate = true;
        mallory.setup = setup;
        let mallory = world.join(mallory);
        let bob = world.join(Options::new("bob").slots(1, 1));
        world.run_ms(3000);
        assert_eq!(
            world.checker.media_to(world.browsers[mallory].address.ip()),
            0
        );
        assert!(world.browsers[bob].video(0).frames().len() > 50);
        assert!(world.browsers[alice].is_connected());
        let participant = world.browsers[mallory].participant;
        let failed = world.events.iter().any(|(_, event)| {
            *event
                == sfu::Event::TransportChanged {
                    participant,
                    state: TransportState::Failed,
                }
        });
        assert!(failed, "{setup}");
        world.finish();
    }
}

#[test]
fn a_check_with_a_wrong_password_proves_no_address() {
    let (mut world, _, _) = pair(4);
    let (theirs, ours) = (
        world.browsers[1].answer.clone(),
        world.browsers[1].credentials(),
    );
    for password in ["", "x", &ours.1, &theirs.ufrag] {
        let check = Check {
            transaction: [1; 12],
            username: &format!("{}:{}", theirs.ufrag, ours.0),
            password,
            nominates: true,
        };
        world.inject(stranger(7), check.write());
    }
    world.run_ms(500);
    assert_eq!(world.checker.sent_to(stranger(7)), 0);
    world.finish();
}

#[test]
fn hostile_rtcp_from_a_participant_stays_bounded() {
    let (mut world, _, bob) = pair(5);
    let video = world.browsers[bob].video(0).media;
    let mut random = StdRng::seed_from_u64(5);
    let sent = world.checker.retransmissions;
    for _ in 0..100 {
        // Everything ever sent is asked for, over and over; garbage in between.
        for base in (0..u16::MAX).step_by(700) {
            let lost: Vec<u16> = (0..300).map(|n| base.wrapping_add(n)).collect();
            let packet = crate::rtp::write_nack(9, video, &lost);
            world.browsers[bob].send_rtcp(&packet);
        }
        let length = 8 + 4 * random.random_range(0..40u16);
        let mut bytes: Vec<u8> = (0..length).map(|_| random.random()).collect();
        bytes[0] = 0x80 | (bytes[0] & 31);
        bytes[1] = 200 + bytes[1] % 8;
        bytes[2..4].copy_from_slice(&(length / 4 - 1).to_be_bytes());
        world.browsers[bob].send_rtcp(&bytes);
        world.run_ms(10);
    }
    let resent = world.checker.retransmissions - sent;
    let media = world.checker.media_packets;
    assert!(resent < media, "{resent} retransmissions, {media} packets");
    world.finish();
}
