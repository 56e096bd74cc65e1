//! Allocations: who gets one, which, and how long it lives.

use super::client::{ALLOCATE, REFRESH, SHARED_SECRET, UDP, UNIX_STARTED};
use super::*;
use crate::attributes::{
    ADDITIONAL_ADDRESS_FAMILY, EVEN_PORT, LIFETIME, PASSWORD_ALGORITHM, PASSWORD_ALGORITHMS,
    REQUESTED_ADDRESS_FAMILY, REQUESTED_TRANSPORT, RESERVATION_TOKEN,
};
use crate::auth::{Credentials, User};

/// A kind and a value.
type Attribute<'a> = (u16, &'a [u8]);

const TRANSPORT: Attribute<'_> = (REQUESTED_TRANSPORT, &UDP);
const V4: [u8; 4] = [1, 0, 0, 0];
const V6: [u8; 4] = [2, 0, 0, 0];

#[test]
fn a_user_gets_an_address_without_a_socket() {
    let mut house = House::for_users();
    let mut ann = house.user(7, 1);
    let relayed = house.allocate(&mut ann);
    assert_eq!(relayed.ip(), ann.path.local.ip());
    assert!(house.open.is_empty());
    assert_eq!(house.server.counts().allocations, 1);
}

#[test]
fn a_stranger_gets_a_socket_where_relaying_is_on_and_nothing_where_it_is_off() {
    let mut house = House::new(|_| ());
    let mut bob = house.stranger("bob", 1);
    let relayed = house.allocate(&mut bob);
    assert!((50_000..=50_999).contains(&relayed.port()));
    assert_eq!(house.open, [relayed]);
    let mut closed = House::for_users();
    let mut bob = closed.stranger("bob", 1);
    closed.challenge(&mut bob);
    assert_eq!(closed.code_of_allocate(&mut bob, &[TRANSPORT]), 401);
}

#[test]
fn both_password_algorithms_and_integrities_are_taken() {
    let mut house = House::new(|_| ());
    for (port, uses_sha256) in [(1, false), (2, true)] {
        let mut bob = house.stranger("bob", port);
        bob.uses_sha256 = uses_sha256;
        house.allocate(&mut bob);
        let reply = house.ask(&mut bob, REFRESH, &[]);
        assert_eq!(reply.message().has_sha256(), uses_sha256);
        assert_eq!(reply.message().has_sha1(), !uses_sha256);
    }
}

#[test]
fn a_list_of_algorithms_that_somebody_shortened_is_refused() {
    let mut house = House::new(|_| ());
    let mut bob = house.stranger("bob", 1);
    house.challenge(&mut bob);
    for list in [&[0, 1, 0, 0][..], &[]] {
        let about = [
            TRANSPORT,
            (PASSWORD_ALGORITHMS, list),
            (PASSWORD_ALGORITHM, &[0, 1, 0, 0]),
        ];
        assert_eq!(house.code_of_allocate(&mut bob, &about), 400);
    }
    let about = [TRANSPORT, (PASSWORD_ALGORITHM, &[0, 1, 0, 0])];
    assert_eq!(
        house.code_of_allocate(&mut bob, &about),
        400,
        "the list is missing"
    );
}

#[test]
fn the_same_request_again_gets_the_same_answer_and_another_437() {
    let mut house = House::new(|_| ());
    let mut bob = house.stranger("bob", 1);
    house.challenge(&mut bob);
    let bytes = bob.request(ALLOCATE, &[TRANSPORT], &[]);
    let first = house.take(bob.path, &bytes).1.remove(0);
    let again = house.take(bob.path, &bytes).1.remove(0);
    assert_eq!(first.relayed(), again.relayed());
    assert_eq!(house.code_of_allocate(&mut bob, &[TRANSPORT]), 437);
    assert_eq!(house.server.counts().allocations, 1);
}

