//! Which slot carries what: choices, muting, programs, and asking for more.

use sfu::{Codec, Command, Event, PauseReason, StreamState, SubscribeChange, Wants};

use crate::browser::Options;
use crate::offer::{self, Role};
use crate::world::{Who, World};

const RIDS: &[&str] = &["q", "h", "f"];

fn person(name: &'static str) -> Options {
    Options::new(name).microphone().camera(Codec::Vp8, RIDS)
}

fn source(world: &mut World, who: Who, ms: u64) -> Option<Who> {
    let since = world.now;
    world.run_ms(ms);
    let frames = world.browsers[who].video(0).frames_since(since);
    frames.last().map(|frame| usize::from(frame.source >> 8))
}

#[test]
fn a_slot_is_pointed_to_and_fro() {
    let mut world = World::new(1);
    let [a, b, c] = ["a", "b", "c"].map(|name| world.join(person(name)));
    let viewer = world.join(Options::new("v").slots(1, 1).wants(Wants::Nothing));
    let participant = world.browsers[viewer].participant;
    let mut shown = None;
    for who in [a, b, c, a, c, b] {
        let mut tracks = vec![(world.camera(who), true)];
        tracks.extend(shown.replace(world.camera(who)).map(|old| (old, false)));
        world.command(Command::Subscribe {
            participant,
            change: SubscribeChange::Tracks(tracks),
        });
        assert_eq!(source(&mut world, viewer, 1200), Some(who));
        let told = world
            .events
            .iter()
            .rev()
            .find_map(|(_, event)| match event {
                Event::SlotsChanged { slots, .. } => slots.first().cloned(),
                _ => None,
            });
        let told = told.unwrap();
        assert_eq!(told.track, shown);
        let first = world.browsers[viewer]
            .video(0)
            .arrived
            .values()
            .find(|arrived| {
                let ahead = arrived.timestamp.wrapping_sub(told.timestamp.unwrap());
                ahead < 1 << 31
            });
        let first = first.and_then(|arrived| arrived.stamp).unwrap();
        assert_eq!(
            usize::from(first.source >> 8),
            who,
            "told timestamp parts the sources"
        );
    }
    assert_eq!(world.browsers[viewer].video(0).holes(), 0);
    world.finish();
}

#[test]
fn muted_tracks_are_not_forwarded() {
    let mut world = World::new(2);
    let alice = world.join(person("alice"));
    let bob = world.join(Options::new("bob").slots(1, 1));
    world.run_ms(1500);
    let participant = world.browsers[alice].participant;
    let track = world.camera(alice);
    for _ in 0..3 {
        world.command(Command::Mute {
            participant,
            track,
            muted: true,
        });
        world.run_ms(100);
        assert_eq!(source(&mut world, bob, 1000), None);
        let reason = PauseReason::Muted;
        assert_eq!(
            world.state(bob, track),
            Some(StreamState::Paused { reason })
        );
        world.command(Command::Mute {
            participant,
            track,
            muted: false,
        });
        assert_eq!(source(&mut world, bob, 1500), Some(alice));
    }
    assert_eq!(world.browsers[bob].video(0).holes(), 0);
    world.finish();
}

#[test]
fn a_program_follows_who_speaks() {
    let mut world = World::new(3);
    let people = ["a", "b", "c"].map(|name| world.join(person(name)));
    let viewer = world.join(Options::new("v").slots(1, 1).wants(Wants::Program));
    let quiet = 90;
    for speaker in [0, 2, 1, 0] {
        for (index, who) in people.into_iter().enumerate() {
            let level = if index == speaker { 10 } else { quiet };
            let senders = &mut world.browsers[who].senders;
            senders.iter_mut().for_each(|sender| sender.level = level);
        }
        world.run_ms(3000);
        assert_eq!(source(&mut world, viewer, 1000), Some(people[speaker]));
        let sound = world.browsers[viewer].audio(0).frames();
        assert_eq!(
            usize::from(sound.last().unwrap().source >> 8),
            people[speaker]
        );
    }
    let speaks = |event: &Event| matches!(event, Event::SpeakersChanged { levels, .. } if !levels.is_empty());
    assert!(world.events.iter().any(|(_, event)| speaks(event)));
    assert_eq!(world.browsers[viewer].video(0).holes(), 0);
    world.finish();
}

