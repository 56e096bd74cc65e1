//! What was sent to one subscriber under which number, for retransmission.

use std::time::{Duration, Instant};

use crate::publisher::layer::RateWindow;
use crate::sfu::Kind;

/// A second of a 5 Mbit/s stream. Counts are powers of two, so that finding a place takes no division.
const VIDEO_ENTRIES: usize = 512;
/// More than two seconds of 20 ms frames.
const AUDIO_ENTRIES: usize = 128;
/// Retransmissions of one packet.
const RESENDS_MAX: u8 = 5;
/// The least time between two retransmissions of one packet.
const SPACING_MIN: Duration = Duration::from_millis(10);
/// Retransmissions may take this much even of a stream that is quiet.
const RESEND_FLOOR_BPS: u64 = 64_000;

/// What was sent under one sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SentPacket {
    /// The extended sequence number it went out with.
    pub(crate) sequence: u64,
    /// Where its bytes are: the lower half of a packet's id; `None` for a filler without payload.
    pub(crate) packet: Option<u32>,
    /// The encoding whose ring that is, below 8.
    pub(crate) layer: u8,
    /// The RTP timestamp it went out with.
    pub(crate) timestamp: u32,
    /// The marker it went out with.
    pub(crate) marker: bool,
    /// The picture id it went out with, where rewritten.
    pub(crate) picture_id: Option<u16>,
    /// The TL0PICIDX it went out with, where rewritten.
    pub(crate) tl0: Option<u8>,
}

/// A packet that was sent, in 20 bytes: there are hundreds for each subscriber, and one is written
/// with every packet forwarded.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// The sequence number above the bits that the place says; no number that is asked for has
    /// `NEVER`.
    generation: u32,
    packet: u32,
    timestamp: u32,
    /// 15 bits; the highest says that there is one.
    picture_id: u16,
    last_resend_ms: u16,
    tl0: u8,
    flags: u8,
    resends: u8,
}

const NEVER: u32 = u32::MAX;
const HAS_PICTURE_ID: u16 = 1 << 15;
const MARKER: u8 = 1 << 3;
const HAS_TL0: u8 = 1 << 4;
const HAS_PACKET: u8 = 1 << 5;
/// It went out behind its place, where its receiver may have asked for it before.
const IS_LATE: u8 = 1 << 6;
const LAYER: u8 = 0b111;

impl Entry {
    const EMPTY: Self = Self {
        generation: NEVER,
        packet: 0,
        timestamp: 0,
        picture_id: 0,
        last_resend_ms: 0,
        tl0: 0,
        flags: 0,
        resends: 0,
    };

    fn new(generation: u32, sent: &SentPacket) -> Self {
        let flag = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
        Self {
            generation,
            packet: sent.packet.unwrap_or(0),
            timestamp: sent.timestamp,
            picture_id: sent.picture_id.map_or(0, |id| id | HAS_PICTURE_ID),
            last_resend_ms: 0,
            tl0: sent.tl0.unwrap_or(0),
            flags: (sent.layer & LAYER)
                | flag(sent.marker, MARKER)
                | flag(sent.tl0.is_some(), HAS_TL0)
                | flag(sent.packet.is_some(), HAS_PACKET),
            resends: 0,
        }
    }

    fn packet(&self, sequence: u64) -> SentPacket {
        let has = |bit: u8| self.flags & bit != 0;
        SentPacket {
            sequence,
            packet: has(HAS_PACKET).then_some(self.packet),
            layer: self.flags & LAYER,
            timestamp: self.timestamp,
            marker: has(MARKER),
            picture_id: (self.picture_id & HAS_PICTURE_ID != 0)
                .then_some(self.picture_id & !HAS_PICTURE_ID),
            tl0: has(HAS_TL0).then_some(self.tl0),
        }
    }
}

/// The last packets sent on one stream, by sequence number.
///
/// Retransmission is bounded per packet (5 times, a round trip apart) and per stream: half of its
/// own rate over the last second, so that a receiver cannot make one packet into many.
#[derive(Debug)]
pub(crate) struct Sent {
    entries: Box<[Entry]>,
    epoch: Instant,
    newest: Option<u64>,
    rate: RateWindow,
    resend_rate: RateWindow,
}

