//! A room on several shards: everyone is served as if there were one, and each packet crosses once.

use std::time::Duration;

use bytes::Bytes;
use sfu::{
    Codec, Command, DataChannel, Event, Kind, PauseReason, RoomConfig, RoomId, StreamState,
    SubscribeChange, View, Wants,
};

use crate::browser::Options;
use crate::channels::RELIABLE;
use crate::network::Link;
use crate::world::{Who, World};

const RIDS: &[&str] = &["q", "h", "f"];

fn person(name: &'static str) -> Options {
    Options::new(name).microphone().camera(Codec::Vp8, RIDS)
}

/// A publisher on the room's home shard, and who receives it on the other one.
fn pair(seed: u64, codec: Codec) -> (World, Who, Who) {
    let mut world = World::on_shards(seed, 2);
    let alice = world.join(Options::new("alice").microphone().camera(codec, RIDS));
    let carol = world.join_on(1, Options::new("carol").slots(1, 1));
    world.run_ms(2000);
    (world, alice, carol)
}

fn frames_in(world: &mut World, who: Who, ms: u64) -> usize {
    let since = world.now;
    world.run_ms(ms);
    world.browsers[who].video(0).frames_since(since).len()
}

fn source(world: &mut World, who: Who, ms: u64) -> Option<Who> {
    let since = world.now;
    world.run_ms(ms);
    let frames = world.browsers[who].video(0).frames_since(since);
    frames.last().map(|frame| usize::from(frame.source >> 8))
}

fn encoding(world: &World, who: Who) -> u8 {
    let since = world.now - Duration::from_millis(200);
    let frames = world.browsers[who].video(0).frames_since(since);
    frames.last().expect("frames come").encoding
}

fn asked(world: &World, who: Who) -> usize {
    let senders = world.browsers[who].senders.iter();
    senders.map(|sender| sender.keyframe_requests.len()).sum()
}

fn crossed(world: &World) -> u64 {
    world.metric("plenum_cascade_received_packets_total")
}

#[test]
fn a_room_that_is_continued_before_its_home_has_it_becomes_one() {
    let mut world = World::on_shards(90, 2);
    let room = RoomId::new(0, 77);
    world.room = room;
    let carol = world.join_on(1, Options::new("carol").slots(1, 1));
    world.run_ms(300);
    let config = RoomConfig::default();
    world.command(Command::CreateRoom { room, config });
    world.join(person("alice"));
    world.run_ms(1500);
    assert!(frames_in(&mut world, carol, 1000) > 20);
    world.finish();
}

#[test]
fn everyone_sees_and_hears_everyone_whatever_the_shard() {
    let mut world = World::on_shards(1, 3);
    let all: Vec<Who> = (0..6u16)
        .map(|number| {
            let name = ["a", "b", "c", "d", "e", "f"][usize::from(number)];
            world.join_on(number % 3, person(name).slots(5, 5))
        })
        .collect();
    world.run_ms(3500);
    for &who in &all {
        let mut seen = Vec::new();
        for place in 0..5 {
            let browser = &world.browsers[who];
            let (audio, video) = (browser.audio(place), browser.video(place));
            assert!(video.frames().len() > 60 && audio.frames().len() > 100);
            assert_eq!((video.holes(), audio.holes()), (0, 0));
            let owner = |frames: &[crate::media::Stamp]| frames.last().unwrap().source >> 8;
            assert_eq!(
                owner(&video.frames()),
                owner(&audio.frames()),
                "lip sync pairs"
            );
            seen.push(usize::from(owner(&video.frames())));
        }
        seen.sort_unstable();
        let others: Vec<Who> = all.iter().copied().filter(|other| *other != who).collect();
        assert_eq!(seen, others);
    }
    for kind in [Kind::Audio, Kind::Video] {
        let told = |event: &&Event| matches!(event, Event::TrackPublished { track, .. } if track.kind == kind);
        let told = world.events.iter().map(|(_, event)| event).filter(told);
        assert_eq!(told.count(), 6, "the service hears of each track once");
    }
    assert_eq!(world.metric("plenum_tracks"), 12);
    assert_eq!(world.metric("plenum_cascade_tracks"), 24);
    assert_eq!(world.metric("plenum_peers"), 6);
    assert_eq!(world.metric("plenum_shard_rooms"), 1);
    assert_eq!(world.metric("plenum_cascade_rooms"), 2);
    world.finish();
}

