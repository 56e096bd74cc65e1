//! Who has proven nothing gets few bytes and leaves no state.

use net::Protocol;
use net::stun::BINDING;

use super::client::{ALLOCATE, CREATE_PERMISSION, REFRESH, UDP};
use super::*;
use crate::attributes::REQUESTED_TRANSPORT;
use crate::counts::DropReason;

const TRANSPORT: (u16, &[u8]) = (REQUESTED_TRANSPORT, &UDP);

#[test]
fn no_reply_to_an_unproven_source_is_longer_than_100_bytes_or_four_requests() {
    let mut house = House::with_discovery();
    let mut bob = house.stranger("bob", 1);
    let long = [0; 200];
    for method in [BINDING, ALLOCATE, REFRESH, CREATE_PERMISSION, 9] {
        for about in [&[][..], &[TRANSPORT], &[TRANSPORT, (0x8022, &long)]] {
            let bytes = bob.bare(method, about);
            let replies = house.take(bob.path, &bytes).1;
            assert_eq!(replies.len(), 1);
            let length = replies[0].bytes.len();
            assert!(
                length <= 100 && length <= 4 * bytes.len(),
                "{length} for {}",
                bytes.len()
            );
        }
    }
    bob.nonce = b"not one of ours".to_vec();
    let reply = house.ask(&mut bob, ALLOCATE, &[TRANSPORT]);
    assert_eq!((reply.code(), reply.bytes.len()), (438, 96));
}

#[test]
fn a_nonce_is_good_for_one_address_and_ten_minutes() {
    let mut house = House::new(|_| ());
    let mut bob = house.stranger("bob", 1);
    house.challenge(&mut bob);
    for change in [
        |client: &mut Client| client.path.remote.set_port(2),
        |client: &mut Client| client.path.remote.set_ip([192, 0, 2, 2].into()),
        |client: &mut Client| client.path.protocol = Protocol::Tcp(1),
    ] {
        let mut moved = bob.clone();
        change(&mut moved);
        assert_eq!(house.code_of_allocate(&mut moved, &[TRANSPORT]), 438);
    }
    for at in 0..bob.nonce.len() {
        let mut changed = bob.clone();
        changed.nonce[at] ^= 1;
        let code = house.code_of_allocate(&mut changed, &[TRANSPORT]);
        assert_ne!(code, 0, "byte {at}");
    }
    house.after(600);
    let mut late = house.stranger("bob", 1);
    late.nonce.clone_from(&bob.nonce);
    assert_eq!(house.code_of_allocate(&mut late, &[TRANSPORT]), 0);
    house.after(1);
    assert_eq!(house.refresh(&mut late, None), 438);
}

#[test]
fn a_request_that_proves_nothing_leaves_no_state() {
    let mut house = House::new(|_| ());
    for number in 0..100_000u32 {
        let [_, b, c, d] = number.to_be_bytes();
        let mut client = house.stranger("bob", 1000 + u16::from(d));
        client.path.remote.set_ip([11, b, c, d].into());
        let bytes = client.bare(ALLOCATE, &[TRANSPORT]);
        house.take(client.path, &bytes);
        client.nonce = vec![b'A'; 29];
        client.credentials.password = "guess".to_owned();
        let bytes = client.request(ALLOCATE, &[TRANSPORT], &[]);
        house.take(client.path, &bytes);
    }
    let counts = house.server.counts();
    assert_eq!((counts.allocations, house.server.by_client.len()), (0, 0));
    assert!(house.server.by_client.capacity() == 0 && house.server.allocations.capacity() == 0);
    assert!(
        counts.dropped_for(DropReason::Unproven) > 100_000,
        "most got no reply"
    );
}

#[test]
fn a_connection_is_answered_whatever_the_budget() {
    let mut house = House::new(|_| ());
    let mut bob = house.stranger("bob", 1);
    for _ in 0..1000 {
        let bytes = bob.bare(ALLOCATE, &[TRANSPORT]);
        house.take(bob.path, &bytes);
        bob = house.stranger("bob", 1);
    }
    let bytes = bob.bare(ALLOCATE, &[TRANSPORT]);
    assert!(house.take(bob.path, &bytes).1.is_empty());
    bob.path.protocol = Protocol::Tcp(1);
    let bytes = bob.bare(ALLOCATE, &[TRANSPORT]);
    assert_eq!(house.take(bob.path, &bytes).1[0].code(), 401);
}

#[test]
fn random_ports_and_tokens_differ() {
    let mut house = House::new(|settings| settings.quotas = crate::Quotas::new(12, 9999, 9999));
    let mut ports = std::collections::HashSet::new();
    for port in 1..=500 {
        let mut bob = house.stranger("bob", port);
        bob.path
            .remote
            .set_ip([192, 0, 2, (port % 250) as u8].into());
        ports.insert(house.allocate(&mut bob).port());
    }
    assert_eq!(ports.len(), 500);
    let low = ports.iter().filter(|port| **port < 50_500).count();
    assert!((200..=300).contains(&low), "{low} of 500 in the lower half");
}
