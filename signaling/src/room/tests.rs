//! Rooms on virtual time: what every message and event of the core leads to.

use serde_json::{Value, json};
use sfu::{
    DataChannel, Event, Kind, MediaGrants, Mid, OfferError, PauseReason, Published, Slot, Source,
    StreamState, SubscribeChange, TrackInfo, TransportState, Wants,
};

use super::*;
use crate::auth::{Grants, RoomClaim};
use crate::limits::Rate;

/// A room, what it sent to each client, and what it told the core.
struct House {
    now: Instant,
    room: Room,
    next: u64,
    commands: Vec<Command>,
    closed: Vec<(ParticipantId, CloseCode)>,
    frames: Vec<(ParticipantId, Value)>,
    answers: Vec<ParticipantId>,
    gone: Vec<ParticipantId>,
}

fn limits() -> SessionLimits {
    SessionLimits {
        messages: Rate {
            per_second: 50,
            burst: 200,
        },
        offers: Rate {
            per_second: 5,
            burst: 10,
        },
        data: Rate {
            per_second: 200,
            burst: 400,
        },
        resume_timeout: Duration::from_secs(30),
        told: crate::message::Limits {
            audio_slots: 16,
            video_slots: 48,
            tracks: 32,
            frame_bytes: 1,
            data_bytes: 1,
            send_bytes: 1,
        },
    }
}

fn grants() -> Grants {
    Grants {
        key: "app".to_owned(),
        identity: None,
        name: String::new(),
        metadata: String::new(),
        attributes: BTreeMap::new(),
        room: Some("r".to_owned()),
        room_join: true,
        room_admin: false,
        room_create: false,
        room_list: false,
        hidden: false,
        guest: false,
        update_own_metadata: false,
        media: MediaGrants::default(),
        room_config: RoomClaim::default(),
    }
}

fn core_offer(id: u32) -> sfu::Offer {
    sfu::Offer {
        id,
        sdp: "v=0".to_owned(),
        publish: Vec::new(),
        publish_unnamed: false,
        local_address: None,
    }
}

fn track_info(id: TrackId, source: Source) -> TrackInfo {
    TrackInfo {
        id,
        kind: Kind::Video,
        source,
        name: String::new(),
        muted: false,
        codec: None,
        layers: Vec::new(),
    }
}

fn track_id(number: u64) -> TrackId {
    TrackId::new(0, number)
}

impl House {
    #[expect(
        clippy::disallowed_methods,
        reason = "virtual time starts at some moment"
    )]
    fn new() -> Self {
        let now = Instant::now();
        let settings = Settings {
            metadata: "about".to_owned(),
            participants_max: 3,
            empty_timeout: Duration::from_secs(300),
            departure_timeout: Duration::from_secs(20),
        };
        let room = Room::new(
            now,
            RoomId::new(0, 1),
            "r".to_owned(),
            settings,
            Arc::new(limits()),
        );
        Self {
            now,
            room,
            next: 0,
            commands: Vec::new(),
            closed: Vec::new(),
            frames: Vec::new(),
            answers: Vec::new(),
            gone: Vec::new(),
        }
    }

    fn admission(&mut self, identity: &str) -> Admission {
        self.next += 1;
        Admission {
            participant: ParticipantId::new(0, self.next),
            door: Door::Native,
            identity: identity.to_owned(),
            grants: grants(),
            wants: Wants::All,
            roster: Roster::All,
            features: vec!["slots".to_owned()],
            offer: None,
            resume_key: format!("key-{}", self.next),
        }
    }

    fn admit(&mut self, admission: Admission) -> ParticipantId {
        let id = admission.participant;
        self.room.join(self.now, admission).unwrap();
        self.drain();
        id
    }

    fn join(&mut self, identity: &str) -> ParticipantId {
        let admission = self.admission(identity);
        self.admit(admission)
    }

    fn drain(&mut self) {
        while let Some(output) = self.room.poll_output() {
            match output {
                Output::Command(command) => self.commands.push(command),
                Output::Message { participant, text } => {
                    self.frames
                        .push((participant, serde_json::from_str(&text).unwrap()));
                }
                Output::Speakers {
                    participant,
                    levels,
                } => {
                    self.frames
                        .push((participant, json!({ "t": "speakers", "levels": *levels })));
                }
                Output::Close { participant, code } => self.closed.push((participant, code)),
                Output::Answered { participant, .. } | Output::IceRestarted { participant, .. } => {
                    self.answers.push(participant);
                }
                Output::Gone { participant } => self.gone.push(participant),
            }
        }
    }

    /// What a client was sent since last asked.
    fn heard(&mut self, by: ParticipantId) -> Vec<Value> {
        self.drain();
        let (heard, rest) = self.frames.drain(..).partition(|(to, _)| *to == by);
        self.frames = rest;
        let heard: Vec<(ParticipantId, Value)> = heard;
        heard.into_iter().map(|(_, frame)| frame).collect()
    }

    fn heard_one(&mut self, by: ParticipantId) -> Value {
        let mut heard = self.heard(by);
        assert_eq!(heard.len(), 1, "{heard:?}");
        heard.remove(0)
    }

    fn types(&mut self, by: ParticipantId) -> Vec<String> {
        self.heard(by)
            .iter()
            .map(|frame| frame["t"].as_str().unwrap().to_owned())
            .collect()
    }

    fn say(&mut self, who: ParticipantId, message: &Value) {
        self.room.handle_text(self.now, who, &message.to_string());
        self.drain();
    }

    /// Says something that is refused; the code.
    fn refused(&mut self, who: ParticipantId, message: &Value) -> String {
        self.heard(who);
        self.say(who, message);
        let error = self.heard_one(who);
        assert_eq!(error["t"], "err", "{error}");
        assert_eq!(error["id"], message["id"], "{error}");
        error["code"].as_str().unwrap().to_owned()
    }

    fn event(&mut self, event: Event) {
        self.room.handle_event(self.now, event);
        self.drain();
    }

    fn publish(&mut self, participant: ParticipantId, number: u64) -> TrackId {
        let track = track_info(track_id(number), Source::Camera);
        self.event(Event::TrackPublished {
            room: self.room.id(),
            participant,
            track,
        });
        track_id(number)
    }

    fn take_commands(&mut self) -> Vec<Command> {
        self.drain();
        std::mem::take(&mut self.commands)
    }

    fn resume(&mut self, who: ParticipantId, key: &str, n: u64, next: &str) -> Result<(), String> {
        let resume = Resume {
            session: who.to_string(),
            key: key.to_owned(),
            n,
        };
        let outcome = self.room.resume(&resume, next.to_owned());
        self.drain();
        outcome.map_err(|error| error.code.to_string())
    }
}

