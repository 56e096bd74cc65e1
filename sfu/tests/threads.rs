//! One publisher and a crowd over real sockets, on the media threads of a real server: a room that has
//! outgrown its shard goes on on the next one.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    clippy::too_many_arguments,
    clippy::too_many_lines,
    dead_code,
    reason = "a test fails by panicking; it runs on sockets and time, with part of the simulation's browser"
)]

#[path = "sim/browser.rs"]
mod browser;
#[path = "sim/channels.rs"]
mod channels;
#[path = "sim/media.rs"]
mod media;
#[path = "sim/offer.rs"]
mod offer;
#[path = "sim/receiver.rs"]
mod receiver;
#[path = "sim/rtp.rs"]
mod rtp;
#[path = "sim/sender.rs"]
mod sender;
#[path = "sim/stun.rs"]
mod stun;

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use sfu::shard::{Path, Protocol};
use sfu::{
    Codec, Command, Config, Event, JoinOptions, MediaGrants, Mid, Offer, ParticipantId, Publish,
    RoomConfig, RoomId, Sfu, Source,
};

use crate::browser::{Browser, Options};
use crate::offer::Role;

/// How often browsers look at their timers.
const TICK: Duration = Duration::from_millis(5);

/// A browser with a socket of its own.
struct Client {
    browser: Browser,
    socket: UdpSocket,
}

/// A server and everyone in its one room.
struct Crowd {
    sfu: Sfu,
    events: Receiver<Event>,
    room: RoomId,
    clients: Vec<Client>,
    epoll: Epoll,
}

impl Crowd {
    fn new(participants_per_shard: u32) -> Self {
        let config = Config {
            udp_port: 0,
            tcp_port: 0,
            shards: 2,
            advertise: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
            room_participants_per_shard: participants_per_shard,
            ..Config::default()
        };
        let (sfu, mut events) = Sfu::start(config).unwrap();
        let (sender, receiver) = channel();
        thread::spawn(move || {
            while let Some(event) = events.recv() {
                if sender.send(event).is_err() {
                    return;
                }
            }
        });
        let room = sfu.create_room(RoomConfig::default());
        Self {
            sfu,
            events: receiver,
            room,
            clients: Vec::new(),
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap(),
        }
    }

    fn join(&mut self, options: Options) -> usize {
        let place = self.clients.len();
        let participant = self.sfu.next_participant(self.room);
        let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        let (wants, identity) = (options.wants.clone(), format!("{}{place}", options.name));
        let now = Instant::now();
        let mut browser = Browser::new(now, place as u64, place as u16, participant, options);
        browser.address = socket.local_addr().unwrap();
        let event = EpollEvent::new(EpollFlags::EPOLLIN, place as u64);
        self.epoll.add(&socket, event).unwrap();
        let options = JoinOptions {
            identity,
            grants: MediaGrants::default(),
            wants,
        };
        self.command(Command::Join {
            room: self.room,
            participant,
            options,
        });
        let publish = browser.lines.iter().filter_map(|line| {
            let source = match &line.role {
                Role::Video { .. } => Source::Camera,
                Role::Audio { .. } => Source::Microphone,
                _ => return None,
            };
            Some(Publish {
                mid: Mid::parse(&line.mid).unwrap(),
                source,
                name: String::new(),
                muted: false,
                width: 320,
                height: 180,
                codec: None,
                stereo: false,
                dtx: false,
            })
        });
        let offer = Offer {
            id: 1,
            sdp: browser.offer(),
            publish: publish.collect(),
            publish_unnamed: false,
            local_address: None,
        };
        self.command(Command::Offer { participant, offer });
        self.clients.push(Client { browser, socket });
        place
    }

    fn command(&self, command: Command) {
        while self.sfu.send(command.clone()).is_err() {
            thread::yield_now();
        }
    }

