//! The TURN server on real sockets of loopback: UDP and TCP, parallel bursts, floods.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::indexing_slicing,
    reason = "these tests are clients with clocks and sockets"
)]

#[path = "sockets/client.rs"]
mod client;
#[path = "sockets/house.rs"]
mod house;

use std::net::{Ipv4Addr, SocketAddr};

use net::stun::BINDING;
use net::{Arena, Path, Protocol, UdpSockets};

use client::{Client, Transport};
use house::House;

#[test]
fn a_stranger_relays_over_udp_and_tcp() {
    let house = House::open();
    for transport in [Transport::Udp, Transport::Tcp] {
        let mut bob = Client::new(&house, transport, house.stranger("bob"));
        let relayed = bob.allocate().unwrap();
        let peer = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        bob.bind(peer.local_addr().unwrap()).unwrap();
        for length in [0, 1, 2, 3, 4, 1200, 5000] {
            let data = vec![7; length];
            bob.send(&data);
            let mut received = [0; 9000];
            let (got, from) = peer.recv_from(&mut received).unwrap();
            assert_eq!((&received[..got], from), (&data[..], relayed));
            peer.send_to(&received[..got], relayed).unwrap();
            assert_eq!(bob.receive(), data, "{transport:?}, {length} bytes");
        }
    }
}

#[test]
fn a_connection_finds_the_server_of_its_user() {
    let house = House::open();
    for user in [0, 1] {
        let mut ann = Client::new(&house, Transport::Tcp, house.user(user));
        ann.allocate().unwrap();
        assert_eq!(house.media_of(user), ann.bind_media(&house));
    }
}

#[test]
fn what_speaks_no_turn_is_closed() {
    use std::io::{Read, Write};
    let house = House::open();
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0x40, 0, 0xff, 0xff],
        &[0, 1, 0xff, 0xf0, 0x21],
    ] {
        let mut stream = house.connect();
        stream.write_all(bytes).unwrap();
        assert_eq!(stream.read(&mut [0; 10]).unwrap_or(0), 0, "{bytes:?}");
    }
}

#[test]
fn two_hundred_at_once_get_exactly_what_there_is() {
    let house = House::open();
    for (credentials, most) in [(house.user(0), 12), (house.stranger("bob"), 32)] {
        let clients: Vec<_> = (0..200)
            .map(|_| {
                let mut client = Client::new(&house, Transport::Udp, credentials.clone());
                std::thread::spawn(move || client.allocate().map(|_| client))
            })
            .collect();
        let outcomes: Vec<_> = clients
            .into_iter()
            .map(|client| client.join().unwrap())
            .collect();
        let refused = outcomes
            .iter()
            .filter(|outcome| outcome.as_ref().err() == Some(&486))
            .count();
        assert_eq!(
            (outcomes.iter().flatten().count(), refused),
            (most, 200 - most)
        );
        for mut client in outcomes.into_iter().flatten() {
            client.release();
        }
        let mut again = Client::new(&house, Transport::Udp, credentials);
        again.allocate().unwrap();
        again.release();
    }
}

/// From a million addresses, which loopback has: memory stays, and what is sent back is bounded.
#[test]
fn a_million_spoofed_requests_leave_no_memory_and_few_replies() {
    let house = House::open();
    let mut attacker = UdpSockets::bind(0, 4 << 20).unwrap();
    let mut bob = Client::new(&house, Transport::Udp, house.stranger("bob"));
    let requests = [
        Client::bare(BINDING, &[]),
        Client::bare(
            client::ALLOCATE,
            &[(client::REQUESTED_TRANSPORT, &client::UDP)],
        ),
        bob.with_a_guess(),
    ];
    let flood = |attacker: &mut UdpSockets, from: u32, count: u32| {
        let mut arena = Arena::new();
        for number in from..from + count {
            let ip = Ipv4Addr::from_bits(0x7f10_0000 + number);
            let request = &requests[number as usize % requests.len()];
            if arena.reserve().is_none() {
                attacker.send(&arena);
                arena.clear();
            }
            arena.reserve().unwrap()[..request.len()].copy_from_slice(request);
            let local = SocketAddr::new(ip.into(), attacker.port());
            arena.aim(Path::new(local, house.udp, Protocol::Udp));
            arena.commit(request.len());
            // No more than the server takes in, so that it sees all of them.
            if number.is_multiple_of(200) {
                attacker.send(&arena);
                arena.clear();
                house.wait_until_idle();
            }
        }
        attacker.send(&arena);
        house.wait_until_idle();
    };
    flood(&mut attacker, 0, 50_000);
    let before = house::resident_bytes();
    flood(&mut attacker, 50_000, 1_000_000);
    let grown = house::resident_bytes().saturating_sub(before);
    assert!(grown <= 8 << 20, "{grown} bytes more");
    let seen = house.datagrams();
    assert!(seen > 1_000_000, "the server saw {seen} of them");
    let (received, sent) = house.bytes();
    assert!(sent <= 4 * received, "{sent} bytes for {received}");
    bob.allocate().unwrap();
}
