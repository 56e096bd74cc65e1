//! The pure machine of one media thread: its rooms, peers and tracks. No clock, socket or thread.
//!
//! Contract: after any number of `handle_*` calls drain `poll_shipment`, `flush`, `poll_event`, `poll_notice`
//! and `poll_timeout` before waiting again, in this order: what other shards are told must not overtake
//! what the service is told.

mod allocation;
mod cascades;
mod control;
mod data;
mod demux;
mod feedback;
mod offer;
mod panics;
mod reconcile;
mod ticks;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use slab::Slab;

use crate::cascade::ShardSet;
use crate::config::Config;
use crate::ids::{ParticipantId, RoomId, TrackId};
use crate::metrics::{DropReason, Metrics};
use crate::peer::Peer;
use crate::peer::dtls::Certificate;
use crate::peer::ice::check::Check;
use crate::peer::srtp::SrtpError;
use crate::peer::transport::{TransportEvent, UnprotectError};
use crate::publisher::Received;
use crate::publisher::track::Track;
use crate::room::{Room, Sink};
use crate::rtp::RtpView;
use crate::sfu::Event;
use crate::subscriber::{Flushed, Offered};

use self::cascades::Cascades;
use self::demux::{Demux, PacketKind, classify};
use self::panics::Unit;
pub use net::{ARENA_BYTES, Arena, DATAGRAM_MAX, Datagram, Path, Protocol, Run, canonical};

/// What a shard is made from.
#[derive(Clone, Debug)]
pub struct ShardOptions {
    /// Its number; part of every id and ufrag it gives out.
    pub index: u16,
    /// The media configuration.
    pub config: Arc<Config>,
    /// Where clients can reach this shard.
    pub candidates: Candidates,
    /// What it shows in DTLS handshakes.
    pub certificate: Arc<Certificate>,
    /// Where its randomness comes from: from the system in a server, fixed in a simulation.
    pub seed: [u8; 32],
    /// DTLS draws from the seed as well, so that a simulation repeats itself. Never in a server: hello
    /// randoms and record nonces of a connection would come from 64 bits.
    pub has_seeded_dtls: bool,
    /// The moment `ntp_at_start` stands for.
    pub started: Instant,
    /// NTP time (RFC 5905, 32.32 bits) at `started`.
    pub ntp_at_start: u64,
}

impl ShardOptions {
    fn ntp(&self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.started);
        let fraction = (u64::from(elapsed.subsec_nanos()) << 32) / 1_000_000_000;
        let elapsed = (elapsed.as_secs() << 32) | fraction;
        self.ntp_at_start.wrapping_add(elapsed)
    }
}

/// Where clients can reach a shard, best first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Candidates {
    /// UDP addresses.
    pub udp: Vec<SocketAddr>,
    /// Addresses of the ICE-TCP listener.
    pub tcp: Vec<SocketAddr>,
}

/// One thread's worth of rooms.
pub struct Shard {
    options: ShardOptions,
    random: StdRng,
    rooms: Slab<Room>,
    peers: Slab<Peer>,
    tracks: Slab<Track>,
    room_keys: HashMap<RoomId, usize>,
    peer_keys: HashMap<ParticipantId, usize>,
    track_keys: HashMap<TrackId, usize>,
    next_track: u64,
    demux: Demux,
    /// Peers that have something to send or to schedule.
    touched: Vec<usize>,
    timers: BinaryHeap<Reverse<(Instant, usize)>>,
    next_sweep: Option<Instant>,
    events: VecDeque<Event>,
    transport_events: Vec<TransportEvent>,
    cascades: Cascades,
    metrics: Metrics,
    /// Whose work a test wants to panic, the next one last.
    #[cfg(test)]
    stumbles: Vec<Unit>,
}

impl Shard {
    /// Makes an empty shard.
    pub fn new(options: ShardOptions) -> Self {
        let mut random = StdRng::from_seed(options.seed);
        Self {
            // A shard made anew after a panic must not give out the ids of the one before it.
            next_track: u64::from(random.random::<u32>()) << 12 | 1,
            random,
            options,
            rooms: Slab::new(),
            peers: Slab::new(),
            tracks: Slab::new(),
            room_keys: HashMap::new(),
            peer_keys: HashMap::new(),
            track_keys: HashMap::new(),
            demux: Demux::default(),
            touched: Vec::new(),
            timers: BinaryHeap::new(),
            next_sweep: None,
            events: VecDeque::new(),
            transport_events: Vec::new(),
            cascades: Cascades::default(),
            metrics: Metrics::default(),
            #[cfg(test)]
            stumbles: Vec::new(),
        }
    }

