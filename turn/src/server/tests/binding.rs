//! STUN for everyone, and behaviour discovery.

use net::stun::{BINDING, UNKNOWN_ATTRIBUTES, XOR_MAPPED_ADDRESS};

use super::*;
use crate::attributes::{CHANGE_REQUEST, OTHER_ADDRESS, RESPONSE_ORIGIN};
use crate::auth::Credentials;

fn anyone() -> Client {
    let credentials = Credentials {
        username: String::new(),
        password: String::new(),
    };
    Client::new(4711, credentials)
}

#[test]
fn anyone_is_told_the_address_it_is_seen_with() {
    let mut house = House::for_users();
    let mut client = anyone();
    let bytes = client.bare(BINDING, &[]);
    let (_, replies) = house.take(client.path, &bytes);
    let message = replies[0].message();
    let mapped = message.attribute(XOR_MAPPED_ADDRESS).unwrap();
    assert_eq!(message.xor_address(mapped), Some(client.path.remote));
    assert_eq!((replies[0].bytes.len(), replies[0].code()), (32, 0));
    assert_eq!(house.server.counts().bindings, 1);
}

#[test]
fn what_must_be_understood_and_is_not_is_told() {
    let mut house = House::for_users();
    let mut client = anyone();
    let bytes = client.bare(BINDING, &[(0x7abc, &[1, 2, 3, 4])]);
    let (_, replies) = house.take(client.path, &bytes);
    assert_eq!(replies[0].code(), 420);
    assert_eq!(
        replies[0].attribute(UNKNOWN_ATTRIBUTES),
        Some(vec![0x7a, 0xbc])
    );
    let bytes = client.bare(BINDING, &[(CHANGE_REQUEST, &[0, 0, 0, 6])]);
    let (_, replies) = house.take(client.path, &bytes);
    assert_eq!(replies[0].code(), 400, "without a second address");
}

#[test]
fn discovery_answers_from_where_it_is_asked_to() {
    let mut house = House::with_discovery();
    let mut client = anyone();
    for (flags, from) in [
        (0, "203.0.113.1:3478"),
        (2, "203.0.113.1:3479"),
        (4, "203.0.113.2:3478"),
        (6, "203.0.113.2:3479"),
    ] {
        let bytes = client.bare(BINDING, &[(CHANGE_REQUEST, &[0, 0, 0, flags])]);
        let (_, replies) = house.take(client.path, &bytes);
        assert_eq!(replies[0].path.local, from.parse().unwrap());
        assert_eq!(replies[0].path.remote, client.path.remote);
        let plain = |text: &str| {
            let address: std::net::SocketAddrV4 = text.parse().unwrap();
            let mut value = vec![0, 1];
            value.extend(address.port().to_be_bytes());
            value.extend(address.ip().octets());
            Some(value)
        };
        assert_eq!(
            replies[0].attribute(OTHER_ADDRESS),
            plain("203.0.113.2:3479")
        );
        assert_eq!(replies[0].attribute(RESPONSE_ORIGIN), plain(from));
        assert!(replies[0].bytes.len() <= 80);
    }
}
