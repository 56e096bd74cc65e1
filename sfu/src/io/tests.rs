use std::io::Write;
use std::net::{TcpStream, UdpSocket};

use super::tcp::framing::framed_check;
use super::*;
use crate::sfu::Offer;

fn config(shards: u16) -> Config {
    Config {
        udp_port: 0,
        tcp_port: 0,
        shards,
        socket_buffer_bytes: 1 << 16,
        ..Config::default()
    }
}

fn offer(participant: ParticipantId, id: u32) -> Command {
    let offer = Offer {
        id,
        sdp: String::new(),
        publish: Vec::new(),
        publish_unnamed: false,
        local_address: None,
    };
    Command::Offer { participant, offer }
}

/// Waits until the published counts satisfy a condition.
fn wait_for(sfu: &Sfu, is_met: impl Fn(&Metrics) -> bool) -> Metrics {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let metrics = sfu.counted();
        if is_met(&metrics) {
            return metrics;
        }
        assert!(Instant::now() < deadline, "{metrics:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn every_offer_is_answered_even_one_for_an_id_of_no_shard() {
    let (sfu, mut events) = Sfu::start(config(2)).unwrap();
    let ids = [
        ParticipantId::new(0, 1),
        ParticipantId::new(1, 1),
        ParticipantId::new(999, 1),
    ];
    for participant in ids {
        sfu.send(offer(participant, 7)).unwrap();
        let Some(Event::Answered {
            participant: who,
            offer: 7,
            answer,
        }) = events.recv()
        else {
            panic!("no answer for {participant}");
        };
        assert_eq!(who, participant);
        assert!(answer.is_err());
    }
}

#[test]
fn no_event_is_lost_while_nobody_takes_them() {
    let (sfu, mut events) = Sfu::start(config(1)).unwrap();
    let count = u32::try_from(EVENTS_MAX).unwrap() * 3;
    for id in 0..count {
        let participant = ParticipantId::new(0, 1);
        while sfu.send(offer(participant, id)).is_err() {
            thread::yield_now();
        }
    }
    let answered = (0..count)
        .all(|id| matches!(events.recv(), Some(Event::Answered { offer, .. }) if offer == id));
    assert!(answered, "in order");
}

#[test]
fn shutdown_handles_what_was_asked_before_and_ends_everything() {
    let (sfu, mut events) = Sfu::start(config(2)).unwrap();
    sfu.send(offer(ParticipantId::new(1, 1), 1)).unwrap();
    sfu.shutdown();
    assert!(matches!(events.recv(), Some(Event::Answered { .. })));
    assert_eq!(events.recv(), None);
    let (udp, tcp) = (sfu.udp_ports()[0], sfu.tcp_port());
    drop(sfu);
    assert!(TcpStream::connect(("127.0.0.1", tcp)).is_err());
    assert!(UdpSocket::bind(("0.0.0.0", udp)).is_ok());
}

#[test]
fn rooms_go_to_the_shard_with_the_fewest() {
    let (sfu, _events) = Sfu::start(config(3)).unwrap();
    let rooms: Vec<RoomId> = (0..6)
        .map(|_| sfu.create_room(RoomConfig::default()))
        .collect();
    let shards: Vec<usize> = rooms.iter().map(|room| room.shard()).collect();
    assert_eq!(shards, [0, 1, 2, 0, 1, 2]);
    sfu.send(Command::CloseRoom { room: rooms[1] }).unwrap();
    let next = sfu.create_room(RoomConfig::default());
    assert_eq!(next.shard(), 1);
    assert_ne!(next, rooms[1]);
    assert_eq!(sfu.next_participant(next).shard(), 1);
    assert_ne!(sfu.next_participant(next), sfu.next_participant(next));
}

#[test]
fn each_shard_has_a_port_and_counts_what_comes_in() {
    let (sfu, _events) = Sfu::start(config(2)).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    for port in sfu.udp_ports() {
        client.send_to(b"hello", ("127.0.0.1", port)).unwrap();
    }
    let metrics = wait_for(&sfu, |metrics| metrics.received_datagrams == 2);
    assert_eq!((metrics.received_bytes, metrics.shards), (10, 2));
}

#[test]
fn a_tcp_connection_reaches_the_shard_its_ufrag_names() {
    let (sfu, _events) = Sfu::start(config(2)).unwrap();
    let mut client = TcpStream::connect(("127.0.0.1", sfu.tcp_port())).unwrap();
    client.write_all(&framed_check("01abcd:client")).unwrap();
    wait_for(&sfu, |metrics| {
        metrics.tcp_connections == 1 && metrics.received_datagrams == 1
    });
    assert_eq!(lock(&sfu.links[1].published).tcp_connections, 1);
    drop(client);
    wait_for(&sfu, |metrics| metrics.tcp_connections == 0);
}

#[test]
fn ports_that_do_not_fit_are_refused_at_the_start() {
    let too_many = Sfu::start(Config {
        udp_port: 65_000,
        shards: 700,
        ..config(1)
    });
    assert!(matches!(too_many, Err(StartError::TooManyShards { .. })));
    let past_the_end = Sfu::start(Config {
        udp_port: 65_535,
        shards: 2,
        ..config(1)
    });
    assert!(matches!(
        past_the_end,
        Err(StartError::TooManyShards { .. })
    ));
    let (first, _events) = Sfu::start(config(1)).unwrap();
    let taken = Sfu::start(Config {
        udp_port: first.udp_ports()[0],
        ..config(1)
    });
    assert!(matches!(taken, Err(StartError::Udp { .. })));
    let taken = Sfu::start(Config {
        tcp_port: first.tcp_port(),
        ..config(1)
    });
    assert!(matches!(taken, Err(StartError::Tcp { .. })));
}

#[test]
fn ntp_time_begins_in_1900() {
    let years = (ntp_now() >> 32) / (365 * 24 * 3600);
    assert!((124..136).contains(&years), "{years} years");
}