impl Sent {
    /// Room for the usual number of packets of this kind of media.
    pub(crate) fn new(kind: Kind, now: Instant) -> Self {
        let count = match kind {
            Kind::Video => VIDEO_ENTRIES,
            Kind::Audio => AUDIO_ENTRIES,
        };
        Self {
            entries: vec![Entry::EMPTY; count].into_boxed_slice(),
            epoch: now,
            newest: None,
            rate: RateWindow::new(),
            resend_rate: RateWindow::new(),
        }
    }

    /// Notes a packet that went out, and its payload bytes.
    pub(crate) fn record(&mut self, now: Instant, sent: SentPacket, bytes: usize) {
        self.rate.add(now, bytes);
        let now_ms = self.milliseconds(now);
        let (place, generation) = self.place(sent.sequence);
        let Some(entry) = self.entries.get_mut(place) else {
            return;
        };
        if self.newest.is_none_or(|newest| sent.sequence > newest) {
            self.newest = Some(sent.sequence);
            *entry = Entry::new(generation, &sent);
            return;
        }
        if entry.generation != NEVER && entry.generation > generation {
            return; // A late packet must not push out a newer one.
        }
        *entry = Entry::new(generation, &sent);
        entry.flags |= IS_LATE;
        entry.last_resend_ms = now_ms;
    }

    /// What to send again for a request; `None` when it is gone or was sent too often or just now.
    ///
    /// The first request is timely, for the receiver cannot have asked before the packet went; unless
    /// that filled a hole, which it may have asked for a round trip before.
    pub(crate) fn find(&self, now: Instant, sequence: u16, rtt: Duration) -> Option<SentPacket> {
        let sequence = self.extend(sequence)?;
        let (place, generation) = self.place(sequence);
        let entry = self.entries.get(place)?;
        if entry.generation != generation {
            return None;
        }
        let spacing = u16::try_from(rtt.max(SPACING_MIN).as_millis()).unwrap_or(u16::MAX);
        let since = self.milliseconds(now).wrapping_sub(entry.last_resend_ms);
        let has_gone_before = entry.resends > 0 || entry.flags & IS_LATE != 0;
        let is_early = has_gone_before && since < spacing;
        (entry.resends < RESENDS_MAX && !is_early).then(|| entry.packet(sequence))
    }

    /// Counts a retransmission of so many payload bytes; false when the stream may not have it.
    pub(crate) fn spend(&mut self, now: Instant, sequence: u64, bytes: usize) -> bool {
        let budget = (self.rate.bits_per_second(now) / 2).max(RESEND_FLOOR_BPS);
        let spent = self.resend_rate.bits_per_second(now);
        if spent + bytes as u64 * 8 > budget {
            return false;
        }
        self.resend_rate.add(now, bytes);
        let now_ms = self.milliseconds(now);
        let (place, _) = self.place(sequence);
        if let Some(entry) = self.entries.get_mut(place) {
            entry.resends += 1;
            entry.last_resend_ms = now_ms;
        }
        true
    }

    /// Payload bits per second sent over the last second, retransmissions not counted.
    pub(crate) fn bitrate_bps(&mut self, now: Instant) -> u64 {
        self.rate.bits_per_second(now)
    }

    /// Forgets what was sent: its packets belong to a track this stream no longer carries.
    pub(crate) fn forget(&mut self) {
        self.entries.fill(Entry::EMPTY);
    }

