use std::time::{Duration, Instant};

use super::*;

/// Sockets under test and what they have received so far, as owned copies.
struct End {
    sockets: UdpSockets,
    buffers: ReceiveBuffers,
}

impl End {
    fn bind() -> Self {
        let sockets = UdpSockets::bind(0, 1 << 20).unwrap();
        Self {
            sockets,
            buffers: ReceiveBuffers::new(),
        }
    }

    fn at(&self, ip: &str) -> SocketAddr {
        SocketAddr::new(ip.parse().unwrap(), self.sockets.port())
    }

    fn send(&mut self, local: &str, to: SocketAddr, datagrams: &[Vec<u8>]) {
        let path = Path {
            local: self.at(local),
            remote: to,
            protocol: Protocol::Udp,
        };
        let mut arena = Arena::new();
        for datagram in datagrams {
            arena.reserve().unwrap()[..datagram.len()].copy_from_slice(datagram);
            arena.aim(path);
            arena.commit(datagram.len());
        }
        self.sockets.send(&arena);
    }

    /// Waits until `count` datagrams are here, or for a second.
    fn receive(&mut self, count: usize) -> Vec<(Path, u8, Vec<u8>)> {
        let deadline = Instant::now() + Duration::from_secs(1);
        let mut received = Vec::new();
        while received.len() < count && Instant::now() < deadline {
            for index in 0..self.sockets.count() {
                let mut datagrams = Vec::new();
                self.sockets
                    .receive(index, &mut self.buffers, &mut datagrams);
                let owned = |d: &Datagram<'_>| (d.path, d.ecn, d.bytes.to_vec());
                received.extend(datagrams.iter().map(owned));
            }
        }
        received
    }
}

/// Ten datagrams as a frame has them: equal ones, then a shorter one, then longer ones.
fn frame() -> Vec<Vec<u8>> {
    let lengths = [1200, 1200, 1200, 1200, 700, 1100, 1100, 1100, 1100, 12];
    lengths
        .iter()
        .zip(0..)
        .map(|(&length, fill)| vec![fill; length])
        .collect()
}

fn bytes_of(received: Vec<(Path, u8, Vec<u8>)>) -> Vec<Vec<u8>> {
    received.into_iter().map(|(_, _, bytes)| bytes).collect()
}

#[test]
fn runs_arrive_as_the_datagrams_they_were_made_of() {
    for ip in ["127.0.0.1", "::1"] {
        let (mut near, mut far) = (End::bind(), End::bind());
        near.send(ip, far.at(ip), &frame());
        let received = far.receive(10);
        for (path, _, _) in &received {
            assert_eq!((path.local, path.remote), (far.at(ip), near.at(ip)));
        }
        assert_eq!(bytes_of(received), frame(), "{ip}");
        assert_eq!(
            (
                near.sockets.counts.sent_datagrams,
                near.sockets.counts.sent_runs
            ),
            (10, 2)
        );
        assert_eq!(near.sockets.counts.gso_fallbacks, 0);
        assert_eq!(far.sockets.counts.received_datagrams, 10);
    }
}

#[test]
fn without_segmentation_the_same_datagrams_arrive() {
    let (mut near, mut far) = (End::bind(), End::bind());
    near.sockets.disable_segmentation();
    near.send("127.0.0.1", far.at("127.0.0.1"), &frame());
    assert_eq!(bytes_of(far.receive(10)), frame());
    assert_eq!(
        (
            near.sockets.counts.sent_datagrams,
            near.sockets.counts.sent_runs
        ),
        (10, 10)
    );
}

#[test]
fn a_refused_run_goes_out_as_single_datagrams() {
    let (mut near, mut far) = (End::bind(), End::bind());
    let to = far.at("127.0.0.1");
    let path = Path {
        local: near.at("127.0.0.1"),
        remote: to,
        protocol: Protocol::Udp,
    };
    let bytes = frame().concat();
    let run = Message {
        bytes: &bytes[..3000],
        path,
        segment_bytes: Some(1000),
    };
    let refusal = io::Error::from_raw_os_error(libc::EIO);
    let UdpSockets {
        sockets, counts, ..
    } = &mut near.sockets;
    sockets[0].transmit_single(&run, &refusal, counts);
    assert_eq!(bytes_of(far.receive(3)).concat(), bytes[..3000]);
    assert_eq!(
        (
            near.sockets.counts.gso_fallbacks,
            near.sockets.counts.sent_runs
        ),
        (1, 3)
    );
    assert_eq!(near.sockets.sockets[0].segmentation, Segmentation::Off);
}

