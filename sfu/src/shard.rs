//! The pure machine of one media thread: its rooms, peers and tracks. No clock, socket or thread.
//!
//! Contract: after any number of `handle_*` calls drain `flush`, `poll_event` and `poll_timeout` before
//! waiting again.

use std::net::SocketAddr;
use std::time::Instant;

use crate::sfu::{Command, Event};

/// Bytes that came in, with where from and which local address they reached.
///
/// `local` carries the local address of a packet on a wildcard socket, so that the reply leaves from
/// the same address.
#[derive(Debug)]
pub struct Datagram<'a> {
    /// The way it came.
    pub path: Path,
    /// The two congestion bits of the IP header (RFC 3168), 0 when unknown.
    pub ecn: u8,
    /// The bytes; decrypted in place.
    pub bytes: &'a mut [u8],
}

/// A way between a client and this shard: both addresses and the transport protocol.
///
/// Addresses are canonical: IPv4-mapped IPv6 forms are written as IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Path {
    /// Our address.
    pub local: SocketAddr,
    /// The client's address.
    pub remote: SocketAddr,
    /// UDP, or which TCP connection.
    pub transport: Transport,
}

/// How datagrams travel between two addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// One UDP datagram each.
    Udp,
    /// Framed by RFC 4571 on the TCP connection with this number (never reused by a driver).
    Tcp(u64),
}

/// What one `flush` wants sent: a byte arena and the runs in it, in order.
#[derive(Debug, Default)]
pub struct Arena {
    bytes: Vec<u8>,
    used: usize,
    runs: Vec<Run>,
}

/// Consecutive datagrams for one path: all `segment_bytes` long but the last, which may be shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Where to.
    pub path: Path,
    /// First byte in the arena.
    pub start: usize,
    /// Bytes in all.
    pub length: usize,
    /// Bytes of each datagram but the last.
    pub segment_bytes: usize,
    /// How many datagrams.
    pub segments: usize,
    /// Whether a shorter datagram already ended the run.
    closed: bool,
}

/// Bytes an arena holds; what does not fit is sent in the next round.
pub const ARENA_BYTES: usize = 1 << 20;

/// The longest datagram we send or accept: the usual MTU of 1500 less IPv6 and UDP headers, rounded
/// down as libwebrtc does for tunnels.
pub const DATAGRAM_MAX: usize = 1500;

impl Arena {
    /// Makes an arena; the only allocation it ever does.
    pub fn new() -> Self {
        Self {
            bytes: vec![0; ARENA_BYTES],
            used: 0,
            runs: Vec::with_capacity(1024),
        }
    }

    /// Room for one datagram, or `None` when the arena should be sent first.
    pub fn reserve(&mut self) -> Option<&mut [u8]> {
        if self.runs.len() == self.runs.capacity() {
            return None;
        }
        self.bytes.get_mut(self.used..self.used + DATAGRAM_MAX)
    }

    /// Keeps the first `length` bytes of the reserved room as a datagram to `path`, as part of the
    /// last run when it fits that: same path, no longer than its segments, and not after a shorter one.
    pub fn commit(&mut self, path: Path, length: usize) {
        let start = self.used;
        self.used += length;
        if let Some(run) = self.runs.last_mut()
            && run.path == path
            && !run.closed
            && length <= run.segment_bytes
            && run.segments < SEGMENTS_MAX
            && run.length + length <= RUN_BYTES_MAX
        {
            run.length += length;
            run.segments += 1;
            run.closed = length < run.segment_bytes;
            return;
        }
        self.runs.push(Run {
            path,
            start,
            length,
            segment_bytes: length,
            segments: 1,
            closed: false,
        });
    }

    /// The runs to send, in order.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// The bytes of a run.
    pub fn bytes(&self, run: &Run) -> &[u8] {
        self.bytes
            .get(run.start..run.start + run.length)
            .unwrap_or_default()
    }

    /// Forgets everything that was committed.
    pub fn clear(&mut self) {
        self.used = 0;
        self.runs.clear();
    }
}

/// The kernel takes at most 64 segments in one UDP_SEGMENT send (`UDP_MAX_SEGMENTS`).
const SEGMENTS_MAX: usize = 64;
/// One send carries at most one IP packet's worth of bytes.
const RUN_BYTES_MAX: usize = 65_000;

/// A stand-in; the real machine takes its place.
#[derive(Debug)]
pub struct Shard {
    events: std::collections::VecDeque<Event>,
    metrics: crate::metrics::Metrics,
}

/// What a shard is made with.
#[derive(Clone, Debug)]
pub struct ShardOptions {
    /// Which one.
    pub index: u16,
    /// The settings.
    pub config: std::sync::Arc<crate::config::Config>,
    /// What answers list.
    pub candidates: Candidates,
    /// The DTLS certificate.
    pub certificate: std::sync::Arc<Certificate>,
    /// Randomness.
    pub seed: [u8; 32],
    /// The start.
    pub started: Instant,
    /// The start as NTP time, 32.32.
    pub ntp_at_start: u64,
}

/// Addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidates {
    /// UDP.
    pub udp: Vec<SocketAddr>,
    /// TCP.
    pub tcp: Vec<SocketAddr>,
}

/// A stand-in.
#[derive(Debug)]
pub struct Certificate;

#[expect(missing_docs, unused_variables, reason = "a stand-in")]
impl Shard {
    pub fn new(options: ShardOptions) -> Self {
        Self {
            events: Default::default(),
            metrics: Default::default(),
        }
    }
    pub fn handle_batch(&mut self, now: Instant, datagrams: &mut [Datagram<'_>]) {
        for _ in datagrams {
            self.metrics
                .dropped(crate::metrics::DropReason::UnknownPeer);
        }
    }
    pub fn handle_command(&mut self, now: Instant, command: Command) {
        if let Command::Offer { participant, offer } = command {
            self.events.push_back(Event::Answered {
                participant,
                offer: offer.id,
                answer: Err(crate::sfu::OfferError::NoSuchParticipant),
            });
        }
    }
    pub fn handle_timeout(&mut self, now: Instant) {}
    pub fn handle_closed(&mut self, now: Instant, path: Path) {}
    pub fn flush(&mut self, now: Instant, arena: &mut Arena) -> bool {
        false
    }
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }
    pub fn poll_timeout(&mut self) -> Option<Instant> {
        None
    }
    pub fn metrics(&self) -> &crate::metrics::Metrics {
        &self.metrics
    }
}
