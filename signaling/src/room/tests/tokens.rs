//! Tokens during a stay: renewed in time, followed when another one comes.

use super::*;
use crate::auth::Claims;
use crate::message::IceServer;

const NOW_S: u64 = 1_700_000_000;

/// Someone whose token ends `left_s` from now.
fn join_for(house: &mut House, identity: &str, left_s: u64) -> ParticipantId {
    let mut admission = house.admission(identity);
    admission.grants.identity = Some(identity.to_owned());
    admission.grants.expires_at_s = NOW_S + left_s;
    let id = house.admit(admission);
    house.heard(id);
    id
}

/// Renews what is due; the claims that were signed.
fn renew(house: &mut House, now_s: u64) -> Vec<Claims> {
    let mut signed = Vec::new();
    house.room.renew_tokens(now_s, |key, claims| {
        signed.push(claims);
        Some(format!("token of {key} no. {}", signed.len()))
    });
    house.drain();
    signed
}

#[test]
fn a_token_is_renewed_before_it_ends() {
    let mut house = House::new();
    let ann = join_for(&mut house, "ann", 600);
    assert!(renew(&mut house, NOW_S + 449).is_empty());
    let signed = renew(&mut house, NOW_S + 450);
    let [claims] = &signed[..] else {
        panic!("{signed:?}");
    };
    assert_eq!(
        house.heard(ann),
        [json!({ "t": "token", "token": "token of app no. 1" })]
    );
    assert_eq!(
        (claims.sub.as_deref(), claims.exp),
        (Some("ann"), NOW_S + 1050)
    );
    assert_eq!(claims.video.room.as_deref(), Some("r"));
    assert!(renew(&mut house, NOW_S + 899).is_empty());
    assert_eq!(renew(&mut house, NOW_S + 900).len(), 1, "and so on");
}

#[test]
fn who_has_no_socket_is_given_its_token_after_it_came_back() {
    let mut house = House::new();
    let ann = join_for(&mut house, "ann", 60);
    house.room.detach(house.now, ann);
    assert!(renew(&mut house, NOW_S).is_empty());
    house.resume(ann, "key-1", 0, "next").unwrap();
    house.heard(ann);
    renew(&mut house, NOW_S);
    assert_eq!(house.types(ann), ["token"]);
}

#[test]
fn a_key_that_is_gone_makes_no_tokens_and_cuts_nobody() {
    let mut house = House::new();
    let ann = join_for(&mut house, "ann", 10);
    house.room.renew_tokens(NOW_S, |_, _| None);
    house.drain();
    assert!(house.heard(ann).is_empty() && house.closed.is_empty());
    assert_eq!(renew(&mut house, NOW_S + 1).len(), 1, "the key is back");
}

#[test]
fn a_guest_stays_a_guest_who_says_its_name_at_the_next_join() {
    let mut house = House::new();
    let mut admission = house.admission("guest-1");
    (admission.grants.guest, admission.grants.expires_at_s) = (true, NOW_S);
    let guest = house.admit(admission);
    house.say(guest, &json!({ "t": "self", "id": 1, "name": "Gus" }));
    let signed = renew(&mut house, NOW_S);
    assert_eq!((&signed[0].sub, &signed[0].name), (&None, &None));
    assert!(signed[0].plenum.as_ref().unwrap().guest);
}

#[test]
fn who_comes_back_with_another_token_may_do_what_that_says() {
    let mut house = House::new();
    let ann = join_for(&mut house, "ann", 600);
    house.take_commands();
    let mut next = grants();
    next.expires_at_s = NOW_S + 900;
    house.room.follow_token(ann, &next);
    assert!(house.heard(ann).is_empty(), "it allows the same");
    assert!(renew(&mut house, NOW_S + 700).is_empty(), "but for longer");
    next.media.publish = false;
    next.name = "another name is not taken over".to_owned();
    house.room.follow_token(ann, &next);
    let told = house.heard_one(ann);
    assert_eq!(
        (&told["t"], &told["canPublish"]),
        (&json!("grants"), &json!(false))
    );
    assert_eq!(
        house.take_commands(),
        [Command::SetGrants {
            participant: ann,
            grants: next.media
        }]
    );
    assert_eq!(house.room.participant("ann").unwrap().name, "");
}

/// TURN servers whose credentials end in five minutes.
fn issue(now_s: u64) -> impl Fn(ParticipantId, &str, Option<std::net::IpAddr>) -> Vec<IceServer> {
    move |participant, identity, _| {
        vec![IceServer {
            urls: vec!["turn:192.0.2.1:3478?transport=udp".to_owned()],
            username: format!("{}:{identity}:{participant}", now_s + 300),
            credential: "secret".to_owned(),
            expires_at: (now_s + 300) * 1000,
        }]
    }
}

#[test]
fn turn_credentials_come_with_welcome_and_are_renewed_before_they_end() {
    let mut house = House::new();
    let mut admission = house.admission("ann");
    admission.ice_servers = issue(NOW_S)(admission.participant, "ann", None);
    let ann = house.admit(admission);
    let welcome = house.heard(ann).remove(0);
    let name = format!("{}:ann:{ann}", NOW_S + 300);
    assert_eq!(welcome["iceServers"][0]["username"], name);
    let renew = |house: &mut House, now_s| {
        house.room.renew_ice_servers(now_s, issue(now_s));
        house.drain();
    };
    renew(&mut house, NOW_S + 179);
    assert!(house.heard(ann).is_empty());
    renew(&mut house, NOW_S + 180);
    let renewed = house.heard(ann).remove(0);
    let name = format!("{}:ann:{ann}", NOW_S + 480);
    assert_eq!(renewed["t"], "ice_servers");
    assert_eq!(renewed["iceServers"][0]["username"], name);
    // Who has no socket finds good ones when it comes back.
    house.room.detach(house.now, ann);
    renew(&mut house, NOW_S + 360);
    house.resume(ann, "key-1", 0, "next").unwrap();
    let welcome = house.heard(ann).remove(0);
    let name = format!("{}:ann:{ann}", NOW_S + 660);
    assert_eq!(welcome["iceServers"][0]["username"], name);
}

#[test]
fn without_a_turn_server_nobody_hears_of_one() {
    let mut house = House::new();
    let ann = house.join("ann");
    assert_eq!(house.heard(ann).remove(0)["iceServers"], json!([]));
    house.room.renew_ice_servers(NOW_S, issue(NOW_S));
    house.drain();
    assert!(house.heard(ann).is_empty());
}