#[test]
fn one_copy_crosses_whatever_the_number_of_subscribers() {
    let mut world = World::on_shards(2, 2);
    world.join(
        Options::new("alice")
            .microphone()
            .camera(Codec::Vp8, &["only"]),
    );
    let viewers: Vec<Who> = (0..12u16)
        .map(|number| world.join_on(number % 2, Options::new("v").slots(1, 1)))
        .collect();
    world.run_ms(2000);
    let (published, crossed_before) = (
        world.metric("plenum_rtp_received_packets_total"),
        crossed(&world),
    );
    let since = world.now;
    world.run_ms(2000);
    let published = world.metric("plenum_rtp_received_packets_total") - published;
    assert_eq!(crossed(&world) - crossed_before, published);
    assert_eq!(
        world.metric("plenum_cascade_packets_total"),
        crossed(&world)
    );
    for who in viewers {
        let (audio, video) = (world.browsers[who].audio(0), world.browsers[who].video(0));
        assert!(video.frames_since(since).len() > 58 && audio.frames_since(since).len() > 97);
        assert_eq!((video.holes(), audio.holes()), (0, 0));
    }
    for shard in 0..2 {
        let sent = world.metric_of(shard, "plenum_rtp_sent_packets_total");
        assert!(sent > 2000, "shard {shard} sent {sent}");
    }
    world.finish();
}

#[test]
fn every_codec_crosses_with_and_without_simulcast() {
    for (seed, codec) in (10..).zip([Codec::Vp8, Codec::Vp9, Codec::H264]) {
        for rids in [RIDS, &["only"]] {
            let mut world = World::on_shards(seed, 2);
            world.join(Options::new("alice").camera(codec, rids));
            let carol = world.join_on(1, Options::new("carol").slots(0, 1));
            world.run_ms(2500);
            let video = world.browsers[carol].video(0);
            let count = video.frames().len();
            assert!(count > 50, "{codec:?} {rids:?}: {count}");
            assert_eq!(video.holes(), 0);
            let last = video.frames().last().copied().unwrap();
            assert_eq!(usize::from(last.encoding) + 1, rids.len(), "{codec:?}");
            world.finish();
        }
    }
}

#[test]
fn the_view_chooses_the_layer_and_only_what_is_wanted_crosses() {
    for codec in [Codec::Vp8, Codec::Vp9, Codec::H264] {
        let (mut world, alice, carol) = pair(3, codec);
        let camera = world.camera(alice);
        for (height, layer) in [(180, 0), (720, 2), (360, 1), (90, 0), (0, 2)] {
            let view = View {
                height,
                ..View::default()
            };
            world.view(carol, camera, view);
            world.run_ms(3000);
            assert_eq!(encoding(&world, carol), layer, "{codec:?} at {height}");
            let state = StreamState::Active { layer };
            assert_eq!(world.state(carol, camera), Some(state));
            let before = crossed(&world);
            let arrived = world.browsers[carol].video(0).arrived.len();
            let heard = world.browsers[carol].audio(0).arrived.len();
            world.run_ms(1000);
            let arrived = world.browsers[carol].video(0).arrived.len() - arrived;
            let heard = world.browsers[carol].audio(0).arrived.len() - heard;
            let more = (crossed(&world) - before) as usize;
            assert!(
                more.abs_diff(arrived + heard) <= 6,
                "{more} crossed, {} arrived: only one layer is wanted",
                arrived + heard
            );
        }
        assert_eq!(world.browsers[carol].video(0).holes(), 0);
        world.finish();
    }
}

