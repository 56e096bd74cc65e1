//! What a subscriber's feedback does to its layers: its own estimate, loss it reports, none at all.

use std::time::Duration;

use sfu::Codec;

use crate::browser::Options;
use crate::rtp::{write_receiver_report, write_remb};
use crate::world::{Who, World};

const RIDS: &[&str] = &["q", "h", "f"];
/// Loss of 16 % as reports carry it, in 1/256.
const HEAVY: u8 = 40;
/// And of 5 %.
const LIGHT: u8 = 13;

/// Someone who publishes, and a viewer without transport-wide feedback, two seconds later.
fn watch(seed: u64, viewer: Options) -> (World, Who) {
    let mut world = World::new(seed);
    world.join(Options::new("alice").microphone().camera(Codec::Vp8, RIDS));
    let viewer = world.join(Options {
        transport_wide: false,
        ..viewer
    });
    world.run_ms(2000);
    assert_eq!(encoding(&world, viewer), 2, "nothing speaks for a limit");
    (world, viewer)
}

fn encoding(world: &World, who: Who) -> u8 {
    let since = world.now - Duration::from_millis(300);
    let frames = world.browsers[who].video(0).frames_since(since);
    frames.last().expect("frames come").encoding
}

/// Lets time pass while the viewer sends a packet every half second.
fn repeat(world: &mut World, who: Who, packet: &[u8], seconds: usize) {
    for _ in 0..2 * seconds {
        world.browsers[who].send_rtcp(packet);
        world.run_ms(500);
    }
}

/// Loss as a report on one stream, without a round trip.
fn loss(media: u32, share: u8) -> Vec<u8> {
    write_receiver_report(9, media, share, (0, 0))
}

#[test]
fn a_receivers_own_estimate_chooses_the_layer() {
    let (mut world, bob) = watch(1, Options::new("bob").slots(1, 1));
    let media = world.browsers[bob].video(0).media;
    for (bitrate_bps, layer) in [
        (120_000, 0),
        (210_000, 1),
        (400_000, 2),
        (210_000, 1),
        (1, 0),
        (5_000_000, 2),
    ] {
        repeat(&mut world, bob, &write_remb(9, bitrate_bps, media), 3);
        assert_eq!(encoding(&world, bob), layer, "at {bitrate_bps} bit/s");
    }
    assert_eq!(world.browsers[bob].video(0).holes(), 0);
    world.finish();
}

#[test]
fn the_lowest_layer_comes_whole_and_in_time_under_the_least_estimate() {
    let (mut world, bob) = watch(2, Options::new("bob").slots(1, 1));
    let media = world.browsers[bob].video(0).media;
    let remb = write_remb(9, 1, media);
    repeat(&mut world, bob, &remb, 3);
    let since = world.now;
    repeat(&mut world, bob, &remb, 10);
    let (video, sound) = (
        world.browsers[bob].video(0),
        world.browsers[bob].audio(0).frames_since(since),
    );
    let frames = video.frames_since(since);
    assert!(frames.iter().all(|frame| frame.encoding == 0));
    assert!(frames.len() > 290, "{} frames in 10 s", frames.len());
    assert!(sound.len() > 490, "{} of sound in 10 s", sound.len());
    let newest = world.checker.captured(frames.last().unwrap());
    let age = world.now - newest;
    assert!(age < Duration::from_millis(150), "{age:?} old");
    world.finish();
}

#[test]
fn reported_loss_lowers_the_layer_until_it_ends() {
    let (mut world, bob) = watch(3, Options::new("bob").slots(1, 1));
    let media = world.browsers[bob].video(0).media;
    repeat(&mut world, bob, &loss(media, LIGHT), 5);
    assert_eq!(encoding(&world, bob), 2, "a little loss is no congestion");
    repeat(&mut world, bob, &loss(media, HEAVY), 5);
    assert_eq!(encoding(&world, bob), 0);
    let since = world.now;
    repeat(&mut world, bob, &loss(media, HEAVY), 5);
    let frames = world.browsers[bob].video(0).frames_since(since);
    assert!(frames.len() > 140, "{} frames in 5 s", frames.len());
    let mut layers = Vec::new();
    for _ in 0..15 {
        repeat(&mut world, bob, &loss(media, 0), 1);
        layers.push(encoding(&world, bob));
    }
    assert!(layers.is_sorted(), "{layers:?}");
    assert_eq!((layers[0], layers[14]), (0, 2), "{layers:?}");
    assert_eq!(world.browsers[bob].video(0).holes(), 0);
    world.finish();
}

#[test]
fn loss_of_sound_is_loss_of_a_part_of_what_is_sent() {
    let (mut world, bob) = watch(4, Options::new("bob").slots(1, 1));
    let media = world.browsers[bob].audio(0).media;
    world.browsers[bob].send_rtcp(&loss(media, HEAVY));
    world.run_ms(1000);
    // 15 % less than all that was sent leaves room for the middle layer.
    assert_eq!(encoding(&world, bob), 1);
    world.finish();
}

#[test]
fn who_sends_no_feedback_is_never_starved() {
    for (seed, transport_wide) in [(5, false), (6, true)] {
        let mut world = World::new(seed);
        world.join(Options::new("alice").microphone().camera(Codec::Vp8, RIDS));
        let bob = world.join(Options {
            transport_wide,
            feedback: false,
            reports: false,
            nacks: false,
            ..Options::new("bob").slots(1, 1)
        });
        world.run_ms(60_000);
        let since = world.now;
        world.run_ms(5000);
        let browser = &world.browsers[bob];
        let frames = browser.video(0).frames_since(since);
        assert!(frames.iter().all(|frame| frame.encoding == 2));
        assert!(frames.len() > 140, "{} frames in 5 s", frames.len());
        let sound = browser.audio(0).frames_since(since);
        assert!(sound.len() > 240, "{} of sound in 5 s", sound.len());
        assert_eq!(browser.video(0).holes(), 0);
        world.finish();
    }
}