#[test]
fn a_newcomer_gets_a_snapshot_and_the_others_an_event() {
    let mut house = House::new();
    let ann = house.join("ann");
    let welcome = house.heard_one(ann);
    assert_eq!(welcome["t"], "welcome");
    assert_eq!(welcome["session"], ann.to_string());
    assert_eq!(
        welcome["room"],
        json!({ "id": "r_1", "name": "r", "metadata": "about" })
    );
    assert_eq!(
        (&welcome["participants"], &welcome["n"]),
        (&json!([]), &json!(0))
    );
    assert!(
        matches!(&house.take_commands()[..], [Command::Join { participant, options, .. }]
        if *participant == ann && options.identity == "ann" && options.wants == Wants::All)
    );
    house.publish(ann, 7);
    let bob = house.join("bob");
    let welcome = house.heard_one(bob);
    assert_eq!(welcome["participants"][0]["identity"], "ann");
    assert_eq!(welcome["participants"][0]["tracks"][0]["id"], "t_7");
    let heard = house.heard(ann);
    assert_eq!(
        (&heard[0]["t"], &heard[0]["n"]),
        (&json!("published"), &json!(1))
    );
    assert_eq!(
        (&heard[1]["t"], &heard[1]["n"]),
        (&json!("joined"), &json!(2))
    );
    assert_eq!(heard[1]["participant"]["identity"], "bob");
}

#[test]
fn the_first_offer_is_answered_in_welcome() {
    let mut house = House::new();
    let admission = Admission {
        offer: Some(core_offer(1)),
        ..house.admission("ann")
    };
    let ann = house.admit(admission);
    assert!(matches!(
        house.take_commands()[..],
        [Command::Join { .. }, Command::Offer { .. }]
    ));
    let bob = house.join("bob");
    assert_eq!(house.types(bob), ["welcome"]);
    house.publish(ann, 5);
    house.event(Event::SlotsNeeded {
        participant: ann,
        audio: 1,
        video: 2,
    });
    assert!(house.heard(ann).is_empty(), "nothing before welcome");
    let mid = Mid::parse("0").unwrap();
    let answer = Ok(Answer {
        sdp: "v=0 answer".to_owned(),
        published: vec![Published {
            mid,
            track: Ok(track_id(5)),
        }],
        slots: vec![Slot {
            mid: Mid::parse("3").unwrap(),
            track: None,
            timestamp: None,
        }],
    });
    house.event(Event::Answered {
        participant: ann,
        offer: 1,
        answer,
    });
    let heard = house.heard(ann);
    let welcome = &heard[0];
    assert_eq!(
        welcome["answer"]["published"],
        json!([{ "mid": "0", "track": "t_5" }])
    );
    assert_eq!(welcome["self"]["tracks"][0]["mid"], "0");
    assert_eq!(welcome["slots"], json!({ "3": null }));
    assert_eq!(welcome["participants"][0]["identity"], "bob");
    assert_eq!(
        (&heard[1]["t"], &heard[1]["n"]),
        (&json!("need"), &json!(1))
    );
}

