//! A receive slot: one outgoing RTP stream with a fixed SSRC, whatever track it carries.

mod header;
mod writing;

use std::time::{Duration, Instant};

use slab::Slab;

use crate::ids::{Mid, PayloadType, Ssrc, TrackId};
use crate::metrics::{DropReason, Metrics};
use crate::peer::negotiation::NegotiatedCodec;
use crate::peer::srtp::SendContext;
use crate::publisher::encoding::clock_rate;
use crate::publisher::layer::{Layer, PacketId, PacketMeta};
use crate::publisher::track::Track;
use crate::rtp::payload::dependency_descriptor::{Targets, parse_mandatory};
use crate::rtp::payload::{Descriptor, Picture};
use crate::sfu::Kind;
use crate::shard::Arena;
use crate::subscriber::estimator::Estimator;
use crate::subscriber::rewriter::{Rewriter, Rewritten, Skip, SourceId, SwitchClock, Vp8Rewriter};
use crate::subscriber::sent::{Sent, SentPacket};
use crate::subscriber::subscription::{Mapping, Subscription};

pub(crate) use header::SlotExtensions;
use header::SlotHeader;
use writing::{Outbound, Stream};

/// An outgoing stream and what it carries.
pub(crate) struct Slot {
    pub(crate) mid: Mid,
    pub(crate) kind: Kind,
    /// Its place among the slots of its kind.
    pub(crate) place: usize,
    pub(crate) media: Ssrc,
    pub(crate) rtx: Ssrc,
    pub(crate) codecs: Vec<NegotiatedCodec>,
    extensions: SlotExtensions,
    header: SlotHeader,
    /// What is kept waits until then: the client may not have its keys yet, or not know of the slot.
    pub(crate) ready_at: Option<Instant>,
    pub(crate) subscription: Option<Subscription>,
    /// Counts re-points, so that packets queued for an earlier track are told apart.
    pub(crate) generation: u32,
    rewriter: Rewriter,
    vp8: Vp8Rewriter,
    /// The next extended sequence number on the RTX SSRC.
    rtx_sequence: u64,
    sent: Option<Box<Sent>>,
    frame_offset: u16,
    next_frame: u16,
    /// The receiver was told of fewer decode targets than the publisher has active.
    has_limited_targets: bool,
    last: Option<LastSent>,
    /// What the last sender report told the subscriber.
    told: Option<Told>,
    packets: u32,
    octets: u32,
}

/// The newest packet that went out, for clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LastSent {
    pub(crate) track: TrackId,
    pub(crate) encoding: usize,
    /// Extended, as it came in.
    pub(crate) timestamp_in: u64,
    /// Extended, as it went out.
    pub(crate) timestamp_out: u64,
    /// When it came in.
    pub(crate) arrival: Instant,
}

/// One moment on two clocks.
#[derive(Clone, Copy, Debug)]
struct Told {
    /// Extended, as it goes out.
    timestamp: u64,
    /// The server's.
    ntp: u64,
}

/// What to do with a queued packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Forward,
    /// It begins a new source.
    Switch,
    /// Close its number.
    Skip,
}

/// A reference to a packet in its encoding's history, waiting to be numbered and encrypted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Queued {
    pub(crate) packet: PacketId,
    pub(crate) lane: LaneId,
    pub(crate) action: Action,
    pub(crate) marker: bool,
}

/// Which slot a packet waits for, and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LaneId {
    /// The slot's generation when it was queued.
    pub(crate) generation: u32,
    /// Index of the slot.
    pub(crate) slot: u16,
    /// Index of the encoding.
    pub(crate) encoding: u8,
}

/// The way of consecutive packets of one encoding to one slot: what is the same for all of them is
/// looked up once.
pub(crate) struct Lane<'t> {
    track: &'t Track,
    layer: &'t Layer,
    encoding: usize,
    source: SourceId,
    /// The payload type last looked up, and how it goes out.
    mapped: Option<(u8, Option<Mapping>)>,
}

/// Where packets go out: keys, arena, and what numbers and counts them.
pub(crate) struct Outgoing<'a> {
    pub(crate) now: Instant,
    /// `now` as the abs-send-time extension says it.
    pub(crate) send_time: [u8; 3],
    pub(crate) protect: &'a mut SendContext,
    /// Aimed at the path they take.
    pub(crate) arena: &'a mut Arena,
    pub(crate) estimator: &'a mut Estimator,
    pub(crate) metrics: &'a mut Metrics,
}