#[test]
fn one_refusal_that_may_be_about_one_path_changes_nothing_for_others() {
    let (mut near, far) = (End::bind(), End::bind());
    let to = far.at("127.0.0.1");
    let path = Path {
        local: near.at("127.0.0.1"),
        remote: to,
        protocol: Protocol::Udp,
    };
    let run = Message {
        bytes: &[1; 200],
        path,
        segment_bytes: Some(100),
    };
    let refusal = io::Error::from_raw_os_error(libc::EINVAL);
    let UdpSockets {
        sockets, counts, ..
    } = &mut near.sockets;
    let socket = &mut sockets[0];
    socket.transmit_single(&run, &refusal, counts);
    assert_eq!(socket.segmentation, Segmentation::On { refused: 1 });
    socket.transmit(&[run], counts);
    assert_eq!(socket.segmentation, Segmentation::On { refused: 0 });
    for _ in 0..REFUSALS_MAX {
        socket.transmit_single(&run, &refusal, counts);
    }
    assert_eq!(socket.segmentation, Segmentation::Off);
}

#[test]
fn a_path_the_kernel_refuses_does_not_hold_up_the_others() {
    let (mut near, mut far) = (End::bind(), End::bind());
    let to = far.at("127.0.0.1");
    let mut arena = Arena::new();
    for local in ["192.0.2.77", "127.0.0.1", "192.0.2.77", "127.0.0.1"] {
        let path = Path {
            local: near.at(local),
            remote: to,
            protocol: Protocol::Udp,
        };
        for _ in 0..2 {
            arena.reserve().unwrap()[..100].fill(9);
            arena.aim(path);
            arena.commit(100);
        }
    }
    near.sockets.send(&arena);
    assert_eq!(far.receive(4).len(), 4);
    assert!(
        near.sockets.counts.send_errors >= 2,
        "{:?}",
        near.sockets.counts
    );
    assert_eq!(near.sockets.counts.sent_datagrams, 4);
}

#[test]
fn a_reply_leaves_from_the_address_that_was_reached() {
    let (mut client, mut server) = (End::bind(), End::bind());
    client.send("127.0.0.3", server.at("127.0.0.2"), &[vec![1]]);
    let (path, _, _) = server.receive(1).remove(0);
    assert_eq!(
        (path.local, path.remote),
        (server.at("127.0.0.2"), client.at("127.0.0.3"))
    );
    server.send("127.0.0.2", path.remote, &[vec![2]]);
    let (path, _, bytes) = client.receive(1).remove(0);
    assert_eq!(
        (path.local, path.remote),
        (client.at("127.0.0.3"), server.at("127.0.0.2"))
    );
    assert_eq!(bytes, [2]);
}

#[test]
fn ecn_bits_are_seen_for_both_ip_versions() {
    use nix::sys::socket::{setsockopt, sockopt};

    let mut server = End::bind();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    setsockopt(&client, sockopt::Ipv4Tos, &0b11).unwrap();
    client.send_to(&[1], server.at("127.0.0.1")).unwrap();
    assert_eq!(server.receive(1)[0].1, 0b11);
    let client = UdpSocket::bind("[::1]:0").unwrap();
    setsockopt(&client, sockopt::Ipv6TClass, &0b01).unwrap();
    client.send_to(&[1], server.at("::1")).unwrap();
    assert_eq!(server.receive(1)[0].1, 0b01);
}

#[test]
fn more_runs_than_one_call_takes_all_arrive() {
    let (mut near, mut far) = (End::bind(), End::bind());
    let (v4, v6) = (far.at("127.0.0.1"), far.at("::1"));
    let mut arena = Arena::new();
    for index in 0..150 {
        let (ip, remote) = if index % 3 == 0 {
            ("::1", v6)
        } else {
            ("127.0.0.1", v4)
        };
        let path = Path {
            local: near.at(ip),
            remote,
            protocol: Protocol::Udp,
        };
        arena.reserve().unwrap()[0] = index;
        arena.aim(path);
        arena.commit(1);
    }
    near.sockets.send(&arena);
    let mut received = bytes_of(far.receive(150)).concat();
    received.sort_unstable();
    assert_eq!(received, (0..150).collect::<Vec<u8>>());
}

#[test]
fn an_empty_datagram_is_one() {
    let (mut near, mut far) = (End::bind(), End::bind());
    let datagrams = [vec![1; 10], vec![], vec![2; 10], vec![]];
    near.send("127.0.0.1", far.at("127.0.0.1"), &datagrams);
    assert_eq!(bytes_of(far.receive(4)), datagrams);
}

#[test]
fn a_port_of_another_is_refused() {
    let first = End::bind();
    let second = UdpSockets::bind(first.sockets.port(), 1 << 16);
    assert_eq!(second.unwrap_err().kind(), io::ErrorKind::AddrInUse);
}
