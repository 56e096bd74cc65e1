//! One slot as a browser receives it: what came in, what is missing, what to ask for.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use sfu::Codec;

use crate::media::{Stamp, read_payload};
use crate::rtp::{Packet, Unwrap, u16_at};

/// One packet as it came in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrived {
    pub(crate) at: Instant,
    pub(crate) timestamp: u32,
    /// `None` for a filler.
    pub(crate) stamp: Option<Stamp>,
}

/// The receiving end of one slot.
pub(crate) struct Receiver {
    pub(crate) mid: String,
    pub(crate) is_audio: bool,
    pub(crate) media: u32,
    pub(crate) rtx: Option<u32>,
    codecs: HashMap<u8, Codec>,
    unwrap: Unwrap,
    pub(crate) arrived: BTreeMap<u64, Arrived>,
    /// When to ask again, and how often it was asked for.
    missing: BTreeMap<u64, (Instant, u32)>,
    pub(crate) recovered: usize,
    pub(crate) last_report: Option<(u32, Instant)>,
    pub(crate) sender_reports: Vec<(Instant, u64, u32)>,
}

impl Receiver {
    pub(crate) fn new(
        mid: &str,
        is_audio: bool,
        ssrcs: &[u32],
        codecs: HashMap<u8, Codec>,
    ) -> Self {
        Self {
            mid: mid.to_owned(),
            is_audio,
            media: ssrcs[0],
            rtx: ssrcs.get(1).copied(),
            codecs,
            unwrap: Unwrap::default(),
            arrived: BTreeMap::new(),
            missing: BTreeMap::new(),
            recovered: 0,
            last_report: None,
            sender_reports: Vec::new(),
        }
    }

    /// The codec of a payload type of this slot.
    pub(crate) fn codec(&self, payload_type: u8) -> Codec {
        *self.codecs.get(&payload_type).unwrap_or_else(|| {
            panic!(
                "payload type {payload_type} was not answered on {}",
                self.mid
            )
        })
    }

    /// Takes in a packet of the media stream.
    pub(crate) fn receive(&mut self, now: Instant, packet: &Packet) {
        let highest = self.arrived.last_key_value().map(|(sequence, _)| *sequence);
        let sequence = self.unwrap.extend(packet.sequence);
        if let Some(highest) = highest {
            for missing in highest + 1..sequence {
                let reordering = Duration::from_millis(10);
                self.missing.insert(missing, (now + reordering, 0));
            }
        }
        self.take(now, sequence, packet, &packet.payload, packet.payload_type);
    }

    /// Takes in a retransmission.
    pub(crate) fn recover(&mut self, now: Instant, packet: &Packet) {
        let sequence = self.unwrap.extend(u16_at(&packet.payload, 0));
        if self.arrived.contains_key(&sequence) {
            return;
        }
        self.recovered += 1;
        self.take(
            now,
            sequence,
            packet,
            &packet.payload[2..],
            packet.payload_type - 1,
        );
    }

    fn take(&mut self, now: Instant, sequence: u64, packet: &Packet, payload: &[u8], codec: u8) {
        self.missing.remove(&sequence);
        let stamp = (!payload.is_empty()).then(|| read_payload(self.codec(codec), payload).0);
        if let Some(stamp) = stamp
            && !self.is_audio
        {
            let is_last = stamp.packet + 1 == stamp.packets;
            assert_eq!(packet.marker, is_last, "marker of {stamp:?}");
        }
        let arrived = Arrived {
            at: now,
            timestamp: packet.timestamp,
            stamp,
        };
        // The original may come after its retransmission.
        if let Some(before) = self.arrived.insert(sequence, arrived) {
            let content = |arrived: Arrived| (arrived.stamp, arrived.timestamp);
            assert_eq!(content(before), content(arrived), "number {sequence}");
        }
    }

    /// Numbers to ask for now.
    pub(crate) fn nack(&mut self, now: Instant) -> Vec<u16> {
        self.missing.retain(|_, (_, asked)| *asked < 8);
        let mut lost = Vec::new();
        for (sequence, (at, asked)) in &mut self.missing {
            if *at <= now && lost.len() < 60 {
                *at = now + Duration::from_millis(60);
                *asked += 1;
                lost.push(*sequence as u16);
            }
        }
        lost
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.missing.values().map(|(at, _)| *at).min()
    }

    /// Numbers that never came, between the first and the last that did.
    pub(crate) fn holes(&self) -> usize {
        let ends = self
            .arrived
            .first_key_value()
            .zip(self.arrived.last_key_value());
        ends.map_or(0, |((first, _), (last, _))| {
            (last - first + 1) as usize - self.arrived.len()
        })
    }

    /// Frames of which every packet came, oldest first.
    pub(crate) fn frames(&self) -> Vec<Stamp> {
        let mut parts: HashMap<(u16, u8, u32), BTreeSet<u8>> = HashMap::new();
        let mut complete = Vec::new();
        for stamp in self.arrived.values().filter_map(|arrived| arrived.stamp) {
            let key = (stamp.source, stamp.encoding, stamp.frame);
            let parts = parts.entry(key).or_default();
            parts.insert(stamp.packet);
            if parts.len() == usize::from(stamp.packets) {
                complete.push(stamp);
            }
        }
        complete
    }

    /// Complete frames that came in since a moment.
    pub(crate) fn frames_since(&self, since: Instant) -> Vec<Stamp> {
        let recent: BTreeSet<(u16, u8, u32)> = self
            .arrived
            .values()
            .filter(|arrived| arrived.at >= since)
            .filter_map(|arrived| arrived.stamp)
            .map(|stamp| (stamp.source, stamp.encoding, stamp.frame))
            .collect();
        let frames = self.frames().into_iter();
        frames
            .filter(|frame| recent.contains(&(frame.source, frame.encoding, frame.frame)))
            .collect()
    }
}