/// The random numbers a slot begins with.
pub(crate) struct SlotNumbers {
    pub(crate) media: Ssrc,
    pub(crate) rtx: Ssrc,
    /// Below 2^15 each (RFC 3711 §3.3.1: the first rollover must not be lost).
    pub(crate) sequence: u16,
    pub(crate) rtx_sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) picture_id: u16,
}

impl Slot {
    pub(crate) fn new(mid: Mid, kind: Kind, place: usize, numbers: &SlotNumbers) -> Self {
        let sequence = u64::from(numbers.sequence & 0x7fff);
        Self {
            mid,
            kind,
            place,
            media: numbers.media,
            rtx: numbers.rtx,
            codecs: Vec::new(),
            extensions: SlotExtensions::default(),
            header: SlotHeader::new(SlotExtensions::default(), mid),
            ready_at: None,
            subscription: None,
            generation: 0,
            rewriter: Rewriter::new(sequence, u64::from(numbers.timestamp)),
            vp8: Vp8Rewriter::new(numbers.picture_id, 0),
            rtx_sequence: u64::from(numbers.rtx_sequence & 0x7fff),
            sent: None,
            frame_offset: 0,
            next_frame: 0,
            has_limited_targets: false,
            last: None,
            told: None,
            packets: 0,
            octets: 0,
        }
    }

    /// The ids of the header extensions it sends.
    pub(crate) fn extensions(&self) -> SlotExtensions {
        self.extensions
    }

    /// Sends the header extensions that were negotiated.
    pub(crate) fn set_extensions(&mut self, extensions: SlotExtensions) {
        self.extensions = extensions;
        self.header = SlotHeader::new(extensions, self.mid);
    }

    /// Carries another track from now on, or none.
    pub(crate) fn carry(&mut self, subscription: Option<Subscription>) {
        self.generation = self.generation.wrapping_add(1);
        self.subscription = subscription;
        if let Some(sent) = &mut self.sent {
            sent.forget();
        }
    }

    /// The first RTP timestamp that belongs to the track it carries now.
    pub(crate) fn next_timestamp(&self) -> u32 {
        low_u32(self.rewriter.position().1).wrapping_add(1)
    }

    /// Packets and payload bytes sent, for sender reports.
    pub(crate) fn counts(&self) -> (u32, u32) {
        (self.packets, self.octets)
    }

    /// Notes what a sender report tells: an extended timestamp and the server's time of it.
    pub(crate) fn note_told(&mut self, timestamp: u64, ntp: u64) {
        self.told = Some(Told { timestamp, ntp });
    }

    /// The newest packet that went out.
    pub(crate) fn last_sent(&self) -> Option<LastSent> {
        self.last
    }

    /// Payload bits per second over the last second.
    pub(crate) fn bitrate_bps(&mut self, now: Instant) -> u64 {
        self.sent.as_mut().map_or(0, |sent| sent.bitrate_bps(now))
    }