#[test]
fn a_bad_first_offer_still_lets_one_in() {
    let mut house = House::new();
    let admission = Admission {
        offer: Some(core_offer(4)),
        ..house.admission("ann")
    };
    let ann = house.admit(admission);
    let answer = Err(OfferError::BadSdp("line 1".to_owned()));
    house.event(Event::Answered {
        participant: ann,
        offer: 4,
        answer,
    });
    let heard = house.heard(ann);
    assert_eq!(
        (&heard[0]["t"], heard[0].get("answer")),
        (&json!("welcome"), None)
    );
    assert_eq!(
        (&heard[1]["code"], &heard[1]["id"]),
        (&json!("bad_sdp"), &json!(4))
    );
}

#[test]
fn offers_are_answered_in_turn_and_refused_out_of_turn() {
    let mut house = House::new();
    let ann = house.join("ann");
    house.heard(ann);
    let offer = |id: u32| json!({ "t": "offer", "id": id, "sdp": "v=0" });
    house.say(ann, &offer(3));
    assert!(house.heard(ann).is_empty());
    assert_eq!(house.refused(ann, &offer(3)), "stale_offer");
    assert_eq!(house.refused(ann, &offer(2)), "stale_offer");
    assert_eq!(house.refused(ann, &offer(4)), "conflict");
    for (error, code) in [
        (OfferError::BadSdp(String::new()), "bad_sdp"),
        (OfferError::LimitExceeded(String::new()), "limit_exceeded"),
        (OfferError::CodecUnsupported, "codec_unsupported"),
    ] {
        let id = house.room.sessions[&ann].offers.outstanding.unwrap();
        house.event(Event::Answered {
            participant: ann,
            offer: id,
            answer: Err(error),
        });
        assert_eq!(house.heard_one(ann)["code"], code);
        house.say(ann, &offer(id + 1));
    }
    let two_forms = json!({ "t": "offer", "id": 90, "sdp": "v=0", "sdpz": "" });
    assert_eq!(house.refused(ann, &two_forms), "conflict");
    house.now += Duration::from_secs(10);
    let codes: Vec<_> = (0..11).map(|_| house.refused(ann, &offer(1))).collect();
    assert_eq!(codes[9], "stale_offer");
    assert_eq!(codes[10], "rate_limited");
}

#[test]
fn a_refused_publication_names_its_reason() {
    let mut house = House::new();
    let ann = house.join("ann");
    house.say(ann, &json!({ "t": "offer", "id": 1, "sdp": "v=0" }));
    house.heard(ann);
    let refused = [
        (sfu::PublishError::Denied, "publish_denied"),
        (sfu::PublishError::NoSuchSection, "not_found"),
        (sfu::PublishError::LimitExceeded, "limit_exceeded"),
        (sfu::PublishError::CodecUnsupported, "codec_unsupported"),
    ];
    let mid = Mid::parse("0").unwrap();
    let published = refused
        .iter()
        .map(|(error, _)| Published {
            mid,
            track: Err(error.clone()),
        })
        .collect();
    let answer = Ok(Answer {
        sdp: String::new(),
        published,
        slots: Vec::new(),
    });
    house.event(Event::Answered {
        participant: ann,
        offer: 1,
        answer,
    });
    let answer = house.heard_one(ann);
    for (index, (_, code)) in refused.iter().enumerate() {
        assert_eq!(answer["published"][index]["error"], *code);
    }
}

