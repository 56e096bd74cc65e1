//! Bounds the bursts a subscriber gets: ten full packets at once, then a multiple of the estimate.

use std::time::{Duration, Instant};

/// Bytes that may go at once: a frame of a top layer.
const BURST_BYTES: f64 = 10.0 * 1200.0;
/// How much faster than the estimate a burst drains (libwebrtc's pacing factor).
const PACING_FACTOR: f64 = 2.5;

/// A bucket of bytes. Without an estimate it never empties.
///
/// The packet that empties it still goes, so the credit may fall below zero by one packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pacer {
    credit: f64,
    bytes_per_second: Option<f64>,
    refilled: Instant,
}

impl Pacer {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            credit: BURST_BYTES,
            bytes_per_second: None,
            refilled: now,
        }
    }

    /// Adds what time has earned at this estimate, in bits per second.
    pub(crate) fn refill(&mut self, now: Instant, estimate_bps: Option<u64>) {
        let elapsed = now.saturating_duration_since(self.refilled).as_secs_f64();
        self.refilled = now;
        #[expect(clippy::cast_precision_loss, reason = "a bitrate needs no 53 bits")]
        let rate = estimate_bps.map(|bps| bps as f64 * PACING_FACTOR / 8.0);
        self.bytes_per_second = rate;
        let earned = rate.map_or(BURST_BYTES, |rate| rate * elapsed);
        self.credit = (self.credit + earned).min(BURST_BYTES);
    }

    /// A packet may go now.
    pub(crate) fn may_send(&self) -> bool {
        self.bytes_per_second.is_none() || self.credit > 0.0
    }

    /// A packet of this length went.
    pub(crate) fn sent(&mut self, bytes: usize) {
        if self.bytes_per_second.is_some() {
            self.credit -= f64::from(u32::try_from(bytes).unwrap_or(u32::MAX));
        }
    }

    /// When the next packet may go.
    pub(crate) fn next_send(&self) -> Instant {
        let missing = (1.0 - self.credit).max(0.0);
        let wait = self
            .bytes_per_second
            .map_or(0.0, |rate| missing / rate.max(1.0));
        self.refilled + Duration::from_secs_f64(wait.min(1.0)).max(TICK)
    }
}

/// Timers finer than this would only burn time.
const TICK: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "a starting point for the virtual clock"
    )]
    fn a_burst_goes_at_once_and_the_rest_at_the_pace_of_the_estimate() {
        let start = Instant::now();
        let mut pacer = Pacer::new(start);
        let mut sent = Vec::new();
        let mut now = start;
        while sent.len() < 50 {
            pacer.refill(now, Some(960_000)); // 250 full packets a second
            while pacer.may_send() && sent.len() < 50 {
                pacer.sent(1200);
                sent.push(now);
            }
            now = pacer.next_send();
        }
        assert_eq!(sent[9], start);
        let last = sent[49].duration_since(start);
        assert!(
            (Duration::from_millis(150)..Duration::from_millis(170)).contains(&last),
            "{last:?}"
        );
    }

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "a starting point for the virtual clock"
    )]
    fn without_an_estimate_nothing_waits() {
        let mut pacer = Pacer::new(Instant::now());
        for _ in 0..1000 {
            assert!(pacer.may_send());
            pacer.sent(1200);
        }
    }

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "a starting point for the virtual clock"
    )]
    fn small_packets_weigh_what_they_are() {
        let start = Instant::now();
        let mut pacer = Pacer::new(start);
        let mut now = start;
        let mut bytes = 0;
        while now < start + Duration::from_secs(4) {
            pacer.refill(now, Some(100_000));
            while pacer.may_send() {
                pacer.sent(100);
                bytes += 100;
            }
            now = pacer.next_send();
        }
        // The burst, then 2.5 times the estimate.
        assert!((136_500..137_500).contains(&bytes), "{bytes} bytes");
    }
}
