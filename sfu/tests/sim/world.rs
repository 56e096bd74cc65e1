//! A simulated room: browsers, network and shards on one virtual clock.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use sfu::annex::{Annex, Heard};
use sfu::cascade::{Notice, Shipment};
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
    /// The home of the room.
    pub(crate) shard: Shard,
    /// The shards with the next numbers, on which it may be continued.
    pub(crate) others: Vec<Shard>,
    /// What takes part beside the shards.
    pub(crate) annex: Annex,
    /// What it heard.
    pub(crate) heard: Vec<Heard>,
    /// Packets of shipments are lost on their way to other shards.
    pub(crate) loses_shipments: bool,
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
    shipment: Shipment,
}

/// The addresses of a shard.
fn addresses(index: u16) -> (SocketAddr, SocketAddr) {
    let place = |address: &str| {
        let first: SocketAddr = address.parse().unwrap();
        SocketAddr::new(first.ip(), first.port() + PORTS_APART * index)
    };
    (place(UDP), place(TCP))
}

/// Between the ports of two shards.
const PORTS_APART: u16 = 10;

/// The shard that an address of ours belongs to.
fn shard_at(local: SocketAddr) -> usize {
    usize::from((local.port() - addresses(0).0.port()) / PORTS_APART)
}

fn certificate() -> Arc<Certificate> {
    static CERTIFICATE: OnceLock<Arc<Certificate>> = OnceLock::new();
    CERTIFICATE
        .get_or_init(|| Arc::new(Certificate::generate()))
        .clone()
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self::on_shards(seed, 1)
    }

    /// A room on the first of several shards.
    #[expect(
        clippy::disallowed_methods,
        reason = "the virtual clock has to start somewhere"
    )]
    pub(crate) fn on_shards(seed: u64, shards: u16) -> Self {
        let start = Instant::now();
        let mut world = Self {
            now: start,
            start,
            shard: new_shard(start, seed, 0),
            others: (1..shards)
                .map(|index| new_shard(start, seed, index))
                .collect(),
            annex: Annex::new(shards),
            heard: Vec::new(),
            loses_shipments: false,
            network: Network::new(seed),
            browsers: Vec::new(),
            events: Vec::new(),
            checker: Checker::new(start),
            room: RoomId::new(0, 1),
            captured: Vec::new(),
            seed,
            arena: Arena::new(),
            rounds: 0,
            shipment: Shipment::default(),
        };
        world.command(Command::CreateRoom {
            room: world.room,
            config: RoomConfig::default(),
        });
        world
    }

    /// Lets a participant in and makes its first offer.
    pub(crate) fn join(&mut self, options: Options) -> Who {
        self.join_on(0, options)
    }

    /// The same on any shard, where the room is continued if need be.
    pub(crate) fn join_on(&mut self, shard: u16, options: Options) -> Who {
        if shard != 0 {
            let (room, config) = (self.room, RoomConfig::default());
            let now = self.now;
            let continued = self.shard_mut(shard.into());
            continued.handle_command(now, Command::CreateRoom { room, config });
        }
        let who = self.browsers.len();
        let participant = ParticipantId::new(shard, who as u64 + 1);
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

    /// Hands a command to the shards its ids name.
    pub(crate) fn command(&mut self, command: Command) {
        let now = self.now;
        match &command {
            Command::CloseRoom { .. } | Command::SendData { .. } => {
                for index in 0..=self.others.len() {
                    self.shard_mut(index).handle_command(now, command.clone());
                }
            }
            Command::CreateRoom { .. } => self.shard.handle_command(now, command),
            Command::Join { participant, .. }
            | Command::Leave { participant }
            | Command::Offer { participant, .. }
            | Command::RestartIce { participant, .. }
            | Command::Unpublish { participant, .. }
            | Command::Mute { participant, .. }
            | Command::Subscribe { participant, .. }
            | Command::View { participant, .. }
            | Command::SetGrants { participant, .. } => {
                let shard = participant.shard();
                self.shard_mut(shard).handle_command(now, command);
            }
        }
        self.drain();
    }

    fn shard_mut(&mut self, index: usize) -> &mut Shard {
        match index {
            0 => &mut self.shard,
            _ => &mut self.others[index - 1],
        }
    }

    fn shards(&self) -> impl Iterator<Item = &Shard> {
        std::iter::once(&self.shard).chain(&self.others)
    }

    fn shards_mut(&mut self) -> impl Iterator<Item = &mut Shard> {
        std::iter::once(&mut self.shard).chain(&mut self.others)
    }

    /// Puts a new shard in the place of one, as its driver does after a panic.
    pub(crate) fn restart_shard(&mut self, index: u16) {
        let mut anew = new_shard(self.start, self.seed + 1000, index);
        if index == 0 {
            let (room, config) = (self.room, RoomConfig::default());
            anew.handle_command(self.now, Command::CreateRoom { room, config });
        }
        *self.shard_mut(index.into()) = anew;
        let now = self.now;
        for (other, shard) in (0..).zip(self.shards_mut()) {
            if other != index {
                shard.handle_notices(now, index, [Notice::restarted()]);
            }
        }
        self.annex.handle_notices(index, [Notice::restarted()]);
        for browser in &mut self.browsers {
            browser.is_gone |= browser.participant.shard() == usize::from(index);
        }
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
        let now = self.now;
        self.shard_mut(shard_at(path.local))
            .handle_batch(now, &mut datagrams);
        self.drain();
    }

    /// Lets time pass.
    pub(crate) fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            let browsers = self.browsers.iter().filter_map(Browser::poll_timeout);
            let browsers = browsers.min();
            let next = browsers
                .into_iter()
                .chain(self.shards_mut().filter_map(Shard::poll_timeout).min())
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
        let now = self.now;
        for (index, shard) in self.shards_mut().enumerate() {
            let for_it = up.iter_mut();
            let for_it = for_it.filter(|delivery| shard_at(delivery.path.local) == index);
            let mut batch: Vec<Datagram<'_>> = for_it
                .map(|delivery| Datagram {
                    path: delivery.path,
                    ecn: 0,
                    bytes: &mut delivery.bytes,
                })
                .collect();
            shard.handle_batch(now, &mut batch);
            if shard.poll_timeout().is_some_and(|at| at <= now) {
                shard.handle_timeout(now);
            }
        }
        for index in 0..self.browsers.len() {
            self.browsers[index].handle_timeout(self.now);
        }
        self.drain();
    }

    /// Carries out all that shard and browsers want done now.
    fn drain(&mut self) {
        for round in 0.. {
            assert!(round < ROUNDS_MAX, "shards talk without end");
            for index in 0..=self.others.len() {
                self.ship(index);
            }
            for index in 0..=self.others.len() {
                self.flush(index);
                while let Some(event) = self.shard_mut(index).poll_event() {
                    self.handle_event(event);
                }
            }
            self.ship_annexed();
            while let Some(event) = self.annex.poll_event() {
                self.handle_event(event);
            }
            if !self.exchange_notices() {
                break;
            }
        }
        while let Some(heard) = self.annex.poll_heard() {
            self.heard.push(heard);
        }
        for browser in &mut self.browsers {
            self.checker.note_published(browser);
            self.checker.read_waiting(browser);
            while let Some((path, bytes)) = browser.poll_transmit() {
                self.network.send(self.now, Direction::Up, path, bytes);
            }
        }
    }

    fn flush(&mut self, index: usize) {
        let mut arena = std::mem::take(&mut self.arena);
        for round in 0.. {
            assert!(round < ROUNDS_MAX, "the shard flushes without end");
            let now = self.now;
            let is_full = self.shard_mut(index).flush(now, &mut arena);
            std::mem::swap(&mut arena, &mut self.arena);
            self.send_arena();
            std::mem::swap(&mut arena, &mut self.arena);
            if !is_full {
                break;
            }
        }
        self.arena = arena;
    }

    /// Carries a shard's packets for the others over to them.
    fn ship(&mut self, index: usize) {
        let (now, is_lossy) = (self.now, self.loses_shipments);
        let mut shipment = std::mem::take(&mut self.shipment);
        while self.shard_mut(index).poll_shipment(&mut shipment) {
            for (to, shard) in (0..).zip(self.shards_mut()) {
                assert!(usize::from(to) != index || shipment.count_for(to) == 0);
                if !shipment.targets().contains(to) {
                    assert_eq!(shipment.count_for(to), 0);
                    continue;
                }
                if !is_lossy {
                    shard.handle_shipment(now, &shipment);
                }
            }
            self.annex.handle_shipment(&shipment);
        }
        self.shipment = shipment;
    }

    /// Carries the annex' packets over to the shards.
    fn ship_annexed(&mut self) {
        let now = self.now;
        let mut shipment = std::mem::take(&mut self.shipment);
        while self.annex.poll_shipment(&mut shipment) {
            for (to, shard) in (0..).zip(self.shards_mut()) {
                if shipment.targets().contains(to) {
                    shard.handle_shipment(now, &shipment);
                }
            }
        }
        self.shipment = shipment;
    }

    /// Carries what shards tell each other; true when there was something.
    fn exchange_notices(&mut self) -> bool {
        let now = self.now;
        let mut told = Vec::new();
        for (from, shard) in (0u16..).zip(self.shards_mut()) {
            while let Some((to, notice)) = shard.poll_notice() {
                told.push((from, to, notice));
            }
        }
        let annex = 1 + self.others.len() as u16;
        while let Some((to, notice)) = self.annex.poll_notice() {
            told.push((annex, to, notice));
        }
        let has_some = !told.is_empty();
        for (from, to, notice) in told {
            assert_ne!(from, to, "{notice:?}");
            if to == annex {
                self.annex.handle_notices(from, [notice]);
            } else {
                self.shard_mut(to.into())
                    .handle_notices(now, from, [notice]);
            }
        }
        has_some
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

    /// A counter of all shards, by its Prometheus name, all labels added.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        (0..=self.others.len())
            .map(|index| self.metric_of(index, name))
            .sum()
    }

    /// The same where its label has this value.
    pub(crate) fn metric_where(&self, name: &str, label: (&str, &str)) -> u64 {
        let all = self.shards().flat_map(|shard| shard.metrics().list());
        let found = all.filter(|metric| metric.name == name && metric.label == Some(label));
        found.map(|metric| metric.value).sum()
    }

    /// The same of one shard.
    pub(crate) fn metric_of(&self, index: usize, name: &str) -> u64 {
        let shard = self.shards().nth(index).unwrap();
        let all = shard.metrics().list();
        all.iter().filter(|m| m.name == name).map(|m| m.value).sum()
    }

    /// Ends the scenario: checks every stream and returns a number for all that was sent.
    pub(crate) fn finish(self) -> u64 {
        self.checker.finish();
        assert_eq!(self.metric("plenum_panics_total"), 0);
        self.checker.trace()
    }
}

fn new_shard(start: Instant, seed: u64, index: u16) -> Shard {
    let mut bytes = [7; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8] ^= index as u8;
    let (udp, tcp) = addresses(index);
    Shard::new(ShardOptions {
        index,
        config: Arc::new(Config::default()),
        candidates: Candidates {
            udp: vec![udp],
            tcp: vec![tcp],
        },
        certificate: certificate(),
        seed: bytes,
        has_seeded_dtls: true,
        started: start,
        ntp_at_start: NTP_AT_START,
    })
}

/// A path from an address of nobody's.
pub(crate) fn stranger(port: u16) -> Path {
    let remote = SocketAddr::new(IpAddr::from([203, 0, 113, 9]), port);
    Path::new(UDP.parse().unwrap(), remote, sfu::shard::Protocol::Udp)
}
