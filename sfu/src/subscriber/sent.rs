//! What was sent to one subscriber under which number, for retransmission.

use std::time::{Duration, Instant};

use crate::publisher::layer::{PacketId, RateWindow};
use crate::sfu::Kind;

/// A second of a 5 Mbit/s stream.
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
    /// Where its bytes are; `None` for a filler without payload.
    pub(crate) packet: Option<PacketId>,
    /// The simulcast layer whose ring that is.
    pub(crate) layer: u8,
    /// The RTP timestamp it went out with.
    pub(crate) timestamp: u32,
    /// The marker it went out with.
    pub(crate) marker: bool,
    /// The picture id it went out with, where rewritten.
    pub(crate) picture_id: Option<u16>,
    /// The TL0PICIDX it went out with, where rewritten.
    pub(crate) tl0: Option<u8>,
    /// Its payload bytes, for the budget.
    pub(crate) bytes: u16,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    sent: SentPacket,
    resends: u8,
    last_resend_ms: u32,
}

/// The last packets sent on one stream, by sequence number.
///
/// Retransmission is bounded per packet (5 times, a round trip apart) and per stream: half of its
/// own rate over the last second, so that a receiver cannot make one packet into many.
#[derive(Debug)]
pub(crate) struct Sent {
    entries: Box<[Option<Entry>]>,
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
            entries: vec![None; count].into_boxed_slice(),
            epoch: now,
            newest: None,
            rate: RateWindow::new(),
            resend_rate: RateWindow::new(),
        }
    }

    /// Notes a packet that went out.
    pub(crate) fn record(&mut self, now: Instant, sent: SentPacket) {
        self.rate.add(now, usize::from(sent.bytes));
        let slot = self.slot(sent.sequence);
        let Some(place) = self.entries.get_mut(slot) else {
            return;
        };
        if place.is_some_and(|entry| entry.sent.sequence > sent.sequence) {
            return;
        }
        *place = Some(Entry {
            sent,
            resends: 0,
            last_resend_ms: 0,
        });
        self.newest = self.newest.max(Some(sent.sequence));
    }

    /// What to send again for a request; `None` when it is gone or bounds forbid it.
    ///
    /// The first request is always timely: the receiver cannot have asked before the packet went.
    pub(crate) fn resend(
        &mut self,
        now: Instant,
        sequence: u16,
        rtt: Duration,
    ) -> Option<SentPacket> {
        let sequence = self.extend(sequence)?;
        let budget = (self.rate.bits_per_second(now) / 2).max(RESEND_FLOOR_BPS);
        let spent = self.resend_rate.bits_per_second(now);
        let now_ms = self.milliseconds(now);
        let spacing = u32::try_from(rtt.max(SPACING_MIN).as_millis()).unwrap_or(u32::MAX);
        let slot = self.slot(sequence);
        let entry = self.entries.get_mut(slot)?.as_mut()?;
        if entry.sent.sequence != sequence {
            return None;
        }
        let is_early = entry.resends > 0 && now_ms.wrapping_sub(entry.last_resend_ms) < spacing;
        let cost = u64::from(entry.sent.bytes) * 8;
        if entry.resends >= RESENDS_MAX || is_early || spent + cost > budget {
            return None;
        }
        entry.resends += 1;
        entry.last_resend_ms = now_ms;
        self.resend_rate.add(now, usize::from(entry.sent.bytes));
        Some(entry.sent)
    }

    /// Payload bits per second sent over the last second, retransmissions not counted.
    pub(crate) fn bitrate_bps(&mut self, now: Instant) -> u64 {
        self.rate.bits_per_second(now)
    }

    /// Forgets what was sent: its packets belong to a track this stream no longer carries.
    pub(crate) fn forget(&mut self) {
        self.entries.fill(None);
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
        reason = "differences are taken over the wrap"
    )]
    fn milliseconds(&self, now: Instant) -> u32 {
        now.saturating_duration_since(self.epoch).as_millis() as u32
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "a remainder of a usize fits in one"
    )]
    fn slot(&self, sequence: u64) -> usize {
        (sequence % self.entries.len() as u64) as usize
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

    fn packet(sequence: u64, bytes: u16) -> SentPacket {
        SentPacket {
            sequence,
            packet: Some(PacketId(sequence + 9)),
            layer: 1,
            timestamp: 7,
            marker: true,
            picture_id: Some(3),
            tl0: None,
            bytes,
        }
    }

    #[test]
    fn finds_packets_over_the_wrap_until_newer_ones_take_their_place() {
        let now = Instant::now();
        let mut sent = Sent::new(Kind::Video, now);
        assert_eq!(sent.resend(now, 0, RTT), None);
        for sequence in 65_000..66_000 {
            sent.record(now, packet(sequence, 10));
        }
        let found = |sent: &mut Sent, sequence| sent.resend(now, sequence, RTT).map(|p| p.sequence);
        assert_eq!(found(&mut sent, 65_535), Some(65_535));
        assert_eq!(found(&mut sent, 0), Some(65_536));
        assert_eq!(found(&mut sent, 463), Some(65_999));
        assert_eq!(found(&mut sent, 464), None, "not sent yet");
        assert_eq!(found(&mut sent, 65_487), None, "512 ago");
        // A late packet does not push out a newer one.
        sent.record(now, packet(65_487, 10));
        assert_eq!(found(&mut sent, 65_487), None);
        assert_eq!(found(&mut sent, 65_487 + 48), None, "just sent again");
        sent.forget();
        assert_eq!(found(&mut sent, 462), None);
    }

    #[test]
    fn sends_one_packet_again_five_times_a_round_trip_apart() {
        let start = Instant::now();
        let mut sent = Sent::new(Kind::Audio, start);
        sent.record(start, packet(5, 100));
        let mut resends = 0;
        for ms in 0..1000 {
            let now = start + Duration::from_millis(ms);
            if sent.resend(now, 5, RTT).is_some() {
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
                packet(sequence, 1000),
            );
        }
        let now = start + Duration::from_millis(999);
        let resent = (0..200).filter(|&sequence| sent.resend(now, sequence, RTT).is_some());
        assert_eq!(resent.count(), 100);
        // A quiet stream may still resend 64 kbit a second.
        let mut quiet = Sent::new(Kind::Video, start);
        (0..20).for_each(|sequence| quiet.record(start, packet(sequence, 1000)));
        let later = start + Duration::from_secs(2);
        let resent = (0..20).filter(|&sequence| quiet.resend(later, sequence, RTT).is_some());
        assert_eq!(resent.count(), 8);
    }
}
