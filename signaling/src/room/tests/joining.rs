//! Who gets in, what a newcomer is told, and whom it is shown to.

use super::*;

#[test]
fn a_newcomer_gets_a_snapshot_and_the_others_an_event() {
    let mut house = House::new();
    let ann = house.join("ann");
    let welcome = house.heard_one(ann);
    assert_eq!(welcome["t"], "welcome");
    assert_eq!(welcome["session"], ann.to_string());
    assert_eq!(
        welcome["room"],
        json!({ "id": "r_1", "name": "r", "metadata": "about", "participants": 1,
            "broadcasting": false, "recording": false })
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
    assert_eq!(heard[1]["p"]["identity"], "bob");
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
    assert_eq!(joined["p"]["tracks"][0]["id"], track.to_string());
    house.publish(silent, 5);
    assert_eq!(house.types(viewer), ["published"]);
    house.room.leave(house.now, silent, LeftReason::Left);
    assert_eq!(house.types(viewer), ["left"]);
    let other = house.join("other");
    house.room.leave(house.now, other, LeftReason::Left);
    assert!(house.heard(viewer).is_empty());
}

#[test]
fn who_is_not_told_of_each_is_told_how_many_there_are() {
    let mut house = House::new();
    let silent = house.join("silent");
    let admission = Admission {
        roster: Roster::Publishers,
        ..house.admission("viewer")
    };
    let viewer = house.admit(admission);
    assert_eq!(house.heard_one(viewer)["room"]["participants"], 2);
    house.heard(silent);
    let mut ghost = house.admission("ghost");
    ghost.grants.hidden = true;
    house.admit(ghost);
    house.room.handle_timeout(house.now);
    assert_eq!(
        house.heard_one(viewer)["patch"],
        json!({ "participants": 2 })
    );
    assert!(house.heard(silent).is_empty(), "it knows everyone by name");
    house.room.handle_timeout(house.now);
    assert!(house.heard(viewer).is_empty(), "nothing changed");
    house.room.leave(house.now, silent, LeftReason::Left);
    house.room.handle_timeout(house.now);
    assert_eq!(
        house.heard_one(viewer)["patch"],
        json!({ "participants": 1 })
    );
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
