//! Lip sync: what was captured together has one time in the sender reports a subscriber gets.

use std::time::{Duration, Instant};

use sfu::{Codec, Command, Kind, SubscribeChange, View, Wants};

use crate::browser::Options;
use crate::network::Link;
use crate::receiver::Receiver;
use crate::world::{NTP_AT_START, Who, World};

const RIDS: &[&str] = &["q", "h", "f"];
/// How long after their capture the sound and the picture of a publisher leave it.
const SOUND_LATENCY: u64 = 15;
const PICTURE_LATENCY: u64 = 90;
/// Timestamps of the simulated browsers count whole milliseconds.
const TOLERANCE_MS: f64 = 3.0;

/// A publisher that encodes sound faster than pictures, on a link that shakes.
fn publish(world: &mut World, name: &'static str) -> Who {
    let who = world.join(Options::new(name).microphone().camera(Codec::Vp8, RIDS));
    set_latencies(world, who, (SOUND_LATENCY, PICTURE_LATENCY));
    let shaky = Link {
        jitter: Duration::from_millis(20),
        ..Link::GOOD
    };
    world.link(who, shaky, Link::GOOD);
    who
}

fn set_latencies(world: &mut World, who: Who, (sound, picture): (u64, u64)) {
    for sender in &mut world.browsers[who].senders {
        let ms = if sender.is_audio() { sound } else { picture };
        sender.latency = Duration::from_millis(ms);
    }
}

/// One packet that came in, as the receiver times it: by the latest sender report it has.
struct Timed {
    captured: Instant,
    /// By how many milliseconds what is taken for the server's time of capture is after the true one.
    late: f64,
    report_at: Instant,
}

fn timed(world: &World, receiver: &Receiver, since: Instant) -> Vec<Timed> {
    let rate = if receiver.is_audio {
        48_000.0
    } else {
        90_000.0
    };
    let arrived = receiver.arrived.values().filter(|a| a.at >= since);
    let late = arrived.filter_map(|arrived| {
        let stamp = arrived.stamp?;
        let mut known = receiver.sender_reports.iter().rev();
        let (report_at, ntp, rtp) = known.find(|(at, ..)| *at <= arrived.at)?;
        let ticks = arrived.timestamp.wrapping_sub(*rtp).cast_signed();
        let reported = ntp.wrapping_sub(NTP_AT_START).cast_signed() as f64 / 2f64.powi(32);
        let captured = world.checker.captured(&stamp);
        let true_time = (captured - world.start).as_secs_f64();
        let late = reported + f64::from(ticks) / rate - true_time;
        Some(Timed {
            captured,
            late: late * 1000.0,
            report_at: *report_at,
        })
    });
    let late: Vec<Timed> = late.collect();
    assert!(late.len() > 10, "{} packets with a time", late.len());
    late
}

/// How late sound and pictures of the first pair of slots are taken to be, at least and at most.
fn ranges(world: &World, who: Who, since: Instant) -> [(f64, f64); 2] {
    let browser = &world.browsers[who];
    [browser.audio(0), browser.video(0)].map(|receiver| {
        let late = timed(world, receiver, since).into_iter().map(|it| it.late);
        let none = (f64::INFINITY, f64::NEG_INFINITY);
        late.fold(none, |(low, high), late| (low.min(late), high.max(late)))
    })
}

/// The most by which sound and pictures that were captured together are put apart, by reports that came
/// together.
fn skew(world: &World, who: Who, since: Instant) -> f64 {
    let browser = &world.browsers[who];
    let sound = timed(world, browser.audio(0), since);
    let pictures = timed(world, browser.video(0), since);
    let is_near = |a: Instant, b: Instant| a.max(b) - a.min(b) < Duration::from_millis(15);
    let apart = pictures.iter().filter_map(|picture| {
        let other = sound.iter().find(|sound| {
            is_near(sound.captured, picture.captured) && is_near(sound.report_at, picture.report_at)
        })?;
        Some((picture.late - other.late).abs())
    });
    apart.fold(f64::NAN, f64::max)
}

#[test]
fn sound_and_picture_of_a_moment_have_one_time() {
    let mut world = World::new(1);
    publish(&mut world, "alice");
    let bob = world.join(Options::new("bob").slots(1, 1));
    world.run_ms(3000);
    let since = world.now;
    world.run_ms(5000);
    let skew = skew(&world, bob, since);
    assert!(skew <= TOLERANCE_MS, "{skew} ms apart");
    // It is the server's time, but for the way the reports took.
    for (lowest, highest) in ranges(&world, bob, since) {
        assert!((0.0..40.0).contains(&lowest) && highest < 40.0);
    }
    world.finish();
}