#[test]
fn temporal_layers_are_dropped_on_the_other_shard_alone() {
    let (mut world, alice, carol) = pair(4, Codec::Vp8);
    let bob = world.join(Options::new("bob").slots(0, 1));
    for sender in &mut world.browsers[alice].senders {
        sender.encoder.temporal_layers = 3;
    }
    world.run_ms(1500);
    let camera = world.camera(alice);
    let view = View {
        temporal: Some(0),
        ..View::default()
    };
    world.view(carol, camera, view);
    world.run_ms(500);
    let since = world.now;
    world.run_ms(2000);
    let count = |who: Who| world.browsers[who].video(0).frames_since(since).len();
    assert!((11..=19).contains(&count(carol)), "{}", count(carol));
    assert!(count(bob) > 56, "{}", count(bob));
    world.finish();
}

#[test]
fn a_vanished_layer_is_replaced_there_too() {
    let (mut world, alice, carol) = pair(5, Codec::Vp8);
    assert_eq!(encoding(&world, carol), 2);
    // After the microphone come three layers.
    world.browsers[alice].senders[3].is_active = false;
    world.run_ms(2500);
    assert_eq!(encoding(&world, carol), 1);
    world.browsers[alice].senders[3].is_active = true;
    world.run_ms(3000);
    assert_eq!(encoding(&world, carol), 2);
    assert_eq!(world.browsers[carol].video(0).holes(), 0);
    world.finish();
}

#[test]
fn what_the_publisher_loses_is_asked_for_once_and_healed_on_both_shards() {
    for seed in 20..24 {
        let (mut world, alice, carol) = pair(seed, Codec::Vp8);
        let bob = world.join(Options::new("bob").slots(1, 1));
        world.run_ms(1500);
        world.link(alice, Link::losing(0.08), Link::GOOD);
        world.run_ms(3000);
        world.link(alice, Link::GOOD, Link::GOOD);
        world.run_ms(1000);
        let nacked: usize = world.browsers[alice].senders.iter().map(|s| s.nacked).sum();
        assert!(nacked > 20, "seed {seed}: {nacked}");
        assert_eq!(world.metric_of(1, "plenum_nacks_sent_total"), 0);
        for who in [bob, carol] {
            assert_eq!(world.browsers[who].video(0).holes(), 0, "seed {seed}");
        }
        world.finish();
    }
}

#[test]
fn what_a_subscriber_loses_is_sent_again_from_its_own_shard() {
    for seed in 30..34 {
        let (mut world, _, carol) = pair(seed, Codec::Vp8);
        world.link(carol, Link::GOOD, Link::losing(0.08));
        world.run_ms(3000);
        world.link(carol, Link::GOOD, Link::GOOD);
        world.run_ms(1000);
        let video = world.browsers[carol].video(0);
        assert!(video.recovered > 10, "seed {seed}: {}", video.recovered);
        assert_eq!(video.holes(), 0, "seed {seed}");
        assert_eq!(world.metric_of(0, "plenum_nacks_received_total"), 0);
        assert!(world.metric_of(1, "plenum_retransmitted_packets_total") > 10);
        world.finish();
    }
}

#[test]
fn both_ends_may_be_bad_at_once() {
    for (seed, codec) in (40..).zip([Codec::Vp8, Codec::Vp9, Codec::H264]) {
        let (mut world, alice, carol) = pair(seed, codec);
        let rough = Link {
            loss: 0.05,
            reorder: 0.1,
            duplicate: 0.05,
            jitter: Duration::from_millis(15),
            ..Link::GOOD
        };
        world.link(alice, rough, rough);
        world.link(carol, rough, rough);
        world.run_ms(4000);
        world.link(alice, Link::GOOD, Link::GOOD);
        world.link(carol, Link::GOOD, Link::GOOD);
        let count = frames_in(&mut world, carol, 2000);
        assert!(count > 45, "seed {seed}: {count}");
        world.finish();
    }
}

