//! Decrypted packets on their way to other shards.

use crate::ids::TrackId;
use crate::publisher::layer::{PacketMeta, StoredPacket};

/// Packets of one turn of a shard, for the shards that want them; shared by reference.
///
/// Refilled again and again: its memory is taken once.
#[derive(Debug, Default)]
pub struct Shipment {
    bytes: Vec<u8>,
    packets: Vec<Shipped>,
    targets: ShardSet,
}

/// One packet of a shipment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shipped {
    pub(crate) track: TrackId,
    pub(crate) encoding: usize,
    pub(crate) to: ShardSet,
    meta: PacketMeta,
    /// First byte: the payload, then the dependency descriptor.
    start: usize,
    payload_bytes: usize,
    descriptor_bytes: usize,
}

impl Shipment {
    /// The shards some packet of it is for.
    pub fn targets(&self) -> ShardSet {
        self.targets
    }

    /// How many of its packets are for one shard.
    pub fn count_for(&self, shard: u16) -> usize {
        let packets = self.packets.iter();
        packets.filter(|packet| packet.to.contains(shard)).count()
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.packets.clear();
        self.targets = ShardSet::default();
    }

    /// It holds as much as one shipment may; a receive batch rarely fills it.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes.len() >= BYTES_MAX || self.packets.len() >= PACKETS_MAX
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Adds a copy of a packet.
    pub(crate) fn push(
        &mut self,
        (track, encoding): (TrackId, usize),
        to: ShardSet,
        packet: StoredPacket<'_>,
    ) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(packet.payload);
        self.bytes.extend_from_slice(packet.dependency_descriptor);
        self.packets.push(Shipped {
            track,
            encoding,
            to,
            meta: packet.meta,
            start,
            payload_bytes: packet.payload.len(),
            descriptor_bytes: packet.dependency_descriptor.len(),
        });
        self.targets.join(to);
    }

    /// The packets for one shard, in order.
    pub(crate) fn packets_for(&self, shard: u16) -> impl Iterator<Item = &Shipped> {
        let packets = self.packets.iter();
        packets.filter(move |packet| packet.to.contains(shard))
    }

    /// A packet with its bytes.
    pub(crate) fn stored(&self, packet: &Shipped) -> Option<StoredPacket<'_>> {
        let rest = self.bytes.get(packet.start..)?;
        let (payload, rest) = rest.split_at_checked(packet.payload_bytes)?;
        Some(StoredPacket {
            meta: packet.meta,
            payload,
            dependency_descriptor: rest.get(..packet.descriptor_bytes)?,
        })
    }
}

/// A set of shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardSet([u64; 4]);

impl ShardSet {
    /// Adds a shard; one that no ufrag can name is not added.
    pub fn insert(&mut self, shard: u16) {
        if let Some(word) = self.0.get_mut(usize::from(shard / 64)) {
            *word |= 1 << (shard % 64);
        }
    }

    /// Whether a shard is among them.
    pub fn contains(&self, shard: u16) -> bool {
        let word = self.0.get(usize::from(shard / 64));
        word.is_some_and(|word| word >> (shard % 64) & 1 == 1)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0 == [0; 4]
    }

    fn join(&mut self, other: Self) {
        for (word, more) in self.0.iter_mut().zip(other.0) {
            *word |= more;
        }
    }
}

/// Bytes in one shipment, but for its last packet: a receive batch of 64 usual packets fits.
const BYTES_MAX: usize = 96 * 1024;
/// Packets in one shipment: as many small ones.
const PACKETS_MAX: usize = 512;

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "tests need some instant to count from"
)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::rtp::payload::Descriptor;

    fn push(shipment: &mut Shipment, track: u64, to: &[u16], payload: &[u8]) {
        let mut set = ShardSet::default();
        to.iter().for_each(|shard| set.insert(*shard));
        let meta = PacketMeta {
            sequence: track,
            timestamp: 0,
            marker: false,
            payload_type: 96,
            descriptor: Descriptor::default(),
            arrival: Instant::now(),
            audio_level: None,
        };
        let packet = StoredPacket {
            meta,
            payload,
            dependency_descriptor: &payload[..1],
        };
        shipment.push((TrackId::new(0, track), 0), set, packet);
    }

    #[test]
    fn each_shard_finds_its_packets_whole_and_in_order() {
        let mut shipment = Shipment::default();
        push(&mut shipment, 1, &[1, 200], b"one");
        push(&mut shipment, 2, &[200], b"three");
        push(&mut shipment, 3, &[63, 64], b"5");
        let read = |shard| -> Vec<&[u8]> {
            let packets = shipment.packets_for(shard);
            packets
                .map(|packet| shipment.stored(packet).unwrap().payload)
                .collect()
        };
        assert_eq!(read(1), [&b"one"[..]]);
        assert_eq!(read(200), [&b"one"[..], b"three"]);
        assert_eq!((read(63), read(64)), (vec![&b"5"[..]], vec![&b"5"[..]]));
        assert_eq!((read(0).len(), shipment.count_for(200)), (0, 2));
        let last = shipment.packets_for(64).next().unwrap();
        assert_eq!(
            shipment.stored(last).unwrap().dependency_descriptor,
            &b"5"[..]
        );
        let targets = shipment.targets();
        assert!(targets.contains(63) && targets.contains(200) && !targets.contains(2));
        shipment.clear();
        assert!(shipment.is_empty() && shipment.targets().is_empty());
    }

    #[test]
    fn a_shipment_fills_up() {
        let mut shipment = Shipment::default();
        let mut count = 0;
        while !shipment.is_full() {
            push(&mut shipment, count, &[1], &[7; 1200]);
            count += 1;
        }
        assert!((64..90).contains(&count), "{count}");
    }

    #[test]
    fn a_shard_beyond_the_last_is_in_no_set() {
        let mut set = ShardSet::default();
        set.insert(256);
        set.insert(u16::MAX);
        assert!(set.is_empty() && !set.contains(256));
        set.insert(255);
        assert!(set.contains(255));
    }
}
