//! What forwarding costs: ns of CPU time and heap allocations per forwarded packet, in one thread.
//!
//! One publisher and N subscribers connect through the real handshake, in memory. Then encrypted packets
//! are handed to the shard frame by frame, and the arena it fills is thrown away: no system call is part of
//! the figures. `cargo bench -p plenum-sfu`, or with numbers of subscribers after `--`.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::too_many_arguments,
    clippy::too_many_lines,
    clippy::print_stdout,
    dead_code,
    reason = "a measurement, not a library; it uses half of the simulation's browser"
)]

use std::alloc::System;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use nix::time::{ClockId, clock_gettime};
use sfu::shard::{Arena, Candidates, Datagram, Path, Shard, ShardOptions};
use sfu::{
    Certificate, Codec, Command, Config, Event, JoinOptions, MediaGrants, Mid, Offer,
    ParticipantId, Publish, RoomConfig, RoomId, Source,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

use crate::browser::{Browser, Options};

#[path = "../tests/sim/browser.rs"]
mod browser;
#[path = "../tests/sim/channels.rs"]
mod channels;
#[path = "../tests/sim/media.rs"]
mod media;
#[path = "../tests/sim/offer.rs"]
mod offer;
#[path = "../tests/sim/receiver.rs"]
mod receiver;
#[path = "../tests/sim/rtp.rs"]
mod rtp;
#[path = "../tests/sim/sender.rs"]
mod sender;
#[path = "../tests/sim/stun.rs"]
mod stun;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const PACKETS_PER_FRAME: u8 = 6;
/// Payload bytes that make 1200-byte RTP packets with the header and extensions a slot has.
const PAYLOAD_BYTES: usize = 1176;
const FRAME: Duration = Duration::from_millis(33);
const FRAMES_PER_STRETCH: usize = 40;
const STRETCHES_PER_ROUND: usize = 5;
const ROUNDS: usize = 7;

fn main() {
    let receive = Bench::connect(0).measure();
    let received_ns = receive.work_ns / receive.received as f64;
    println!("{received_ns:.0} ns to receive a packet that nobody wants");
    let asked: Vec<usize> = std::env::args()
        .filter_map(|arg| arg.parse().ok())
        .collect();
    let counts = if asked.is_empty() {
        vec![1, 50, 200]
    } else {
        asked
    };
    for subscribers in counts {
        let cipher = cipher_ns();
        let mut bench = Bench::connect(subscribers);
        let figures = bench.measure();
        let per_packet = |ns: f64| ns / figures.forwarded as f64;
        let forwarding = figures.work_ns - received_ns * figures.received as f64;
        println!(
            "{subscribers:>3} subscribers: {:.0} ns per forwarded packet, {:.0} with its share of receiving, \
             {:.0} for timers; the cipher alone {cipher:.0}; {:.1} segments a run; {} allocations",
            per_packet(forwarding),
            per_packet(figures.work_ns),
            per_packet(figures.timers_ns),
            figures.forwarded as f64 / figures.runs as f64,
            figures.allocations,
        );
        let expected = figures.received * subscribers;
        assert_eq!(figures.forwarded, expected, "every packet goes to everyone");
        assert_eq!(figures.allocations, 0, "heap allocations while forwarding");
        assert_eq!(figures.leaked_bytes, 0, "memory grows while forwarding");
    }
}

/// Sums over the round in the middle by cost.
#[derive(Clone, Copy, Debug, Default)]
struct Figures {
    received: usize,
    forwarded: usize,
    runs: usize,
    /// CPU time of `handle_batch` and `flush`.
    work_ns: f64,
    /// CPU time of `handle_timeout` and the reports it makes.
    timers_ns: f64,
    /// Over all rounds, within `handle_batch` and `flush`.
    allocations: usize,
    leaked_bytes: isize,
}

/// When a frame came in, and its datagrams.
type Frame = (Instant, Vec<(Path, Vec<u8>)>);
/// The same, as the shard takes it.
type Batch<'a> = (Instant, Vec<Datagram<'a>>);

struct Bench {
    now: Instant,
    shard: Shard,
    arena: Arena,
    /// The publisher first.
    browsers: Vec<Browser>,
}