#[test]
fn a_switch_of_layers_keeps_them_together() {
    let mut world = World::new(2);
    let alice = publish(&mut world, "alice");
    let bob = world.join(Options::new("bob").slots(1, 1));
    world.run_ms(3000);
    let camera = world.camera(alice);
    for (height, layer) in [(180, 0), (360, 1), (720, 2), (180, 0)] {
        let since = world.now;
        let view = View {
            height,
            ..View::default()
        };
        world.view(bob, camera, view);
        world.run_ms(2500);
        let shown = world.browsers[bob].video(0).frames_since(since);
        assert_eq!(shown.last().unwrap().encoding, layer);
        // From the first packet of the new layer on.
        let skew = skew(&world, bob, since);
        assert!(skew <= TOLERANCE_MS, "{skew} ms apart at {height}");
    }
    world.finish();
}

#[test]
fn a_slot_goes_over_to_a_participant_with_another_clock() {
    let mut world = World::new(3);
    let people = [publish(&mut world, "a"), publish(&mut world, "b")];
    let viewer = world.join(Options::new("v").slots(1, 1).wants(Wants::Nothing));
    let participant = world.browsers[viewer].participant;
    world.run_ms(1000);
    let tracks = people.map(|who| [world.camera(who), world.tracks(who, Kind::Audio)[0]]);
    for shown in [0, 1, 0, 1] {
        let choice = |index: usize| tracks[index].map(|track| (track, index == shown));
        world.command(Command::Subscribe {
            participant,
            change: SubscribeChange::Tracks([choice(1 - shown), choice(shown)].concat()),
        });
        world.run_ms(1500);
        let since = world.now;
        world.run_ms(1500);
        let frames = world.browsers[viewer].video(0).frames_since(since);
        assert_eq!(
            usize::from(frames.last().unwrap().source >> 8),
            people[shown]
        );
        let skew = skew(&world, viewer, since);
        assert!(skew <= TOLERANCE_MS, "{skew} ms apart");
    }
    world.finish();
}

#[test]
fn before_the_first_report_arrival_is_taken_for_capture() {
    let mut world = World::new(4);
    let alice = world.join(Options::new("alice").microphone().camera(Codec::Vp8, RIDS));
    world.browsers[alice].options.reports = false;
    set_latencies(&mut world, alice, (15, 40));
    let bob = world.join(Options::new("bob").slots(1, 1));
    world.run_ms(3000);
    let since = world.now;
    world.run_ms(3000);
    let way = 10.0;
    let guessed = ranges(&world, bob, since);
    for ((lowest, highest), latency) in guessed.into_iter().zip([15.0, 40.0]) {
        let expected = way + latency;
        assert!(lowest > expected - TOLERANCE_MS && highest < expected + TOLERANCE_MS);
    }
    // The first reports set right what was wrong by the latencies, and no more.
    world.browsers[alice].options.reports = true;
    world.run_ms(2000);
    let since = world.now;
    world.run_ms(3000);
    let known = ranges(&world, bob, since);
    for (lowest, highest) in known {
        assert!(lowest > way - TOLERANCE_MS && highest < way + TOLERANCE_MS);
    }
    world.finish();
}

#[test]
fn reports_that_come_late_move_the_time_a_little() {
    let mut world = World::new(5);
    let alice = world.join(Options::new("alice").microphone().camera(Codec::Vp8, RIDS));
    let bob = world.join(Options::new("bob").slots(1, 1));
    world.run_ms(4000);
    let before = world.now;
    world.run_ms(1000);
    let [(usual, _), _] = ranges(&world, bob, before);
    // The way to the server takes half a second longer for a second: two rounds of reports.
    let slow = Link {
        delay: Duration::from_millis(510),
        ..Link::GOOD
    };
    world.link(alice, slow, Link::GOOD);
    world.run_ms(1000);
    world.link(alice, Link::GOOD, Link::GOOD);
    world.run_ms(3000);
    let [sound, picture] = ranges(&world, bob, before);
    let moved = sound.1.max(picture.1) - usual;
    // 20 ms a second, for the two seconds between the last report in time and the last late one.
    let allowed = 40.0 + TOLERANCE_MS;
    assert!(moved <= allowed, "{moved} ms off");
    let skew = skew(&world, bob, before);
    assert!(skew <= TOLERANCE_MS, "{skew} ms apart");
    world.finish();
}

#[test]
fn a_clock_that_is_set_is_followed_at_once() {
    let mut world = World::new(6);
    let alice = publish(&mut world, "alice");
    let bob = world.join(Options::new("bob").slots(1, 1));
    world.run_ms(3000);
    // By an hour; half of the reports that tell of it are lost.
    world.browsers[alice].clock_set = 3600;
    world.link(alice, Link::losing(0.5), Link::GOOD);
    let since = world.now;
    world.run_ms(4000);
    world.link(alice, Link::GOOD, Link::GOOD);
    for (lowest, highest) in ranges(&world, bob, since) {
        assert!(lowest > -200.0 && highest < 300.0, "{lowest} to {highest}");
    }
    let since = world.now + Duration::from_secs(2);
    world.run_ms(4000);
    let skew = skew(&world, bob, since);
    assert!(skew <= TOLERANCE_MS, "{skew} ms apart");
    world.finish();
}
