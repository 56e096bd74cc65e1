//! Bounds the bursts a subscriber gets: ten packets at once, then a multiple of the estimate.

use std::time::{Duration, Instant};

/// Packets that may go at once: a frame of a top layer.
const BURST_PACKETS: f64 = 10.0;
/// How much faster than the estimate a burst drains (libwebrtc's pacing factor).
const PACING_FACTOR: f64 = 2.5;
/// What a packet is taken to weigh; only video is paced and most of its packets are full.
const PACKET_BITS: f64 = 1200.0 * 8.0;

/// A bucket of packets. Without an estimate it never empties.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pacer {
    credit: f64,
    packets_per_second: Option<f64>,
    refilled: Instant,
}

impl Pacer {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            credit: BURST_PACKETS,
            packets_per_second: None,
            refilled: now,
        }
    }

    /// Adds what time has earned at this estimate, in bits per second.
    pub(crate) fn refill(&mut self, now: Instant, estimate_bps: Option<u64>) {
        let elapsed = now.saturating_duration_since(self.refilled).as_secs_f64();
        self.refilled = now;
        #[expect(clippy::cast_precision_loss, reason = "a bitrate needs no 53 bits")]
        let rate = estimate_bps.map(|bps| bps as f64 * PACING_FACTOR / PACKET_BITS);
        self.packets_per_second = rate;
        let earned = rate.map_or(BURST_PACKETS, |rate| rate * elapsed);
        self.credit = (self.credit + earned).min(BURST_PACKETS);
    }

    /// A packet may go now.
    pub(crate) fn may_send(&self) -> bool {
        self.packets_per_second.is_none() || self.credit >= 1.0
    }

    /// A packet went.
    pub(crate) fn sent(&mut self) {
        if self.packets_per_second.is_some() {
            self.credit -= 1.0;
        }
    }

    /// When the next packet may go.
    pub(crate) fn next_send(&self) -> Instant {
        let missing = (1.0 - self.credit).max(0.0);
        let wait = self
            .packets_per_second
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
            pacer.refill(now, Some(960_000)); // 250 packets a second
            while pacer.may_send() && sent.len() < 50 {
                pacer.sent();
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
            pacer.sent();
        }
    }
}