    /// The extended number at or below the newest with these lower bits.
    fn extend(&self, sequence: u16) -> Option<u64> {
        let newest = self.newest?;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the lower 16 bits are compared"
        )]
        let behind = (newest as u16).wrapping_sub(sequence);
        newest.checked_sub(u64::from(behind))
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "differences are taken over the wrap, which is longer than any round trip"
    )]
    fn milliseconds(&self, now: Instant) -> u16 {
        now.saturating_duration_since(self.epoch).as_millis() as u16
    }

    /// Where a number's entry stands, and the bits of the number that the place does not say.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the lower bits are the place; 48-bit indices leave 41 bits at most, of which 32 do"
    )]
    fn place(&self, sequence: u64) -> (usize, u32) {
        let bits = self.entries.len().trailing_zeros();
        let place = sequence as usize & (self.entries.len() - 1);
        (place, (sequence >> bits) as u32)
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "tests need some instant to count from"
)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(40);

    fn packet(sequence: u64) -> SentPacket {
        SentPacket {
            sequence,
            packet: u32::try_from(sequence + 9).ok(),
            layer: 1,
            timestamp: 7,
            marker: true,
            picture_id: Some(3),
            tl0: None,
        }
    }

    /// Sends a packet again if all bounds allow it.
    fn resend(sent: &mut Sent, now: Instant, sequence: u16, bytes: usize) -> Option<SentPacket> {
        let found = sent.find(now, sequence, RTT)?;
        sent.spend(now, found.sequence, bytes).then_some(found)
    }

    #[test]
    fn finds_packets_over_the_wrap_until_newer_ones_take_their_place() {
        let now = Instant::now();
        let mut sent = Sent::new(Kind::Video, now);
        assert_eq!(sent.find(now, 0, RTT), None);
        for sequence in 65_000..66_000 {
            sent.record(now, packet(sequence), 10);
        }
        let found = |sent: &mut Sent, sequence| resend(sent, now, sequence, 10).map(|p| p.sequence);
        assert_eq!(found(&mut sent, 65_535), Some(65_535));
        assert_eq!(found(&mut sent, 0), Some(65_536));
        assert_eq!(found(&mut sent, 463), Some(65_999));
        assert_eq!(found(&mut sent, 464), None, "not sent yet");
        assert_eq!(found(&mut sent, 65_487), None, "512 ago");
        // A late packet does not push out a newer one.
        sent.record(now, packet(65_487), 10);
        assert_eq!(found(&mut sent, 65_487), None);
        // What fills a hole is not sent again at once: the request may be older than it.
        sent.record(now, packet(66_001), 10);
        sent.record(now, packet(66_000), 10);
        assert_eq!(found(&mut sent, 464), None);
        assert_eq!(
            sent.find(now + RTT, 464, RTT).map(|p| p.sequence),
            Some(66_000)
        );
        assert_eq!(found(&mut sent, 65_487 + 48), None, "just sent again");
        sent.forget();
        assert_eq!(found(&mut sent, 462), None);
    }

    #[test]
    fn gives_back_all_that_was_noted() {
        let now = Instant::now();
        let mut sent = Sent::new(Kind::Video, now);
        let full = SentPacket {
            layer: 7,
            timestamp: u32::MAX,
            picture_id: Some(0x7fff),
            tl0: Some(0),
            ..packet(1 << 40)
        };
        let filler = SentPacket {
            packet: None,
            marker: false,
            picture_id: None,
            tl0: None,
            ..packet((1 << 40) + 1)
        };
        sent.record(now, full, 10);
        sent.record(now, filler, 0);
        assert_eq!(sent.find(now, 0, RTT), Some(full));
        assert_eq!(sent.find(now, 1, RTT), Some(filler));
    }

    #[test]
    fn sends_one_packet_again_five_times_a_round_trip_apart() {
        let start = Instant::now();
        let mut sent = Sent::new(Kind::Audio, start);
        sent.record(start, packet(5), 100);
        let mut resends = 0;
        for ms in 0..1000 {
            let now = start + Duration::from_millis(ms);
            if resend(&mut sent, now, 5, 100).is_some() {
                assert_eq!(ms % 40, 0);
                resends += 1;
            }
        }
        assert_eq!(resends, 5);
    }

    #[test]
    fn spends_at_most_half_of_the_streams_rate() {
        let start = Instant::now();
        let mut sent = Sent::new(Kind::Video, start);
        for sequence in 0..200 {
            sent.record(
                start + Duration::from_millis(5 * sequence),
                packet(sequence),
                1000,
            );
        }
        let now = start + Duration::from_millis(999);
        let resent = (0..200).filter(|&sequence| resend(&mut sent, now, sequence, 1000).is_some());
        assert_eq!(resent.count(), 100);
        // A quiet stream may still resend 64 kbit a second.
        let mut quiet = Sent::new(Kind::Video, start);
        (0..20).for_each(|sequence| quiet.record(start, packet(sequence), 1000));
        let later = start + Duration::from_secs(2);
        let resent =
            (0..20).filter(|&sequence| resend(&mut quiet, later, sequence, 1000).is_some());
        assert_eq!(resent.count(), 8);
    }
}
