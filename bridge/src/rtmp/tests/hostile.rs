//! Peers that want our memory or our time.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::wire::{Answer, Encoder, Wire, picture, slice};
use crate::flv::write;
use crate::rtmp::amf::{AmfError, Value, object};
use crate::rtmp::chunk::ChunkError;
use crate::rtmp::fuzz;
use crate::rtmp::handshake::HandshakeError;
use crate::rtmp::ingest::{Ending, Event, Ingest, IngestError};
use crate::rtmp::message::kind;

fn failed(encoder: &Encoder) -> &IngestError {
    match encoder.ending() {
        Some(Ending::Failed(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// A header of form 0 for chunk streams from 64.
fn claim(chunk_stream: u16, length: u32) -> Vec<u8> {
    let id = (chunk_stream - 64).to_le_bytes();
    let length = length.to_be_bytes();
    vec![
        1, id[0], id[1], 0, 0, 0, length[1], length[2], length[3], 9, 1, 0, 0, 0,
    ]
}

#[test]
fn giant_chunks_are_refused() {
    let mut encoder = Encoder::new();
    encoder.control(kind::SET_CHUNK_SIZE, &0x7fff_ffff_u32.to_be_bytes());
    assert_eq!(failed(&encoder), &ChunkError::ChunkSize(0x7fff_ffff).into());
}

#[test]
fn giant_messages_are_refused_before_and_after_the_key() {
    for mut encoder in [Encoder::new(), Encoder::publishing()] {
        encoder.bytes(&claim(64, (1 << 24) - 1));
        assert_eq!(
            failed(&encoder),
            &ChunkError::MessageTooLong((1 << 24) - 1).into()
        );
    }
}

#[test]
fn claims_on_many_chunk_streams_hold_what_came_and_no_more() {
    let mut encoder = Encoder::publishing();
    let mut sent = 0;
    for chunk_stream in 64..=u16::MAX {
        let bytes = [claim(chunk_stream, 4 << 20), vec![0; 128]].concat();
        sent += bytes.len();
        encoder.bytes(&bytes);
        assert!(encoder.ingest.held_bytes() <= sent);
        if encoder.ending().is_some() {
            break;
        }
    }
    assert_eq!(failed(&encoder), &ChunkError::TooManyStreams.into());
    assert!(sent < 4096);
}

#[test]
fn eight_mebibytes_are_the_most_that_is_held() {
    let mut encoder = Encoder::publishing();
    encoder.control(kind::SET_CHUNK_SIZE, &65_536_u32.to_be_bytes());
    let mut is_first = true;
    while encoder.ending().is_none() {
        for chunk_stream in 64..74 {
            let mut bytes = claim(chunk_stream, 4 << 20);
            if !is_first {
                bytes.truncate(3);
                bytes[0] |= 0xc0;
            }
            bytes.resize(bytes.len() + 65_536, 0);
            encoder.bytes(&bytes);
        }
        is_first = false;
    }
    assert_eq!(failed(&encoder), &ChunkError::HeldTooMuch.into());
    assert!(encoder.ingest.held_bytes() <= 8 << 20);
}

#[test]
fn deep_commands_are_refused() {
    let mut encoder = Encoder::new();
    let mut command = b"\x02\0\x07connect\0\0\0\0\0\0\0\0\0".to_vec();
    command.extend([3, 0, 1, b'a'].repeat(10_000));
    encoder.message(kind::COMMAND, 0, &command);
    assert_eq!(failed(&encoder), &AmfError::TooDeep.into());

    let mut encoder = Encoder::publishing();
    command.extend([3, 0, 1, b'a'].repeat(100_000));
    encoder.message(kind::COMMAND, 0, &command);
    assert_eq!(
        failed(&encoder),
        &IngestError::CommandTooLong(command.len())
    );
}

#[test]
fn media_before_the_key_is_not_looked_at_and_soon_too_much() {
    let mut encoder = Encoder::new();
    encoder.command("connect", 1.0, &[object([("app", "live".into())])]);
    encoder.command("publish", 2.0, &[Value::Null, "room".into()]);
    // Neither that it is HEVC nor that it is broken matters yet.
    encoder.message(kind::VIDEO, 0, b"\x90hvc1");
    encoder.message(kind::VIDEO, 0, b"\x17\0\0\0\0broken");
    encoder.message(kind::DATA, 0, &[0xff; 50]);
    assert!(matches!(
        encoder.events.as_slice(),
        [Event::PublishRequested(_)]
    ));
    let picture = [b"\x17\x01\0\0\0".as_slice(), &slice(true, 4000)].concat();
    for _ in 0..20 {
        encoder.message(kind::VIDEO, 0, &picture);
    }
    assert_eq!(failed(&encoder), &IngestError::TooEarly);
    assert_eq!(encoder.media(), []);
}

#[test]
fn a_handshake_has_ten_seconds_however_it_drips() {
    let mut now = Instant::now();
    let mut ingest = Ingest::new(now, ([127, 0, 0, 1], 1).into(), 1);
    for second in 0..10 {
        assert_eq!(ingest.poll_event(), None, "after {second} s");
        ingest.handle_bytes(now, &[3; 100]);
        now += Duration::from_secs(1);
        ingest.handle_timeout(now);
    }
    let ended = Event::Ended(Ending::Failed(IngestError::TooSlow));
    assert_eq!(
        (ingest.poll_event(), ingest.poll_transmit()),
        (Some(ended), None)
    );
}

#[test]
fn other_protocols_are_not_answered() {
    let now = Instant::now();
    let mut ingest = Ingest::new(now, ([127, 0, 0, 1], 1).into(), 1);
    ingest.handle_bytes(now, b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(ingest.poll_transmit(), None);
    let ended = ingest.poll_event();
    let is_handshake = matches!(
        ended,
        Some(Event::Ended(Ending::Failed(IngestError::Handshake(
            HandshakeError { .. }
        ))))
    );
    assert!(is_handshake, "{ended:?}");
}

#[test]
fn nothing_comes_after_the_end() {
    let mut encoder = Encoder::publishing();
    encoder.command("deleteStream", 0.0, &[Value::Null, 1.0.into()]);
    assert_eq!(encoder.ending(), Some(&Ending::Unpublished));
    let events = encoder.events.len();
    encoder.heard.clear();
    encoder.command("connect", 1.0, &[object([("app", "live".into())])]);
    encoder
        .ingest
        .handle_timeout(encoder.now + Duration::from_secs(60));
    encoder.drain();
    assert_eq!((encoder.events.len(), encoder.heard.len()), (events, 0));
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        fuzz::rtmp_chunk(&bytes);
        fuzz::amf0(&bytes);
        fuzz::ingest(Instant::now(), &bytes);
    }
}

#[test]
fn functions_for_fuzzing_reach_media() {
    let mut wire = Wire::new(true, Answer::Accept, vec![5000]);
    wire.settle();
    wire.push.send_video(&picture(0, true, 100));
    wire.settle();
    assert!(wire.media().len() > 2);
    let recorded = [&[255], &wire.recorded[1 + 2 * 1536..]].concat();
    fuzz::ingest(wire.now, &recorded);
    crate::flv::fuzz::flv_tag(&write::tag(9, 0, b"\x17\0\0\0\0"));
}
