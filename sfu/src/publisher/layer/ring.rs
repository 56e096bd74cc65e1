//! The last packets of one stream, kept decrypted for forwarding and retransmission.

use std::time::Instant;

use crate::rtp::payload::Descriptor;
use crate::rtp::payload::dependency_descriptor::DESCRIPTOR_BYTES_MAX;
use crate::sfu::Kind;

/// Names one packet of one ring; counts up with each packet kept and never comes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PacketId(pub(crate) u64);

impl PacketId {
    /// Later than any.
    pub(crate) const MAX: Self = Self(u64::MAX);

    /// The lower half, which is enough to name a packet that a ring still holds.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the lower half is asked for"
    )]
    pub(crate) fn low(self) -> u32 {
        self.0 as u32
    }
}

/// What is kept of a packet beside its bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct PacketMeta {
    /// Extended sequence number as it came in.
    pub(crate) sequence: u64,
    /// Extended RTP timestamp as it came in.
    pub(crate) timestamp: u64,
    /// The RTP marker bit.
    pub(crate) marker: bool,
    /// The payload type as it came in.
    pub(crate) payload_type: u8,
    /// What the payload says about its frame.
    pub(crate) descriptor: Descriptor,
    /// When it came in, or would have, had it not been late.
    pub(crate) arrival: Instant,
    /// Loudness in -dBov (RFC 6464): 0 is loudest, 127 is silence.
    pub(crate) audio_level: Option<u8>,
}

/// A packet to keep.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StoredPacket<'a> {
    /// What is known of it.
    pub(crate) meta: PacketMeta,
    /// The payload, decrypted, without padding.
    pub(crate) payload: &'a [u8],
    /// The dependency descriptor extension, empty when it has none; dropped over 64 bytes.
    pub(crate) dependency_descriptor: &'a [u8],
}

/// Half a megabyte holds 1.6 s of a 2.5 Mbit/s layer: more than a receiver waits for a packet.
/// Sizes are powers of two, so that finding a place takes no division.
const VIDEO_BYTES: usize = 512 * 1024;
/// 436 packets at 1200 bytes fill the bytes; the rest is room for the small ones of low layers.
const VIDEO_PACKETS: usize = 1024;
/// 32 KiB hold 4 s of Opus at 64 kbit/s.
const AUDIO_BYTES: usize = 32 * 1024;
/// 256 packets are 5 s of 20 ms frames.
const AUDIO_PACKETS: usize = 256;

#[derive(Clone, Copy, Debug)]
struct Entry {
    id: PacketId,
    meta: PacketMeta,
    /// Where its bytes begin, counted from the first byte ever written.
    start: u64,
    payload_bytes: u16,
    dependency_bytes: u8,
}

/// A ring of bytes and a ring of entries over it; the oldest packets give way to new ones.
///
/// Memory is taken with the first packet, once: an offer may announce many layers that never come.
/// Lookup by id and by sequence number are one step each.
#[derive(Debug)]
pub(crate) struct PacketRing {
    bytes: Box<[u8]>,
    entries: Box<[Option<Entry>]>,
    /// For `sequence % entries`: the latest packet there, which outlives its entry so that a
    /// duplicate is known as one.
    by_sequence: Box<[Option<(u64, PacketId)>]>,
    next_id: u64,
    /// Bytes ever written, those skipped at the end of the ring included.
    written: u64,
    newest_sequence: Option<u64>,
    byte_count: usize,
    packet_count: usize,
}

impl PacketRing {
    /// A ring with the usual size for this kind of media.
    pub(crate) fn new(kind: Kind) -> Self {
        match kind {
            Kind::Video => Self::with_size(VIDEO_BYTES, VIDEO_PACKETS),
            Kind::Audio => Self::with_size(AUDIO_BYTES, AUDIO_PACKETS),
        }
    }

    /// A ring of these sizes, each a power of two.
    fn with_size(byte_count: usize, packet_count: usize) -> Self {
        debug_assert!(byte_count.is_power_of_two() && packet_count.is_power_of_two());
        Self {
            bytes: Box::default(),
            entries: Box::default(),
            by_sequence: Box::default(),
            next_id: 0,
            written: 0,
            newest_sequence: None,
            byte_count,
            packet_count,
        }
    }