#[test]
fn fifty_who_ask_for_a_keyframe_are_one_request() {
    let mut world = World::on_shards(6, 2);
    let alice = world.join(Options::new("alice").camera(Codec::Vp8, RIDS));
    let viewers: Vec<Who> = (0..50)
        .map(|_| world.join_on(1, Options::new("v").slots(0, 1)))
        .collect();
    world.run_ms(4000);
    let requests = |world: &World| world.metric_of(1, "plenum_cascade_keyframe_requests_total");
    let before = (asked(&world, alice), requests(&world));
    for viewer in &viewers {
        let media = world.browsers[*viewer].video(0).media;
        world.browsers[*viewer].ask_for_keyframe(media);
    }
    world.run_ms(400);
    assert_eq!(requests(&world) - before.1, 1);
    assert_eq!(asked(&world, alice) - before.0, 1);
    // A storm of them, from both shards, stays within the publication's budget.
    let bob = world.join(Options::new("bob").slots(0, 1));
    world.run_ms(2000);
    let before = asked(&world, alice);
    for _ in 0..100 {
        for viewer in viewers.iter().chain([&bob]) {
            let media = world.browsers[*viewer].video(0).media;
            world.browsers[*viewer].ask_for_keyframe(media);
        }
        world.run_ms(20);
    }
    let storm = asked(&world, alice) - before;
    assert!((2..=5).contains(&storm), "{storm} requests in 2 s");
    world.finish();
}

#[test]
fn a_late_joiner_there_gets_a_picture_as_soon_as_here() {
    let mut delays = Vec::new();
    for shard in 0..2 {
        let mut world = World::on_shards(7, 2);
        let alice = world.join(Options::new("alice").camera(Codec::Vp8, RIDS));
        world.run_ms(3000);
        assert_eq!(asked(&world, alice), 0, "nobody watches");
        let joined = world.now;
        let bob = world.join_on(shard, Options::new("bob").slots(0, 1));
        world.run_ms(1000);
        let mut arrived = world.browsers[bob].video(0).arrived.values();
        let first = arrived.find(|arrived| arrived.stamp.is_some()).unwrap();
        assert!(first.stamp.unwrap().keyframe);
        delays.push(first.at - joined);
        world.finish();
    }
    assert_eq!(delays[0], delays[1]);
}

#[test]
fn sound_and_picture_have_one_clock_there() {
    let mut world = World::on_shards(8, 2);
    world.join(person("alice"));
    let bob = world.join(Options::new("bob").slots(1, 1));
    let carol = world.join_on(1, Options::new("carol").slots(1, 1));
    world.run_ms(6000);
    let start = world.start;
    for who in [bob, carol] {
        let browser = &world.browsers[who];
        for (slot, rate) in [(browser.audio(0), 48.0), (browser.video(0), 90.0)] {
            let (_, ntp, rtp) = *slot.sender_reports.last().expect("reports come");
            let last = slot.arrived.values().next_back().unwrap();
            let ticks = f64::from(last.timestamp.wrapping_sub(rtp).cast_signed());
            let reported = (ntp - (3_900_000_000 << 32)) as f64 / (1u64 << 32) as f64 * 1000.0;
            let captured = reported + ticks / rate;
            // Ten milliseconds up, ten down; reports take as long up.
            let reached = (last.at - start).as_secs_f64() * 1000.0 - 10.0;
            let off = captured - reached;
            assert!(off.abs() < 4.0, "{off} ms off");
        }
    }
    world.finish();
}

