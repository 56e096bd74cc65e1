//! What one receive slot got: counts, gaps, order, and whether the content is what was sent.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::media::{self, Codec, Stamp};
use crate::report::Histogram;

/// The most missing sequence numbers that are remembered.
const MISSING_MAX: usize = 10_000;

/// What one receive slot got so far.
#[derive(Clone, Debug, Default)]
pub struct Reception {
    /// Packets with a payload, each counted once.
    pub packets: u64,
    /// Their payload bytes.
    pub bytes: u64,
    /// Packets without a payload (probes).
    pub padding: u64,
    /// Sequence numbers that came more than once.
    pub duplicates: u64,
    /// Packets that came after a higher sequence number.
    pub reordered: u64,
    /// Times the timestamp went back although the sequence number went on.
    pub timestamp_regressions: u64,
    /// Times a VP8 picture id did not count up by one at a new picture although no packet was missing.
    pub picture_id_jumps: u64,
    /// Payloads whose stamp or filler was not as sent.
    pub corrupt: u64,
    /// Payload types that are none of ours.
    pub unknown_payload_types: u64,
    /// Packets that start a keyframe.
    pub keyframes: u64,
    /// Whether the first video packet started a keyframe; `None` before it.
    pub began_with_keyframe: Option<bool>,
    /// The SSRCs the packets had.
    pub ssrcs: BTreeSet<u32>,
    /// What came from each publisher, by its number.
    pub senders: BTreeMap<u32, Heard>,
    /// The stamp of the newest packet.
    pub last: Option<Stamp>,
    /// When the newest packet came.
    pub last_at: Option<Instant>,
    /// The longest time between two packets of one publisher.
    pub pause_max: Duration,
    /// From the sending of packets to their arrival.
    pub delays: Histogram,
    order: Option<Order>,
}

/// What a slot got from one publisher.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// Packets.
    pub packets: u64,
    /// Packets that start a keyframe.
    pub keyframes: u64,
    /// The first packet started a keyframe; true for sound.
    pub began_with_keyframe: bool,
    /// Packets of each layer.
    pub layers: BTreeMap<u8, u64>,
    /// Packets of each temporal layer.
    pub temporal_layers: BTreeMap<u8, u64>,
    /// The layer of the newest packet.
    pub layer: u8,
    /// The longest time from the making of a frame to its arrival, microseconds.
    pub delay_max_us: u64,
    /// The sum of those times, for the mean.
    pub delay_sum_us: u64,
    /// When the newest packet came.
    pub last_at: Option<Instant>,
}

#[derive(Clone, Debug)]
struct Order {
    ssrc: u32,
    highest: u64,
    lowest: u64,
    timestamp: u32,
    picture_id: Option<u16>,
    missing: BTreeSet<u64>,
}

enum Place {
    Newest { hole: bool },
    Late,
    Duplicate,
}

/// The header fields of a packet that a [`Reception`] looks at.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// The source.
    pub ssrc: u32,
    /// The 16-bit sequence number.
    pub sequence: u16,
    /// The RTP timestamp.
    pub timestamp: u32,
    /// The payload type.
    pub payload_type: u8,
}

impl Reception {
    /// Sequence numbers below the newest that have not come (yet).
    pub fn gaps(&self) -> usize {
        self.order.as_ref().map_or(0, |order| order.missing.len())
    }

    /// Packets from one publisher.
    pub fn packets_from(&self, publisher: u32) -> u64 {
        self.senders
            .get(&publisher)
            .map_or(0, |heard| heard.packets)
    }

    /// Nothing arrived twice, altered, or with the clock going back; holes are not counted.
    pub fn is_clean(&self) -> bool {
        self.duplicates == 0
            && self.corrupt == 0
            && self.unknown_payload_types == 0
            && self.timestamp_regressions == 0
            && self.picture_id_jumps == 0
            && self.ssrcs.len() <= 1
    }

    /// Takes in one packet as it arrived at `now`.
    pub fn record(&mut self, now: Instant, header: Header, payload: &[u8]) {
        self.ssrcs.insert(header.ssrc);
        let place = self.place(header);
        if let Place::Duplicate = place {
            self.duplicates += 1;
            return;
        }
        if let Place::Late = place {
            self.reordered += 1;
        }
        if payload.is_empty() {
            self.padding += 1;
            return;
        }
        self.packets += 1;
        self.bytes += payload.len() as u64;
        let Some(codec) = Codec::of(header.payload_type) else {
            self.unknown_payload_types += 1;
            return;
        };
        let parsed = media::parse(codec, payload);
        let Some(stamp) = parsed.stamp else {
            self.corrupt += 1;
            return;
        };
        self.keyframes += u64::from(parsed.keyframe);
        if codec.is_video() && self.began_with_keyframe.is_none() {
            self.began_with_keyframe = Some(parsed.keyframe);
        }
        if let Place::Newest { hole } = place {
            self.check_clock(header.timestamp, parsed.picture_id, hole);
            self.last = Some(stamp);
        }
        self.last_at = Some(now);
        let heard = self
            .senders
            .entry(stamp.publisher)
            .or_insert_with(|| Heard {
                began_with_keyframe: parsed.keyframe || !codec.is_video(),
                ..Heard::default()
            });
        if let Some(before) = heard.last_at {
            self.pause_max = self.pause_max.max(now.duration_since(before));
        }
        let delay_us = media::now_us().saturating_sub(stamp.sent_us);
        self.delays.record(delay_us);
        heard.record(now, stamp, parsed, delay_us);
    }

