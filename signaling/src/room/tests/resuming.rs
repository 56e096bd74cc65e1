//! Lost sockets, and how a session comes back.

use super::*;

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
