//! One encoding of a track as it is received: its layer, its holes, and what its publisher is told.

use std::time::{Duration, Instant};

use crate::ids::Rid;
use crate::publisher::layer::{Layer, PacketId, PacketMeta, SenderReport, StoredPacket};
use crate::publisher::nack::NackGenerator;
use crate::publisher::reception::Reception;
use crate::rtp::payload::dependency_descriptor::{self, Structure, Targets};
use crate::rtp::payload::{Descriptor, describe};
use crate::rtp::{SequenceUnwrapper, TimestampUnwrapper};
use crate::sfu::{Codec, Kind};

/// One RTP stream of a publisher.
pub(crate) struct Encoding {
    pub(crate) rid: Option<Rid>,
    pub(crate) layer: Layer,
    pub(crate) nack: NackGenerator,
    pub(crate) reception: Reception,
    /// The payload types ask for NACK (RFC 4585 §4.2).
    pub(crate) uses_nack: bool,
    sequences: SequenceUnwrapper,
    timestamps: TimestampUnwrapper,
    /// The template structure of the last keyframe that carried a dependency descriptor.
    structure: Option<Box<Structure>>,
    /// The number of the packet that brought it.
    structure_since: u64,
    /// The decode targets the publisher last said are active.
    active_targets: u32,
}

/// A decrypted packet on its way into an encoding.
pub(crate) struct Incoming<'a> {
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) marker: bool,
    pub(crate) payload_type: u8,
    pub(crate) codec: Codec,
    /// Without padding.
    pub(crate) payload: &'a [u8],
    /// Payload bytes before the codec's own: the RED headers in front of the newest Opus frame.
    pub(crate) codec_offset: usize,
    pub(crate) audio_level: Option<u8>,
    pub(crate) dependency_descriptor: &'a [u8],
    /// It came as a retransmission.
    pub(crate) is_recovered: bool,
}

/// The RTP clock of each kind of media, in Hz: Opus (RFC 7587 §4.1) and every video codec.
pub(crate) const fn clock_rate(kind: Kind) -> u32 {
    match kind {
        Kind::Audio => 48_000,
        Kind::Video => 90_000,
    }
}

impl Encoding {
    pub(crate) fn new(kind: Kind, rid: Option<Rid>) -> Self {
        let clock_rate = clock_rate(kind);
        Self {
            rid,
            layer: Layer::new(kind, clock_rate),
            nack: NackGenerator::new(),
            reception: Reception::new(clock_rate),
            uses_nack: false,
            sequences: SequenceUnwrapper::default(),
            timestamps: TimestampUnwrapper::default(),
            structure: None,
            structure_since: 0,
            active_targets: u32::MAX,
        }
    }

    /// Takes in one packet; `None` when it must not be forwarded: a duplicate, too old, or malformed.
    ///
    /// A packet without payload (padding, a probe) is kept as well, so that subscribers close its
    /// number instead of waiting for it.
    pub(crate) fn receive(&mut self, now: Instant, packet: &Incoming<'_>) -> Option<PacketId> {
        let sequence = self.sequences.unwrap(packet.sequence);
        let timestamp = self.timestamps.unwrap(packet.timestamp);
        self.nack.received(now, sequence);
        if !packet.is_recovered {
            self.reception.received(now, sequence, timestamp);
        }
        let own = packet
            .payload
            .get(packet.codec_offset..)
            .unwrap_or_default();
        let descriptor = match own.is_empty() {
            true => Descriptor::default(),
            false => describe(packet.codec, own, packet.marker)?,
        };
        let descriptor = self.refine(sequence, descriptor, packet.dependency_descriptor);
        let meta = PacketMeta {
            sequence,
            timestamp,
            marker: packet.marker,
            payload_type: packet.payload_type,
            descriptor,
            arrival: self.layer.note_arrival(now, sequence, timestamp),
            audio_level: packet.audio_level,
        };
        let dependency_descriptor = packet.dependency_descriptor;
        self.layer.push(StoredPacket {
            meta,
            payload: packet.payload,
            dependency_descriptor,
        })
    }