    fn take_memory(&mut self) {
        self.bytes = vec![0; self.byte_count].into_boxed_slice();
        self.entries = vec![None; self.packet_count].into_boxed_slice();
        self.by_sequence = vec![None; self.packet_count].into_boxed_slice();
    }

    /// Keeps a copy of a packet.
    ///
    /// `None` for a duplicate, for one so old that its place belongs to a newer packet, and for
    /// one larger than a quarter of the ring.
    pub(crate) fn push(&mut self, packet: StoredPacket<'_>) -> Option<PacketId> {
        let sequence = packet.meta.sequence;
        let dependency = if packet.dependency_descriptor.len() <= DESCRIPTOR_BYTES_MAX {
            packet.dependency_descriptor
        } else {
            &[]
        };
        let length = packet.payload.len() + dependency.len();
        let payload_bytes = u16::try_from(packet.payload.len()).ok()?;
        let dependency_bytes = u8::try_from(dependency.len()).ok()?;
        if length > self.byte_count / 4 || !self.is_new(sequence) {
            return None;
        }
        if self.bytes.is_empty() {
            self.take_memory();
        }
        let start = self.reserve(length);
        let at = self.byte_position(start);
        let (payload_place, rest) = self
            .bytes
            .get_mut(at..at + length)?
            .split_at_mut(packet.payload.len());
        payload_place.copy_from_slice(packet.payload);
        rest.copy_from_slice(dependency);
        let id = PacketId(self.next_id);
        let entry = Entry {
            id,
            meta: packet.meta,
            start,
            payload_bytes,
            dependency_bytes,
        };
        let (place, index) = (self.slot(id.0), self.slot(sequence));
        *self.entries.get_mut(place)? = Some(entry);
        *self.by_sequence.get_mut(index)? = Some((sequence, id));
        self.next_id += 1;
        self.newest_sequence = self.newest_sequence.max(Some(sequence));
        Some(id)
    }

    /// A packet's meta, payload and dependency descriptor; `None` once it was overwritten.
    pub(crate) fn get(&self, id: PacketId) -> Option<(&PacketMeta, &[u8], &[u8])> {
        let entry = self.entry(id)?;
        if self.written - entry.start > self.bytes.len() as u64 {
            return None;
        }
        let at = self.byte_position(entry.start);
        let length = usize::from(entry.payload_bytes) + usize::from(entry.dependency_bytes);
        let (payload, dependency) = self
            .bytes
            .get(at..at + length)?
            .split_at(usize::from(entry.payload_bytes));
        Some((&entry.meta, payload, dependency))
    }

    /// The latest id given out so far with this lower half.
    pub(crate) fn widen(&self, low: u32) -> PacketId {
        let newest = PacketId(self.next_id.saturating_sub(1));
        let behind = newest.low().wrapping_sub(low);
        PacketId(newest.0.wrapping_sub(u64::from(behind)))
    }

    /// The packet with this extended sequence number, if it is still here.
    pub(crate) fn find(&self, sequence: u64) -> Option<PacketId> {
        let (held, id) = (*self.by_sequence.get(self.slot(sequence))?)?;
        (held == sequence && self.get(id).is_some()).then_some(id)
    }

    /// The highest sequence number seen.
    pub(crate) fn newest_sequence(&self) -> Option<u64> {
        self.newest_sequence
    }

    /// Neither seen before nor too old to tell.
    fn is_new(&self, sequence: u64) -> bool {
        let Some(newest) = self.newest_sequence else {
            return true;
        };
        if sequence > newest {
            return true;
        }
        if newest - sequence >= self.packet_count as u64 {
            return false;
        }
        let holder = self.by_sequence.get(self.slot(sequence)).copied().flatten();
        holder.is_none_or(|(held, _)| held != sequence)
    }

    fn entry(&self, id: PacketId) -> Option<&Entry> {
        self.entries
            .get(self.slot(id.0))?
            .as_ref()
            .filter(|entry| entry.id == id)
    }