    /// The way for packets queued for this slot; `None` when it carries something else by now.
    pub(crate) fn lane<'t>(&self, id: LaneId, tracks: &'t Slab<Track>) -> Option<Lane<'t>> {
        let subscription = self.subscription.as_ref()?;
        if self.generation != id.generation {
            return None;
        }
        let track = tracks.get(subscription.track)?;
        let encoding = usize::from(id.encoding);
        Some(Lane {
            track,
            layer: &track.encodings.get(encoding)?.layer,
            encoding,
            source: self.source_of(encoding),
            mapped: None,
        })
    }

    /// Numbers, rewrites and encrypts one queued packet. Allocates only with a stream's first one.
    ///
    /// False: the arena is full, nothing was changed.
    pub(crate) fn send(
        &mut self,
        queued: &Queued,
        lane: &mut Lane<'_>,
        out: &mut Outgoing<'_>,
    ) -> bool {
        let Some((meta, payload, descriptor)) = lane.layer.ring.get(queued.packet) else {
            out.metrics.dropped(DropReason::QueueFull);
            return true;
        };
        if out.arena.reserve().is_none() {
            return false;
        }
        let source = lane.source;
        let mapping = self.mapping(lane, meta.payload_type);
        let Some(mapping) = mapping.filter(|_| queued.action != Action::Skip) else {
            self.skip(source, meta, out);
            return true;
        };
        if queued.action == Action::Switch {
            self.switch(lane, meta, descriptor);
        }
        let Some(sent) = self.number(lane, meta, queued) else {
            self.skip(source, meta, out);
            return true;
        };
        self.count(payload.len());
        let kind = self.kind;
        let history = self
            .sent
            .get_or_insert_with(|| Box::new(Sent::new(kind, out.now)));
        history.record(out.now, sent, payload.len());
        let packet = Outbound {
            meta,
            payload,
            descriptor,
            targets: self.targets(lane.track, lane.encoding, meta),
            mapping,
            sent,
            is_padded: kind == Kind::Video
                && lane.layer.is_short_by_one(meta.timestamp, payload.len()),
        };
        self.write(&packet, Stream::Media, out);
        true
    }

    /// How a payload type goes out on this slot.
    fn mapping(&self, lane: &mut Lane<'_>, payload_type: u8) -> Option<Mapping> {
        if let Some((known, mapping)) = lane.mapped
            && known == payload_type
        {
            return mapping;
        }
        let mapping = self.subscription.as_ref()?.mapping(payload_type);
        lane.mapped = Some((payload_type, mapping));
        mapping
    }

    /// Gives a packet its outgoing numbers; `None`: it is too old to be sent.
    fn number(
        &mut self,
        lane: &Lane<'_>,
        meta: &PacketMeta,
        queued: &Queued,
    ) -> Option<SentPacket> {
        let (picture_id, tl0) = match meta.descriptor.picture {
            Picture::Vp8(numbers) => self.vp8.rewrite(numbers)?,
            _ => (None, None),
        };
        let rewritten = self
            .rewriter
            .rewrite(lane.source, meta.sequence, meta.timestamp);
        let Rewritten::Send {
            sequence,
            timestamp,
        } = rewritten
        else {
            return None;
        };
        if let Some(subscription) = &mut self.subscription {
            subscription.is_waiting = false;
            if self.last.is_none_or(|last| last.timestamp_out <= timestamp) {
                self.last = Some(LastSent {
                    track: subscription.id,
                    encoding: lane.encoding,
                    timestamp_in: meta.timestamp,
                    timestamp_out: timestamp,
                    arrival: meta.arrival,
                });
            }
        }
        Some(SentPacket {
            sequence,
            packet: Some(queued.packet.low()),
            layer: queued.lane.encoding,
            timestamp: low_u32(timestamp),
            marker: queued.marker,
            picture_id,
            tl0,
        })
    }

    /// Sends one packet again on the RTX SSRC, within bounds.
    ///
    /// Nothing is ever sent twice on the media SSRC: that would use a nonce twice (rule 2).
    pub(crate) fn resend(
        &mut self,
        sequence: u16,
        rtt: Duration,
        track: &Track,
        out: &mut Outgoing<'_>,
    ) {
        let Some((packet, rtx)) = self.find_sent(out.now, sequence, rtt, track) else {
            out.metrics.retransmission_misses += 1;
            return;
        };
        self.write(&packet, Stream::Rtx(rtx), out);
        out.metrics.retransmitted_packets += 1;
    }

    /// The packet that went out under this number, and the payload type to send it again with.
    fn find_sent<'t>(
        &mut self,
        now: Instant,
        sequence: u16,
        rtt: Duration,
        track: &'t Track,
    ) -> Option<(Outbound<'t>, PayloadType)> {
        let sent = self.sent.as_ref()?.find(now, sequence, rtt)?;
        let encoding = usize::from(sent.layer);
        let ring = &track.encodings.get(encoding)?.layer.ring;
        let (meta, payload, descriptor) = ring.get(ring.widen(sent.packet?))?;
        let mapping = self.subscription.as_ref()?.mapping(meta.payload_type)?;
        let rtx = mapping.rtx?;
        if !self.sent.as_mut()?.spend(now, sent.sequence, payload.len()) {
            return None;
        }
        let packet = Outbound {
            meta,
            payload,
            descriptor,
            targets: self.targets(track, encoding, meta),
            mapping,
            sent,
            is_padded: false,
        };
        Some((packet, rtx))
    }

    fn source_of(&self, encoding: usize) -> SourceId {
        SourceId(u64::from(self.generation) << 8 | encoding as u64)
    }

    fn count(&mut self, bytes: usize) {
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(u32::try_from(bytes).unwrap_or(0));
    }

    fn switch(&mut self, lane: &Lane<'_>, meta: &PacketMeta, descriptor: &[u8]) {
        let Lane {
            track,
            encoding,
            source,
            ..
        } = *lane;
        let clock = self.last.map_or_else(SwitchClock::default, |last| {
            let arrived = meta.arrival.saturating_duration_since(last.arrival);
            let by_clock = self.ticks_since(&last, encoding, meta, track);
            SwitchClock::between(by_clock, arrived, clock_rate(self.kind))
        });
        self.rewriter
            .switch(source, meta.sequence, meta.timestamp, clock);
        self.vp8.switch();
        self.has_limited_targets = false;
        if let Some(mandatory) = parse_mandatory(descriptor) {
            self.frame_offset = self.next_frame.wrapping_sub(mandatory.frame_number);
        }
    }

    /// How long after the last packet that went out a new source's first was captured, in ticks; `None`
    /// when no clock tells.
    ///
    /// A stream that goes on after a pause has its own clock. Any other source is put where the subscriber
    /// looks for its time of capture after what the last sender report said: the report holds on, whoever
    /// publishes what comes next, and lip sync with it.
    fn ticks_since(
        &self,
        last: &LastSent,
        encoding: usize,
        meta: &PacketMeta,
        track: &Track,
    ) -> Option<i64> {
        if (last.track, last.encoding) == (track.id, encoding) {
            return Some(meta.timestamp.wrapping_sub(last.timestamp_in).cast_signed());
        }
        let captured = track
            .encodings
            .get(encoding)?
            .layer
            .ntp_of(meta.timestamp)?;
        let known = match self.told {
            Some(told) => told,
            None if last.track == track.id => Told {
                timestamp: last.timestamp_out,
                ntp: track
                    .encodings
                    .get(last.encoding)?
                    .layer
                    .ntp_of(last.timestamp_in)?,
            },
            None => return None,
        };
        let due = known.timestamp.wrapping_add_signed(ticks_between(
            known.ntp,
            captured,
            clock_rate(self.kind),
        ));
        Some(due.wrapping_sub(last.timestamp_out).cast_signed())
    }

    fn skip(&mut self, source: SourceId, meta: &PacketMeta, out: &mut Outgoing<'_>) {
        if let Picture::Vp8(numbers) = meta.descriptor.picture {
            self.vp8.skip(numbers);
        }
        let skipped = self.rewriter.skip(source, meta.sequence, meta.timestamp);
        let Skip::Filler {
            sequence,
            timestamp,
        } = skipped
        else {
            return;
        };
        let mapping = self
            .subscription
            .as_ref()
            .and_then(|s| s.mapping(meta.payload_type));
        let Some(mapping) = mapping else { return };
        let sent = SentPacket {
            sequence,
            packet: None,
            layer: 0,
            timestamp: low_u32(timestamp),
            marker: false,
            picture_id: None,
            tl0: None,
        };
        let empty = PacketMeta {
            descriptor: Descriptor::default(),
            ..*meta
        };
        let packet = Outbound {
            meta: &empty,
            payload: &[],
            descriptor: &[],
            targets: None,
            mapping,
            sent,
            is_padded: false,
        };
        self.write(&packet, Stream::Media, out);
    }

    /// The decode targets to name in a packet: from the first limit on until a new source begins,
    /// so that a lost packet cannot leave the receiver with what was said before.
    fn targets(&mut self, track: &Track, encoding: usize, meta: &PacketMeta) -> Option<Targets> {
        self.extensions.dependency_descriptor?;
        let (temporal, spatial) = self.subscription.as_ref()?.selector.highest_inside();
        let encoding = track.encodings.get(encoding)?;
        let targets = encoding.targets_within(meta.sequence, spatial, temporal)?;
        self.has_limited_targets |= targets.is_limited;
        self.has_limited_targets.then_some(targets)
    }
}