    /// Takes in a packet as the shard of a mirrored track took it in; `None` when it is here already.
    ///
    /// That shard has asked for what is missing and told the publisher about reception.
    pub(crate) fn mirror(&mut self, packet: StoredPacket<'_>) -> Option<PacketId> {
        let PacketMeta {
            sequence,
            descriptor,
            ..
        } = packet.meta;
        // Only for the structure that may come with it: the descriptor is complete.
        self.refine(sequence, descriptor, packet.dependency_descriptor);
        self.layer.push(packet)
    }

    /// Adds what the dependency descriptor says to what the payload says.
    fn refine(
        &mut self,
        sequence: u64,
        mut descriptor: Descriptor,
        extension: &[u8],
    ) -> Descriptor {
        if extension.is_empty() {
            return descriptor;
        }
        let stored = self.structure.as_deref();
        if let Some(dependency) = dependency_descriptor::parse(extension, stored) {
            dependency.apply(&mut descriptor);
            self.active_targets = dependency.active_targets.unwrap_or(self.active_targets);
            if let Some(structure) = dependency.structure {
                self.structure = Some(Box::new(structure));
                self.structure_since = sequence;
            }
        }
        descriptor
    }

    /// The decode targets that a receiver of these layers still gets from this packet on.
    ///
    /// `None`: the stream has no dependency descriptors, or the packet belongs to an older structure.
    pub(crate) fn targets_within(
        &self,
        sequence: u64,
        spatial: u8,
        temporal: u8,
    ) -> Option<Targets> {
        let structure = self.structure.as_deref()?;
        (sequence >= self.structure_since)
            .then(|| structure.targets_within(self.active_targets, spatial, temporal))
    }

    /// Takes in a sender report of this stream.
    pub(crate) fn handle_sender_report(&mut self, now: Instant, ntp: u64, rtp_timestamp: u32) {
        self.reception.sender_report(now, ntp);
        self.layer.handle_sender_report(SenderReport {
            ntp,
            rtp_timestamp,
            arrival: now,
        });
    }

    /// Picture size, once a keyframe told it.
    pub(crate) fn size(&self) -> Option<(u16, u16)> {
        self.layer.size
    }

    /// When its last packet came in, if that is less than `within` ago.
    pub(crate) fn is_heard_within(&self, now: Instant, within: Duration) -> bool {
        let heard = |at| now.saturating_duration_since(at) < within;
        self.layer.last_packet().is_some_and(heard)
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "tests need some instant to count from"
)]
mod tests {
    use super::*;
    use crate::rtp::payload::dependency_descriptor::tests::keyframe;

    #[test]
    fn a_mirror_knows_what_the_encoding_knows() {
        let now = Instant::now();
        let mut encoding = Encoding::new(Kind::Video, None);
        let mut mirror = Encoding::new(Kind::Video, None);
        // An AV1 keyframe: a temporal delimiter would be stripped, a sequence header begins it.
        let payload = [0x18, 0x0a, 0x01, 0x00];
        let descriptor = keyframe(60, 7);
        let mut packet = Incoming {
            sequence: u16::MAX,
            timestamp: u32::MAX,
            marker: true,
            payload_type: 45,
            codec: Codec::Av1,
            payload: &payload,
            codec_offset: 0,
            audio_level: None,
            dependency_descriptor: &descriptor,
            is_recovered: false,
        };
        for _ in 0..3 {
            let id = encoding.receive(now, &packet).unwrap();
            let (meta, payload, dependency_descriptor) = encoding.layer.ring.get(id).unwrap();
            let stored = StoredPacket {
                meta: *meta,
                payload,
                dependency_descriptor,
            };
            assert_eq!(mirror.mirror(stored), Some(id));
            assert_eq!(mirror.mirror(stored), None, "a second time");
            assert_eq!(mirror.layer.ring.get(id), encoding.layer.ring.get(id));
            packet.sequence = packet.sequence.wrapping_add(1);
        }
        assert_eq!(mirror.size(), encoding.size());
        let targets = |encoding: &Encoding| encoding.targets_within(1 << 18, 0, 1);
        assert!(targets(&mirror).is_some());
        assert_eq!(targets(&mirror), targets(&encoding));
        assert!(!mirror.nack.is_waiting());
    }
}
