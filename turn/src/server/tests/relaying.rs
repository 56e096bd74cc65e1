//! Data through permissions and channels.

use net::Protocol;
use proptest::prelude::*;

use super::client::{CHANNEL_BIND, CREATE_PERMISSION, channel_data};
use super::*;
use crate::attributes::{DATA, XOR_PEER_ADDRESS};
use crate::counts::DropReason;

const PEER: &str = "8.8.8.8:9000";
const OTHER: &str = "8.8.8.8:9001";
const MEDIA: &str = "203.0.113.1:7800";

fn relaying() -> (House, Client, std::net::SocketAddr) {
    let mut house = House::new(|_| ());
    let mut bob = house.stranger("bob", 1);
    let relayed = house.allocate(&mut bob);
    (house, bob, relayed)
}

#[test]
fn data_goes_both_ways_only_with_permission() {
    let (mut house, mut bob, relayed) = relaying();
    let data = bob.indication(PEER, b"hello");
    assert_eq!(house.take(bob.path, &data).0, None);
    assert!(house.peer_sends(relayed, PEER, b"hi").is_empty());
    assert_eq!(house.permit(&mut bob, PEER), 0);
    let (sent, _) = house.take(bob.path, &data);
    assert_eq!(
        sent,
        Some((relayed, PEER.parse().unwrap(), None, b"hello".to_vec()))
    );
    let received = house.peer_sends(relayed, OTHER, b"from another port of the same address");
    let message = received[0].message();
    let peer = message.attribute(XOR_PEER_ADDRESS).unwrap();
    assert_eq!(message.xor_address(peer), OTHER.parse().ok());
    assert_eq!(
        message.attribute(DATA),
        Some(&b"from another port of the same address"[..])
    );
    assert!(house.peer_sends(relayed, "8.8.4.4:9000", b"no").is_empty());
    assert_eq!(
        house.server.counts().dropped_for(DropReason::NoPermission),
        3
    );
}

#[test]
fn a_channel_carries_data_both_ways_with_four_bytes_more() {
    let (mut house, mut bob, relayed) = relaying();
    assert_eq!(house.bind(&mut bob, 0x4000, PEER), 0);
    let (sent, _) = house.take(bob.path, &channel_data(0x4000, b"hello"));
    assert_eq!(
        sent,
        Some((relayed, PEER.parse().unwrap(), None, b"hello".to_vec()))
    );
    let received = house.peer_sends(relayed, PEER, b"hi");
    assert_eq!(received[0].bytes, channel_data(0x4000, b"hi"));
    assert_eq!(received[0].path, bob.path);
    // The address has permission, another port of it no channel.
    assert_eq!(
        house.peer_sends(relayed, OTHER, b"hi")[0].message().method,
        7
    );
    assert_eq!(house.take(bob.path, &channel_data(0x4001, b"x")).0, None);
    // Padding behind the data is allowed on UDP, a length beyond the end is not.
    let padded = [channel_data(0x4000, b"hello"), vec![0; 3]].concat();
    assert_eq!(house.take(bob.path, &padded).0.unwrap().3, b"hello");
    let mut cut = channel_data(0x4000, b"hello");
    cut.pop();
    assert_eq!(house.take(bob.path, &cut).0, None);
}

#[test]
fn on_a_stream_channel_data_is_padded() {
    let mut house = House::new(|_| ());
    let mut bob = house.stranger("bob", 1);
    bob.path.protocol = Protocol::Tcp(3);
    let relayed = house.allocate(&mut bob);
    assert_eq!(house.bind(&mut bob, 0x4000, PEER), 0);
    let received = house.peer_sends(relayed, PEER, b"hello");
    assert_eq!(
        received[0].bytes,
        [channel_data(0x4000, b"hello"), vec![0; 3]].concat()
    );
}

/// What a channel may be bound to again, while it lives and after.
#[test]
fn the_rebinding_of_channels_and_peers() {
    let (mut house, mut bob, _) = relaying();
    assert_eq!(house.bind(&mut bob, 0x4000, PEER), 0);
    for (number, peer, code) in [
        (0x4000, PEER, 0),
        (0x4000, OTHER, 400),
        (0x4001, PEER, 400),
        (0x4001, OTHER, 0),
        (0x4fff, "1.1.1.1:1", 0),
        (0x3fff, "1.1.1.1:2", 400),
        (0x8000, "1.1.1.1:2", 400),
        (0x7fff, "1.1.1.1:2", 0),
        (0x4002, "[2001:500::1]:1", 443),
        (0x4002, "10.0.0.1:1", 403),
        (0x4002, "1.1.1.1:0", 403),
    ] {
        assert_eq!(
            house.bind(&mut bob, number, peer),
            code,
            "{number:x} to {peer}"
        );
    }
    house.after(590);
    house.challenge_again(&mut bob);
    assert_eq!(house.refresh(&mut bob, None), 0);
    assert_eq!(house.bind(&mut bob, 0x4000, PEER), 0, "refreshed");
    house.after(20);
    assert_eq!(
        house.bind(&mut bob, 0x4001, PEER),
        400,
        "the channel lives on"
    );
    assert_eq!(
        house.bind(&mut bob, 0x4001, "1.1.1.1:5"),
        0,
        "its channel ended"
    );
}