#[test]
fn what_an_allocation_cannot_be_is_refused_by_its_code() {
    let mut house = House::new(|_| ());
    let mut bob = house.stranger("bob", 1);
    house.challenge(&mut bob);
    let family = REQUESTED_ADDRESS_FAMILY;
    let more = ADDITIONAL_ADDRESS_FAMILY;
    let token: (u16, &[u8]) = (RESERVATION_TOKEN, &[1; 8]);
    let cases: [(&[Attribute<'_>], u16); 10] = [
        (&[], 400),
        (&[(REQUESTED_TRANSPORT, &[6, 0, 0, 0])], 442),
        (&[TRANSPORT, (family, &[3, 0, 0, 0])], 440),
        (&[TRANSPORT, (family, &V4), (more, &V6)], 400),
        (&[TRANSPORT, (more, &V4)], 400),
        (&[TRANSPORT, (more, &V6), (EVEN_PORT, &[0x80])], 400),
        (&[TRANSPORT, token, (EVEN_PORT, &[0])], 400),
        (&[TRANSPORT, token, (family, &V4)], 400),
        (&[TRANSPORT, token], 508),
        (&[TRANSPORT, (0x7abc, &[])], 420),
    ];
    for (about, code) in cases {
        assert_eq!(house.code_of_allocate(&mut bob, about), code, "{about:?}");
    }
    assert_eq!(house.server.counts().allocations, 0);
    house.allocate(&mut bob);
}

#[test]
fn both_ip_versions_can_be_had_at_once_or_one_by_one() {
    let mut house = House::new(|_| ());
    let mut bob = house.stranger("bob", 1);
    let reply = house.ask(
        &mut bob,
        ALLOCATE,
        &[TRANSPORT, (ADDITIONAL_ADDRESS_FAMILY, &V6)],
    );
    let relayed = reply.relayed();
    assert!(relayed[0].is_ipv4() && relayed[1].is_ipv6());
    assert_eq!(house.open.len(), 2);
    let mut carol = house.stranger("carol", 2);
    let reply = house.ask(
        &mut carol,
        ALLOCATE,
        &[TRANSPORT, (REQUESTED_ADDRESS_FAMILY, &V6)],
    );
    assert!(reply.relayed()[0].is_ipv6());
    // Ending one version keeps the other.
    let about: [(u16, &[u8]); 2] = [(LIFETIME, &[0; 4]), (REQUESTED_ADDRESS_FAMILY, &V6)];
    assert_eq!(house.ask(&mut bob, REFRESH, &about).code(), 0);
    assert_eq!(house.open.iter().filter(|open| open.is_ipv4()).count(), 1);
    assert_eq!(house.ask(&mut bob, REFRESH, &about).code(), 443);
    assert_eq!(house.refresh(&mut bob, Some(0)), 0);
    assert_eq!(house.open.len(), 1);
}

#[test]
fn a_version_that_cannot_be_had_beside_another_is_told() {
    let mut house = House::new(|settings| {
        settings.relay.as_mut().unwrap().addresses.truncate(1);
    });
    let mut bob = house.stranger("bob", 1);
    let reply = house.ask(
        &mut bob,
        ALLOCATE,
        &[TRANSPORT, (ADDITIONAL_ADDRESS_FAMILY, &V6)],
    );
    assert_eq!((reply.code(), reply.relayed().len()), (0, 1));
    assert_eq!(reply.attribute(0x8001), Some(vec![2, 0, 4, 40]));
    let mut carol = house.stranger("carol", 2);
    house.challenge(&mut carol);
    let about = [TRANSPORT, (REQUESTED_ADDRESS_FAMILY, &V6[..])];
    assert_eq!(house.code_of_allocate(&mut carol, &about), 440);
}

#[test]
fn an_even_port_and_the_one_after_it_can_be_had() {
    for is_user in [false, true] {
        let mut house = House::new(|_| ());
        let mut make = |port| {
            if is_user {
                house.user(7, port)
            } else {
                house.stranger("bob", port)
            }
        };
        let (mut bob, mut bob_again) = (make(1), make(2));
        let mut carol = house.stranger("carol", 3);
        let reply = house.ask(&mut bob, ALLOCATE, &[TRANSPORT, (EVEN_PORT, &[0x80])]);
        let (relayed, token) = (reply.relayed()[0], reply.token().unwrap());
        assert_eq!(relayed.port() % 2, 0);
        let token: [(u16, &[u8]); 2] = [TRANSPORT, (RESERVATION_TOKEN, &token)];
        house.challenge(&mut carol);
        assert_eq!(
            house.code_of_allocate(&mut carol, &token),
            508,
            "another's token"
        );
        let reply = house.ask(&mut bob_again, ALLOCATE, &token);
        assert_eq!(reply.relayed()[0].port(), relayed.port() + 1);
        let mut late = house.stranger("bob", 4);
        house.challenge(&mut late);
        assert_eq!(
            house.code_of_allocate(&mut late, &token),
            508,
            "a token is good once"
        );
    }
}

#[test]
fn a_reserved_port_nobody_comes_for_is_closed() {
    let mut house = House::new(|_| ());
    let mut bob = house.stranger("bob", 1);
    let reply = house.ask(&mut bob, ALLOCATE, &[TRANSPORT, (EVEN_PORT, &[0x80])]);
    assert_eq!((reply.code(), house.open.len()), (0, 2));
    house.after(40);
    assert_eq!(house.open.len(), 1);
    house.refresh(&mut bob, Some(0));
    assert!(house.open.is_empty());
}

#[test]
fn ports_that_are_taken_are_passed_over_and_none_is_508() {
    let mut house = House::new(|settings| {
        settings.relay.as_mut().unwrap().ports = 50_000..=50_003;
    });
    house.taken = (50_000..=50_002)
        .map(|port| ([203, 0, 113, 1], port).into())
        .collect();
    let mut bob = house.stranger("bob", 1);
    assert_eq!(house.allocate(&mut bob).port(), 50_003);
    let mut carol = house.stranger("carol", 2);
    house.challenge(&mut carol);
    assert_eq!(house.code_of_allocate(&mut carol, &[TRANSPORT]), 508);
    assert_eq!(house.refresh(&mut bob, Some(0)), 0);
    assert_eq!(house.allocate(&mut carol).port(), 50_003);
}

#[test]
fn an_allocation_ends_unless_it_is_refreshed() {
    let mut house = House::new(|_| ());
    let mut bob = house.stranger("bob", 1);
    house.allocate(&mut bob);
    house.after(590);
    house.challenge_again(&mut bob);
    assert_eq!(house.refresh(&mut bob, None), 0);
    house.after(590);
    house.challenge_again(&mut bob);
    assert_eq!(
        house.refresh(&mut bob, Some(30)),
        0,
        "shorter than the default is the default"
    );
    house.after(590);
    assert_eq!(house.open.len(), 1);
    house.after(20);
    house.challenge_again(&mut bob);
    assert_eq!(
        house.refresh(&mut bob, None),
        401,
        "the credentials ended long ago"
    );
    assert!(house.open.is_empty() && house.server.poll_timeout().is_none());
}

#[test]
fn credentials_may_end_while_their_allocation_lives() {
    let mut house = House::for_users();
    let mut ann = house.user(7, 1);
    house.allocate(&mut ann);
    house.after(400);
    assert_eq!(house.refresh(&mut ann, None), 0);
    let mut again = ann.clone();
    again.path.remote.set_port(2);
    house.challenge(&mut again);
    assert_eq!(house.code_of_allocate(&mut again, &[TRANSPORT]), 401);
}

#[test]
fn credentials_follow_a_wall_clock_that_is_stepped() {
    let mut house = House::for_users();
    let mut ann = house.user(7, 1);
    let now_s = house.unix_time();
    house.server.set_clock(house.now, now_s + 400);
    house.challenge(&mut ann);
    assert_eq!(house.code_of_allocate(&mut ann, &[TRANSPORT]), 401);
    house.server.set_clock(house.now, now_s - 7200);
    house.challenge(&mut ann);
    assert_eq!(house.code_of_allocate(&mut ann, &[TRANSPORT]), 0);
}

#[test]
fn credentials_that_nobody_should_have_made_are_refused() {
    let mut house = House::new(|_| ());
    let now_s = UNIX_STARTED;
    for (username, is_good) in [
        (format!("{}", now_s + 1), true),
        (format!("{}:bob", now_s + 48 * 3600), true),
        (format!("{}:bob", now_s + 48 * 3600 + 1), false),
        (format!("{}:bob", now_s - 1), false),
        ("0:bob".to_owned(), false),
        (":bob".to_owned(), false),
        ("bob".to_owned(), false),
        (format!("+{}:bob", now_s + 9), false),
        (format!("{}:bob", u64::MAX), false),
        ("99999999999999999999999:bob".to_owned(), false),
        (format!("{}:", now_s + 9), true),
    ] {
        let port = u16::try_from(username.len()).unwrap() + 100;
        let mut bob = Client::new(port, shared_credentials(&username));
        house.challenge(&mut bob);
        let code = house.code_of_allocate(&mut bob, &[TRANSPORT]);
        assert_eq!(code, if is_good { 0 } else { 401 }, "{username}");
    }
}

/// As an application with the shared secret makes them.
fn shared_credentials(username: &str) -> Credentials {
    use base64::Engine;
    use hmac::Mac;
    let secret = SHARED_SECRET.as_bytes();
    let mut mac = <hmac::Hmac<sha1::Sha1> as Mac>::new_from_slice(secret).unwrap();
    mac.update(username.as_bytes());
    let tag = mac.finalize().into_bytes();
    Credentials {
        username: username.to_owned(),
        password: base64::engine::general_purpose::STANDARD.encode(tag),
    }
}

#[test]
fn a_user_that_leaves_takes_its_allocations_along() {
    let mut house = House::for_users();
    let (mut ann, mut eve) = (house.user(7, 1), house.user(8, 2));
    house.allocate(&mut ann);
    house.allocate(&mut eve);
    house.server.handle_left(User(7));
    assert_eq!(house.server.counts().allocations, 1);
    assert_eq!(house.refresh(&mut ann, None), 401);
    assert_eq!(house.code_of_allocate(&mut ann, &[TRANSPORT]), 401);
    assert_eq!(house.refresh(&mut eve, None), 0);
    house.server.retain_users(&|_| false);
    assert_eq!(house.server.counts().allocations, 0);
}

#[test]
fn one_users_quota_leaves_others_theirs() {
    let mut house = House::new(|_| ());
    for port in 1..=12 {
        let mut ann = house.user(7, port);
        house.allocate(&mut ann);
    }
    let mut thirteenth = house.user(7, 13);
    house.challenge(&mut thirteenth);
    assert_eq!(house.code_of_allocate(&mut thirteenth, &[TRANSPORT]), 486);
    let mut eve = house.user(8, 14);
    house.allocate(&mut eve);
    for port in 101..=132 {
        let mut bob = house.stranger("bob", port);
        house.allocate(&mut bob);
    }
    let mut more = house.stranger("bob", 133);
    house.challenge(&mut more);
    assert_eq!(house.code_of_allocate(&mut more, &[TRANSPORT]), 486);
    let mut first = house.stranger("bob", 101);
    house.challenge_again(&mut first);
    assert_eq!(house.refresh(&mut first, Some(0)), 0);
    assert_eq!(house.code_of_allocate(&mut more, &[TRANSPORT]), 0);
}

#[test]
fn requests_without_an_allocation_or_with_anothers_credentials_are_refused() {
    let mut house = House::new(|_| ());
    let mut bob = house.stranger("bob", 1);
    house.challenge(&mut bob);
    assert_eq!(house.refresh(&mut bob, None), 437);
    assert_eq!(house.permit(&mut bob, "8.8.8.8:1"), 437);
    assert_eq!(house.bind(&mut bob, 0x4000, "8.8.8.8:1"), 437);
    house.allocate(&mut bob);
    let mut carol = house.stranger("carol", 1);
    carol.nonce.clone_from(&bob.nonce);
    assert_eq!(house.refresh(&mut carol, None), 441);
    assert_eq!(house.permit(&mut carol, "8.8.8.8:1"), 441);
    assert_eq!(house.bind(&mut carol, 0x4000, "8.8.8.8:1"), 441);
    assert_eq!(house.code_of_allocate(&mut carol, &[TRANSPORT]), 437);
    carol.credentials.password = "wrong".to_owned();
    assert_eq!(house.refresh(&mut carol, None), 401);
}