#[test]
fn a_publisher_that_leaves_is_gone_everywhere() {
    let (mut world, alice, carol) = pair(9, Codec::Vp8);
    world.leave(alice);
    world.run_ms(200);
    assert_eq!(frames_in(&mut world, carol, 500), 0);
    assert_eq!(world.metric("plenum_cascade_tracks"), 0);
    assert_eq!(world.metric("plenum_subscriptions"), 0);
    let receiver = world.browsers[carol].participant;
    let emptied = world.events.iter().rev().any(|(_, event)| {
        matches!(event, Event::SlotsChanged { participant, slots }
            if *participant == receiver && slots.iter().all(|slot| slot.track.is_none()))
    });
    assert!(emptied);
    // The next one takes the slot, on whichever shard.
    for (shard, codec) in [(0, Codec::H264), (1, Codec::Vp8), (0, Codec::Vp9)] {
        let options = Options::new("next").microphone().camera(codec, RIDS);
        let next = world.join_on(shard, options);
        assert_eq!(source(&mut world, carol, 2000), Some(next), "{codec:?}");
        world.leave(next);
        world.run_ms(200);
    }
    assert_eq!(world.browsers[carol].video(0).holes(), 0);
    world.finish();
}

#[test]
fn nothing_crosses_for_nobody() {
    let (mut world, alice, carol) = pair(10, Codec::Vp8);
    let dave = world.join_on(1, Options::new("dave").slots(1, 1));
    world.run_ms(1500);
    world.leave(carol);
    assert!(frames_in(&mut world, dave, 1000) > 27);
    // Not shown: the picture stops, the sound goes on.
    let camera = world.camera(alice);
    let paused = View {
        paused: true,
        ..View::default()
    };
    world.view(dave, camera, paused);
    world.run_ms(2000);
    let before = crossed(&world);
    world.run_ms(1000);
    let sound = crossed(&world) - before;
    assert!((48..=52).contains(&sound), "{sound}");
    world.view(dave, camera, View::default());
    world.run_ms(1000);
    assert!(frames_in(&mut world, dave, 1000) > 27);
    world.leave(dave);
    world.run_ms(200);
    let before = crossed(&world);
    let sent = world.metric("plenum_cascade_packets_total");
    world.run_ms(1000);
    assert_eq!(crossed(&world), before);
    assert_eq!(world.metric("plenum_cascade_packets_total"), sent);
    assert_eq!(world.metric("plenum_cascade_rooms"), 0);
    // And back again.
    let erin = world.join_on(1, Options::new("erin").slots(1, 1));
    world.run_ms(1000);
    assert!(frames_in(&mut world, erin, 1000) > 27);
    world.finish();
}

#[test]
fn an_unwanted_track_does_not_cross() {
    let (mut world, alice, carol) = pair(11, Codec::Vp8);
    let participant = world.browsers[carol].participant;
    let tracks = vec![(world.camera(alice), false)];
    let change = SubscribeChange::Tracks(tracks);
    world.command(Command::Subscribe {
        participant,
        change,
    });
    world.run_ms(200);
    let before = crossed(&world);
    world.run_ms(1000);
    let sound = crossed(&world) - before;
    assert!((48..=52).contains(&sound), "{sound}");
    world.finish();
}

#[test]
fn muting_and_unpublishing_reach_the_other_shard() {
    let (mut world, alice, carol) = pair(12, Codec::Vp8);
    let participant = world.browsers[alice].participant;
    let track = world.camera(alice);
    for muted in [true, false, true, false] {
        world.command(Command::Mute {
            participant,
            track,
            muted,
        });
        world.run_ms(300);
        let count = frames_in(&mut world, carol, 1500);
        if muted {
            assert_eq!(count, 0);
            let reason = PauseReason::Muted;
            let state = StreamState::Paused { reason };
            assert_eq!(world.state(carol, track), Some(state));
        } else {
            assert!(count > 35, "{count}");
        }
    }
    world.command(Command::Unpublish { participant, track });
    world.run_ms(100);
    assert_eq!(frames_in(&mut world, carol, 1000), 0);
    let since = world.now - Duration::from_millis(1000);
    let sound = world.browsers[carol].audio(0);
    assert!(sound.frames_since(since).len() > 45);
    let ended = |event: &Event| matches!(event, Event::TrackUnpublished { track: ended, .. } if *ended == track);
    let told = world.events.iter().filter(|(_, event)| ended(event));
    assert_eq!(told.count(), 1);
    world.finish();
}