    /// Lets everyone live until a condition is met; fails when that takes too long.
    fn run_until(&mut self, patience: Duration, is_met: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + patience;
        let mut next_tick = Instant::now();
        while !is_met(self) {
            assert!(
                Instant::now() < deadline,
                "not within {patience:?}: {}",
                self.state()
            );
            while Instant::now() < next_tick + TICK {
                self.receive();
            }
            next_tick = Instant::now();
            while let Ok(event) = self.events.try_recv() {
                self.handle_event(event);
            }
            for client in &mut self.clients {
                client.browser.handle_timeout(Instant::now());
                client.send();
            }
        }
    }

    /// Who is not there yet, and what was dropped, for whoever reads of a failure.
    fn state(&self) -> String {
        let browsers = self.clients.iter().map(|client| &client.browser);
        let missing = browsers.filter(|browser| !browser.is_connected());
        let missing: Vec<String> = missing
            .map(|browser| {
                let answered = !browser.receivers.is_empty();
                format!("{} (answered: {answered})", browser.participant)
            })
            .collect();
        let metrics = self.sfu.metrics();
        let odd = metrics
            .iter()
            .filter(|m| m.value > 0 && m.name.contains("dropped"));
        let odd: Vec<String> = odd
            .map(|m| format!("{} {:?} {}", m.name, m.label, m.value))
            .collect();
        let seen = self.clients.iter().map(|client| {
            let receivers = client.browser.receivers.values();
            let arrived: usize = receivers.map(|receiver| receiver.arrived.len()).sum();
            format!("{}: {arrived}", client.browser.participant)
        });
        let seen = seen.collect::<Vec<_>>().join(", ");
        format!("not connected: {missing:?}; {odd:?}; packets {seen}")
    }

    fn receive(&mut self) {
        let mut ready = [EpollEvent::empty(); 64];
        let timeout = EpollTimeout::from(1u8);
        let count = self.epoll.wait(&mut ready, timeout).unwrap_or(0);
        let mut buffer = [0; 2048];
        for event in &ready[..count] {
            let client = &mut self.clients[event.data() as usize];
            while let Ok((length, from)) = client.socket.recv_from(&mut buffer) {
                let path = Path::new(from, client.browser.address, Protocol::Udp);
                client
                    .browser
                    .handle(Instant::now(), path, &buffer[..length]);
            }
            client.send();
        }
    }

    fn handle_event(&mut self, event: Event) {
        match event {
            Event::Answered {
                participant,
                answer,
                ..
            } => {
                let clients = self.clients.iter_mut();
                let mut found = clients.map(|client| &mut client.browser);
                let browser = found.find(|browser| browser.participant == participant);
                browser
                    .unwrap()
                    .accept(Instant::now(), &answer.unwrap().sdp);
            }
            Event::ParticipantEnded { participant } => panic!("{participant} was ended"),
            _ => {}
        }
    }

    fn on_shard(&self, shard: usize) -> impl Iterator<Item = &Browser> {
        let browsers = self.clients.iter().map(|client| &client.browser);
        browsers.filter(move |browser| browser.participant.shard() == shard)
    }

    fn metric(&self, name: &str) -> u64 {
        let all = self.sfu.metrics();
        all.iter().filter(|m| m.name == name).map(|m| m.value).sum()
    }

    fn leave(&mut self, participant: ParticipantId) {
        self.command(Command::Leave { participant });
        let clients = self.clients.iter_mut();
        let mut browsers = clients.map(|client| &mut client.browser);
        if let Some(browser) = browsers.find(|browser| browser.participant == participant) {
            browser.is_gone = true;
        }
    }
}

impl Client {
    fn send(&mut self) {
        while let Some((path, bytes)) = self.browser.poll_transmit() {
            // A full buffer loses the datagram, as a network would.
            self.socket.send_to(&bytes, path.local).ok();
        }
    }
}

