//! Timers: feedback to publishers, reports, allocation, speakers, and layers that fell silent.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use crate::peer::rtcp::{
    ReportBlock, SenderReportFields, TwccHeader, write_nack, write_rr, write_sdes_cname, write_sr,
    write_twcc,
};
use crate::publisher::encoding::clock_rate;
use crate::publisher::keyframes::Urgency;
use crate::sfu::{Event, Kind};
use crate::shard::feedback::FEEDBACK_SSRC;
use crate::shard::panics::Unit;
use crate::shard::{DATAGRAM_MAX, Path, Shard, touch};
use crate::subscriber::slot::{low_u32, ticks_between};

/// Between sender and receiver reports (RFC 3550 §6.2 allows more often on fast links).
pub(super) const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Between two looks at a subscriber's layers.
pub(super) const ALLOCATION_INTERVAL: Duration = Duration::from_millis(200);
/// Between two rounds of NACKs to a publisher.
const NACK_INTERVAL: Duration = Duration::from_millis(20);
/// Between two looks at all rooms and tracks.
const SWEEP_INTERVAL: Duration = Duration::from_millis(100);
/// Numbers one NACK round names per stream: 60 ms of a 4 Mbit/s layer lost in one burst.
const NACKS_MAX: usize = 64;

impl Shard {
    /// Lets due timers run out.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(Reverse((at, key))) = self.timers.peek().copied() {
            if at > now {
                break;
            }
            self.timers.pop();
            let Some(peer) = self.peers.get_mut(key) else {
                continue;
            };
            if peer.due.is_some_and(|due| due <= at) {
                peer.due = None;
                self.tick(now, key);
            }
        }
        if self.next_sweep.is_some_and(|at| at <= now) {
            self.sweep(now);
            self.next_sweep = (!self.peers.is_empty()).then_some(now + SWEEP_INTERVAL);
        }
    }

    /// A TCP connection ended: its path leads nowhere.
    pub fn handle_closed(&mut self, now: Instant, path: Path) {
        let Some(key) = self.demux.peer_on(&path) else {
            return;
        };
        self.demux.remove_path(&path, key);
        self.contain(now, Unit::Peer(key), |shard| {
            let peer = shard.peers.get_mut(key);
            if let Some(transport) = peer.and_then(|peer| peer.transport.as_mut()) {
                transport.remove_path(path);
            }
            shard.tell_transport_state(now, key);
        });
    }

    /// Puts a peer's next timer on the heap, unless an earlier one is there.
    pub(super) fn schedule(&mut self, now: Instant, key: usize) {
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        let has_holes = peer.publisher.sections.iter().any(|section| {
            let track = self.tracks.get(section.track);
            track.is_some_and(|t| {
                t.encodings
                    .iter()
                    .any(|e| e.uses_nack && e.nack.is_waiting())
            })
        });
        if has_holes {
            peer.timers.nack.get_or_insert(now + NACK_INTERVAL);
        }
        peer.timers.arrivals = peer.publisher.arrivals.poll_timeout();
        let Some(next) = peer.poll_timeout(now) else {
            return;
        };
        let next = next.max(now);
        if peer.due.is_none_or(|due| next < due) {
            peer.due = Some(next);
            self.timers.push(Reverse((next, key)));
        }
    }

    fn tick(&mut self, now: Instant, key: usize) {
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        touch(&mut self.touched, key, peer);
        let room = peer.room;
        // What a client's own protocols bring about ends nobody else.
        let unit = Unit::Peer(key);
        let ticked = self.contain(now, unit, |shard| shard.tick_transport(now, key));
        if ticked.is_some() {
            self.contain(now, Unit::Room(room), |shard| shard.tick_media(now, key));
        }
    }

    fn tick_transport(&mut self, now: Instant, key: usize) {
        let transport = self.peers.get_mut(key).and_then(|p| p.transport.as_mut());
        if let Some(transport) = transport {
            transport.handle_timeout(now);
        }
        self.drain_transport(now, key);
    }

    fn tick_media(&mut self, now: Instant, key: usize) {
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        let timers = &mut peer.timers;
        let is_due = |timer: &mut Option<Instant>| timer.take_if(|at| *at <= now).is_some();
        let (nack, arrivals) = (is_due(&mut timers.nack), is_due(&mut timers.arrivals));
        let (reports, allocation) = (is_due(&mut timers.reports), is_due(&mut timers.allocation));
        if nack {
            self.send_nacks(now, key);
        }
        if arrivals {
            self.send_arrivals(now, key);
        }
        if reports {
            self.send_reports(now, key);
        }
        if allocation {
            self.reallocate(now, key);
        }
    }

    fn reallocate(&mut self, now: Instant, key: usize) {
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        peer.subscriber.estimator.handle_timeout(now);
        if peer
            .subscriber
            .slots
            .iter()
            .any(|slot| slot.subscription.is_some())
        {
            peer.timers.allocation = Some(now + ALLOCATION_INTERVAL);
            self.allocate(now, key);
        }
    }

    /// Asks a publisher for what is missing.
    fn send_nacks(&mut self, now: Instant, key: usize) {
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        let mut keyframes = Vec::new();
        let rtt = peer.publisher.rtt;
        for binding in peer.publisher.bindings().to_vec() {
            let Some(track) = self.tracks.get_mut(binding.track) else {
                continue;
            };
            let Some(encoding) = track.encodings.get_mut(binding.encoding) else {
                continue;
            };
            if binding.is_rtx || !encoding.uses_nack {
                continue;
            }
            let mut lost = [0; NACKS_MAX];
            let count = encoding.nack.poll(now, rtt, &mut lost);
            let lost = lost.get(..count).unwrap_or_default();
            let mut packet = [0; DATAGRAM_MAX];
            if !lost.is_empty()
                && let Some(length) = write_nack(&mut packet, FEEDBACK_SSRC, binding.ssrc, lost)
                && let Some(transport) = &mut peer.transport
            {
                self.metrics.nacks_sent += lost.len() as u64;
                transport.send_rtcp(packet.get(..length).unwrap_or_default());
            }
            if encoding.nack.take_wants_keyframe() {
                keyframes.push((binding.track, track.rank_of(binding.encoding)));
            }
        }
        for (track, layer) in keyframes {
            self.request_keyframe(now, track, layer, Urgency::Viewer);
        }
    }

    /// Tells a publisher when its packets arrived.
    fn send_arrivals(&mut self, now: Instant, key: usize) {
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        let media = peer
            .publisher
            .bindings()
            .first()
            .map_or(0, |binding| binding.ssrc);
        let Some(transport) = &mut peer.transport else {
            return;
        };
        while let Some(feedback) = peer.publisher.arrivals.poll_feedback(now) {
            let header = TwccHeader {
                sender: FEEDBACK_SSRC,
                media,
                base_sequence: feedback.base_sequence,
                reference_time: feedback.reference_time,
                feedback_count: feedback.count,
            };
            let mut packet = [0; DATAGRAM_MAX];
            if let Some(length) = write_twcc(&mut packet, &header, feedback.arrivals) {
                transport.send_rtcp(packet.get(..length).unwrap_or_default());
            }
        }
    }

    fn send_reports(&mut self, now: Instant, key: usize) {
        self.send_receiver_reports(now, key);
        self.send_sender_reports(now, key);
        if let Some(peer) = self.peers.get_mut(key) {
            let is_active =
                !peer.publisher.sections.is_empty() || !peer.subscriber.slots.is_empty();
            peer.timers.reports = is_active.then_some(now + REPORT_INTERVAL);
        }
    }

    /// Tells a publisher how its streams are received.
    fn send_receiver_reports(&mut self, now: Instant, key: usize) {
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        let mut blocks = Vec::new();
        for binding in peer
            .publisher
            .bindings()
            .iter()
            .filter(|binding| !binding.is_rtx)
        {
            let track = self.tracks.get_mut(binding.track);
            let encoding = track.and_then(|track| track.encodings.get_mut(binding.encoding));
            if let Some(report) = encoding.and_then(|e| e.reception.report(now)) {
                blocks.push(ReportBlock {
                    ssrc: binding.ssrc,
                    fraction_lost: report.fraction_lost,
                    total_lost: report.cumulative_lost,
                    highest_sequence: report.highest_sequence,
                    jitter: report.jitter,
                    last_sr: report.last_sender_report,
                    delay_since_last_sr: report.delay_since_last,
                });
            }
        }
        let Some(transport) = &mut peer.transport else {
            return;
        };
        for blocks in blocks.chunks(31) {
            let mut packet = [0; DATAGRAM_MAX];
            if let Some(length) = write_rr(&mut packet, FEEDBACK_SSRC, blocks) {
                transport.send_rtcp(packet.get(..length).unwrap_or_default());
            }
        }
    }

    /// Gives a subscriber each slot's clock: which RTP timestamp is which moment of the server's.
    fn send_sender_reports(&mut self, now: Instant, key: usize) {
        let slot_count = self
            .peers
            .get(key)
            .map_or(0, |peer| peer.subscriber.slots.len());
        for index in 0..slot_count {
            let Some((fields, cname)) = self.sender_report(now, key, index) else {
                continue;
            };
            let mut packet = [0; 256];
            let Some(length) = write_sr(&mut packet, &fields, &[]) else {
                continue;
            };
            let Some(rest) = packet.get_mut(length..) else {
                continue;
            };
            let extra = write_sdes_cname(rest, fields.ssrc, &cname).unwrap_or(0);
            let transport = self
                .peers
                .get_mut(key)
                .and_then(|peer| peer.transport.as_mut());
            if let Some(transport) = transport {
                transport.send_rtcp(packet.get(..length + extra).unwrap_or_default());
            }
        }
    }

    /// The report of one slot, by its publisher's clock moved into the server's (rule 6).
    fn sender_report(
        &mut self,
        now: Instant,
        key: usize,
        index: usize,
    ) -> Option<(SenderReportFields, String)> {
        let ntp = self.ntp(now);
        let peer = self.peers.get_mut(key)?;
        let slot = peer.subscriber.slots.get_mut(index)?;
        let subscription = slot.subscription.as_ref().filter(|s| !s.is_waiting)?;
        let last = slot.last_sent()?;
        let track = self.tracks.get(subscription.track)?;
        let layer = &track.encodings.get(last.encoding)?.layer;
        // Before the publisher's first report its packets are taken to be sent as they are captured.
        let captured = layer.ntp_of(last.timestamp_in);
        let captured = captured.unwrap_or_else(|| self.options.ntp(last.arrival));
        let elapsed = ticks_between(captured, ntp, clock_rate(slot.kind));
        let timestamp = last.timestamp_out.wrapping_add_signed(elapsed);
        slot.note_told(timestamp, ntp);
        let (packets, octets) = slot.counts();
        let fields = SenderReportFields {
            ssrc: slot.media.0,
            ntp,
            rtp_ts: low_u32(timestamp),
            packets,
            octets,
        };
        Some((fields, format!("s{}", slot.place)))
    }

    /// Looks at all rooms and tracks: speakers, silent layers, keyframe requests that had to wait.
    fn sweep(&mut self, now: Instant) {
        let tracks: Vec<usize> = self.tracks.iter().map(|(key, _)| key).collect();
        for key in tracks {
            if let Some(room) = self.tracks.get(key).map(|track| track.room) {
                self.contain(now, Unit::Room(room), |shard| shard.look_at_track(now, key));
            }
        }
        let rooms: Vec<usize> = self.rooms.iter().map(|(key, _)| key).collect();
        for key in rooms {
            self.contain(now, Unit::Room(key), |shard| {
                shard.look_at_speakers(now, key);
            });
        }
        self.ask_homes_again();
        self.tend_cascades(now);
    }

    fn look_at_track(&mut self, now: Instant, key: usize) {
        let Some(track) = self.tracks.get_mut(key) else {
            return;
        };
        let urgency = track.keyframes.urgency();
        let asked = track.keyframes.poll(now);
        let is_changed = track.kind == Kind::Video && track.has_changed(now);
        self.send_keyframe_requests(key, asked, urgency);
        if is_changed {
            self.refresh_track(now, key);
        }
    }

    fn look_at_speakers(&mut self, now: Instant, key: usize) {
        let Some(room) = self.rooms.get_mut(key) else {
            return;
        };
        if !room.speakers.is_due(now) {
            return;
        }
        if room.id.shard() != usize::from(self.options.index) {
            // The home shard decides who speaks.
            self.tell_levels(key);
            return;
        }
        let mut levels = Vec::new();
        for track in &room.tracks {
            let Some(track) = self.tracks.get_mut(*track) else {
                continue;
            };
            if track.kind == Kind::Audio {
                let level = match &track.mirror {
                    _ if track.muted => 0.0,
                    Some(mirror) => mirror.level,
                    None => track.meter.take(),
                };
                levels.push((track.owner, level));
            }
        }
        let before = (room.speakers.dominant(), room.speakers.loudest(4));
        let told = room.speakers.update(&levels);
        let has_changed = before != (room.speakers.dominant(), room.speakers.loudest(4));
        let id = room.id;
        let levels: Vec<_> = told
            .into_iter()
            .filter_map(|(peer, level)| Some((self.peers.get(peer)?.participant, level)))
            .collect();
        if !levels.is_empty() {
            self.events
                .push_back(Event::SpeakersChanged { room: id, levels });
        }
        self.tell_speakers(key);
        if has_changed {
            self.follow_speakers(now, key);
        }
    }

    /// Reconciles those whose slots depend on who speaks: program viewers, and crowded audio slots.
    pub(super) fn follow_speakers(&mut self, now: Instant, room_key: usize) {
        let Some(room) = self.rooms.get(room_key) else {
            return;
        };
        let audio_count = room
            .tracks
            .iter()
            .filter(|track| {
                self.tracks
                    .get(**track)
                    .is_some_and(|t| t.kind == Kind::Audio)
            })
            .count();
        let depends = |key: &usize| {
            self.peers.get(*key).is_some_and(|peer| {
                let slots = peer.subscriber.slots.iter();
                let audio_slots = slots.filter(|slot| slot.kind == Kind::Audio).count();
                peer.subscriber.wants == crate::sfu::Wants::Program
                    || audio_slots < audio_count.saturating_sub(1)
            })
        };
        let dependent: Vec<usize> = room.peers.iter().copied().filter(depends).collect();
        for key in dependent {
            self.reconcile(now, key, crate::shard::reconcile::Announce::Changes);
        }
    }
}