    /// Takes `length` bytes in one piece; returns their absolute start.
    fn reserve(&mut self, length: usize) -> u64 {
        let at = self.byte_position(self.written);
        if at + length > self.bytes.len() {
            self.written += (self.bytes.len() - at) as u64;
        }
        let start = self.written;
        self.written += length as u64;
        start
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "the lower bits are what is asked for"
    )]
    fn byte_position(&self, absolute: u64) -> usize {
        absolute as usize & (self.byte_count - 1)
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "the lower bits are what is asked for"
    )]
    fn slot(&self, number: u64) -> usize {
        number as usize & (self.packet_count - 1)
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "tests need some instant to count from"
)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn meta(sequence: u64) -> PacketMeta {
        PacketMeta {
            sequence,
            timestamp: sequence * 960,
            marker: false,
            payload_type: 96,
            descriptor: Descriptor::default(),
            arrival: Instant::now(),
            audio_level: None,
        }
    }

    fn push(ring: &mut PacketRing, sequence: u64, payload: &[u8]) -> Option<PacketId> {
        let dependency_descriptor = &[1, 2, 3][..(sequence % 4).min(3) as usize];
        ring.push(StoredPacket {
            meta: meta(sequence),
            payload,
            dependency_descriptor,
        })
    }

    #[test]
    fn gives_back_what_was_kept() {
        let mut ring = PacketRing::new(Kind::Audio);
        let id = push(&mut ring, 7, b"seven").unwrap();
        let (kept, payload, dependency) = ring.get(id).unwrap();
        assert_eq!(
            (kept.sequence, payload, dependency),
            (7, &b"seven"[..], &[1, 2, 3][..])
        );
        assert_eq!(ring.find(7), Some(id));
        assert_eq!(ring.find(8), None);
        assert_eq!(push(&mut ring, 7, b"again"), None);
    }

    #[test]
    fn half_an_id_names_a_packet_over_its_wrap() {
        let mut ring = PacketRing::new(Kind::Audio);
        ring.next_id = (3 << 32) - 1;
        let ids = [7, 8, 9].map(|sequence| push(&mut ring, sequence, b"x").unwrap());
        for id in ids {
            assert_eq!(ring.widen(id.low()), id);
            assert!(ring.get(id).is_some());
        }
    }

    #[test]
    fn refuses_what_is_too_old_or_too_large() {
        let mut ring = PacketRing::with_size(1024, 8);
        push(&mut ring, 100, b"x").unwrap();
        assert_eq!(push(&mut ring, 92, b"x"), None);
        assert!(push(&mut ring, 93, b"x").is_some());
        assert_eq!(push(&mut ring, 101, &[0; 257]), None);
    }

    proptest! {
        #[test]
        fn a_packet_is_given_back_whole_or_not_at_all(
            packets in proptest::collection::vec((0u64..60, 0usize..64), 1..200),
        ) {
            let mut ring = PacketRing::with_size(256, 16);
            let mut kept = BTreeMap::new();
            for (step, (jitter, length)) in packets.into_iter().enumerate() {
                let sequence = step as u64 + jitter % 20;
                let payload = vec![u8::try_from(step).unwrap(); length];
                if let Some(id) = push(&mut ring, sequence, &payload) {
                    prop_assert!(kept.insert(id, (sequence, payload)).is_none());
                    // The packet just kept is there.
                    prop_assert_eq!(ring.find(sequence), Some(id));
                }
                for (&id, (sequence, payload)) in &kept {
                    if let Some((meta, found, dependency)) = ring.get(id) {
                        prop_assert_eq!(meta.sequence, *sequence);
                        prop_assert_eq!(found, &payload[..]);
                        prop_assert_eq!(dependency.len() as u64, (*sequence % 4).min(3));
                    }
                }
            }
            let mut sequences: Vec<_> = kept.values().map(|(sequence, _)| *sequence).collect();
            sequences.sort_unstable();
            sequences.dedup();
            prop_assert_eq!(sequences.len(), kept.len(), "no sequence number is kept twice");
        }
    }
}