    fn place(&mut self, header: Header) -> Place {
        let fresh = |header: Header| Order {
            ssrc: header.ssrc,
            // High enough that a late packet before the first one does not underflow.
            highest: u64::from(header.sequence) + (1 << 16),
            lowest: u64::from(header.sequence) + (1 << 16),
            timestamp: header.timestamp,
            picture_id: None,
            missing: BTreeSet::new(),
        };
        let order = match &mut self.order {
            Some(order) if order.ssrc == header.ssrc => order,
            other => {
                *other = Some(fresh(header));
                return Place::Newest { hole: true };
            }
        };
        let distance = header
            .sequence
            .wrapping_sub((order.highest & 0xffff) as u16)
            .cast_signed();
        let extended = order.highest.saturating_add_signed(i64::from(distance));
        if distance > 0 {
            for missing in order.highest + 1..extended {
                if order.missing.len() < MISSING_MAX {
                    order.missing.insert(missing);
                }
            }
            let hole = extended != order.highest + 1;
            order.highest = extended;
            Place::Newest { hole }
        } else if order.missing.remove(&extended) || extended < order.lowest {
            order.lowest = order.lowest.min(extended);
            Place::Late
        } else {
            Place::Duplicate
        }
    }

    fn check_clock(&mut self, timestamp: u32, picture_id: Option<u16>, hole: bool) {
        let Some(order) = &mut self.order else { return };
        let step = timestamp.wrapping_sub(order.timestamp).cast_signed();
        if step < 0 {
            self.timestamp_regressions += 1;
        }
        order.timestamp = timestamp;
        if let (Some(before), Some(now)) = (order.picture_id, picture_id) {
            let step = now.wrapping_sub(before) & 0x7fff;
            if step > 1 && !hole {
                self.picture_id_jumps += 1;
            }
        }
        order.picture_id = picture_id;
    }
}

impl Heard {
    fn record(&mut self, now: Instant, stamp: Stamp, parsed: media::Parsed, delay_us: u64) {
        self.packets += 1;
        self.keyframes += u64::from(parsed.keyframe);
        *self.layers.entry(stamp.layer).or_default() += 1;
        if let Some(temporal) = parsed.temporal_layer {
            *self.temporal_layers.entry(temporal).or_default() += 1;
        }
        self.layer = stamp.layer;
        self.delay_max_us = self.delay_max_us.max(delay_us);
        self.delay_sum_us += delay_us;
        self.last_at = Some(now);
    }

    /// The mean time from the making of a frame to its arrival.
    pub fn delay_mean(&self) -> Duration {
        Duration::from_micros(self.delay_sum_us / self.packets.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{Encoder, Picture};

    fn header(sequence: u16, timestamp: u32) -> Header {
        Header {
            ssrc: 5,
            sequence,
            timestamp,
            payload_type: Codec::Vp8.payload_type(),
        }
    }

    #[test]
    fn gaps_duplicates_and_order_are_told_apart() {
        let mut reception = Reception::default();
        let now = Instant::now();
        let mut encoder = Encoder::new(Codec::Vp8, Picture::LOW, (9, 0, 0));
        let frame = encoder.frame(true);
        for sequence in [65_534, 65_535, 2, 0, 0, 3] {
            reception.record(now, header(sequence, 100), &frame[0].bytes);
        }
        assert_eq!(reception.packets, 5);
        assert_eq!((reception.duplicates, reception.reordered), (1, 1));
        assert_eq!(reception.gaps(), 1);
        assert_eq!(reception.packets_from(9), 5);
        assert_eq!(reception.began_with_keyframe, Some(true));
    }

    #[test]
    fn a_clock_that_goes_back_is_noticed() {
        let mut reception = Reception::default();
        let mut encoder = Encoder::new(Codec::Vp8, Picture::LOW, (9, 0, 0));
        for (sequence, timestamp) in [(1, u32::MAX - 10), (2, 2990), (3, 10)] {
            let frame = encoder.frame(false);
            reception.record(Instant::now(), header(sequence, timestamp), &frame[0].bytes);
        }
        assert_eq!(reception.timestamp_regressions, 1);
        assert_eq!(reception.picture_id_jumps, 0);
    }

    #[test]
    fn foreign_bytes_are_corrupt() {
        let mut reception = Reception::default();
        reception.record(Instant::now(), header(1, 1), b"not one of ours");
        assert_eq!(reception.corrupt, 1);
        assert!(!reception.is_clean());
    }
}