#[test]
fn permissions_end_after_five_minutes_and_channels_keep_theirs_only_as_long() {
    let (mut house, mut bob, relayed) = relaying();
    assert_eq!(house.bind(&mut bob, 0x4000, PEER), 0);
    assert_eq!(house.permit(&mut bob, "1.1.1.1:1"), 0);
    house.after(299);
    assert!(!house.peer_sends(relayed, "1.1.1.1:7", b"x").is_empty());
    house.after(1);
    assert!(house.peer_sends(relayed, "1.1.1.1:7", b"x").is_empty());
    assert!(house.peer_sends(relayed, OTHER, b"x").is_empty());
    let data = bob.indication(PEER, b"x");
    assert_eq!(house.take(bob.path, &data).0, None);
    assert!(
        !house.peer_sends(relayed, PEER, b"x").is_empty(),
        "the channel is its own permission"
    );
    house.after(300);
    assert!(house.peer_sends(relayed, PEER, b"x").is_empty());
}

#[test]
fn permissions_are_installed_all_or_none() {
    let (mut house, mut bob, relayed) = relaying();
    let peers = ["8.8.8.8:1", "10.0.0.1:1"].map(|peer| peer.parse().unwrap());
    let bytes = bob.request(CREATE_PERMISSION, &[], &peers);
    assert_eq!(house.take(bob.path, &bytes).1[0].code(), 403);
    assert!(house.peer_sends(relayed, "8.8.8.8:1", b"x").is_empty());
    let bytes = bob.request(CREATE_PERMISSION, &[], &[]);
    assert_eq!(house.take(bob.path, &bytes).1[0].code(), 400);
    for last in 0..64 {
        assert_eq!(house.permit(&mut bob, &format!("9.9.9.{last}:1")), 0);
    }
    assert_eq!(house.permit(&mut bob, "9.9.9.64:1"), 508);
    assert_eq!(house.permit(&mut bob, "9.9.9.63:1"), 0);
}

#[test]
fn two_addresses_in_one_channel_bind_are_refused() {
    let (mut house, mut bob, _) = relaying();
    let peers = [PEER, "10.0.0.1:1"].map(|peer| peer.parse().unwrap());
    let number = (crate::attributes::CHANNEL_NUMBER, &[0x40, 0, 0, 0][..]);
    let bytes = bob.request(CHANNEL_BIND, &[number], &peers);
    assert_eq!(house.take(bob.path, &bytes).1[0].code(), 400);
}

#[test]
fn our_users_reach_our_media_and_nothing_else() {
    let mut house = House::new(|_| ());
    let mut ann = house.user(7, 1);
    let relayed = house.allocate(&mut ann);
    assert_eq!(house.permit(&mut ann, "8.8.8.8:1"), 403);
    assert_eq!(house.bind(&mut ann, 0x4000, "203.0.113.1:7801"), 403);
    assert_eq!(house.permit(&mut ann, MEDIA), 0);
    let foreign = ann.indication("203.0.113.1:22", b"x");
    assert_eq!(
        house.take(ann.path, &foreign).0,
        None,
        "another port of the same address"
    );
    assert_eq!(house.bind(&mut ann, 0x4000, MEDIA), 0);
    let (sent, _) = house.take(ann.path, &channel_data(0x4000, b"hello"));
    let (from, to, number, data) = sent.unwrap();
    assert_eq!(
        (from, to, data),
        (relayed, MEDIA.parse().unwrap(), b"hello".to_vec())
    );
    let number = number.unwrap();
    assert_eq!(
        house.media_sends(number, MEDIA, b"hi")[0].bytes,
        channel_data(0x4000, b"hi")
    );
    house.server.handle_left(crate::auth::User(7));
    assert!(house.media_sends(number, MEDIA, b"hi").is_empty());
    let mut eve = house.user(8, 1);
    house.allocate(&mut eve);
    assert!(
        house.media_sends(number, MEDIA, b"hi").is_empty(),
        "the number names one allocation"
    );
}

#[test]
fn after_a_panic_no_number_and_no_address_comes_again() {
    let mut house = House::for_users();
    let mut seen = std::collections::HashSet::new();
    for round in 0..3 {
        let mut ann = house.user(7, 1);
        let relayed = house.allocate(&mut ann);
        assert_eq!(house.bind(&mut ann, 0x4000, MEDIA), 0);
        let (sent, _) = house.take(ann.path, &channel_data(0x4000, b"hello"));
        let (.., number, _) = sent.unwrap();
        assert!(seen.insert(number) && seen.len() == round + 1, "{number:?}");
        let next = house.server.succeed();
        let old = std::mem::replace(&mut house.server, next);
        assert!(old.has_allocation(&ann.path) && !house.server.has_allocation(&ann.path));
        let mut eve = house.user(8, 2);
        assert_ne!(house.allocate(&mut eve), relayed);
        assert_eq!(house.refresh(&mut eve, Some(0)), 0);
        assert!(house.server.users().contains(&crate::auth::User(7)));
    }
}