/// The time from one moment to another, both NTP (32.32 bits), in ticks of a clock; negative when the
/// other was before.
pub(crate) fn ticks_between(from: u64, to: u64, clock_rate: u32) -> i64 {
    // 64 bits times the rate fit 128, and shifted by 32 they fit 64 again.
    let ticks = i128::from(to.wrapping_sub(from).cast_signed()) * i128::from(clock_rate);
    i64::try_from(ticks >> 32).unwrap_or(0)
}

/// A moment as the abs-send-time extension says it: seconds in 6.18 fixed point since `epoch`,
/// wrapping every 64 s.
pub(crate) fn abs_send_time(now: Instant, epoch: Instant) -> [u8; 3] {
    let elapsed = now.saturating_duration_since(epoch);
    let fraction = (u64::from(elapsed.subsec_nanos()) << 18) / 1_000_000_000;
    let value = (elapsed.as_secs() & 63) << 18 | fraction;
    let [_, _, _, _, _, a, b, c] = value.to_be_bytes();
    [a, b, c]
}

pub(crate) fn low_u32(number: u64) -> u32 {
    u32::try_from(number & 0xffff_ffff).unwrap_or(0)
}

pub(crate) fn low_u16(number: u64) -> u16 {
    u16::try_from(number & 0xffff).unwrap_or(0)
}

#[cfg(test)]
mod tests;
