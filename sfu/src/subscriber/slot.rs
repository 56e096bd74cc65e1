//! A receive slot: one outgoing RTP stream with a fixed SSRC, whatever track it carries.

use std::time::{Duration, Instant};

use crate::ids::{Mid, PayloadType, Ssrc, TrackId};
use crate::metrics::{DropReason, Metrics};
use crate::peer::negotiation::{Extension, NegotiatedCodec};
use crate::peer::srtp::SendContext;
use crate::publisher::encoding::clock_rate;
use crate::publisher::layer::{PacketId, PacketMeta};
use crate::publisher::track::Track;
use crate::rtp::payload::dependency_descriptor::{
    ACTIVE_TARGETS_BYTES_MAX, DESCRIPTOR_BYTES_MAX, Targets, parse_mandatory,
    rewrite_active_targets, rewrite_frame_number,
};
use crate::rtp::payload::opus;
use crate::rtp::payload::vp8::rewrite_vp8;
use crate::rtp::payload::{Descriptor, Picture};
use crate::rtp::{HeaderFields, write_header};
use crate::sfu::Kind;
use crate::shard::{Arena, Path};
use crate::subscriber::estimator::Estimator;
use crate::subscriber::rewriter::{Rewriter, Rewritten, Skip, SourceId, SwitchClock, Vp8Rewriter};
use crate::subscriber::sent::{Sent, SentPacket};
use crate::subscriber::subscription::{Mapping, Subscription};

/// Bytes of the longest header we write: fixed part, and every extension we ever send.
const HEADER_MAX: usize = 160;

/// An outgoing stream and what it carries.
pub(crate) struct Slot {
    pub(crate) mid: Mid,
    pub(crate) kind: Kind,
    /// Its place among the slots of its kind.
    pub(crate) place: usize,
    pub(crate) media: Ssrc,
    pub(crate) rtx: Ssrc,
    pub(crate) codecs: Vec<NegotiatedCodec>,
    pub(crate) extensions: SlotExtensions,
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

/// The ids under which a slot's extensions go out; a closed list (rule 8 of the data plane).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SlotExtensions {
    pub(crate) mid: Option<u8>,
    pub(crate) transport_wide: Option<u8>,
    pub(crate) abs_send_time: Option<u8>,
    pub(crate) audio_level: Option<u8>,
    pub(crate) dependency_descriptor: Option<u8>,
}

impl SlotExtensions {
    /// Takes the ids from a negotiated section.
    pub(crate) fn new(negotiated: &[(u8, Extension)]) -> Self {
        let id_of = |wanted| {
            negotiated
                .iter()
                .find(|(_, e)| *e == wanted)
                .map(|(id, _)| *id)
        };
        Self {
            mid: id_of(Extension::Mid),
            transport_wide: id_of(Extension::TransportWide),
            abs_send_time: id_of(Extension::AbsSendTime),
            audio_level: id_of(Extension::AudioLevel),
            dependency_descriptor: id_of(Extension::DependencyDescriptor),
        }
    }
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
    pub(crate) slot: usize,
    pub(crate) generation: u32,
    pub(crate) encoding: usize,
    pub(crate) packet: PacketId,
    pub(crate) action: Action,
    pub(crate) marker: bool,
}

