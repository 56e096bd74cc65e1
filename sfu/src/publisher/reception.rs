//! What a receiver report says of one incoming stream (RFC 3550 §6.4.1, appendix A.3 and A.8).

use std::time::Instant;

/// The numbers of one report block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReceptionReport {
    /// Loss since the last report in 256ths.
    pub(crate) fraction_lost: u8,
    /// Packets lost since the stream began, in the range of 24 signed bits.
    pub(crate) cumulative_lost: i32,
    /// The highest sequence number with its count of cycles.
    pub(crate) highest_sequence: u32,
    /// Interarrival jitter in RTP clock ticks.
    pub(crate) jitter: u32,
    /// The middle 32 bits of the NTP time of the last sender report, 0 before the first.
    pub(crate) last_sender_report: u32,
    /// Time since it came in, in 65 536ths of a second.
    pub(crate) delay_since_last: u32,
}

/// Counts what came of one SSRC.
#[derive(Clone, Debug)]
pub(crate) struct Reception {
    clock_rate: u32,
    /// The first packet: its extended sequence number and when it came.
    first: Option<(u64, Instant)>,
    highest: u64,
    received: u64,
    expected_before: u64,
    received_before: u64,
    transit: Option<i64>,
    /// In 16ths of a tick, as appendix A.8 keeps it.
    jitter: u64,
    sender_report: Option<(u32, Instant)>,
}

impl Reception {
    /// Nothing came yet; `clock_rate` is the RTP clock in Hz.
    pub(crate) fn new(clock_rate: u32) -> Self {
        Self {
            clock_rate,
            first: None,
            highest: 0,
            received: 0,
            expected_before: 0,
            received_before: 0,
            transit: None,
            jitter: 0,
            sender_report: None,
        }
    }

    /// Notes a packet of the stream itself; `sequence` and `timestamp` are extended.
    pub(crate) fn received(&mut self, now: Instant, sequence: u64, timestamp: u64) {
        let (_, start) = *self.first.get_or_insert((sequence, now));
        self.received += 1;
        self.highest = self.highest.max(sequence);
        let arrival = self.ticks(now.saturating_duration_since(start).as_micros(), 1_000_000);
        let transit = arrival.wrapping_sub(timestamp.cast_signed());
        if let Some(last) = self.transit {
            let difference = transit.wrapping_sub(last).unsigned_abs();
            // A jump of the publisher's clock is no jitter.
            if difference < u64::from(self.clock_rate) * 10 {
                self.jitter += difference;
                self.jitter -= (self.jitter.saturating_sub(difference) + 8) >> 4;
            }
        }
        self.transit = Some(transit);
    }

    /// Notes a sender report by its NTP time (32.32 bits).
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the middle 32 bits are what is asked for"
    )]
    pub(crate) fn sender_report(&mut self, now: Instant, ntp: u64) {
        self.sender_report = Some(((ntp >> 16) as u32, now));
    }

    /// The report since the last call; `None` before the first packet.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the wire form of an extended number"
    )]
    pub(crate) fn report(&mut self, now: Instant) -> Option<ReceptionReport> {
        let (first, _) = self.first?;
        let expected = self.highest - first.min(self.highest) + 1;
        let expected_now = expected.saturating_sub(self.expected_before);
        let received_now = self.received - self.received_before;
        self.expected_before = expected;
        self.received_before = self.received;
        let lost_now = expected_now.saturating_sub(received_now);
        let fraction = (lost_now << 8)
            .checked_div(expected_now)
            .unwrap_or(0)
            .min(255);
        let lost = expected
            .cast_signed()
            .saturating_sub(self.received.cast_signed());
        // Cycles count from the stream's begin, whatever the extension started with.
        let highest = self.highest - (first & !0xffff).min(self.highest);
        let (last_sender_report, delay) = match self.sender_report {
            Some((ntp, arrival)) => (ntp, now.saturating_duration_since(arrival).as_micros()),
            None => (0, 0),
        };
        Some(ReceptionReport {
            fraction_lost: fraction as u8,
            cumulative_lost: lost.clamp(-0x80_0000, 0x7f_ffff) as i32,
            highest_sequence: highest as u32,
            jitter: u32::try_from(self.jitter >> 4).unwrap_or(u32::MAX),
            last_sender_report,
            delay_since_last: u32::try_from((delay << 16) / 1_000_000).unwrap_or(u32::MAX),
        })
    }

    fn ticks(&self, duration: u128, per_second: u128) -> i64 {
        i64::try_from(duration * u128::from(self.clock_rate) / per_second).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "tests need some instant to count from"
)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn counts_loss_since_the_last_report_and_in_all() {
        let start = Instant::now();
        let mut reception = Reception::new(90_000);
        assert_eq!(reception.report(start), None);
        for sequence in (65_530 + 65_536..65_546 + 65_536).filter(|sequence| sequence % 4 != 0) {
            let at = start + Duration::from_millis(10 * (sequence - 131_066));
            reception.received(at, sequence, sequence * 900);
        }
        reception.sender_report(start, 0x1111_2222_3333_4444);
        let report = reception
            .report(start + Duration::from_millis(500))
            .unwrap();
        assert_eq!(
            report,
            ReceptionReport {
                fraction_lost: 64,
                cumulative_lost: 4,
                highest_sequence: 65_545,
                jitter: 0,
                last_sender_report: 0x2222_3333,
                delay_since_last: 32_768,
            }
        );
        let quiet = reception.report(start).unwrap();
        assert_eq!((quiet.fraction_lost, quiet.cumulative_lost), (0, 4));
    }

    #[test]
    fn measures_jitter_as_the_rfc_does() {
        let start = Instant::now();
        let mut reception = Reception::new(90_000);
        for step in 0..2000 {
            let late = if step % 2 == 0 { 0 } else { 10 };
            let at = start + Duration::from_millis(20 * step + late);
            reception.received(at, step, 1800 * step);
        }
        // Neighbours differ by 10 ms, 900 ticks; the mean comes close to it.
        let jitter = reception.report(start).unwrap().jitter;
        assert!((880..=900).contains(&jitter), "{jitter}");
    }

    proptest! {
        #[test]
        fn nothing_a_publisher_sends_makes_it_panic(
            packets in proptest::collection::vec((any::<u64>(), any::<u64>()), 1..20),
        ) {
            let start = Instant::now();
            let mut reception = Reception::new(48_000);
            for (sequence, timestamp) in packets {
                reception.received(start, sequence, timestamp);
                prop_assert!(reception.report(start).is_some());
            }
        }
    }
}