/// A viewer that costs its side of the test as little as possible.
fn viewer() -> Options {
    let mut options = Options::new("viewer").slots(0, 1);
    options.transport_wide = false;
    options
}

/// Lets a crowd watch one camera until everyone has seen a good deal of it.
fn watch(viewers: usize, per_shard: u32, joining: Duration) -> Crowd {
    let mut crowd = Crowd::new(per_shard);
    let alice = crowd.join(Options::new("alice").camera(Codec::Vp8, &["only"]));
    crowd.clients[alice].browser.senders[0].encoder.sizes = vec![vec![300]];
    let connected = |crowd: &Crowd| {
        let mut clients = crowd.clients.iter();
        clients.all(|client| client.browser.is_connected())
    };
    for _ in 0..viewers.div_ceil(20) {
        for _ in 0..20.min(viewers + 1 - crowd.clients.len()) {
            crowd.join(viewer());
        }
        crowd.run_until(joining, connected);
    }
    let everyone_sees = |crowd: &Crowd| {
        let mut watching = crowd.clients.iter().skip(1);
        watching.all(|client| client.browser.video(0).arrived.len() >= 10)
    };
    crowd.run_until(joining, everyone_sees);
    crowd
}

fn check(crowd: &mut Crowd, viewers: usize) {
    let (here, there) = (crowd.on_shard(0).count(), crowd.on_shard(1).count());
    println!("{here} on the first shard, {there} on the second");
    assert_eq!(here + there, viewers + 1);
    assert!(here * 3 > viewers && there * 3 > viewers, "{here}, {there}");
    // What crossed is one copy: what was received of the publisher, but for the time before.
    let second = Duration::from_millis(1100);
    let wait = |crowd: &mut Crowd| {
        let end = Instant::now() + second;
        crowd.run_until(2 * second, |_| Instant::now() >= end);
    };
    wait(crowd);
    let count = |crowd: &Crowd| {
        (
            crowd.metric("plenum_cascade_received_packets_total"),
            crowd.metric("plenum_rtp_received_packets_total"),
        )
    };
    let (crossed, received) = count(crowd);
    // The shards count a moment apart.
    assert!(
        crossed > 10 && crossed < received * 2,
        "{crossed} of {received}"
    );
    assert_eq!(crowd.metric("plenum_cascade_tracks"), 1);
    assert_eq!(crowd.metric("plenum_panics_total"), 0);
}

#[test]
fn a_crowd_on_two_shards_sees_one_publisher() {
    let mut crowd = watch(40, 15, Duration::from_secs(60));
    check(&mut crowd, 40);
    let dropped = crowd.sfu.metrics();
    let mut full = dropped
        .iter()
        .filter(|m| m.label == Some(("reason", "cascade_full")));
    assert!(full.all(|m| m.value == 0));
    // Everyone on the second shard leaves: nothing crosses any more, and the room is on one shard.
    let there: Vec<ParticipantId> = crowd.on_shard(1).map(|b| b.participant).collect();
    for participant in there {
        crowd.leave(participant);
    }
    crowd.run_until(Duration::from_secs(5), |crowd| {
        crowd.metric("plenum_cascade_rooms") == 0 && crowd.metric("plenum_cascade_tracks") == 0
    });
    // And on two again.
    let room = crowd.room;
    let next = crowd.sfu.next_participant(room);
    assert_eq!(next.shard(), 1);
    let who = crowd.join(viewer());
    crowd.run_until(Duration::from_secs(10), |crowd| {
        let browser = &crowd.clients[who].browser;
        browser.is_connected() && browser.video(0).arrived.len() > 10
    });
}

/// `cargo test -p plenum-sfu --test threads --release -- --ignored --nocapture`
#[test]
#[ignore = "takes a minute and both cores"]
fn two_thousand_on_two_shards_see_one_publisher() {
    let mut crowd = watch(2000, 200, Duration::from_secs(60));
    check(&mut crowd, 2000);
}
