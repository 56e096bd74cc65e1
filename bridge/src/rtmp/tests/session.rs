//! Commands, keys, answers, time limits.

use std::time::Duration;

use super::wire::{Answer, Encoder, Wire};
use crate::rtmp::amf::{Value, object};
use crate::rtmp::ingest::{Ending, Event, IngestError, Refusal, RefusalCode};
use crate::rtmp::key::KeyError;
use crate::rtmp::message::kind;
use crate::rtmp::push::{PushError, PushEvent};

fn refusal(code: RefusalCode, description: &str) -> Answer {
    Answer::Refuse(Refusal {
        code,
        description: description.to_owned(),
    })
}

#[test]
fn a_push_is_let_in() {
    let mut wire = Wire::new(true, Answer::Accept, vec![1, 7, 1000]);
    wire.settle();
    assert_eq!(wire.push_events, [PushEvent::Live]);
    let [Event::PublishRequested(request)] = wire.ingest_events.as_slice() else {
        panic!("{:?}", wire.ingest_events)
    };
    assert_eq!(
        (request.room.as_str(), request.token.as_deref()),
        ("room", Some("secret"))
    );
    assert!(!format!("{request:?}").contains("secret"));
    wire.push.finish();
    wire.settle();
    assert_eq!(
        wire.ingest_events.last(),
        Some(&Event::Ended(Ending::Unpublished))
    );
}

#[test]
fn a_wrong_key_is_told_from_a_taken_one() {
    let said = "the token room?token=secret has expired";
    let mut wire = Wire::new(true, refusal(RefusalCode::Denied, said), vec![100]);
    wire.settle();
    let heard = "NetStream.Publish.Denied the token (key) has expired".to_owned();
    assert_eq!(
        wire.push_events,
        [PushEvent::Ended(PushError::Unauthorised(heard))]
    );

    let mut wire = Wire::new(
        true,
        refusal(RefusalCode::BadName, "somebody is there"),
        vec![100],
    );
    wire.settle();
    let heard = "NetStream.Publish.BadName somebody is there".to_owned();
    assert_eq!(
        wire.push_events,
        [PushEvent::Ended(PushError::Refused(heard))]
    );
}

#[test]
fn other_applications_lead_nowhere() {
    let mut encoder = Encoder::new();
    encoder.command("connect", 1.0, &[object([("app", "vod".into())])]);
    assert_eq!(
        encoder.ending(),
        Some(&Ending::Failed(KeyError::Application.into()))
    );
    assert!(encoder.has_heard("NetConnection.Connect.InvalidApp"));
}

#[test]
fn players_are_sent_elsewhere() {
    let mut encoder = Encoder::new();
    encoder.command("connect", 1.0, &[object([("app", "live".into())])]);
    encoder.command("play", 2.0, &[Value::Null, "room".into()]);
    assert_eq!(encoder.ending(), Some(&Ending::Failed(IngestError::Play)));
    assert!(encoder.has_heard("watch by HLS"));
}

#[test]
fn publishing_twice_is_out_of_turn() {
    let mut encoder = Encoder::publishing();
    encoder.command("publish", 4.0, &[Value::Null, "other".into()]);
    assert_eq!(
        encoder.ending(),
        Some(&Ending::Failed(IngestError::OutOfTurn("publish")))
    );
    let mut encoder = Encoder::new();
    encoder.command("publish", 4.0, &[Value::Null, "other".into()]);
    assert_eq!(
        encoder.ending(),
        Some(&Ending::Failed(IngestError::OutOfTurn("publish")))
    );
}

#[test]
fn an_encoder_that_says_goodbye_is_done_and_hears_nothing() {
    for goodbye in ["FCUnpublish", "deleteStream", "closeStream"] {
        let mut encoder = Encoder::publishing();
        encoder.heard.clear();
        encoder.command(goodbye, 5.0, &[Value::Null, "room".into()]);
        assert_eq!(encoder.ending(), Some(&Ending::Unpublished), "{goodbye}");
        // An answer that nobody reads resets the connection.
        assert!(encoder.heard.is_empty(), "{goodbye}");
    }
}

#[test]
fn commands_for_old_servers_and_unknown_ones_are_answered() {
    let mut encoder = Encoder::new();
    encoder.command("connect", 1.0, &[object([("app", "live".into())])]);
    for command in ["releaseStream", "FCPublish", "_checkbw"] {
        encoder.heard.clear();
        encoder.command(command, 2.0, &[Value::Null, "room".into()]);
        assert!(encoder.has_heard("_result"), "{command}");
    }
    encoder.command("somethingElse", 3.0, &[]);
    assert!(encoder.has_heard("NetConnection.Call.Failed"));
    assert_eq!(encoder.events, []);
}

#[test]
fn pings_and_windows_are_answered() {
    let mut encoder = Encoder::publishing();
    encoder.heard.clear();
    encoder.control(kind::USER_CONTROL, &[0, 6, 1, 2, 3, 4]);
    assert!(
        encoder.heard.ends_with(&[0, 0, 6, 4, 0, 7, 1, 2, 3, 4]),
        "{:?}",
        encoder.heard
    );
    encoder.control(kind::WINDOW_SIZE, &1000u32.to_be_bytes());
    let acknowledgements = |encoder: &Encoder| {
        let head = [0, 0, 4, kind::ACKNOWLEDGEMENT];
        encoder
            .heard
            .windows(4)
            .filter(|window| *window == head)
            .count()
    };
    for _ in 0..3 {
        encoder.heard.clear();
        encoder.message(kind::AUDIO, 0, &[0xaf; 1100]);
        assert_eq!(acknowledgements(&encoder), 1, "{:?}", encoder.heard);
    }
    encoder.heard.clear();
    encoder.message(kind::AUDIO, 0, &[0xaf; 10]);
    assert_eq!(acknowledgements(&encoder), 0);
}

#[test]
fn publishing_has_to_be_asked_for_in_ten_seconds() {
    let mut encoder = Encoder::new();
    encoder.now += Duration::from_secs(9);
    encoder.command("connect", 1.0, &[object([("app", "live".into())])]);
    let deadline = encoder.ingest.poll_timeout().unwrap();
    encoder
        .ingest
        .handle_timeout(deadline - Duration::from_millis(1));
    encoder.drain();
    assert_eq!(encoder.ending(), None);
    assert_eq!(deadline, encoder.now + Duration::from_secs(1));
    encoder.ingest.handle_timeout(deadline);
    encoder.drain();
    assert_eq!(
        encoder.ending(),
        Some(&Ending::Failed(IngestError::TooSlow))
    );
    assert_eq!(encoder.ingest.poll_timeout(), None);
}

#[test]
fn silence_ends_after_ten_seconds() {
    let mut encoder = Encoder::publishing();
    for _ in 0..5 {
        encoder.now += Duration::from_secs(9);
        encoder.ingest.handle_timeout(encoder.now);
        encoder.message(kind::AUDIO, 0, &[]);
        assert_eq!(encoder.ending(), None);
    }
    encoder
        .ingest
        .handle_timeout(encoder.now + Duration::from_secs(10));
    encoder.drain();
    assert_eq!(encoder.ending(), Some(&Ending::Failed(IngestError::Idle)));
}

#[test]
fn a_server_that_says_nothing_is_left() {
    let mut wire = Wire::new(true, Answer::Accept, vec![100]);
    let deadline = wire.push.poll_timeout().unwrap();
    wire.push.handle_timeout(deadline);
    assert_eq!(
        wire.push.poll_event(),
        Some(PushEvent::Ended(PushError::TooSlow))
    );
    assert_eq!(deadline, wire.now + Duration::from_secs(10));
}
