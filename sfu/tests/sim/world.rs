//! A simulated room: browsers, network and shard on one virtual clock.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use sfu::shard::{Arena, Candidates, Datagram, Path, Shard, ShardOptions};
use sfu::{
    Certificate, Command, Config, Event, JoinOptions, Kind, MediaGrants, Mid, Offer, ParticipantId,
    Publish, RoomConfig, RoomId, Source, StreamState, TrackId, TransportState, View,
};

use crate::browser::{Browser, Options};
use crate::checker::Checker;
use crate::network::{Direction, Link, Network};
use crate::offer::Role;

/// Rounds at one instant after which a shard counts as stuck.
const ROUNDS_MAX: usize = 64;

/// The shard's wall clock when the virtual clock starts.
pub(crate) const NTP_AT_START: u64 = 3_900_000_000 << 32;
pub(crate) const UDP: &str = "192.0.2.1:7800";
pub(crate) const TCP: &str = "192.0.2.1:7801";

/// A browser's place in its room.
pub(crate) type Who = usize;

/// One room and everything around it.
pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) start: Instant,
    pub(crate) shard: Shard,
    pub(crate) network: Network,
    pub(crate) browsers: Vec<Browser>,
    pub(crate) events: Vec<(Instant, Event)>,
    pub(crate) checker: Checker,
    pub(crate) room: RoomId,
    /// RTP and RTCP of the first browser as it reached the shard.
    pub(crate) captured: Vec<Vec<u8>>,
    seed: u64,
    arena: Arena,
    rounds: usize,
}

fn certificate() -> Arc<Certificate> {
    static CERTIFICATE: OnceLock<Arc<Certificate>> = OnceLock::new();
    CERTIFICATE
        .get_or_init(|| Arc::new(Certificate::generate()))
        .clone()
}

