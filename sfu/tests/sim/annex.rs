//! A program beside the shards hears rooms and publishes in them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use sfu::annex::{Heard, HeardLayer, HeardPacket, HeardTrack, OwnPacket, OwnTrack};
use sfu::{Codec, Command, Event, Kind, MediaGrants, ParticipantId, Source, TrackId};

use crate::browser::Options;
use crate::media::{Encoder, read_payload};
use crate::world::{Who, World};

const RIDS: &[&str] = &["q", "h", "f"];
/// The source number of what the annex publishes: no browser's.
const OWN: u16 = 200 << 8;

/// The tracks the annex was told of, as it was told of each last.
fn tracks(world: &World) -> BTreeMap<TrackId, HeardTrack> {
    let mut known = BTreeMap::new();
    for heard in &world.heard {
        match heard {
            Heard::Track(track) => {
                known.insert(track.id, (**track).clone());
            }
            Heard::State { track, state } => {
                known.get_mut(track).unwrap().state = (**state).clone();
            }
            Heard::Ended { track } => {
                known.remove(track);
            }
            Heard::RoomClosed { .. } => known.clear(),
            _ => {}
        }
    }
    known
}

fn packets(world: &World, track: TrackId, encoding: u8) -> Vec<&HeardPacket> {
    let heard = world.heard.iter();
    heard
        .filter_map(|heard| match heard {
            Heard::Packet(packet) if (packet.track, packet.encoding) == (track, encoding) => {
                Some(packet)
            }
            _ => None,
        })
        .collect()
}

/// Listens to everything the annex was told of.
fn listen(world: &mut World) {
    for track in tracks(world).into_keys() {
        world.annex.want(track, 0b111);
        world.annex.request_keyframe(track, 0b111);
    }
}

/// Publishes a camera and a microphone from the annex.
fn publish(world: &mut World, participant: ParticipantId) -> [TrackId; 2] {
    let room = world.room;
    [Codec::H264, Codec::Opus].map(|codec| {
        world.annex.publish(OwnTrack {
            room,
            participant,
            identity: "encoder".to_owned(),
            source: match codec {
                Codec::Opus => Source::Microphone,
                _ => Source::Camera,
            },
            codec,
            width: 640,
            height: 360,
        })
    })
}

/// Sends 30 pictures and 50 packets of sound a second for a while, with a keyframe each second.
fn send(world: &mut World, own: [TrackId; 2], seconds: u32) {
    let mut video = Encoder::new(Codec::H264, OWN, 0, 5);
    let mut audio = Encoder::new(Codec::Opus, OWN + 1, 0, 5);
    let begun = world.now;
    for tick in 0..seconds * 50 {
        let at = begun + Duration::from_millis(20) * tick;
        world.run(at - world.now);
        if tick % 50 == 0 {
            video.wants_keyframe = true;
        }
        if tick % 5 < 3 {
            for payload in video.encode() {
                world.checker.note_annexed(at, &payload.stamp);
                let packet = OwnPacket {
                    timestamp: u64::from(tick) * 1800,
                    marker: payload.marker,
                    arrival: at,
                    audio_level: None,
                    payload: Bytes::from(payload.bytes),
                };
                world.annex.send(own[0], packet);
            }
        }
        for payload in audio.encode() {
            world.checker.note_annexed(at, &payload.stamp);
            let packet = OwnPacket {
                timestamp: u64::from(tick) * 960,
                marker: false,
                arrival: at,
                audio_level: Some(20),
                payload: Bytes::from(payload.bytes),
            };
            world.annex.send(own[1], packet);
        }
        let since = crate::world::NTP_AT_START + (u64::from(tick) << 32) / 50;
        if tick % 50 == 10 {
            world.annex.report(at, own[0], since, tick * 1800);
            world.annex.report(at, own[1], since, tick * 960);
        }
    }
}

