//! Messages that are broken, too large or too many.

use super::*;

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
            json!({ "t": "track", "id": 1, "track": "t_1", "meta": long(4097) }),
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
