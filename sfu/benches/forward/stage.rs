//! A shard with its clients: connects them, feeds it their media, times it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use net::{ReceiveBuffers, UdpSockets};
use sfu::shard::{Arena, Candidates, Datagram, Path, Shard, ShardOptions};
use sfu::{
    Certificate, Command, Config, Event, JoinOptions, MediaGrants, Mid, Offer, ParticipantId,
    Publish, RoomConfig, RoomId, Source,
};

use crate::browser::Browser;
use crate::offer::Role;
use crate::scenario::Scenario;
use crate::{ALLOCATOR, cpu_ns, median};

const ROUNDS: usize = 7;
pub(crate) const PACED_ROUNDS: usize = 3;
/// Batches between two times that the clients' sockets are emptied, outside the measured time.
const BATCHES_PER_STRETCH: usize = 8;
/// Timers of the shard run this often.
const STEP: Duration = Duration::from_millis(1);

/// Sums over the round in the middle by cost.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) received: usize,
    pub(crate) forwarded: usize,
    /// How many should have been forwarded.
    pub(crate) expected: usize,
    pub(crate) runs: usize,
    /// CPU time of `handle_batch` and `flush`, and of sending where that is asked for.
    pub(crate) work_ns: f64,
    /// CPU time of `handle_timeout` and the reports it makes.
    pub(crate) timers_ns: f64,
    /// Over all rounds, within `handle_batch` and `flush`.
    pub(crate) allocations: usize,
    pub(crate) leaked_bytes: isize,
}

/// What a publisher costs without subscribers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Alone {
    /// CPU time to take in one packet.
    pub(crate) receiving_ns: f64,
    pub(crate) shard_bytes: usize,
}

/// Lets what happened on the virtual clock happen again in its own time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    begun: Instant,
    virtual_begin: Instant,
}

impl Pace {
    #[expect(
        clippy::disallowed_methods,
        reason = "this measures what real pauses do to caches"
    )]
    pub(crate) fn begin(virtual_begin: Instant) -> Self {
        Self {
            begun: Instant::now(),
            virtual_begin,
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "this measures what real pauses do to caches"
    )]
    pub(crate) fn wait(&self, at: Instant) {
        let due = self.begun + at.saturating_duration_since(self.virtual_begin);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

/// Where the shard's datagrams go.
enum Output<'a> {
    ThrownAway,
    /// Thrown away too, and callgrind counts the instructions.
    Counted,
    Sent,
    Listed(&'a mut Vec<Sent>),
}

impl Output<'_> {
    fn begin_batch(&mut self, at: Instant) {
        if let Self::Listed(list) = self {
            list.push(Sent {
                at,
                datagrams: Vec::new(),
            });
        }
    }

    fn take(&mut self, arena: &Arena, server: &mut UdpSockets) {
        match self {
            Self::ThrownAway | Self::Counted => {}
            Self::Sent => server.send(arena),
            Self::Listed(list) => {
                let datagrams = arena.runs().iter().flat_map(|run| {
                    let chunks = arena.bytes(run).chunks(run.segment_bytes);
                    chunks.map(|bytes| (run.path, bytes.len()))
                });
                list.last_mut().unwrap().datagrams.extend(datagrams);
            }
        }
    }
}

/// When it came in, and the datagrams one publisher sent then.
type Burst = (Instant, Vec<(Path, Vec<u8>)>);
/// The same, as the shard takes it.
type Batch<'a> = (Instant, Vec<Datagram<'a>>);
/// What one batch made the shard send.
pub(crate) struct Sent {
    /// When the batch came in.
    pub(crate) at: Instant,
    /// Where to and how long.
    pub(crate) datagrams: Vec<(Path, usize)>,
}

pub(crate) struct Stage {
    scenario: Scenario,
    now: Instant,
    shard: Shard,
    arena: Arena,
    browsers: Vec<Browser>,
    server: UdpSockets,
    clients: Vec<UdpSockets>,
    buffers: ReceiveBuffers,
}