/// Where packets go out: path, keys, arena, and what numbers and counts them.
pub(crate) struct Outgoing<'a> {
    pub(crate) now: Instant,
    pub(crate) path: Path,
    pub(crate) protect: &'a mut SendContext,
    pub(crate) arena: &'a mut Arena,
    pub(crate) estimator: &'a mut Estimator,
    /// Where abs-send-time counts from.
    pub(crate) epoch: Instant,
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

    /// Numbers, rewrites and encrypts one queued packet. Allocates only with a stream's first one.
    ///
    /// False: the arena is full, nothing was changed.
    pub(crate) fn send(&mut self, queued: &Queued, track: &Track, out: &mut Outgoing<'_>) -> bool {
        let ring = track.encodings.get(queued.encoding).map(|e| &e.layer.ring);
        let Some((meta, payload, descriptor)) = ring.and_then(|ring| ring.get(queued.packet))
        else {
            out.metrics.dropped(DropReason::QueueFull);
            return true;
        };
        if out.arena.reserve().is_none() {
            return false;
        }
        let source = self.source_of(queued.encoding);
        let subscription = self.subscription.as_ref();
        let mapping = subscription.and_then(|s| s.mapping(meta.payload_type));
        let Some(mapping) = mapping.filter(|_| queued.action != Action::Skip) else {
            self.skip(source, meta, out);
            return true;
        };
        if queued.action == Action::Switch {
            self.switch(queued.encoding, meta, track, descriptor);
        }
        let Some(sent) = self.number(source, meta, queued) else {
            self.skip(source, meta, out);
            return true;
        };
        let sent = SentPacket {
            bytes: u16::try_from(payload.len()).unwrap_or(u16::MAX),
            ..sent
        };
        self.count(payload.len());
        let kind = self.kind;
        let history = self
            .sent
            .get_or_insert_with(|| Box::new(Sent::new(kind, out.now)));
        history.record(out.now, sent);
        let packet = Outbound {
            meta,
            payload,
            descriptor,
            targets: self.targets(track, queued.encoding, meta),
            mapping,
            sent,
        };
        self.write(&packet, Stream::Media, out);
        true
    }

    /// Gives a packet its outgoing numbers; `None`: it is too old to be sent.
    fn number(
        &mut self,
        source: SourceId,
        meta: &PacketMeta,
        queued: &Queued,
    ) -> Option<SentPacket> {
        let (picture_id, tl0) = match meta.descriptor.picture {
            Picture::Vp8(numbers) => self.vp8.rewrite(numbers)?,
            _ => (None, None),
        };
        let rewritten = self.rewriter.rewrite(source, meta.sequence, meta.timestamp);
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
                    encoding: queued.encoding,
                    timestamp_in: meta.timestamp,
                    timestamp_out: timestamp,
                    arrival: meta.arrival,
                });
            }
        }
        Some(SentPacket {
            sequence,
            packet: Some(queued.packet),
            layer: u8::try_from(queued.encoding).unwrap_or(0),
            timestamp: low_u32(timestamp),
            marker: queued.marker,
            picture_id,
            tl0,
            bytes: 0,
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
        let sent = self
            .sent
            .as_mut()
            .and_then(|history| history.resend(out.now, sequence, rtt));
        let found = sent.and_then(|sent| {
            let encoding = usize::from(sent.layer);
            let ring = &track.encodings.get(encoding)?.layer.ring;
            let (meta, payload, descriptor) = ring.get(sent.packet?)?;
            let targets = self.targets(track, encoding, meta);
            let mapping = self.subscription.as_ref()?.mapping(meta.payload_type)?;
            Some((
                Outbound {
                    meta,
                    payload,
                    descriptor,
                    targets,
                    mapping,
                    sent,
                },
                mapping.rtx?,
            ))
        });
        let Some((packet, rtx)) = found else {
            out.metrics.retransmission_misses += 1;
            return;
        };
        self.write(&packet, Stream::Rtx(rtx), out);
        out.metrics.retransmitted_packets += 1;
    }

    fn source_of(&self, encoding: usize) -> SourceId {
        SourceId(u64::from(self.generation) << 8 | encoding as u64)
    }

    fn count(&mut self, bytes: usize) {
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(u32::try_from(bytes).unwrap_or(0));
    }

    fn switch(&mut self, encoding: usize, meta: &PacketMeta, track: &Track, descriptor: &[u8]) {
        let source = self.source_of(encoding);
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
            bytes: 0,
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
        };
        self.write(&packet, Stream::Media, out);
    }

    /// Writes one packet, encrypted, into the arena.
    fn write(&mut self, packet: &Outbound<'_>, stream: Stream, out: &mut Outgoing<'_>) {
        let (ssrc, index, payload_type) = match stream {
            Stream::Media => (
                self.media,
                packet.sent.sequence,
                packet.mapping.payload_type,
            ),
            Stream::Rtx(payload_type) => {
                self.rtx_sequence += 1;
                (self.rtx, self.rtx_sequence, payload_type)
            }
        };
        let fields = HeaderFields {
            marker: packet.sent.marker,
            payload_type: payload_type.0,
            sequence: low_u16(index),
            timestamp: packet.sent.timestamp,
            ssrc: ssrc.0,
            padding: false,
        };
        let mut header = [0; HEADER_MAX];
        let Some(header_len) = self.write_slot_header(&fields, packet, &mut header, out) else {
            return;
        };
        let header = header.get(..header_len).unwrap_or_default();
        let mut prefix = [0; 10];
        let (prefix_len, payload) = packet.body(stream, &mut prefix);
        let prefix = prefix.get(..prefix_len).unwrap_or_default();
        let Some(room) = out.arena.reserve() else {
            return;
        };
        let protected = out
            .protect
            .protect_rtp(index, header, prefix, payload, room);
        if let Some(length) = protected {
            out.arena.commit(out.path, length);
            out.metrics.rtp_sent_packets += 1;
        }
    }

    /// Writes the header with the slot's own extensions and numbers it for feedback.
    fn write_slot_header(
        &mut self,
        fields: &HeaderFields,
        packet: &Outbound<'_>,
        header: &mut [u8],
        out: &mut Outgoing<'_>,
    ) -> Option<usize> {
        let mut descriptor = [0; DESCRIPTOR_BYTES_MAX + ACTIVE_TARGETS_BYTES_MAX];
        let descriptor_len = self.rewrite_descriptor(packet, &mut descriptor);
        let mut list: [(u8, &[u8]); 5] = [(0, &[]); 5];
        let mut count = 0;
        let mut push = |id: u8, data| {
            if let Some(entry) = list.get_mut(count) {
                *entry = (id, data);
                count += 1;
            }
        };
        let ids = self.extensions;
        let number;
        if let Some(id) = ids.transport_wide {
            let bytes = packet.payload.len() + HEADER_MAX / 4;
            number = out.estimator.record_sent(out.now, bytes).to_be_bytes();
            push(id, number.as_slice());
        }
        let send_time = abs_send_time(out.now, out.epoch);
        if let Some(id) = ids.abs_send_time {
            push(id, &send_time);
        }
        if let Some(id) = ids.mid {
            push(id, self.mid.as_str().as_bytes());
        }
        let level;
        if let (Some(id), Some(value)) = (ids.audio_level, packet.meta.audio_level) {
            level = [value];
            push(id, &level);
        }
        if let (Some(id), Some(length)) = (ids.dependency_descriptor, descriptor_len) {
            push(id, descriptor.get(..length).unwrap_or_default());
        }
        write_header(header, fields, list.get(..count).unwrap_or_default())
    }

    /// Writes a packet's dependency descriptor as the receiver sees the stream: with its frame
    /// numbers, and with the decode targets that its layers leave; returns the length.
    fn rewrite_descriptor(&mut self, packet: &Outbound<'_>, out: &mut [u8]) -> Option<usize> {
        let mandatory = parse_mandatory(packet.descriptor)?;
        let rewritten = packet
            .targets
            .and_then(|targets| rewrite_active_targets(packet.descriptor, targets, out));
        let length = rewritten.unwrap_or(packet.descriptor.len());
        let out = out.get_mut(..length)?;
        if rewritten.is_none() {
            out.copy_from_slice(packet.descriptor);
        }
        let frame_number = mandatory.frame_number.wrapping_add(self.frame_offset);
        rewrite_frame_number(out, frame_number);
        if frame_number.wrapping_sub(self.next_frame) < 1 << 15 {
            self.next_frame = frame_number.wrapping_add(1);
        }
        Some(length)
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

/// A packet about to be written.
struct Outbound<'a> {
    meta: &'a PacketMeta,
    payload: &'a [u8],
    descriptor: &'a [u8],
    /// The decode targets to name in it, when that differs from what it says itself.
    targets: Option<Targets>,
    mapping: Mapping,
    sent: SentPacket,
}