impl World {
    #[expect(
        clippy::disallowed_methods,
        reason = "the virtual clock has to start somewhere"
    )]
    pub(crate) fn new(seed: u64) -> Self {
        let start = Instant::now();
        let mut bytes = [7; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let shard = Shard::new(ShardOptions {
            index: 0,
            config: Arc::new(Config::default()),
            candidates: Candidates {
                udp: vec![UDP.parse().unwrap()],
                tcp: vec![TCP.parse().unwrap()],
            },
            certificate: certificate(),
            seed: bytes,
            has_seeded_dtls: true,
            started: start,
            ntp_at_start: NTP_AT_START,
        });
        let mut world = Self {
            now: start,
            start,
            shard,
            network: Network::new(seed),
            browsers: Vec::new(),
            events: Vec::new(),
            checker: Checker::new(start),
            room: RoomId::new(0, 1),
            captured: Vec::new(),
            seed,
            arena: Arena::new(),
            rounds: 0,
        };
        world.command(Command::CreateRoom {
            room: world.room,
            config: RoomConfig::default(),
        });
        world
    }

    /// Lets a participant in and makes its first offer.
    pub(crate) fn join(&mut self, options: Options) -> Who {
        let who = self.browsers.len();
        let participant = ParticipantId::new(0, who as u64 + 1);
        let seed = self.seed.wrapping_mul(1000).wrapping_add(who as u64);
        let wants = options.wants.clone();
        let identity = options.name.to_owned();
        let browser = Browser::new(self.now, seed, who as u16, participant, options);
        self.browsers.push(browser);
        self.command(Command::Join {
            room: self.room,
            participant,
            options: JoinOptions {
                identity,
                grants: MediaGrants::default(),
                wants,
            },
        });
        self.offer(who);
        who
    }

    /// Sends a browser's present offer.
    pub(crate) fn offer(&mut self, who: Who) {
        let browser = &self.browsers[who];
        let publish = browser.lines.iter().filter_map(|line| {
            let (source, width, height) = match &line.role {
                Role::Video { rids, .. } => {
                    let scale = 1 << (rids.len() - 1);
                    (Source::Camera, 320 * scale, 180 * scale)
                }
                Role::Audio { .. } => (Source::Microphone, 0, 0),
                _ => return None,
            };
            Some(Publish {
                mid: Mid::parse(&line.mid).unwrap(),
                source,
                name: String::new(),
                muted: false,
                width,
                height,
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
        let participant = browser.participant;
        self.command(Command::Offer { participant, offer });
    }

    /// Takes a participant out, its browser first.
    pub(crate) fn leave(&mut self, who: Who) {
        self.browsers[who].is_gone = true;
        let participant = self.browsers[who].participant;
        self.command(Command::Leave { participant });
    }

    pub(crate) fn command(&mut self, command: Command) {
        self.shard.handle_command(self.now, command);
        self.drain();
    }

    pub(crate) fn view(&mut self, who: Who, track: TrackId, view: View) {
        let participant = self.browsers[who].participant;
        self.command(Command::View {
            participant,
            track,
            view,
        });
    }

    /// Changes both directions of a browser's access.
    pub(crate) fn link(&mut self, who: Who, up: Link, down: Link) {
        let ip = self.browsers[who].address.ip();
        self.network.set(ip, Direction::Up, up);
        self.network.set(ip, Direction::Down, down);
    }

    /// Hands bytes to the shard as if they had come from anywhere.
    pub(crate) fn inject(&mut self, path: Path, mut bytes: Vec<u8>) {
        let mut datagrams = [Datagram {
            path,
            ecn: 0,
            bytes: &mut bytes,
        }];
        self.shard.handle_batch(self.now, &mut datagrams);
        self.drain();
    }

    /// Lets time pass.
    pub(crate) fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            let browsers = self.browsers.iter().filter_map(Browser::poll_timeout);
            let next = browsers
                .chain(self.shard.poll_timeout())
                .chain(self.network.poll_timeout())
                .min();
            let next = next.map_or(end, |next| next.max(self.now));
            if next > end || (next == end && self.now == end) {
                self.now = end;
                return;
            }
            self.rounds = if next == self.now { self.rounds + 1 } else { 0 };
            assert!(
                self.rounds < ROUNDS_MAX,
                "no progress at {:?}",
                self.now - self.start
            );
            self.now = next;
            self.step();
        }
    }

    pub(crate) fn run_ms(&mut self, ms: u64) {
        self.run(Duration::from_millis(ms));
    }

    fn step(&mut self) {
        let mut up = Vec::new();
        while let Some(delivery) = self.network.poll(self.now) {
            let remote = delivery.path.remote.ip();
            match delivery.direction {
                Direction::Up => up.push(delivery),
                Direction::Down => {
                    let browser = self.browsers.iter_mut().find(|b| b.address.ip() == remote);
                    if let Some(browser) = browser {
                        browser.handle(self.now, delivery.path, &delivery.bytes);
                    }
                }
            }
        }
        for delivery in &up {
            let path = delivery.path;
            self.checker.note_delivered(self.now, path, &delivery.bytes);
            if path.remote == self.browsers[0].address && delivery.bytes[0] >= 128 {
                self.captured.push(delivery.bytes.clone());
            }
        }
        let mut batch: Vec<Datagram<'_>> = up
            .iter_mut()
            .map(|delivery| Datagram {
                path: delivery.path,
                ecn: 0,
                bytes: &mut delivery.bytes,
            })
            .collect();
        self.shard.handle_batch(self.now, &mut batch);
        if self.shard.poll_timeout().is_some_and(|at| at <= self.now) {
            self.shard.handle_timeout(self.now);
        }
        for index in 0..self.browsers.len() {
            self.browsers[index].handle_timeout(self.now);
        }
        self.drain();
    }

    /// Carries out all that shard and browsers want done now.
    fn drain(&mut self) {
        for round in 0.. {
            assert!(round < ROUNDS_MAX, "the shard flushes without end");
            let is_full = self.shard.flush(self.now, &mut self.arena);
            self.send_arena();
            if !is_full {
                break;
            }
        }
        while let Some(event) = self.shard.poll_event() {
            self.handle_event(event);
        }
        for browser in &mut self.browsers {
            self.checker.note_published(browser);
            self.checker.read_waiting(browser);
            while let Some((path, bytes)) = browser.poll_transmit() {
                self.network.send(self.now, Direction::Up, path, bytes);
            }
        }
    }

    fn send_arena(&mut self) {
        for run in self.arena.runs() {
            for bytes in self.arena.bytes(run).chunks(run.segment_bytes) {
                let ip = run.path.remote.ip();
                let browser = self.browsers.iter().find(|b| b.address.ip() == ip);
                self.checker.note_sent(self.now, run.path, bytes, browser);
                let bytes = bytes.to_vec();
                self.network
                    .send(self.now, Direction::Down, run.path, bytes);
            }
        }
        self.arena.clear();
    }

    fn handle_event(&mut self, event: Event) {
        if let Event::Answered {
            participant,
            answer: Ok(answer),
            ..
        } = &event
        {
            let browser = self
                .browsers
                .iter_mut()
                .find(|b| b.participant == *participant);
            let browser = browser.expect("who offered is known");
            browser.accept(self.now, &answer.sdp);
            for published in &answer.published {
                if let Ok(track) = &published.track {
                    let place: u16 = published.mid.as_str().parse().unwrap();
                    let source = browser.number << 8 | place;
                    self.checker.note_track(self.now, source, *track);
                }
            }
        }
        if let Event::TransportChanged {
            participant,
            state: TransportState::Connected,
        } = &event
        {
            let mut browsers = self.browsers.iter();
            let browser = browsers.find(|b| b.participant == *participant);
            self.checker
                .note_secured(browser.expect("who connects is known"));
        }
        self.checker.note_event(self.now, &event);
        self.events.push((self.now, event));
    }

    /// The tracks of a participant of one kind, oldest first.
    pub(crate) fn tracks(&self, who: Who, kind: Kind) -> Vec<TrackId> {
        let publisher = self.browsers[who].participant;
        let tracks = self.events.iter().filter_map(|(_, event)| match event {
            Event::TrackPublished {
                participant, track, ..
            } if *participant == publisher && track.kind == kind => Some(track.id),
            _ => None,
        });
        tracks.collect()
    }

    pub(crate) fn camera(&self, who: Who) -> TrackId {
        self.tracks(who, Kind::Video)[0]
    }

    /// What a participant was last told about a track it receives.
    pub(crate) fn state(&self, who: Who, track: TrackId) -> Option<StreamState> {
        let receiver = self.browsers[who].participant;
        self.events.iter().rev().find_map(|(_, event)| match event {
            Event::StreamChanged {
                participant,
                track: changed,
                state,
            } if *participant == receiver && *changed == track => Some(*state),
            _ => None,
        })
    }

    /// A counter of the shard, by its Prometheus name, all labels added.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let all = self.shard.metrics().list();
        all.iter().filter(|m| m.name == name).map(|m| m.value).sum()
    }

    /// Ends the scenario: checks every stream and returns a number for all that was sent.
    pub(crate) fn finish(self) -> u64 {
        self.checker.finish();
        assert_eq!(self.metric("plenum_panics_total"), 0);
        self.checker.trace()
    }
}

/// A path from an address of nobody's.
pub(crate) fn stranger(port: u16) -> Path {
    let remote = SocketAddr::new(IpAddr::from([203, 0, 113, 9]), port);
    Path::new(UDP.parse().unwrap(), remote, sfu::shard::Protocol::Udp)
}