#[test]
fn every_packet_of_every_encoding_is_heard_whatever_the_shard() {
    let mut world = World::on_shards(31, 2);
    let alice = world.join(Options::new("alice").microphone().camera(Codec::Vp8, RIDS));
    let bob = world.join_on(
        1,
        Options::new("bob")
            .microphone()
            .camera(Codec::Vp9, &["only"]),
    );
    world.run_ms(1500);
    let room = world.room;
    world.annex.enter(room);
    world.run_ms(100);
    let known = tracks(&world);
    let identities: BTreeSet<&str> = known
        .values()
        .map(|track| track.identity.as_str())
        .collect();
    assert_eq!(identities, BTreeSet::from(["alice", "bob"]));
    assert_eq!(known.len(), 4);
    listen(&mut world);
    world.run_ms(3000);
    for (who, encodings) in [(alice, 3), (bob, 1)] {
        let camera = world.camera(who);
        let state = &tracks(&world)[&camera].state;
        assert_eq!(state.layers.len(), encodings);
        assert!(
            state
                .layers
                .iter()
                .all(|layer| layer.live && layer.width > 0)
        );
        for encoding in 0..encodings as u8 {
            check_video(&world, camera, encoding);
        }
        let microphone = world.tracks(who, Kind::Audio)[0];
        let heard = packets(&world, microphone, 0);
        assert!(heard.len() > 140);
        let is_it = |packet: &&HeardPacket| {
            // Its sender says that it is a voice, too.
            packet.codec == Codec::Opus && packet.audio_level == Some(30)
        };
        assert!(heard.iter().all(is_it));
        let clocks = world
            .heard
            .iter()
            .filter(|heard| matches!(heard, Heard::Clock { track, .. } if *track == microphone));
        assert!(clocks.count() >= 2);
    }
    let speakers = world.heard.iter().any(|heard| {
        matches!(
            heard,
            Heard::Speakers {
                dominant: Some(_),
                ..
            }
        )
    });
    assert!(speakers, "it is told who speaks");
    world.finish();
}

/// From a keyframe on nothing of an encoding is missing.
fn check_video(world: &World, track: TrackId, encoding: u8) {
    let heard = packets(world, track, encoding);
    let read = |packet: &&HeardPacket| read_payload(packet.codec, &packet.payload).0;
    let keyframe = heard.iter().position(|packet| read(packet).keyframe);
    let heard = &heard[keyframe.expect("a keyframe was asked for")..];
    assert!(heard.len() > 60, "{} packets of {encoding}", heard.len());
    for pair in heard.windows(2) {
        assert_eq!(pair[1].sequence, pair[0].sequence + 1);
        assert_eq!(read(&pair[1]).encoding, encoding);
    }
    assert!(read(&heard[0]).packet == 0, "the keyframe is whole");
}

#[test]
fn redundant_sound_is_heard_once() {
    let mut world = World::new(32);
    let alice = world.join(Options::new("alice").red_microphone());
    let room = world.room;
    world.annex.enter(room);
    world.run_ms(1000);
    listen(&mut world);
    world.run_ms(1000);
    let microphone = world.tracks(alice, Kind::Audio)[0];
    let heard = packets(&world, microphone, 0);
    assert!(heard.len() > 45);
    for pair in heard.windows(2) {
        assert_eq!(pair[0].codec, Codec::Opus);
        let [first, second] = [pair[0], pair[1]].map(|p| read_payload(Codec::Opus, &p.payload).0);
        assert_eq!(second.sequence, first.sequence + 1);
    }
    world.finish();
}

#[test]
fn what_is_not_wanted_any_more_stops() {
    let mut world = World::new(33);
    let alice = world.join(Options::new("alice").camera(Codec::Vp8, RIDS));
    let room = world.room;
    world.annex.enter(room);
    world.run_ms(1000);
    listen(&mut world);
    world.run_ms(1000);
    let camera = world.camera(alice);
    world.annex.want(camera, 0b001);
    world.run_ms(200);
    world.heard.clear();
    world.run_ms(500);
    assert!(packets(&world, camera, 0).len() > 10);
    assert!(packets(&world, camera, 1).is_empty() && packets(&world, camera, 2).is_empty());
    world.annex.leave(room);
    world.run_ms(100);
    world.heard.clear();
    world.run_ms(500);
    assert_eq!(world.heard, []);
    world.finish();
}

#[test]
fn browsers_see_and_hear_what_it_publishes_on_every_shard() {
    let mut world = World::on_shards(34, 2);
    let viewers: [Who; 2] = [0, 1].map(|shard| world.join_on(shard, Options::new("v").slots(1, 1)));
    world.run_ms(1000);
    let encoder = ParticipantId::new(2, 99);
    let own = publish(&mut world, encoder);
    world.run_ms(100);
    send(&mut world, own, 4);
    for who in viewers {
        let browser = &world.browsers[who];
        let (audio, video) = (browser.audio(0), browser.video(0));
        assert!(video.frames().len() > 80, "{}", video.frames().len());
        assert!(audio.frames().len() > 180, "{}", audio.frames().len());
        assert_eq!((video.holes(), audio.holes()), (0, 0));
    }
    let told = |kind| {
        let is_it = move |event: &Event| {
            matches!(event, Event::TrackPublished { participant, track, .. }
                if *participant == encoder && track.kind == kind)
        };
        world
            .events
            .iter()
            .filter(|(_, event)| is_it(event))
            .count()
    };
    assert_eq!((told(Kind::Video), told(Kind::Audio)), (1, 1));
    world.annex.handle_command(Command::Leave {
        participant: encoder,
    });
    world.run_ms(200);
    let ended = world.events.iter().filter(|(_, event)| {
        matches!(event, Event::TrackUnpublished { participant, .. } if *participant == encoder)
    });
    assert_eq!(ended.count(), 2);
    assert!(world.heard.contains(&Heard::Removed {
        participant: encoder
    }));
    assert_eq!(world.metric("plenum_cascade_tracks"), 0);
    world.finish();
}