#[test]
fn programs_follow_who_speaks_on_any_shard() {
    let mut world = World::on_shards(13, 3);
    let people: Vec<Who> = (0u16..)
        .zip(["a", "b", "c"])
        .map(|(shard, name)| world.join_on(shard, person(name)))
        .collect();
    let viewers: Vec<Who> = (0..3)
        .map(|shard| world.join_on(shard, Options::new("v").slots(1, 1).wants(Wants::Program)))
        .collect();
    for speaker in [0, 2, 1, 0, 1] {
        for (index, who) in people.iter().enumerate() {
            let level = if index == speaker { 10 } else { 90 };
            let senders = &mut world.browsers[*who].senders;
            senders.iter_mut().for_each(|sender| sender.level = level);
        }
        world.run_ms(3500);
        let since = world.now;
        world.run_ms(500);
        for viewer in &viewers {
            let (audio, video) = (
                world.browsers[*viewer].audio(0),
                world.browsers[*viewer].video(0),
            );
            for frames in [audio.frames_since(since), video.frames_since(since)] {
                let shown = frames.last().map(|frame| usize::from(frame.source >> 8));
                assert_eq!(shown, Some(people[speaker]));
            }
        }
    }
    // Levels of all three are told, by one shard.
    for who in &people {
        let id = world.browsers[*who].participant;
        let speaks = |event: &Event| {
            matches!(event, Event::SpeakersChanged { levels, .. }
            if levels.iter().any(|(who, level)| *who == id && *level > 0.1))
        };
        assert!(world.events.iter().any(|(_, event)| speaks(event)));
    }
    let told = |(_, event): &&(_, Event)| matches!(event, Event::SpeakersChanged { .. });
    let told = world.events.iter().filter(told).count();
    assert!(told < 5 * 21, "{told} times in 20 s");
    world.finish();
}

#[test]
fn the_loudest_of_all_shards_get_the_slots() {
    let mut world = World::on_shards(14, 2);
    let people: Vec<Who> = (0u16..)
        .zip(["a", "b", "c", "d", "e"])
        .map(|(number, name)| world.join_on(number % 2, Options::new(name).microphone()))
        .collect();
    let listeners: Vec<Who> = (0..2)
        .map(|shard| world.join_on(shard, Options::new("l").slots(2, 0)))
        .collect();
    for loud in [[0, 3], [1, 4], [2, 3]] {
        for &who in &people {
            let level = if loud.contains(&who) { 10 } else { 100 };
            world.browsers[who].senders[0].level = level;
        }
        world.run_ms(4000);
        let since = world.now;
        world.run_ms(500);
        for listener in &listeners {
            let mut heard: Vec<usize> = (0..2)
                .flat_map(|place| world.browsers[*listener].audio(place).frames_since(since))
                .map(|frame| usize::from(frame.source >> 8))
                .collect();
            heard.sort_unstable();
            heard.dedup();
            assert_eq!(heard, loud);
        }
    }
    world.finish();
}

#[test]
fn one_participant_can_be_watched_by_name_from_another_shard() {
    let mut world = World::on_shards(15, 2);
    let people = ["a", "b", "c"].map(|name| world.join(person(name)));
    let wants = Wants::Participant("b".to_owned());
    let viewer = world.join_on(1, Options::new("v").slots(1, 1).wants(wants));
    assert_eq!(source(&mut world, viewer, 1500), Some(people[1]));
    // What nobody there watches does not cross: of six tracks two do.
    let before = crossed(&world);
    let arrived = |world: &World| {
        let browser = &world.browsers[viewer];
        browser.audio(0).arrived.len() + browser.video(0).arrived.len()
    };
    world.run_ms(2000);
    let start = arrived(&world);
    let crossed_before = crossed(&world);
    world.run_ms(1000);
    let more = (crossed(&world) - crossed_before) as usize;
    assert!(more.abs_diff(arrived(&world) - start) <= 6);
    assert!(before > 0);
    world.finish();
}