impl Bench {
    #[expect(
        clippy::disallowed_methods,
        reason = "the virtual clock has to start somewhere"
    )]
    fn connect(subscribers: usize) -> Self {
        let now = Instant::now();
        let address = "192.0.2.1:7800".parse().unwrap();
        let shard = Shard::new(ShardOptions {
            index: 0,
            config: Arc::new(Config::default()),
            candidates: Candidates {
                udp: vec![address],
                tcp: Vec::new(),
            },
            certificate: Arc::new(Certificate::generate()),
            seed: [3; 32],
            has_seeded_dtls: false,
            started: now,
            ntp_at_start: 3_900_000_000 << 32,
        });
        let mut bench = Self {
            now,
            shard,
            arena: Arena::new(),
            browsers: Vec::new(),
        };
        let room = RoomId::new(0, 1);
        let config = RoomConfig::default();
        bench
            .shard
            .handle_command(now, Command::CreateRoom { room, config });
        bench.join(
            room,
            Options::new("publisher").camera(Codec::Vp8, &["only"]),
        );
        for _ in 0..subscribers {
            bench.join(room, Options::new("subscriber").slots(0, 1));
        }
        let encoder = &mut bench.browsers[0].senders[0].encoder;
        encoder.fixed_size = Some((PACKETS_PER_FRAME, PAYLOAD_BYTES));
        for _ in 0..200 {
            bench.now += Duration::from_millis(10);
            bench.exchange();
        }
        assert!(bench.browsers.iter().all(Browser::is_connected));
        bench
    }

    fn join(&mut self, room: RoomId, options: Options) {
        let number = self.browsers.len() as u16;
        let participant = ParticipantId::new(0, u64::from(number) + 1);
        let is_publisher = number == 0;
        let join = JoinOptions {
            identity: format!("{number}"),
            grants: MediaGrants::default(),
            wants: options.wants.clone(),
        };
        let browser = Browser::new(self.now, u64::from(number), number, participant, options);
        let publish = is_publisher.then(|| Publish {
            mid: Mid::parse("0").unwrap(),
            source: Source::Camera,
            name: String::new(),
            muted: false,
            width: 1280,
            height: 720,
        });
        let offer = Offer {
            id: 1,
            sdp: browser.offer(),
            publish: publish.into_iter().collect(),
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
            self.receive(&mut up);
            self.shard.handle_timeout(self.now);
            loop {
                let is_full = self.shard.flush(self.now, &mut self.arena);
                for run in self.arena.runs() {
                    let ip = run.path.remote.ip();
                    let browser = self.browsers.iter_mut().find(|b| b.address.ip() == ip);
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

    fn receive(&mut self, datagrams: &mut [(Path, Vec<u8>)]) {
        let mut batch: Vec<Datagram<'_>> = datagrams
            .iter_mut()
            .map(|(path, bytes)| Datagram {
                path: *path,
                ecn: 0,
                bytes,
            })
            .collect();
        self.shard.handle_batch(self.now, &mut batch);
    }

    fn measure(&mut self) -> Figures {
        self.round(); // fills rings, histories and tables
        let mut rounds: Vec<Figures> = (0..ROUNDS).map(|_| self.round()).collect();
        rounds.sort_by(|a, b| a.work_ns.total_cmp(&b.work_ns));
        let allocations = rounds.iter().map(|round| round.allocations).sum();
        let leaked_bytes = rounds.iter().map(|round| round.leaked_bytes).sum();
        Figures {
            allocations,
            leaked_bytes,
            ..rounds[ROUNDS / 2]
        }
    }

    /// Feeds some seconds of video; browsers only show that they are still there.
    fn round(&mut self) -> Figures {
        let mut figures = Figures::default();
        self.exchange();
        for _ in 0..STRETCHES_PER_ROUND {
            let publisher = &mut self.browsers[0];
            let mut frames: Vec<Frame> = Vec::new();
            for _ in 0..FRAMES_PER_STRETCH {
                self.now += FRAME;
                publisher.handle_timeout(self.now);
                let mut frame: Vec<(Path, Vec<u8>)> = Vec::new();
                frame.extend(std::iter::from_fn(|| publisher.poll_transmit()));
                frame.retain(|(_, bytes)| bytes[0] >= 128 && !(192..=223).contains(&bytes[1]));
                figures.received += frame.len();
                frames.push((self.now, frame));
            }
            self.forward(&mut frames, &mut figures);
            let start = cpu_ns();
            self.shard.handle_timeout(self.now);
            self.shard.flush(self.now, &mut self.arena);
            figures.timers_ns += cpu_ns() - start;
            self.arena.clear();
            while self.shard.poll_event().is_some() {}
        }
        figures
    }

    /// The measured part: frame by frame, each as one receive batch and the flush after it.
    fn forward(&mut self, frames: &mut [Frame], figures: &mut Figures) {
        let mut batches: Vec<Batch<'_>> = frames
            .iter_mut()
            .map(|(at, frame)| {
                let datagrams = frame.iter_mut().map(|(path, bytes)| Datagram {
                    path: *path,
                    ecn: 0,
                    bytes,
                });
                (*at, datagrams.collect())
            })
            .collect();
        let before = ALLOCATOR.stats();
        let start = cpu_ns();
        for (at, batch) in &mut batches {
            self.shard.handle_batch(*at, batch);
            loop {
                let is_full = self.shard.flush(*at, &mut self.arena);
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
}

/// What the cipher alone costs on this machine at this moment: AES-256-GCM over one packet.
fn cipher_ns() -> f64 {
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[7; 32]).unwrap());
    let mut packet = vec![1; PAYLOAD_BYTES];
    let mut rounds: Vec<f64> = (0..9u8)
        .map(|round| {
            let start = cpu_ns();
            for count in 0..5000u32 {
                let mut nonce = [round; 12];
                nonce[..4].copy_from_slice(&count.to_be_bytes());
                let nonce = Nonce::assume_unique_for_key(nonce);
                let header = Aad::from([5; 28]);
                let tag = key.seal_in_place_separate_tag(nonce, header, &mut packet);
                let _ = std::hint::black_box(tag.unwrap());
            }
            (cpu_ns() - start) / 5000.0
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds[4]
}

/// CPU time of this thread.
fn cpu_ns() -> f64 {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
    Duration::from(time).as_nanos() as f64
}
