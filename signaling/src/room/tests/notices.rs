//! What an application is told.

use super::*;

fn said(house: &mut House) -> Vec<String> {
    house.drain();
    let notices = std::mem::take(&mut house.notices);
    let say = |notice| match notice {
        Notice::Joined(who) => format!("{} joined", who.identity),
        Notice::Left(who, reason) => {
            assert!(who.tracks.is_empty());
            format!("{} left: {reason:?}", who.identity)
        }
        Notice::Published(by, track) => format!("{} published {}", by.identity, track.id),
        Notice::Unpublished(by, track) => format!("{} unpublished {}", by.identity, track.id),
        Notice::Closed => "closed".to_owned(),
    };
    notices.into_iter().map(say).collect()
}

#[test]
fn all_that_comes_and_goes_is_told_in_order_hidden_ones_included() {
    let mut house = House::new();
    let ann = house.join("ann");
    let mut hidden = house.admission("bob");
    hidden.grants.hidden = true;
    let bob = house.admit(hidden);
    house.publish(bob, 4);
    let ended = house.publish(ann, 5);
    house.event(Event::TrackUnpublished {
        room: house.room.id(),
        participant: ann,
        track: ended,
    });
    house.say(ann, &json!({ "t": "leave" }));
    house.room.close(house.now);
    let expected = [
        "ann joined",
        "bob joined",
        "bob published t_4",
        "ann published t_5",
        "ann unpublished t_5",
        "ann left: Left",
        "bob unpublished t_4",
        "bob left: RoomClosed",
        "closed",
    ];
    assert_eq!(said(&mut house), expected);
}

#[test]
fn whoever_joins_twice_leaves_first() {
    let mut house = House::new();
    house.join("ann");
    house.join("ann");
    let expected = ["ann joined", "ann left: DuplicateIdentity", "ann joined"];
    assert_eq!(said(&mut house), expected);
}