#[test]
fn messages_reach_everyone() {
    let mut world = World::on_shards(16, 2);
    let alice = world.join(Options::new("alice").data());
    let bob = world.join(Options::new("bob").data());
    let carol = world.join_on(1, Options::new("carol").data());
    world.run_ms(1500);
    let channels = world.browsers[carol].channels.as_mut().unwrap();
    channels.send(RELIABLE, b"hello");
    let now = world.now;
    world.browsers[carol].send_data(now);
    world.run_ms(500);
    let sender = world.browsers[carol].participant;
    let came = world.events.iter().any(|(_, event)| {
        matches!(event, Event::DataReceived { participant, .. } if *participant == sender)
    });
    assert!(came);
    world.command(Command::SendData {
        room: world.room,
        to: None,
        except: Some(sender),
        channel: DataChannel::Reliable,
        message: Bytes::from_static(b"to all"),
    });
    let to = Some(vec![
        world.browsers[alice].participant,
        world.browsers[carol].participant,
    ]);
    world.command(Command::SendData {
        room: world.room,
        to,
        except: None,
        channel: DataChannel::Reliable,
        message: Bytes::from_static(b"to two"),
    });
    world.run_ms(500);
    let got = |who: Who, text: &str| {
        let channels = world.browsers[who].channels.as_ref().unwrap();
        let message = (RELIABLE, text.as_bytes().to_vec());
        channels.received.iter().filter(|m| **m == message).count()
    };
    assert_eq!(
        [alice, bob, carol].map(|who| (got(who, "to all"), got(who, "to two"))),
        [(1, 1), (1, 0), (0, 1)]
    );
    world.finish();
}

#[test]
fn a_change_of_layers_is_told_once() {
    let (mut world, alice, _) = pair(17, Codec::Vp8);
    let changes = |world: &World| {
        let changed = |event: &Event| matches!(event, Event::TrackChanged { .. });
        let events = world.events.iter();
        events.filter(|(_, event)| changed(event)).count()
    };
    let before = changes(&world);
    world.browsers[alice].senders[2].is_active = false;
    world.run_ms(2500);
    assert_eq!(changes(&world) - before, 1);
    world.finish();
}

#[test]
fn lost_shipments_heal_with_the_next_keyframe() {
    let (mut world, _, carol) = pair(18, Codec::Vp8);
    world.loses_shipments = true;
    world.run_ms(300);
    world.loses_shipments = false;
    world.run_ms(1000);
    let media = world.browsers[carol].video(0).media;
    world.browsers[carol].ask_for_keyframe(media);
    let count = frames_in(&mut world, carol, 1500);
    assert!(count > 40, "{count}");
    let recent = world.browsers[carol].video(0).frames();
    assert!(recent.iter().rev().take(45).any(|frame| frame.keyframe));
}

