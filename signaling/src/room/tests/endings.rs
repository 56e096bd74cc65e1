//! How stays and rooms end, wanted or not.

use super::*;

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
fn a_room_stays_while_it_goes_out_and_everyone_is_told() {
    let mut house = House::new();
    let ann = house.join("ann");
    house.heard(ann);
    let mut outside = Outside {
        broadcasting: true,
        recording: false,
    };
    house.room.set_outside(house.now, outside);
    assert_eq!(
        house.heard_one(ann)["patch"],
        json!({ "broadcasting": true })
    );
    house.room.set_outside(house.now, outside);
    assert!(house.heard(ann).is_empty(), "nothing changed");
    outside = Outside {
        broadcasting: false,
        recording: true,
    };
    house.room.set_outside(house.now, outside);
    let patch = json!({ "broadcasting": false, "recording": true });
    assert_eq!(house.heard_one(ann)["patch"], patch);
    house.say(ann, &json!({ "t": "leave" }));
    let later = house.now + Duration::from_secs(9999);
    assert!(!house.room.is_over(later));
    house.room.set_outside(later, Outside::default());
    assert!(!house.room.is_over(later));
    assert!(house.room.is_over(later + Duration::from_secs(20)));
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
    let told = house.heard_one(ann);
    assert_eq!(
        (&told["t"], &told["patch"]),
        (&json!("track"), &json!({ "muted": true }))
    );
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
