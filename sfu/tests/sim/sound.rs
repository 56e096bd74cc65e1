//! Redundant audio, more speakers than slots, and data channels.

use bytes::Bytes;
use sfu::{Codec, Command, DataChannel, Event};

use crate::browser::Options;
use crate::channels::{LOSSY, RELIABLE};
use crate::network::Link;
use crate::world::World;

#[test]
fn redundant_audio_is_unwrapped_for_who_did_not_ask_for_it() {
    for seed in 0..4 {
        let mut world = World::new(seed);
        world.join(Options::new("alice").red_microphone());
        let bob = world.join(Options::new("bob").slots(1, 0));
        world.run_ms(2000);
        let sound = world.browsers[bob].audio(0);
        assert!(sound.frames().len() > 80, "{}", sound.frames().len());
        assert_eq!(sound.holes(), 0);
        world.finish();
    }
}

#[test]
fn the_loudest_get_the_slots() {
    let mut world = World::new(10);
    let people = ["a", "b", "c", "d", "e"].map(|name| world.join(Options::new(name).microphone()));
    let listener = world.join(Options::new("l").slots(2, 0));
    for loud in [[0, 3], [4, 1], [2, 3]] {
        for who in people {
            let level = if loud.contains(&who) { 10 } else { 100 };
            world.browsers[who].senders[0].level = level;
        }
        world.run_ms(4000);
        let since = world.now;
        world.run_ms(500);
        let mut heard: Vec<usize> = (0..2)
            .flat_map(|place| world.browsers[listener].audio(place).frames_since(since))
            .map(|frame| usize::from(frame.source >> 8))
            .collect();
        heard.sort_unstable();
        heard.dedup();
        let mut loud = loud.to_vec();
        loud.sort_unstable();
        assert_eq!(heard, loud);
    }
    world.finish();
}

#[test]
fn messages_travel_over_both_channels() {
    for loss in [0.0, 0.1] {
        let mut world = World::new(20);
        let alice = world.join(Options::new("alice").data());
        let bob = world.join(Options::new("bob").data().camera(Codec::Vp8, &["only"]));
        let silent = world.join(Options::new("silent").microphone());
        world.run_ms(1500);
        for who in [alice, bob] {
            assert!(world.browsers[who].channels.as_ref().unwrap().is_open());
            world.link(who, Link::losing(loss), Link::losing(loss));
        }
        let long = vec![7u8; 60_000];
        for (stream, message) in [
            (RELIABLE, &b"hello"[..]),
            (LOSSY, b"quick"),
            (RELIABLE, &long),
        ] {
            let channels = world.browsers[alice].channels.as_mut().unwrap();
            channels.send(stream, message);
        }
        let now = world.now;
        world.browsers[alice].send_data(now);
        world.run_ms(15_000);
        let heard: Vec<(DataChannel, Bytes)> = world
            .events
            .iter()
            .filter_map(|(_, event)| match event {
                Event::DataReceived {
                    channel, message, ..
                } => Some((*channel, message.clone())),
                _ => None,
            })
            .collect();
        let reliable: Vec<&Bytes> = heard
            .iter()
            .filter(|(channel, _)| *channel == DataChannel::Reliable)
            .map(|(_, message)| message)
            .collect();
        assert_eq!(reliable, [&b"hello"[..], &long[..]], "at {loss}");
        let sender = world.browsers[alice].participant;
        for (channel, message) in heard {
            world.command(Command::SendData {
                room: world.room,
                to: None,
                except: Some(sender),
                channel,
                message,
            });
        }
        world.run_ms(15_000);
        let channels = world.browsers[bob].channels.as_ref().unwrap();
        assert!(channels.received.contains(&(RELIABLE, b"hello".to_vec())));
        assert!(channels.received.contains(&(RELIABLE, long)));
        let undelivered = world.events.iter().any(|(_, event)| {
            let silent = world.browsers[silent].participant;
            matches!(event, Event::DataUndelivered { participant, .. } if *participant == silent)
        });
        assert!(undelivered, "who has no channel is named");
        world.finish();
    }
}