#[test]
fn a_shard_made_anew_disturbs_only_its_own() {
    let mut world = World::on_shards(19, 3);
    let alice = world.join(person("alice").slots(2, 2));
    let bob = world.join_on(1, person("bob").slots(2, 2));
    let carol = world.join_on(2, person("carol").slots(2, 2));
    world.run_ms(2500);
    // A continuation goes: its people are gone, everybody else goes on.
    world.restart_shard(1);
    world.run_ms(100);
    let since = world.now;
    world.run_ms(1500);
    let sources = |world: &World, who: Who, since| {
        let browser = &world.browsers[who];
        let frames = (0..2).flat_map(|place| browser.video(place).frames_since(since));
        let mut sources: Vec<usize> = frames.map(|frame| usize::from(frame.source >> 8)).collect();
        sources.sort_unstable();
        sources.dedup();
        sources
    };
    assert_eq!(sources(&world, alice, since), [carol]);
    assert_eq!(sources(&world, carol, since), [alice]);
    assert_eq!(world.metric("plenum_cascade_tracks"), 4);
    // Someone joins there again.
    let dave = world.join_on(1, person("dave").slots(2, 2));
    world.run_ms(2000);
    let since = world.now;
    world.run_ms(1000);
    assert_eq!(sources(&world, dave, since), [alice, carol]);
    assert_eq!(sources(&world, alice, since), [carol, dave]);
    assert_eq!(sources(&world, carol, since), [alice, dave]);
    // The home goes: the continuations find each other as before, and whoever joins it finds them.
    world.restart_shard(0);
    world.run_ms(100);
    let since = world.now;
    world.run_ms(1500);
    assert_eq!(sources(&world, carol, since), [dave]);
    let erin = world.join(person("erin").slots(2, 2));
    world.run_ms(2000);
    let since = world.now;
    world.run_ms(1000);
    assert_eq!(sources(&world, erin, since), [carol, dave]);
    assert_eq!(sources(&world, carol, since), [dave, erin]);
    assert!(world.browsers[bob].is_gone);
    world.finish();
}

#[test]
fn a_closed_room_leaves_nothing_on_any_shard() {
    let mut world = World::on_shards(21, 3);
    let all: Vec<Who> = (0u16..)
        .zip(["a", "b", "c"])
        .map(|(shard, name)| world.join_on(shard, person(name).slots(2, 2)))
        .collect();
    world.run_ms(2000);
    for who in all {
        world.browsers[who].is_gone = true;
    }
    let room = world.room;
    world.command(Command::CloseRoom { room });
    world.run_ms(500);
    for gauge in [
        "plenum_shard_rooms",
        "plenum_peers",
        "plenum_tracks",
        "plenum_subscriptions",
        "plenum_cascade_rooms",
        "plenum_cascade_tracks",
    ] {
        assert_eq!(world.metric(gauge), 0, "{gauge}");
    }
    world.finish();
}

#[test]
fn people_come_and_go_on_all_shards_without_a_trace() {
    let mut world = World::on_shards(22, 3);
    let watcher = world.join(Options::new("w").slots(3, 3));
    for round in 0..12u64 {
        let who: Vec<Who> = (0..3)
            .map(|shard| world.join_on(shard, person("x").slots(2, 2)))
            .collect();
        world.run_ms(100 + 130 * (round % 7));
        for who in who {
            world.leave(who);
            world.run_ms(20);
        }
    }
    world.run_ms(300);
    for gauge in [
        "plenum_tracks",
        "plenum_cascade_tracks",
        "plenum_cascade_rooms",
    ] {
        assert_eq!(world.metric(gauge), 0, "{gauge}");
    }
    assert_eq!(world.metric("plenum_peers"), 1);
    assert!(world.browsers[watcher].is_connected());
    world.finish();
}

#[test]
fn the_same_seed_gives_the_same_trace_on_several_shards() {
    let run = |seed| {
        let mut world = World::on_shards(seed, 3);
        for (shard, name) in [(0, "a"), (1, "b"), (2, "c"), (1, "d")] {
            world.join_on(shard, person(name).slots(3, 3));
        }
        world.run_ms(500);
        let lossy = Link {
            loss: 0.05,
            jitter: Duration::from_millis(20),
            reorder: 0.02,
            duplicate: 0.02,
            ..Link::GOOD
        };
        (0..4).for_each(|who| world.link(who, lossy, lossy));
        world.run_ms(2500);
        world.finish()
    };
    assert_eq!(run(77), run(77));
    assert_ne!(run(77), run(78));
}
