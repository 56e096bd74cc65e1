//! The last stop of a packet: its header, extensions and payload as one slot's receiver gets them, encrypted
//! into the arena.

use super::header::PacketExtensions;
use super::{Outgoing, Slot, low_u16};
use crate::ids::PayloadType;
use crate::publisher::layer::PacketMeta;
use crate::rtp::HeaderFields;
use crate::rtp::payload::Picture;
use crate::rtp::payload::dependency_descriptor::{
    ACTIVE_TARGETS_BYTES_MAX, DESCRIPTOR_BYTES_MAX, Targets, parse_mandatory,
    rewrite_active_targets, rewrite_frame_number,
};
use crate::rtp::payload::opus;
use crate::rtp::payload::vp8::rewrite_vp8;
use crate::subscriber::sent::SentPacket;
use crate::subscriber::subscription::Mapping;

/// What a header adds to a payload in the eyes of congestion control, about.
const HEADER_BYTES_USUAL: usize = 40;

/// A packet about to be written.
pub(super) struct Outbound<'a> {
    pub(super) meta: &'a PacketMeta,
    pub(super) payload: &'a [u8],
    pub(super) descriptor: &'a [u8],
    /// The decode targets to name in it, when that differs from what it says itself.
    pub(super) targets: Option<Targets>,
    pub(super) mapping: Mapping,
    pub(super) sent: SentPacket,
    /// One byte of padding goes behind it.
    pub(super) is_padded: bool,
}

/// Which of a slot's two streams a packet goes out on.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stream {
    Media,
    /// With this payload type, the original number in front (RFC 4588 §4).
    Rtx(PayloadType),
}

impl Slot {
    /// Writes one packet, encrypted, into the arena.
    pub(super) fn write(&mut self, packet: &Outbound<'_>, stream: Stream, out: &mut Outgoing<'_>) {
        match self.extensions.dependency_descriptor {
            Some(_) if !packet.descriptor.is_empty() => self.write_described(packet, stream, out),
            _ => self.write_with(packet, stream, &[], out),
        }
    }

    /// Apart from `write`, so that only these packets pay for the buffer.
    #[inline(never)]
    fn write_described(&mut self, packet: &Outbound<'_>, stream: Stream, out: &mut Outgoing<'_>) {
        let mut buffer = [0; DESCRIPTOR_BYTES_MAX + ACTIVE_TARGETS_BYTES_MAX];
        let length = self.rewrite_descriptor(packet, &mut buffer).unwrap_or(0);
        let descriptor = buffer.get(..length).unwrap_or_default();
        self.write_with(packet, stream, descriptor, out);
    }

    /// Writes one packet with this dependency descriptor, empty for none.
    fn write_with(
        &mut self,
        packet: &Outbound<'_>,
        stream: Stream,
        descriptor: &[u8],
        out: &mut Outgoing<'_>,
    ) {
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
            padding: packet.is_padded,
        };
        let mut extensions = PacketExtensions {
            transport_wide: 0,
            send_time: out.send_time,
            audio_level: packet.meta.audio_level,
            dependency_descriptor: descriptor,
        };
        if self.extensions.transport_wide.is_some() {
            let bytes = packet.payload.len() + HEADER_BYTES_USUAL;
            extensions.transport_wide = out.estimator.record_sent(out.now, bytes);
        }
        let Some(room) = out.arena.reserve() else {
            return;
        };
        let Some(header_len) = self.header.write(&fields, &extensions, room) else {
            return;
        };
        let protected = packet
            .write_body(stream, header_len, room)
            .and_then(|length| out.protect.protect_rtp(index, header_len, length, room));
        if let Some(length) = protected {
            out.arena.commit(length);
            out.metrics.rtp_sent_packets += 1;
            out.metrics.padded_packets += u64::from(packet.is_padded);
        }
    }

    /// Writes a packet's dependency descriptor as the receiver sees the stream: with its frame
    /// numbers, and with the decode targets that its layers leave; returns the length.
    pub(super) fn rewrite_descriptor(
        &mut self,
        packet: &Outbound<'_>,
        out: &mut [u8],
    ) -> Option<usize> {
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
}

impl Outbound<'_> {
    /// Writes the payload as this receiver gets it behind the header; the length of both.
    fn write_body(&self, stream: Stream, header_len: usize, room: &mut [u8]) -> Option<usize> {
        let mut start = header_len;
        if let Stream::Rtx(_) = stream {
            let original = low_u16(self.sent.sequence).to_be_bytes();
            *room.get_mut(start..)?.first_chunk_mut()? = original;
            start += original.len();
        }
        let payload = match self.mapping.unwraps_red {
            true => opus::primary(self.payload).map_or(self.payload, |(_, block)| block),
            false => self.payload,
        };
        let end = start + payload.len();
        let body = room.get_mut(start..end)?;
        body.copy_from_slice(payload);
        if let Picture::Vp8(_) = self.meta.descriptor.picture {
            rewrite_vp8(body, self.sent.picture_id, self.sent.tl0);
        }
        if self.is_padded {
            *room.get_mut(end)? = 1; // the padding says how long it is
            return Some(end + 1);
        }
        Some(end)
    }
}