#[test]
fn broken_messages_are_refused_and_harm_nobody() {
    let mut house = House::new();
    let (ann, bob) = (house.join("ann"), house.join("bob"));
    house.heard(ann);
    house.heard(bob);
    for (text, code) in [
        ("", "bad_message"),
        ("{", "bad_message"),
        ("[]", "bad_message"),
        ("null", "bad_message"),
        ("{}", "bad_message"),
        (r#"{"t":5}"#, "bad_message"),
        (r#"{"t":"offer"}"#, "bad_message"),
        (r#"{"t":"offer","id":"x","sdp":""}"#, "bad_message"),
        (r#"{"t":"offer","id":-1,"sdp":""}"#, "bad_message"),
        (r#"{"t":"allow","id":1}"#, "unknown_type"),
        (r#"{"t":"report"}"#, "unknown_type"),
        (r#"{"t":"","id":1}"#, "unknown_type"),
        (r#"{"t":"hello","v":[1]}"#, "conflict"),
        (r#"{"t":"subscribe","id":1}"#, "bad_message"),
        (
            r#"{"t":"subscribe","id":1,"all":true,"set":{}}"#,
            "bad_message",
        ),
        (r#"{"t":"subscribe","id":1,"set":{"x":true}}"#, "not_found"),
        (r#"{"t":"unpublish","id":1,"track":"t_9"}"#, "not_found"),
        (
            r#"{"t":"track","id":1,"track":"","muted":true}"#,
            "not_found",
        ),
        (r#"{"t":"view","set":{"nonsense":{}}}"#, "not_found"),
        (r#"{"t":"view","set":{"t_1":{"w":70000}}}"#, "bad_message"),
        (r#"{"t":"send","id":1}"#, "bad_message"),
        (r#"{"t":"send","id":1,"data64":"*"}"#, "bad_message"),
        (r#"{"t":"self","id":1,"metadata":"x"}"#, "forbidden"),
    ] {
        house.room.handle_text(house.now, ann, text);
        let error = house.heard_one(ann);
        assert_eq!(error["code"], code, "{text}");
    }
    house.say(ann, &json!({ "t": "ping", "ts": 12.5 }));
    assert_eq!(house.heard_one(ann), json!({ "t": "pong", "ts": 12.5 }));
    assert!(house.heard(bob).is_empty());
    let id = "an id is named even where the rest is broken";
    house
        .room
        .handle_text(house.now, ann, r#"{"t":"unpublish","id":77}"#);
    assert_eq!(house.heard_one(ann)["id"], 77, "{id}");
}

#[test]
fn too_much_of_anything_is_refused() {
    let mut house = House::new();
    let mut admission = house.admission("ann");
    admission.grants.update_own_metadata = true;
    let ann = house.admit(admission);
    house.publish(ann, 1);
    let long = |bytes: usize| "x".repeat(bytes);
    let many: BTreeMap<_, _> = (0..513).map(|n| (track_id(n).to_string(), true)).collect();
    let views: BTreeMap<_, _> = (0..513)
        .map(|n| (track_id(n).to_string(), json!({})))
        .collect();
    for (message, code) in [
        (
            json!({ "t": "subscribe", "id": 1, "set": many }),
            "limit_exceeded",
        ),
        (json!({ "t": "view", "set": views }), "limit_exceeded"),
        (
            json!({ "t": "track", "id": 1, "track": "t_1", "name": long(257) }),
            "too_large",
        ),
        (
            json!({ "t": "self", "id": 1, "name": long(257) }),
            "too_large",
        ),
        (
            json!({ "t": "self", "id": 1, "metadata": long(65537) }),
            "too_large",
        ),
        (
            json!({ "t": "self", "id": 1, "attributes": { "a": long(65536) } }),
            "too_large",
        ),
        (
            json!({ "t": "send", "id": 1, "data": long(16385) }),
            "too_large",
        ),
        (
            json!({ "t": "send", "id": 1, "data": "", "topic": long(129) }),
            "too_large",
        ),
    ] {
        assert_eq!(house.refused(ann, &message), code);
    }
}

#[test]
fn a_flood_ends_the_session_and_nobody_else() {
    let mut house = House::new();
    let (ann, bob) = (house.join("ann"), house.join("bob"));
    house.heard(bob);
    for _ in 0..201 {
        house.say(ann, &json!({ "t": "ping", "ts": 0 }));
    }
    let heard = house.heard(ann);
    let last = heard.last().unwrap();
    assert_eq!(last["code"], "rate_limited");
    assert!(last["retryAfterMs"].as_u64().unwrap() > 0);
    assert_eq!(house.closed, [(ann, CloseCode::RateLimited)]);
    assert_eq!(house.gone, [ann]);
    assert_eq!(house.types(bob), ["left"]);
    house.say(bob, &json!({ "t": "ping", "ts": 0 }));
    assert_eq!(house.types(bob), ["pong"]);
}

#[test]
fn the_same_identity_again_replaces_the_older_session() {
    let mut house = House::new();
    let (old, bob) = (house.join("ann"), house.join("bob"));
    house.heard(old);
    house.heard(bob);
    house.take_commands();
    let new = house.join("ann");
    assert_eq!(
        house.heard_one(old),
        json!({ "t": "bye", "code": "duplicate_identity" })
    );
    assert_eq!(house.closed, [(old, CloseCode::Duplicate)]);
    let commands = house.take_commands();
    assert!(
        matches!(commands[..], [Command::Leave { participant }, Command::Join { .. }]
        if participant == old)
    );
    let heard = house.heard(bob);
    assert_eq!(
        (&heard[0]["t"], &heard[0]["reason"]),
        (&json!("left"), &json!("duplicate_identity"))
    );
    assert_eq!(heard[1]["t"], "joined");
    assert_eq!(house.room.participant("ann").unwrap().id, new.to_string());
}

#[test]
fn a_full_room_refuses_all_but_who_is_in_it() {
    let mut house = House::new();
    for identity in ["a", "b", "c"] {
        house.join(identity);
    }
    let admission = house.admission("d");
    let refusal = house.room.join(house.now, admission).unwrap_err();
    assert_eq!(refusal.code, ErrorCode::RoomFull);
    let admission = house.admission("a");
    assert!(house.room.join(house.now, admission).is_ok());
}

#[test]
fn a_lost_socket_is_resumed_with_what_was_missed() {
    let mut house = House::new();
    let (ann, bob) = (house.join("ann"), house.join("bob"));
    let seen = house
        .heard(ann)
        .iter()
        .filter_map(|frame| frame["n"].as_u64())
        .max()
        .unwrap();
    house.room.detach(house.now, ann);
    let track = house.publish(bob, 4);
    house.event(Event::TrackUnpublished {
        room: house.room.id(),
        participant: bob,
        track,
    });
    assert!(house.heard(ann).is_empty());
    house.now += Duration::from_secs(29);
    house.room.handle_timeout(house.now);
    assert_eq!(
        house.resume(ann, "wrong", seen, "next"),
        Err("resume_unknown".to_owned())
    );
    assert_eq!(house.resume(ann, "key-1", seen, "next"), Ok(()));
    let heard = house.heard(ann);
    assert_eq!(
        (&heard[0]["resumed"], &heard[0]["resync"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(
        (&heard[0]["resumeKey"], &heard[0]["n"]),
        (&json!("next"), &json!(seen))
    );
    let events: Vec<_> = heard[1..]
        .iter()
        .map(|frame| (&frame["t"], &frame["n"]))
        .collect();
    let (first, second) = (json!(seen + 1), json!(seen + 2));
    assert_eq!(
        events,
        [
            (&json!("published"), &first),
            (&json!("unpublished"), &second)
        ]
    );
    assert_eq!(
        house.resume(ann, "key-1", seen, "x"),
        Err("resume_unknown".to_owned())
    );
    assert_eq!(house.resume(ann, "next", seen + 2, "x"), Ok(()));
}

#[test]
fn after_too_many_events_a_resume_is_a_fresh_snapshot() {
    let mut house = House::new();
    let (ann, bob) = (house.join("ann"), house.join("bob"));
    house.heard(ann);
    house.room.detach(house.now, ann);
    let track = house.publish(bob, 4);
    for round in 0..300 {
        house.now += Duration::from_millis(100);
        let muted = round % 2 == 0;
        house.say(
            bob,
            &json!({ "t": "track", "id": round, "track": "t_4", "muted": muted }),
        );
    }
    assert_eq!(house.resume(ann, "key-1", 1, "next"), Ok(()));
    let welcome = house.heard_one(ann);
    assert_eq!(
        (&welcome["resumed"], &welcome["resync"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(
        welcome["participants"][0]["tracks"][0]["id"],
        track.to_string()
    );
    assert_eq!(welcome["n"], 302);
    house.room.detach(house.now, ann);
    assert_eq!(
        house.resume(ann, "next", 9999, "more"),
        Ok(()),
        "a number from the future"
    );
    assert_eq!(house.heard_one(ann)["resync"], true);
}

#[test]
fn a_session_that_is_not_resumed_ends_after_thirty_seconds() {
    let mut house = House::new();
    let (ann, bob) = (house.join("ann"), house.join("bob"));
    house.heard(bob);
    house.room.detach(house.now, ann);
    house.now += Duration::from_secs(30);
    house.room.handle_timeout(house.now);
    let left = house.heard_one(bob);
    assert_eq!(
        (&left["id"], &left["reason"]),
        (&json!(ann.to_string()), &json!("connection_lost"))
    );
    assert_eq!(
        house.resume(ann, "key-1", 0, "x"),
        Err("resume_unknown".to_owned())
    );
    assert!(
        house
            .take_commands()
            .contains(&Command::Leave { participant: ann })
    );
}

#[test]
fn leaving_is_said_back_and_told() {
    let mut house = House::new();
    let (ann, bob) = (house.join("ann"), house.join("bob"));
    house.heard(ann);
    house.heard(bob);
    house.say(ann, &json!({ "t": "leave" }));
    assert_eq!(house.heard_one(ann), json!({ "t": "bye" }));
    assert_eq!(house.closed, [(ann, CloseCode::Normal)]);
    assert_eq!(house.heard_one(bob)["reason"], "left");
    house.say(ann, &json!({ "t": "ping", "ts": 0 }));
    assert!(house.heard(ann).is_empty());
    house.say(bob, &json!({ "t": "leave" }));
    assert!(!house.room.is_over(house.now));
    assert!(house.room.is_over(house.now + Duration::from_secs(20)));
}

#[test]
fn a_room_nobody_joins_ends_later() {
    let mut house = House::new();
    assert!(!house.room.is_over(house.now + Duration::from_secs(299)));
    assert!(house.room.is_over(house.now + Duration::from_secs(300)));
    house.join("ann");
    assert!(!house.room.is_over(house.now + Duration::from_secs(9999)));
}

#[test]
fn tracks_are_muted_renamed_and_ended_by_their_publisher_only() {
    let mut house = House::new();
    let (ann, bob) = (house.join("ann"), house.join("bob"));
    let track = house.publish(ann, 4);
    house.heard(ann);
    house.heard(bob);
    house.take_commands();
    let mute = json!({ "t": "track", "id": 1, "track": "t_4", "muted": true, "name": "desk" });
    assert_eq!(house.refused(bob, &mute), "not_found");
    house.say(ann, &mute);
    assert_eq!(house.types(ann), ["track", "ok"]);
    let told = house.heard_one(bob);
    assert_eq!(told["patch"], json!({ "muted": true, "name": "desk" }));
    assert_eq!(
        house.take_commands(),
        [Command::Mute {
            participant: ann,
            track,
            muted: true
        }]
    );
    // The core's own idea of these two does not undo them.
    let mut info = track_info(track, Source::Camera);
    info.codec = Some(sfu::Codec::Vp8);
    let layer = |bitrate_bps| sfu::LayerInfo {
        rid: None,
        live: true,
        width: 1,
        height: 1,
        bitrate_bps,
    };
    info.layers = vec![layer(5)];
    let room = house.room.id();
    house.event(Event::TrackChanged {
        room,
        participant: ann,
        track: info.clone(),
    });
    let patch = &house.heard_one(bob)["patch"];
    assert_eq!((patch.get("muted"), patch.get("name")), (None, None));
    assert_eq!(patch["codec"], "vp8");
    info.layers = vec![layer(6)];
    house.event(Event::TrackChanged {
        room,
        participant: ann,
        track: info,
    });
    assert!(house.heard(bob).is_empty(), "bitrates alone are not told");
    assert_eq!(
        house.room.participant("ann").unwrap().tracks[0].layers[0].bitrate,
        6
    );
    house.heard(ann);
    house.say(ann, &json!({ "t": "unpublish", "id": 2, "track": "t_4" }));
    assert_eq!(house.types(ann), ["ok"]);
    assert_eq!(
        house.take_commands(),
        [Command::Unpublish {
            participant: ann,
            track
        }]
    );
}

#[test]
fn subscribing_and_views_reach_the_core() {
    let mut house = House::new();
    let (ann, bob) = (house.join("ann"), house.join("bob"));
    let track = house.publish(bob, 4);
    house.take_commands();
    house.heard(ann);
    house.say(
        ann,
        &json!({ "t": "subscribe", "id": 1, "set": { "t_4": false, "t_5": true } }),
    );
    house.say(ann, &json!({ "t": "subscribe", "id": 2, "all": true }));
    house.say(
        ann,
        &json!({ "t": "view", "set": { "t_4": { "w": 640, "layer": 1 }, "t_99": {} } }),
    );
    assert_eq!(house.types(ann), ["ok", "ok"]);
    let view = sfu::View {
        width: 640,
        layer: Some(1),
        ..sfu::View::default()
    };
    let tracks = SubscribeChange::Tracks(vec![(track, false), (track_id(5), true)]);
    assert_eq!(
        house.take_commands(),
        [
            Command::Subscribe {
                participant: ann,
                change: tracks
            },
            Command::Subscribe {
                participant: ann,
                change: SubscribeChange::All(true)
            },
            Command::View {
                participant: ann,
                track,
                view
            },
        ]
    );
    let mut admission = house.admission("mute");
    admission.grants.media.subscribe = false;
    let mute = house.admit(admission);
    let subscribe = json!({ "t": "subscribe", "id": 1, "all": true });
    assert_eq!(house.refused(mute, &subscribe), "subscribe_denied");
}

#[test]
fn slots_streams_and_speakers_are_told() {
    let mut house = House::new();
    let (ann, bob) = (house.join("ann"), house.join("bob"));
    let track = house.publish(bob, 4);
    house.heard(ann);
    let mid = Mid::parse("4").unwrap();
    let slots = vec![Slot {
        mid,
        track: Some(track),
        timestamp: Some(9),
    }];
    house.event(Event::SlotsChanged {
        participant: ann,
        slots,
    });
    assert_eq!(
        house.heard_one(ann)["set"],
        json!({ "4": { "track": "t_4", "ts": 9 } })
    );
    let state = StreamState::Paused {
        reason: PauseReason::Bandwidth,
    };
    house.event(Event::StreamChanged {
        participant: ann,
        track,
        state,
    });
    let stream = house.heard_one(ann);
    assert_eq!(
        (&stream["state"], &stream["reason"]),
        (&json!("paused"), &json!("bandwidth"))
    );
    house.event(Event::StreamChanged {
        participant: ann,
        track,
        state: StreamState::Active { layer: 2 },
    });
    assert_eq!(house.heard_one(ann)["layer"], 2);
    let levels = vec![
        (bob, 0.5),
        (ParticipantId::new(0, 99), 0.5),
        (ann, f32::NAN),
    ];
    house.event(Event::SpeakersChanged {
        room: house.room.id(),
        levels,
    });
    assert_eq!(
        house.heard_one(ann)["levels"],
        json!({ bob.to_string(): 0.5 })
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story")]
fn data_is_stamped_checked_and_falls_back_to_the_socket() {
    let mut house = House::new();
    let (ann, bob) = (house.join("ann"), house.join("bob"));
    house.heard(bob);
    house.take_commands();
    let message = |json: &str, payload: &[u8]| {
        let length = u16::try_from(json.len()).unwrap().to_be_bytes();
        bytes::Bytes::from([&length[..], json.as_bytes(), payload].concat())
    };
    let receive = |house: &mut House, message| {
        let channel = DataChannel::Lossy;
        house.event(Event::DataReceived {
            participant: ann,
            channel,
            message,
        });
        house.take_commands()
    };
    let forged = message(
        r#"{"to":["bob","nobody"],"from":"carol","topic":"chat"}"#,
        b"hi",
    );
    let commands = receive(&mut house, forged);
    let [
        Command::SendData {
            to,
            except,
            channel,
            message: sent,
            ..
        },
    ] = &commands[..]
    else {
        panic!("{commands:?}");
    };
    assert_eq!(
        (to, except, channel),
        (&Some(vec![bob]), &None, &DataChannel::Lossy)
    );
    assert_eq!(&sent[2..], br#"{"from":"ann","topic":"chat"}hi"#);
    assert!(receive(&mut house, message(r#"{"to":["nobody"]}"#, b"")).is_empty());
    assert!(receive(&mut house, message("{", b"")).is_empty());
    assert!(receive(&mut house, bytes::Bytes::from_static(&[0xff, 0xff])).is_empty());
    house.event(Event::DataUndelivered {
        participant: bob,
        message: sent.clone(),
    });
    let told = house.heard_one(bob);
    assert_eq!(
        (&told["from"], &told["data"]),
        (&json!("ann"), &json!("hi"))
    );
    house.heard(ann);
    house.say(
        ann,
        &json!({ "t": "send", "id": 1, "topic": "chat", "data64": "AP8=" }),
    );
    assert_eq!(house.types(ann), ["ok"]);
    let commands = house.take_commands();
    assert!(
        matches!(&commands[..], [Command::SendData { to: None, except, channel, message, .. }]
        if *except == Some(ann) && *channel == DataChannel::Reliable && message.ends_with(&[0, 255]))
    );
}

#[test]
fn without_the_grant_no_data_is_passed_on() {
    let mut house = House::new();
    let mut admission = house.admission("ann");
    admission.grants.media.publish_data = false;
    let ann = house.admit(admission);
    house.take_commands();
    let message = bytes::Bytes::from_static(b"\0\x02{}hi");
    let channel = DataChannel::Reliable;
    house.event(Event::DataReceived {
        participant: ann,
        channel,
        message,
    });
    assert!(house.take_commands().is_empty());
    let send = json!({ "t": "send", "id": 1, "data": "hi" });
    assert_eq!(house.refused(ann, &send), "forbidden");
}

#[test]
fn guests_change_their_name_and_holders_of_the_grant_everything() {
    let mut house = House::new();
    let mut admission = house.admission("guest-1");
    admission.grants.guest = true;
    let guest = house.admit(admission);
    let mut admission = house.admission("ann");
    admission.grants.update_own_metadata = true;
    let ann = house.admit(admission);
    house.heard(ann);
    house.say(guest, &json!({ "t": "self", "id": 1, "name": "Gus" }));
    assert_eq!(house.heard_one(ann)["patch"], json!({ "name": "Gus" }));
    let change = json!({ "t": "self", "id": 2, "name": "Gus", "attributes": { "a": "b" } });
    assert_eq!(house.refused(guest, &change), "forbidden");
    house.heard(ann);
    house.say(
        ann,
        &json!({ "t": "self", "id": 3, "attributes": { "a": "1", "b": "2" } }),
    );
    house.say(
        ann,
        &json!({ "t": "self", "id": 4, "attributes": { "a": "" }, "metadata": "m" }),
    );
    let heard = house.heard(guest);
    assert_eq!(
        heard.last().unwrap()["patch"],
        json!({ "metadata": "m", "attributes": { "b": "2" } })
    );
}

#[test]
fn the_roster_of_publishers_leaves_silent_ones_out() {
    let mut house = House::new();
    let silent = house.join("silent");
    let admission = Admission {
        roster: Roster::Publishers,
        ..house.admission("viewer")
    };
    let viewer = house.admit(admission);
    assert_eq!(house.heard_one(viewer)["participants"], json!([]));
    let track = house.publish(silent, 4);
    let joined = house.heard_one(viewer);
    assert_eq!((&joined["t"], &joined["n"]), (&json!("joined"), &json!(1)));
    assert_eq!(joined["participant"]["tracks"][0]["id"], track.to_string());
    house.publish(silent, 5);
    assert_eq!(house.types(viewer), ["published"]);
    house.room.leave(house.now, silent, LeftReason::Left);
    assert_eq!(house.types(viewer), ["left"]);
    let other = house.join("other");
    house.room.leave(house.now, other, LeftReason::Left);
    assert!(house.heard(viewer).is_empty());
}

#[test]
fn hidden_participants_are_not_seen() {
    let mut house = House::new();
    let ann = house.join("ann");
    house.heard(ann);
    let mut admission = house.admission("ghost");
    admission.grants.hidden = true;
    let ghost = house.admit(admission);
    assert_eq!(house.heard_one(ghost)["participants"][0]["identity"], "ann");
    house.event(Event::SpeakersChanged {
        room: house.room.id(),
        levels: vec![(ghost, 0.5)],
    });
    house.room.leave(house.now, ghost, LeftReason::Left);
    assert!(house.heard(ann).is_empty());
}

#[test]
fn administrators_mute_remove_and_close() {
    let mut house = House::new();
    let (ann, bob) = (house.join("ann"), house.join("bob"));
    let track = house.publish(ann, 4);
    house.heard(ann);
    house.heard(bob);
    assert!(!house.room.mute("bob", track, true));
    assert!(house.room.mute("ann", track, true));
    assert_eq!(house.heard_one(bob)["patch"], json!({ "muted": true }));
    house.heard(ann);
    assert!(!house.room.remove(house.now, "nobody"));
    assert!(house.room.remove(house.now, "ann"));
    assert_eq!(
        house.heard_one(ann),
        json!({ "t": "bye", "code": "removed" })
    );
    assert_eq!(house.heard_one(bob)["reason"], "removed");
    house.room.close(house.now);
    assert_eq!(
        house.heard_one(bob),
        json!({ "t": "bye", "code": "room_closed" })
    );
    assert_eq!(
        house.closed,
        [(ann, CloseCode::Removed), (bob, CloseCode::RoomNotFound)]
    );
    assert!(house.take_commands().contains(&Command::CloseRoom {
        room: house.room.id()
    }));
}

#[test]
fn going_down_is_announced_and_said() {
    let mut house = House::new();
    let ann = house.join("ann");
    house.heard(ann);
    house.room.announce_shutdown(|| 250);
    let goaway = house.heard_one(ann);
    assert_eq!(
        (&goaway["action"], &goaway["afterMs"]),
        (&json!("rejoin"), &json!(250))
    );
    house.room.shut_down(house.now);
    assert_eq!(
        house.heard_one(ann),
        json!({ "t": "bye", "code": "server_shutdown" })
    );
    assert_eq!(house.closed, [(ann, CloseCode::Shutdown)]);
}

#[test]
fn a_fault_of_the_core_ends_one_session_with_its_reason() {
    let mut house = House::new();
    let (ann, bob) = (house.join("ann"), house.join("bob"));
    house.heard(ann);
    house.heard(bob);
    house.take_commands();
    house.event(Event::ParticipantEnded { participant: ann });
    assert_eq!(house.heard_one(ann)["code"], "internal");
    assert_eq!(house.closed, [(ann, CloseCode::Internal)]);
    assert_eq!(house.heard_one(bob)["reason"], "failed");
    assert!(
        house.take_commands().is_empty(),
        "the core has forgotten it already"
    );
}

#[test]
fn a_failed_transport_asks_native_clients_to_restart_and_ends_http_ones() {
    let mut house = House::new();
    let ann = house.join("ann");
    house.heard(ann);
    let state = TransportState::Failed;
    house.event(Event::TransportChanged {
        participant: ann,
        state,
    });
    assert_eq!(house.types(ann), ["restart_ice"]);
    let http = |house: &mut House, identity| {
        let offer = Some(core_offer(1));
        let admission = Admission {
            door: Door::Http,
            offer,
            ..house.admission(identity)
        };
        house.admit(admission)
    };
    let encoder = http(&mut house, "encoder");
    let answer = Ok(Answer {
        sdp: String::new(),
        published: Vec::new(),
        slots: Vec::new(),
    });
    house.event(Event::Answered {
        participant: encoder,
        offer: 1,
        answer,
    });
    assert_eq!(house.answers, [encoder]);
    house.event(Event::TransportChanged {
        participant: encoder,
        state: TransportState::Connected,
    });
    house.now += Duration::from_secs(60);
    house.room.handle_timeout(house.now);
    assert!(house.gone.is_empty());
    house.event(Event::TransportChanged {
        participant: encoder,
        state,
    });
    assert_eq!(house.gone, [encoder]);
    let late = http(&mut house, "late");
    house.now += Duration::from_secs(30);
    house.room.handle_timeout(house.now);
    house.drain();
    assert_eq!(house.gone, [encoder, late], "it never connected");
}