impl Stage {
    #[expect(
        clippy::disallowed_methods,
        reason = "the virtual clock has to start somewhere"
    )]
    pub(crate) fn connect(scenario: &Scenario) -> Self {
        let now = Instant::now();
        let server = UdpSockets::bind(0, 4 << 20).unwrap();
        let udp = vec![SocketAddr::new(
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            server.port(),
        )];
        let config = Config {
            audio_slots_max: 64,
            video_slots_max: 64,
            ..Config::default()
        };
        let shard = Shard::new(ShardOptions {
            index: 0,
            config: Arc::new(config),
            candidates: Candidates {
                udp,
                tcp: Vec::new(),
            },
            certificate: Arc::new(Certificate::generate()),
            seed: [3; 32],
            has_seeded_dtls: false,
            started: now,
            ntp_at_start: 3_900_000_000 << 32,
        });
        let mut stage = Self {
            scenario: scenario.clone(),
            now,
            shard,
            arena: Arena::new(),
            browsers: Vec::new(),
            server,
            clients: Vec::new(),
            buffers: ReceiveBuffers::new(),
        };
        let room = RoomId::new(0, 1);
        let config = RoomConfig::default();
        stage
            .shard
            .handle_command(now, Command::CreateRoom { room, config });
        for number in 0..scenario.participants() {
            stage.join(room, number);
        }
        for _ in 0..300 {
            stage.now += Duration::from_millis(10);
            stage.exchange();
        }
        assert!(stage.browsers.iter().all(Browser::is_connected));
        stage
    }

    fn join(&mut self, room: RoomId, number: usize) {
        let participant = ParticipantId::new(0, number as u64 + 1);
        let options = self.scenario.options(number);
        let join = JoinOptions {
            identity: format!("{number}"),
            grants: MediaGrants::default(),
            wants: options.wants.clone(),
        };
        let client = UdpSockets::bind(0, 1 << 20).unwrap();
        let mut browser =
            Browser::new(self.now, number as u64, number as u16, participant, options);
        browser.address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), client.port());
        self.clients.push(client);
        for sender in &mut browser.senders {
            if !sender.is_audio() {
                sender.encoder.sizes = self.scenario.sizes();
                // Not all publishers are at the same frame of the capture.
                sender.encoder.frame = number as u32 * 17;
            }
        }
        let publish = browser.lines.iter().filter_map(|line| {
            let source = match line.role {
                Role::Video { .. } => Source::Camera,
                Role::Audio { .. } => Source::Microphone,
                _ => return None,
            };
            Some(Publish {
                mid: Mid::parse(&line.mid)?,
                source,
                name: String::new(),
                muted: false,
                width: 640,
                height: 360,
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
        self.browsers.push(browser);
        let options = join;
        let commands = [
            Command::Join {
                room,
                participant,
                options,
            },
            Command::Offer { participant, offer },
        ];
        for command in commands {
            self.shard.handle_command(self.now, command);
        }
        while let Some(event) = self.shard.poll_event() {
            if let Event::Answered { answer, .. } = event {
                let browser = self.browsers.last_mut().unwrap();
                browser.accept(self.now, &answer.unwrap().sdp);
            }
        }
    }

    /// Lets browsers and shard talk, without loss or delay, and throws the events away.
    fn exchange(&mut self) {
        for _ in 0..4 {
            let mut up: Vec<(Path, Vec<u8>)> = Vec::new();
            for browser in &mut self.browsers {
                browser.handle_timeout(self.now);
                up.extend(std::iter::from_fn(|| browser.poll_transmit()));
            }
            let mut batch: Vec<Datagram<'_>> = up.iter_mut().map(datagram).collect();
            self.shard.handle_batch(self.now, &mut batch);
            self.shard.handle_timeout(self.now);
            loop {
                let is_full = self.shard.flush(self.now, &mut self.arena);
                for run in self.arena.runs() {
                    let port = run.path.remote.port();
                    let browser = self.browsers.iter_mut().find(|b| b.address.port() == port);
                    let browser = browser.unwrap();
                    for bytes in self.arena.bytes(run).chunks(run.segment_bytes) {
                        browser.handle(self.now, run.path, bytes);
                    }
                }
                self.arena.clear();
                if !is_full {
                    break;
                }
            }
            while self.shard.poll_event().is_some() {}
        }
    }

    /// The round in the middle; really sent where that is asked for.
    pub(crate) fn measure(&mut self, is_sent: bool) -> Figures {
        let output = || match is_sent {
            true => Output::Sent,
            false => Output::ThrownAway,
        };
        self.round(output(), false); // fills rings, histories and tables
        let mut rounds: Vec<Figures> = (0..ROUNDS).map(|_| self.round(output(), false)).collect();
        let cost = |figures: &Figures| figures.work_ns / figures.forwarded.max(1) as f64;
        rounds.sort_by(|a, b| cost(a).total_cmp(&cost(b)));
        Figures {
            allocations: rounds.iter().map(|round| round.allocations).sum(),
            leaked_bytes: rounds.iter().map(|round| round.leaked_bytes).sum(),
            ..rounds[ROUNDS / 2]
        }
    }

    /// CPU time for each packet when bursts come in their own time and are sent, of the middle round.
    pub(crate) fn paced_ns(&mut self) -> f64 {
        let rounds = (0..PACED_ROUNDS).map(|_| {
            let figures = self.round(Output::Sent, true);
            figures.work_ns / figures.forwarded.max(1) as f64
        });
        median(rounds.collect())
    }

    /// One round whose measured part callgrind counts.
    pub(crate) fn count(&mut self) -> Figures {
        self.round(Output::ThrownAway, false);
        self.round(Output::Counted, false)
    }

    /// What one round makes the shard send, batch by batch.
    pub(crate) fn record(&mut self) -> Vec<Sent> {
        let mut list = Vec::new();
        self.round(Output::Listed(&mut list), false);
        list
    }

    /// What one publisher costs whom nobody wants to receive.
    pub(crate) fn alone(&self) -> Alone {
        let alone = Scenario {
            viewers: 0,
            publishers: 1,
            ..self.scenario.clone()
        };
        let mut stage = Self::connect(&alone);
        let rounds = (0..ROUNDS).map(|_| stage.round(Output::ThrownAway, false));
        let receiving_ns = median(
            rounds
                .map(|figures| figures.work_ns / figures.received as f64)
                .collect(),
        );
        let shard_bytes = stage.shard_bytes();
        Alone {
            receiving_ns,
            shard_bytes,
        }
    }

    /// Heap memory of the shard: what is freed with it.
    pub(crate) fn shard_bytes(self) -> usize {
        let shard = self.shard;
        let held = || {
            let stats = ALLOCATOR.stats();
            stats.bytes_allocated - stats.bytes_deallocated
        };
        let before = held();
        drop(shard);
        before - held()
    }

    /// Some seconds of media; browsers only show that they are still there.
    fn round(&mut self, mut output: Output<'_>, is_paced: bool) -> Figures {
        let mut figures = Figures::default();
        self.exchange();
        let pace = is_paced.then(|| Pace::begin(self.now));
        let stretch = if is_paced { 1 } else { BATCHES_PER_STRETCH };
        for _ in 0..self.scenario.seconds * 10 {
            let mut bursts: Vec<Burst> = Vec::new();
            for _ in 0..100 {
                self.now += STEP;
                self.publish(&mut bursts, &mut figures);
            }
            for stretch in bursts.chunks_mut(stretch) {
                if let (Some(pace), Some((at, _))) = (pace, stretch.first()) {
                    pace.wait(*at);
                }
                match output {
                    Output::Counted => self.counted(stretch, &mut figures),
                    _ => self.forward(stretch, &mut output, &mut figures),
                }
                self.drain();
            }
            let start = cpu_ns();
            self.shard.handle_timeout(self.now);
            self.shard.flush(self.now, &mut self.arena);
            figures.timers_ns += cpu_ns() - start;
            self.arena.clear();
            while self.shard.poll_event().is_some() {}
        }
        figures
    }

    /// Takes what each publisher sends now as one burst.
    fn publish(&mut self, bursts: &mut Vec<Burst>, figures: &mut Figures) {
        let is_media = |bytes: &[u8]| bytes[0] >= 128 && !(192..=223).contains(&bytes[1]);
        for publisher in self.browsers.iter_mut().take(self.scenario.publishers) {
            publisher.handle_timeout(self.now);
            let mut burst: Vec<_> = std::iter::from_fn(|| publisher.poll_transmit()).collect();
            burst.retain(|(_, bytes)| is_media(bytes));
            figures.received += burst.len();
            figures.expected += burst.len() * (self.scenario.participants() - 1);
            if !burst.is_empty() {
                bursts.push((self.now, burst));
            }
        }
    }

    /// The measured part under a name of its own, for callgrind's `--toggle-collect`.
    #[inline(never)]
    fn counted(&mut self, bursts: &mut [Burst], figures: &mut Figures) {
        self.forward(bursts, &mut Output::Counted, figures);
    }

    /// The measured part: each burst as one receive batch, and the flush after it.
    fn forward(&mut self, bursts: &mut [Burst], output: &mut Output<'_>, figures: &mut Figures) {
        let mut batches: Vec<Batch<'_>> = bursts
            .iter_mut()
            .map(|(at, burst)| (*at, burst.iter_mut().map(datagram).collect()))
            .collect();
        let before = ALLOCATOR.stats();
        let start = cpu_ns();
        for (at, batch) in &mut batches {
            self.shard.handle_batch(*at, batch);
            output.begin_batch(*at);
            loop {
                let is_full = self.shard.flush(*at, &mut self.arena);
                output.take(&self.arena, &mut self.server);
                for run in self.arena.runs() {
                    figures.forwarded += run.segments;
                    figures.runs += 1;
                }
                self.arena.clear();
                if !is_full {
                    break;
                }
            }
        }
        figures.work_ns += cpu_ns() - start;
        let after = ALLOCATOR.stats();
        figures.allocations += after.allocations + after.reallocations;
        figures.allocations -= before.allocations + before.reallocations;
        let held = |stats: stats_alloc::Stats| stats.bytes_allocated - stats.bytes_deallocated;
        figures.leaked_bytes += held(after).cast_signed() - held(before).cast_signed();
    }

    /// Empties the clients' sockets.
    pub(crate) fn drain(&mut self) {
        for client in &mut self.clients {
            loop {
                let mut datagrams = Vec::new();
                client.receive(0, &mut self.buffers, &mut datagrams);
                if datagrams.is_empty() {
                    break;
                }
            }
        }
    }
}

fn datagram((path, bytes): &mut (Path, Vec<u8>)) -> Datagram<'_> {
    Datagram {
        path: *path,
        ecn: 0,
        bytes,
    }
}
