//! What is published and what is received.

use super::*;

#[test]
fn tracks_are_muted_renamed_and_ended_by_their_publisher_only() {
    let mut house = House::new();
    let (ann, bob) = (house.join("ann"), house.join("bob"));
    let track = house.publish(ann, 4);
    house.heard(ann);
    house.heard(bob);
    house.take_commands();
    let mute = json!({ "t": "track", "id": 1, "track": "t_4", "muted": true, "name": "desk",
        "meta": "{}" });
    assert_eq!(house.refused(bob, &mute), "not_found");
    house.say(ann, &mute);
    assert_eq!(house.types(ann), ["ok"], "its own doing is no news to it");
    let told = house.heard_one(bob);
    assert_eq!(
        told["patch"],
        json!({ "muted": true, "name": "desk", "meta": "{}" })
    );
    assert_eq!(
        house.take_commands(),
        [Command::Mute {
            participant: ann,
            track,
            muted: true
        }]
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
fn what_the_core_tells_of_a_track_is_passed_on_and_undoes_nothing() {
    let mut house = House::new();
    let (ann, bob) = (house.join("ann"), house.join("bob"));
    let track = house.publish(ann, 4);
    let mute = json!({ "t": "track", "id": 1, "track": "t_4", "muted": true, "name": "desk" });
    house.say(ann, &mute);
    house.heard(bob);
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
fn a_publisher_is_asked_for_another_codec() {
    let mut house = House::new();
    let (ann, bob) = (house.join("ann"), house.join("bob"));
    let track = house.publish(ann, 4);
    let reason = PauseReason::Codec;
    house.heard(ann);
    house.heard(bob);
    house.event(Event::StreamChanged {
        participant: bob,
        track,
        state: StreamState::Paused { reason },
    });
    assert_eq!(house.heard_one(bob)["reason"], "codec");
    // It is a numbered event: whoever lost its socket hears it after coming back.
    house.room.detach(house.now, ann);
    house.event(Event::CodecWanted {
        participant: ann,
        track,
        codec: sfu::Codec::Vp8,
    });
    house.resume(ann, "key-1", 2, "next").unwrap();
    let heard = house.heard(ann);
    assert_eq!(
        heard[1],
        json!({ "t": "codec", "n": 3, "track": "t_4", "codec": "vp8" })
    );
    assert!(house.heard(bob).is_empty());
    // After a fresh snapshot as well, whatever was missed.
    house.room.detach(house.now, ann);
    house.resume(ann, "next", 9999, "more").unwrap();
    let heard = house.heard(ann);
    assert_eq!(heard[0]["resync"], true);
    let wish = json!({ "t": "codec", "n": 4, "track": "t_4", "codec": "vp8" });
    assert_eq!(heard[1], wish);
}