    /// Takes in one receive batch; what it causes to be sent waits for `flush`.
    ///
    /// A panic in a peer's datagram ends that peer and nothing else.
    pub fn handle_batch(&mut self, now: Instant, datagrams: &mut [Datagram<'_>]) {
        for datagram in datagrams {
            if let Err(reason) = self.contain_datagram(now, datagram) {
                self.metrics.dropped(reason);
            }
        }
    }

    fn receive(&mut self, now: Instant, datagram: &mut Datagram<'_>) -> Result<(), DropReason> {
        let path = datagram.path;
        let kind = classify(datagram.bytes).ok_or(DropReason::Malformed)?;
        if kind == PacketKind::Stun {
            return self.receive_check(now, path, datagram.bytes);
        }
        let peer = self.demux.peer_on(&path).ok_or(DropReason::UnknownPeer)?;
        match kind {
            PacketKind::Rtp => self.receive_rtp(now, path, peer, datagram.bytes),
            PacketKind::Rtcp => self.receive_rtcp(now, path, peer, datagram.bytes),
            PacketKind::Dtls | PacketKind::Stun => {
                let transport = self
                    .peers
                    .get_mut(peer)
                    .and_then(|peer| peer.transport.as_mut());
                let transport = transport.ok_or(DropReason::UnknownPeer)?;
                transport.handle_dtls(now, path, datagram.bytes);
                self.drain_transport(now, peer);
                Ok(())
            }
        }
    }

    /// A connectivity check: the ufrag it names is ours, the peer's password proves it.
    fn receive_check(&mut self, now: Instant, path: Path, bytes: &[u8]) -> Result<(), DropReason> {
        let check = Check::parse(bytes).ok_or(DropReason::Malformed)?;
        let (ufrag, _) = check
            .username
            .split_once(':')
            .ok_or(DropReason::UnknownPeer)?;
        let key = self
            .demux
            .peer_named(ufrag)
            .ok_or(DropReason::UnknownPeer)?;
        let peer = self.peers.get_mut(key).ok_or(DropReason::UnknownPeer)?;
        let transport = peer.transport.as_mut().ok_or(DropReason::UnknownPeer)?;
        let had_output = transport.has_output();
        let change = transport.handle_check(now, path, &check);
        if !had_output && !transport.has_output() {
            return Err(DropReason::BadTag);
        }
        if let Some(opened) = change.opened {
            self.demux.add_path(opened, key);
        }
        if let Some(closed) = change.closed {
            self.demux.remove_path(&closed, key);
        }
        if change.opened.is_some() {
            // Chromium nominates once its handshake is done: that was all that media waited for.
            self.allocate(now, key);
        }
        self.drain_transport(now, key);
        Ok(())
    }

    fn receive_rtp(
        &mut self,
        now: Instant,
        path: Path,
        key: usize,
        bytes: &mut [u8],
    ) -> Result<(), DropReason> {
        let peer = self.peers.get_mut(key).ok_or(DropReason::UnknownPeer)?;
        let transport = peer.transport.as_mut().ok_or(DropReason::NoKeys)?;
        let length = transport
            .unprotect_rtp(now, path, bytes)
            .map_err(drop_reason)?;
        let plain = bytes.get(..length).ok_or(DropReason::Malformed)?;
        let view = RtpView::parse(plain).ok_or(DropReason::Malformed)?;
        self.metrics.rtp_received_packets += 1;
        let received = peer.publisher.receive(now, &view, &mut self.tracks);
        touch(&mut self.touched, key, peer);
        if let Some(received) = received? {
            self.offer(now, received);
        }
        Ok(())
    }

    /// Offers one published packet to every sink of its track; subscribers queue a reference to it.
    fn offer(&mut self, now: Instant, received: Received) {
        let Some(track) = self.tracks.get_mut(received.track) else {
            return;
        };
        if received.is_keyframe {
            track.keyframes.arrived(received.encoding);
        }
        if received.is_resorted {
            self.restart_selectors(received.track);
        }
        if received.is_first || received.is_resorted {
            self.refresh_track(now, received.track);
        }
        let Some(track) = self.tracks.get(received.track) else {
            return;
        };
        let Some(room) = self.rooms.get(track.room) else {
            return;
        };
        let Some(offered) = Offered::new(track, &received) else {
            return;
        };
        let mut others = ShardSet::default();
        for sink in room.sinks(track.route) {
            match *sink {
                Sink::Subscription { peer: key, slot } => {
                    if let Some(peer) = self.peers.get_mut(key)
                        && peer.subscriber.offer(slot, &offered)
                    {
                        touch_for_media(&mut self.touched, key, peer);
                    }
                }
                Sink::Cascade { shard, encodings } => {
                    if encodings >> received.encoding & 1 == 1 {
                        others.insert(shard);
                    }
                }
            }
        }
        if !others.is_empty() && !self.cascades.queue(&received, others) {
            self.metrics.dropped(DropReason::CascadeFull);
        }
    }

    /// Numbers, rewrites and encrypts what the touched peers may send now, peer by peer.
    ///
    /// True: the arena filled up; send it, clear it and call again.
    pub fn flush(&mut self, now: Instant, arena: &mut Arena) -> bool {
        while let Some(&key) = self.touched.last() {
            let unit = Unit::Peer(key);
            match self.contain(now, unit, |shard| shard.flush_peer(now, key, arena)) {
                Some(Flushed::ArenaFull) => return true,
                Some(Flushed::Done) => {
                    self.touched.pop();
                }
                None => self.touched.retain(|other| *other != key),
            }
        }
        false
    }

    fn flush_peer(&mut self, now: Instant, key: usize, arena: &mut Arena) -> Flushed {
        let Some(peer) = self.peers.get_mut(key) else {
            return Flushed::Done;
        };
        let flushed = peer.flush(now, &self.tracks, arena, &mut self.metrics);
        if flushed == Flushed::Done {
            peer.is_touched = false;
            let is_paced = peer.subscriber.next_send().is_some();
            let has_new_timers = std::mem::take(&mut peer.has_new_timers);
            if peer.subscriber.has_news() {
                self.tell_streams(key);
            }
            if has_new_timers || is_paced {
                self.schedule(now, key);
            }
        }
        flushed
    }

    /// What the shard has to tell, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When `handle_timeout` has something to do; `None`: nothing pending.
    pub fn poll_timeout(&mut self) -> Option<Instant> {
        let timer = self.timers.peek().map(|Reverse((at, _))| *at);
        [timer, self.next_sweep].into_iter().flatten().min()
    }

    /// What was counted since the start.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Moves what a transport has to say into its outbox and into events.
    fn drain_transport(&mut self, now: Instant, key: usize) {
        let mut events = std::mem::take(&mut self.transport_events);
        if let Some(peer) = self.peers.get_mut(key) {
            if let Some(transport) = &mut peer.transport {
                transport.drain(now, &mut events);
            }
            touch(&mut self.touched, key, peer);
        }
        for event in events.drain(..) {
            self.handle_transport_event(now, key, event);
        }
        self.transport_events = events;
        self.tell_transport_state(now, key);
    }

    fn handle_transport_event(&mut self, now: Instant, key: usize, event: TransportEvent) {
        let Some(peer) = self.peers.get(key) else {
            return;
        };
        match event {
            TransportEvent::Secured => {
                self.metrics.handshakes += 1;
                self.request_first_keyframes(now, key);
            }
            TransportEvent::Ended => self.metrics.handshake_failures += 1,
            TransportEvent::Message { channel, bytes } if peer.grants.publish_data => {
                let participant = peer.participant;
                self.events.push_back(Event::DataReceived {
                    participant,
                    channel,
                    message: bytes,
                });
            }
            TransportEvent::Message { .. } => self.metrics.dropped(DropReason::NotAllowed),
        }
    }

    fn tell_transport_state(&mut self, now: Instant, key: usize) {
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        let change = peer
            .transport
            .as_mut()
            .and_then(|t| t.take_state_change(now));
        if let Some(state) = change {
            let participant = peer.participant;
            self.events
                .push_back(Event::TransportChanged { participant, state });
        }
    }

    /// Draws `length` characters that SDP and STUN take as a ufrag or password.
    fn random_text(&mut self, length: usize) -> String {
        const LETTERS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let random = &mut self.random;
        (0..length)
            .map(|_| char::from(LETTERS[usize::from(random.random::<u8>() & 63)]))
            .collect()
    }

    /// NTP time of a moment, by the clock that was given at the start.
    fn ntp(&self, now: Instant) -> u64 {
        self.options.ntp(now)
    }
}

/// Puts a peer on the list of those to flush, once.
/// Lists a peer for the next flush, and for a new look at its timers.
fn touch(touched: &mut Vec<usize>, key: usize, peer: &mut Peer) {
    peer.has_new_timers = true;
    touch_for_media(touched, key, peer);
}

/// Lists a peer for the next flush; media alone moves no timer but the pacer's.
fn touch_for_media(touched: &mut Vec<usize>, key: usize, peer: &mut Peer) {
    if !peer.is_touched {
        peer.is_touched = true;
        touched.push(key);
    }
}

fn drop_reason(error: UnprotectError) -> DropReason {
    match error {
        UnprotectError::NoKeys => DropReason::NoKeys,
        UnprotectError::Srtp(SrtpError::Replayed) => DropReason::Replay,
        UnprotectError::Srtp(SrtpError::BadTag) => DropReason::BadTag,
        UnprotectError::Srtp(SrtpError::TooManySources) => DropReason::UnknownSource,
        UnprotectError::Srtp(_) => DropReason::Malformed,
    }
}