#[test]
fn a_muted_or_forbidden_track_of_its_own_is_not_forwarded() {
    let mut world = World::new(35);
    let viewer = world.join(Options::new("v").slots(1, 1));
    world.run_ms(1000);
    let participant = ParticipantId::new(1, 99);
    let own = publish(&mut world, participant);
    world.run_ms(100);
    send(&mut world, own, 1);
    for (track, muted) in [(own[0], true), (own[1], true)] {
        world.annex.handle_command(Command::Mute {
            participant,
            track,
            muted,
        });
    }
    world.run_ms(100);
    let since = world.now;
    for _ in 0..50 {
        world.run_ms(20);
        let packet = OwnPacket {
            timestamp: 0,
            marker: false,
            arrival: world.now,
            audio_level: Some(20),
            payload: Bytes::from_static(b"\x78 nobody gets this"),
        };
        world.annex.send(own[1], packet);
    }
    assert!(
        world.browsers[viewer]
            .audio(0)
            .frames_since(since)
            .is_empty()
    );
    let grants = MediaGrants {
        publish: false,
        ..MediaGrants::default()
    };
    world.annex.handle_command(Command::SetGrants {
        participant,
        grants,
    });
    world.run_ms(100);
    assert!(world.heard.contains(&Heard::Removed { participant }));
    assert_eq!(world.metric("plenum_cascade_tracks"), 0);
    world.finish();
}

#[test]
fn a_shard_made_anew_finds_the_annex_again_and_a_closed_room_leaves_nothing() {
    let mut world = World::on_shards(36, 2);
    world.join(Options::new("alice").camera(Codec::Vp8, RIDS));
    let bob = world.join_on(1, Options::new("bob").microphone().slots(1, 2));
    let room = world.room;
    world.annex.enter(room);
    world.run_ms(1500);
    let own = publish(&mut world, ParticipantId::new(2, 99));
    send(&mut world, own, 1);
    listen(&mut world);
    world.run_ms(500);
    assert_eq!(tracks(&world).len(), 2);
    world.restart_shard(0);
    world.browsers[0].is_gone = true;
    world.run_ms(500);
    let known: Vec<Kind> = tracks(&world).values().map(|track| track.kind).collect();
    assert_eq!(known, [Kind::Audio], "alice was ended with her shard");
    assert!(world.metric_of(0, "plenum_cascade_tracks") >= 2);
    world.browsers[bob].is_gone = true;
    world.command(Command::CloseRoom { room });
    world.run_ms(500);
    assert!(world.heard.contains(&Heard::RoomClosed { room }));
    assert!(!world.annex.is_in(room));
    for gauge in [
        "plenum_shard_rooms",
        "plenum_tracks",
        "plenum_cascade_tracks",
    ] {
        assert_eq!(world.metric(gauge), 0, "{gauge}");
    }
    let ended = world.events.iter().filter(
        |(_, event)| matches!(event, Event::TrackUnpublished { track, .. } if own.contains(track)),
    );
    assert_eq!(ended.count(), 2);
    world.finish();
}

#[test]
fn a_publisher_is_asked_for_another_codec_once() {
    let mut world = World::new(37);
    let alice = world.join(Options::new("alice").camera(Codec::Vp8, RIDS));
    let room = world.room;
    world.annex.enter(room);
    world.run_ms(1000);
    let camera = world.camera(alice);
    for _ in 0..3 {
        world.annex.request_codec(camera, Codec::H264);
        world.run_ms(100);
    }
    let asked = world.events.iter().filter(|(_, event)| {
        matches!(event, Event::CodecWanted { track, codec: Codec::H264, .. } if *track == camera)
    });
    assert_eq!(asked.count(), 1);
    world.finish();
}

#[test]
fn how_its_own_tracks_are_is_told() {
    let mut world = World::new(38);
    world.join(Options::new("v").slots(1, 1));
    world.run_ms(500);
    let own = publish(&mut world, ParticipantId::new(1, 99));
    let layer = HeardLayer {
        live: true,
        width: 1920,
        height: 1080,
        bitrate_bps: 3_000_000,
    };
    world.annex.describe(own[0], layer);
    world.run_ms(100);
    let last = world
        .events
        .iter()
        .rev()
        .find_map(|(_, event)| match event {
            Event::TrackChanged { track, .. } if track.id == own[0] => Some(track.clone()),
            _ => None,
        });
    let layers = last.expect("it was told").layers;
    assert_eq!((layers[0].width, layers[0].height), (1920, 1080));
    world.finish();
}