#[test]
fn one_participant_can_be_watched_by_name() {
    let mut world = World::new(4);
    let people = ["a", "b", "c"].map(|name| world.join(person(name)));
    let wants = Wants::Participant("b".to_owned());
    let viewer = world.join(Options::new("v").slots(1, 1).wants(wants));
    assert_eq!(source(&mut world, viewer, 1500), Some(people[1]));
    world.finish();
}

#[test]
fn who_has_too_few_slots_is_asked_for_more() {
    let mut world = World::new(5);
    let viewer = world.join(Options::new("v").slots(1, 1));
    for name in ["a", "b", "c"] {
        world.join(person(name));
    }
    world.run_ms(1000);
    let participant = world.browsers[viewer].participant;
    let asked = world
        .events
        .iter()
        .rev()
        .find_map(|(_, event)| match event {
            Event::SlotsNeeded {
                participant: who,
                audio,
                video,
            } if *who == participant => Some((*audio, *video)),
            _ => None,
        });
    let (audio, video) = asked.unwrap();
    assert!(audio >= 3 && video >= 3);
    let now = world.now;
    for _ in 1..3 {
        for is_audio in [true, false] {
            world.browsers[viewer].add_line(now, Role::Slot { is_audio });
        }
    }
    world.offer(viewer);
    world.run_ms(2000);
    for place in 0..3 {
        assert!(world.browsers[viewer].video(place).frames().len() > 30);
    }
    world.finish();
}

#[test]
fn who_cannot_decode_a_codec_is_told_so() {
    let mut world = World::new(6);
    let alice = world.join(Options::new("alice").camera(Codec::Vp9, RIDS));
    let mut bob = Options::new("bob").slots(0, 1);
    bob.codecs = vec![Codec::H264];
    let bob = world.join(bob);
    world.run_ms(1000);
    let track = world.camera(alice);
    // The publisher offers H264 as well, but what it sends is VP9.
    assert_eq!(source(&mut world, bob, 500), None);
    let reason = PauseReason::Codec;
    assert_eq!(
        world.state(bob, track),
        Some(StreamState::Paused { reason })
    );
    assert_eq!(asked_for(&world), [], "VP8 would not help either");
    world.finish();
}

/// Which codec whose publisher was asked for.
fn asked_for(world: &World) -> Vec<(Who, Codec)> {
    let asked = world.events.iter().filter_map(|(_, event)| match event {
        Event::CodecWanted {
            participant, codec, ..
        } => Some((*participant, *codec)),
        _ => None,
    });
    let who = |participant| {
        let is_it = |browser: &crate::browser::Browser| browser.participant == participant;
        world.browsers.iter().position(is_it).unwrap()
    };
    asked
        .map(|(participant, codec)| (who(participant), codec))
        .collect()
}

#[test]
fn a_publisher_is_asked_once_for_vp8_and_who_waited_for_it_sees() {
    let mut world = World::new(7);
    let alice = world.join(Options::new("alice").camera(Codec::Vp9, RIDS));
    let carol = world.join(Options::new("carol").slots(0, 1));
    let only_vp8 = |name| {
        let mut options = Options::new(name).slots(0, 1);
        options.codecs = vec![Codec::Vp8];
        options
    };
    let bob = world.join(only_vp8("bob"));
    let dave = world.join(only_vp8("dave"));
    assert_eq!(source(&mut world, carol, 1500), Some(alice));
    assert_eq!(source(&mut world, bob, 500), None);
    assert_eq!(asked_for(&world), [(alice, Codec::Vp8)]);

    // Whatever order it offers in, the answer says VP8.
    world.browsers[alice].options.codecs = vec![Codec::Vp9, Codec::H264, Codec::Vp8];
    world.offer(alice);
    let answer = &world.browsers[alice].answer.sections["0"];
    assert_eq!(answer.order[0], offer::payload_type(Codec::Vp8));
    for sender in &mut world.browsers[alice].senders {
        sender.encoder.codec = Codec::Vp8;
        sender.encoder.wants_keyframe = true;
    }
    for viewer in [bob, carol, dave] {
        assert_eq!(source(&mut world, viewer, 1500), Some(alice));
    }
    let track = world.camera(alice);
    assert!(matches!(
        world.state(bob, track),
        Some(StreamState::Active { .. })
    ));
    assert_eq!(asked_for(&world).len(), 1);
    world.finish();
}