/// Which of a slot's two streams a packet goes out on.
#[derive(Clone, Copy, Debug)]
enum Stream {
    Media,
    /// With this payload type, the original number in front (RFC 4588 §4).
    Rtx(PayloadType),
}

impl Outbound<'_> {
    /// The payload in two parts: what was rewritten, and the shared rest.
    fn body(&self, stream: Stream, prefix: &mut [u8; 10]) -> (usize, &[u8]) {
        let mut used = 0;
        if let Stream::Rtx(_) = stream {
            let [high, low] = low_u16(self.sent.sequence).to_be_bytes();
            [prefix[0], prefix[1]] = [high, low];
            used = 2;
        }
        let mut payload = self.payload;
        if self.mapping.unwraps_red {
            payload = opus::primary(payload).map_or(payload, |(_, block)| block);
        }
        let mut rewritten = [0; 8];
        if let Picture::Vp8(_) = self.meta.descriptor.picture {
            let SentPacket {
                picture_id, tl0, ..
            } = self.sent;
            if let Some((written, replaced)) = rewrite_vp8(payload, picture_id, tl0, &mut rewritten)
                && let Some(room) = prefix.get_mut(used..used + written)
            {
                room.copy_from_slice(rewritten.get(..written).unwrap_or_default());
                used += written;
                payload = payload.get(replaced..).unwrap_or_default();
            }
        }
        (used, payload)
    }
}

/// The time from one moment to another, both NTP (32.32 bits), in ticks of a clock; negative when the
/// other was before.
pub(crate) fn ticks_between(from: u64, to: u64, clock_rate: u32) -> i64 {
    // 64 bits times the rate fit 128, and shifted by 32 they fit 64 again.
    let ticks = i128::from(to.wrapping_sub(from).cast_signed()) * i128::from(clock_rate);
    i64::try_from(ticks >> 32).unwrap_or(0)
}

/// The abs-send-time extension: seconds in 6.18 fixed point, wrapping every 64 s.
fn abs_send_time(now: Instant, epoch: Instant) -> [u8; 3] {
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
