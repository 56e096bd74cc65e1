//! The annex beside real threads: what a program of this process publishes and hears crosses them.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::too_many_lines,
    reason = "a test of real threads, which fails by panicking"
)]

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nix::sys::eventfd::EventFd;
use sfu::annex::{OwnPacket, OwnTrack};
use sfu::{
    AnnexPort, Codec, Command, Config, Event, JoinOptions, MediaGrants, RoomConfig, Sfu, Source,
    Wants,
};

const PATIENCE: Duration = Duration::from_secs(10);

/// Turns the port until something holds.
fn turn(port: &mut AnnexPort, quiet: &EventFd, mut until: impl FnMut(&mut AnnexPort) -> bool) {
    let begun = Instant::now();
    while !until(port) {
        assert!(begun.elapsed() < PATIENCE, "nothing comes of it");
        port.send(Instant::now());
        port.wait(Some(Duration::from_millis(5)), quiet.as_fd());
        port.receive();
    }
    port.send(Instant::now());
}

#[test]
fn the_service_and_the_annex_hear_of_each_other() {
    let config = Config {
        udp_port: 0,
        tcp_port: 0,
        shards: 2,
        ..Config::default()
    };
    let (sfu, mut events, mut port) = Sfu::start_with(config, None).unwrap();
    let quiet = EventFd::new().unwrap();
    assert_eq!((sfu.udp_ports().len(), port.index()), (2, 2));
    let room = sfu.create_room(RoomConfig::default());
    let participant = sfu.next_annexed();
    let options = JoinOptions {
        identity: "encoder".to_owned(),
        grants: MediaGrants::default(),
        wants: Wants::Nothing,
    };
    sfu.send(Command::Join {
        room,
        participant,
        options,
    })
    .unwrap();
    let track = port.annex().publish(OwnTrack {
        room,
        participant,
        identity: "encoder".to_owned(),
        source: Source::Microphone,
        codec: Codec::Opus,
        width: 0,
        height: 0,
    });
    turn(&mut port, &quiet, |_| true);
    let published = events.recv().unwrap();
    assert!(
        matches!(published, Event::TrackPublished { participant: who, .. } if who == participant)
    );
    // Nobody wants it, so it goes nowhere, which is no error.
    let packet = OwnPacket {
        timestamp: 0,
        marker: false,
        arrival: Instant::now(),
        audio_level: Some(30),
        payload: Bytes::from_static(b"\x78sound"),
    };
    port.annex().send(track, packet);
    sfu.send(Command::Leave { participant }).unwrap();
    let mut is_removed = false;
    turn(&mut port, &quiet, |port| {
        while let Some(heard) = port.annex().poll_heard() {
            is_removed |= heard == sfu::annex::Heard::Removed { participant };
        }
        is_removed
    });
    let ended = events.recv().unwrap();
    assert!(matches!(ended, Event::TrackUnpublished { track: id, .. } if id == track));
    // A closed room reaches it from the shard on which the room began.
    port.annex().enter(room);
    turn(&mut port, &quiet, |port| port.annex().is_in(room));
    sfu.send(Command::CloseRoom { room }).unwrap();
    turn(&mut port, &quiet, |port| !port.annex().is_in(room));
    assert!(!port.is_stopped());
    sfu.shutdown();
    assert!(port.is_stopped());
    // What sleeps without a time is woken by the end.
    port.wait(None, quiet.as_fd());
}