#[test]
fn strangers_never_reach_what_we_listen_on_even_where_our_address_is_allowed() {
    let mut house = House::new(|settings| {
        let relay = settings.relay.as_mut().unwrap();
        let own = ["203.0.113.1".parse().unwrap()];
        let allowed = vec!["203.0.113.0/24".parse().unwrap()];
        relay.filter = crate::PeerFilter::new(allowed, own, [MEDIA.parse().unwrap()]);
    });
    let (mut bob, mut carol) = (house.stranger("bob", 1), house.stranger("carol", 2));
    house.allocate(&mut bob);
    let theirs = house.allocate(&mut carol);
    assert_eq!(
        house.permit(&mut bob, MEDIA),
        0,
        "permissions are for addresses"
    );
    assert_eq!(house.bind(&mut bob, 0x4000, MEDIA), 403);
    let data = bob.indication(MEDIA, b"x");
    assert_eq!(house.take(bob.path, &data).0, None);
    let data = bob.indication(&theirs.to_string(), b"x");
    assert_eq!(
        house.take(bob.path, &data).0.unwrap().1,
        theirs,
        "two relayed clients"
    );
}

#[test]
fn an_allocation_carries_no_more_than_it_may() {
    let (mut house, mut bob, relayed) = relaying();
    assert_eq!(house.bind(&mut bob, 0x4000, PEER), 0);
    let (data, mut carried) = ([0; 1000], 0);
    for step in 0..4000u64 {
        if step.is_multiple_of(2) {
            let sent = house.take(bob.path, &channel_data(0x4000, &data)).0;
            carried += sent.map_or(0, |(.., bytes)| bytes.len());
        } else {
            let received = house.peer_sends(relayed, PEER, &data);
            carried += received.len() * data.len();
        }
        house.now += std::time::Duration::from_micros(500);
    }
    // 2 s at 1 MB/s and a quarter of a second of it at once.
    assert!((2_200_000..=2_251_000).contains(&carried), "{carried}");
    assert!(house.server.counts().dropped_for(DropReason::Bandwidth) > 1000);
}

#[test]
fn a_datagram_longer_than_a_jumbo_frame_is_not_relayed() {
    let (mut house, mut bob, relayed) = relaying();
    assert_eq!(house.bind(&mut bob, 0x4000, PEER), 0);
    assert_eq!(house.peer_sends(relayed, PEER, &[0; 9000]).len(), 1);
    assert!(house.peer_sends(relayed, PEER, &[0; 9001]).is_empty());
    assert_eq!(house.server.counts().dropped_for(DropReason::TooLong), 1);
}

#[test]
fn a_datagram_that_must_not_be_fragmented_is_told_from_others() {
    let (mut house, mut bob, _) = relaying();
    assert_eq!(house.permit(&mut bob, PEER), 0);
    for is_whole in [false, true] {
        let mut bytes = bob.indication(PEER, b"data");
        if is_whole {
            bytes.extend([0, 0x1a, 0, 0]);
            let length = u16::try_from(bytes.len() - 20).unwrap().to_be_bytes();
            bytes[2..4].copy_from_slice(&length);
        }
        let datagram = net::Datagram {
            path: bob.path,
            ecn: 0,
            bytes: &mut bytes,
        };
        let sent = house
            .server
            .handle_client(house.now, datagram, &mut house.arena);
        assert_eq!(sent.unwrap().dont_fragment, is_whole);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_judged(bytes in prop::collection::vec(any::<u8>(), 0..200), first in 0u8..0x50) {
        let (mut house, mut bob, _) = relaying();
        house.bind(&mut bob, 0x4000, PEER);
        let bytes = [&[first], &bytes[..]].concat();
        let (relayed, replies) = house.take(bob.path, &bytes);
        if let Some((_, to, _, data)) = relayed {
            prop_assert!(to == PEER.parse().unwrap() && data.len() + 4 <= bytes.len());
        }
        prop_assert!(replies.iter().all(|reply| reply.bytes.len() <= 100));
    }

    #[test]
    fn no_changed_byte_of_a_request_gets_through(at in 0usize..150, flip in 1u8..) {
        let (mut house, mut bob, _) = relaying();
        let mut bytes = bob.request(CREATE_PERMISSION, &[], &[PEER.parse().unwrap()]);
        // Without its fingerprint the request would be as good.
        let at = at % (bytes.len() - 8);
        bytes[at] ^= flip;
        let (_, replies) = house.take(bob.path, &bytes);
        prop_assert!(replies.iter().all(|reply| reply.code() != 0));
    }
}
