//! What the path to a subscriber can take, from transport-wide feedback, REMB, or reported loss.
//!
//! A first estimate: a limit exists only once the path showed congestion, and it is lifted step by step
//! while it shows none. Parts of Google Congestion Control come from rtc-interceptor.

use std::time::{Duration, Instant};

use interceptor::{OveruseDetector, PacketReport, RateCalculator, SlopeEstimator, Usage};

/// Estimates never fall below this: audio and a lowest layer fit in it.
const ESTIMATE_MIN_BPS: f64 = 100_000.0;
/// A limit above this is as good as none.
const ESTIMATE_MAX_BPS: f64 = 50_000_000.0;
/// How far below the rate that arrives the limit goes upon overuse (draft-ietf-rmcat-gcc-02 §5.5).
const DECREASE_FACTOR: f64 = 0.85;
/// Growth of the limit per second without congestion.
const INCREASE_PER_SECOND: f64 = 1.12;
/// Loss above this share is congestion (draft-ietf-rmcat-gcc-02 §6).
const LOSS_HIGH: f64 = 0.10;
/// The delay gradient of one group is multiplied by the groups seen, up to this many, before it is
/// compared with the detector's threshold (libwebrtc's `kMinNumDeltas`): the threshold of 12.5 ms is
/// meant for the growth over a second, and a single group never grows that much.
const TRENDS_MAX: u32 = 60;
/// Two decreases are at least this far apart: one round of feedback must see the first one's effect.
const DECREASE_INTERVAL: Duration = Duration::from_millis(300);
/// Packets remembered until their feedback arrives: 2 s of 500 packets/s, where feedback comes within a
/// round trip and 100 ms. A power of two.
const SENT_MAX: usize = 1024;
/// A REMB older than this is no limit any more.
const REMB_LIFETIME: Duration = Duration::from_secs(5);

/// One packet on its way, waiting for feedback, in 8 bytes: there are thousands for each subscriber,
/// and one is written with every packet sent.
#[derive(Clone, Copy, Debug)]
struct Sent {
    /// Microseconds since the estimator began, over the wrap of 71 minutes.
    at: u32,
    bytes: u16,
    /// The number above the bits that the place says; `NONE` when nothing waits here.
    generation: u16,
}

const NONE: u16 = u16::MAX;

/// The estimate of one transport, and the transport-wide numbers it is made from.
pub(crate) struct Estimator {
    epoch: Instant,
    /// The last moment asked about, and as microseconds: packets go in batches.
    clock: (Instant, u32),
    sent: Vec<Sent>,
    next_number: u64,
    slope: SlopeEstimator,
    detector: OveruseDetector,
    /// Groups of packets judged so far, up to `TRENDS_MAX`.
    trends: u32,
    rate: RateCalculator,
    loss: LossWindow,
    limit_bps: Option<f64>,
    limit_changed: Option<Instant>,
    remb: Option<(Instant, f64)>,
    reports: Vec<PacketReport>,
}

/// Lost and reported packets since the last look.
#[derive(Clone, Copy, Debug, Default)]
struct LossWindow {
    lost: u32,
    total: u32,
}

impl Estimator {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            epoch: now,
            clock: (now, 0),
            sent: Vec::new(),
            next_number: 1,
            slope: SlopeEstimator::new(),
            detector: OveruseDetector::new(),
            trends: 0,
            rate: RateCalculator::new(Duration::from_millis(500)),
            loss: LossWindow::default(),
            limit_bps: None,
            limit_changed: None,
            remb: None,
            reports: Vec::new(),
        }
    }

    /// Numbers a packet that leaves now; the number goes into its transport-wide extension.
    ///
    /// Allocates once, with the first packet.
    pub(crate) fn record_sent(&mut self, now: Instant, bytes: usize) -> u16 {
        if self.sent.is_empty() {
            let nothing = Sent {
                at: 0,
                bytes: 0,
                generation: NONE,
            };
            self.sent = vec![nothing; SENT_MAX];
        }
        if self.clock.0 != now {
            self.clock = (now, self.microseconds(now));
        }
        let number = self.next_number;
        self.next_number += 1;
        let (place, generation) = place_of(number);
        if let Some(entry) = self.sent.get_mut(place) {
            *entry = Sent {
                at: self.clock.1,
                bytes: u16::try_from(bytes).unwrap_or(u16::MAX),
                generation,
            };
        }
        low_u16(number)
    }

    /// Takes in one transport-wide feedback message: sequence numbers with their arrival on the
    /// receiver's clock, or `None` for what did not arrive.
    pub(crate) fn handle_feedback(
        &mut self,
        now: Instant,
        arrivals: impl Iterator<Item = (u16, Option<Duration>)>,
    ) {
        self.reports.clear();
        let now_us = self.microseconds(now);
        for (sequence, arrival) in arrivals.take(SENT_MAX) {
            let Some(number) = self.extend(sequence) else {
                continue;
            };
            let (place, generation) = place_of(number);
            let Some(entry) = self.sent.get_mut(place) else {
                continue;
            };
            let sent = *entry;
            if sent.generation != generation {
                continue;
            }
            if arrival.is_some() {
                entry.generation = NONE;
            }
            let age = now_us.wrapping_sub(sent.at);
            self.reports.push(PacketReport {
                ssrc: 0,
                id: number,
                rtp_sequence_number: 0,
                is_twcc: true,
                twcc_sequence_number: sequence,
                size: usize::from(sent.bytes),
                arrived: arrival.is_some(),
                departure: now.checked_sub(age_of(age)).unwrap_or(now),
                arrival,
                ecn: rtcp::transport_feedbacks::cc_feedback_report::Ecn::default(),
            });
        }
        self.judge(now);
    }

    /// Takes in a receiver's own estimate (draft-alvestrand-rmcat-remb-03).
    pub(crate) fn handle_remb(&mut self, now: Instant, bitrate_bps: u64) {
        #[expect(clippy::cast_precision_loss, reason = "a bitrate needs no 53 bits")]
        let limit = (bitrate_bps as f64).max(ESTIMATE_MIN_BPS);
        self.remb = Some((now, limit));
    }

    /// Takes in the loss of a receiver report, in 1/256, of a receiver that sends nothing better;
    /// `sending_bps` is all that is sent to it.
    pub(crate) fn handle_loss(&mut self, now: Instant, fraction_lost: u8, sending_bps: u64) {
        if f64::from(fraction_lost) / 256.0 > LOSS_HIGH {
            #[expect(clippy::cast_precision_loss, reason = "a bitrate needs no 53 bits")]
            self.decrease(now, sending_bps as f64);
        }
    }

    /// Lifts the limit with time; call on every tick.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self
            .remb
            .is_some_and(|(at, _)| now.saturating_duration_since(at) > REMB_LIFETIME)
        {
            self.remb = None;
        }
        let (Some(limit), Some(changed)) = (self.limit_bps, self.limit_changed) else {
            return;
        };
        let elapsed = now.saturating_duration_since(changed);
        if elapsed < Duration::from_secs(1) {
            return;
        }
        let grown = limit * INCREASE_PER_SECOND;
        self.limit_bps = (grown < ESTIMATE_MAX_BPS).then_some(grown);
        self.limit_changed = Some(now);
    }

    /// Bits per second the path can take; `None`: nothing speaks for a limit.
    pub(crate) fn estimate_bps(&self) -> Option<u64> {
        let remb = self.remb.map(|(_, limit)| limit);
        let limit = match (self.limit_bps, remb) {
            (Some(own), Some(remb)) => own.min(remb),
            (own, remb) => own.or(remb)?,
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "limits lie between the two constants above"
        )]
        Some(limit as u64)
    }

    fn judge(&mut self, now: Instant) {
        let mut is_overused = false;
        for report in &self.reports {
            self.loss.total += 1;
            if !report.arrived {
                self.loss.lost += 1;
                continue;
            }
            self.rate.add(now, report.size);
            if let Some(trend) = self.slope.accumulate(report) {
                self.trends = (self.trends + 1).min(TRENDS_MAX);
                let growth_ms = trend.estimate_ms * f64::from(self.trends);
                is_overused |= self.detector.update(trend.at, growth_ms) == Usage::Over;
            }
        }
        let received = self
            .rate
            .rate_bits_per_second(now)
            .unwrap_or(ESTIMATE_MAX_BPS);
        let lossy = self.loss.is_high();
        if is_overused || lossy {
            self.decrease(now, received);
        }
    }

    fn decrease(&mut self, now: Instant, received_bps: f64) {
        let recent = |at| now.saturating_duration_since(at) < DECREASE_INTERVAL;
        if self.limit_changed.is_some_and(recent) {
            return;
        }
        let from = self
            .limit_bps
            .map_or(received_bps, |limit| limit.min(received_bps));
        self.limit_bps = Some((from * DECREASE_FACTOR).clamp(ESTIMATE_MIN_BPS, ESTIMATE_MAX_BPS));
        self.limit_changed = Some(now);
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "differences are taken over the wrap"
    )]
    fn microseconds(&self, now: Instant) -> u32 {
        now.saturating_duration_since(self.epoch).as_micros() as u32
    }

    /// The newest sent number with these low 16 bits.
    fn extend(&self, sequence: u16) -> Option<u64> {
        let newest = self.next_number.checked_sub(1)?;
        let behind = u64::from(low_u16(newest).wrapping_sub(sequence));
        newest.checked_sub(behind)
    }
}

impl LossWindow {
    /// Judges once enough packets were reported, and starts over.
    fn is_high(&mut self) -> bool {
        if self.total < 50 {
            return false;
        }
        let high = f64::from(self.lost) / f64::from(self.total) > LOSS_HIGH;
        *self = Self::default();
        high
    }
}

/// Where a number's entry stands, and the bits of the number that the place does not say.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the lower bits are the place; what is above them wraps after 2^26 packets"
)]
fn place_of(number: u64) -> (usize, u16) {
    let place = number as usize & (SENT_MAX - 1);
    // One less than all, so that none is `NONE`.
    let generation = (number >> SENT_MAX.trailing_zeros()) % u64::from(NONE);
    (place, generation as u16)
}

fn age_of(microseconds: u32) -> Duration {
    Duration::from_micros(u64::from(microseconds))
}

fn low_u16(number: u64) -> u16 {
    u16::try_from(number & 0xffff).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends a packet every 10 ms for `seconds`; `arrival` says when each arrives after the first.
    fn run(
        estimator: &mut Estimator,
        start: Instant,
        seconds: u64,
        arrival: impl Fn(u64) -> Option<Duration>,
    ) -> Instant {
        let mut now = start;
        let mut batch = Vec::new();
        for packet in 0..seconds * 100 {
            now = start + Duration::from_millis(packet * 10);
            let sequence = estimator.record_sent(now, 1200);
            batch.push((sequence, arrival(packet)));
            if packet % 10 == 9 {
                estimator.handle_feedback(now, batch.drain(..));
                estimator.handle_timeout(now);
            }
        }
        now
    }

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "a starting point for the virtual clock"
    )]
    fn a_quiet_path_has_no_limit_and_a_growing_queue_makes_one_that_lifts_again() {
        let start = Instant::now();
        let mut estimator = Estimator::new(start);
        let smooth = |packet: u64| Some(Duration::from_millis(packet * 10));
        let now = run(&mut estimator, start, 3, smooth);
        assert_eq!(estimator.estimate_bps(), None);

        let queueing = |packet: u64| Some(Duration::from_millis(3000 + packet * 14));
        let now = run(&mut estimator, now, 3, queueing);
        let limit = estimator
            .estimate_bps()
            .expect("a growing queue is congestion");
        assert!(limit < 1_000_000, "limit {limit}");

        let mut later = now;
        for _ in 0..120 {
            later += Duration::from_secs(1);
            estimator.handle_timeout(later);
        }
        assert_eq!(estimator.estimate_bps(), None);
    }

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "a starting point for the virtual clock"
    )]
    fn heavy_loss_makes_a_limit_and_light_loss_none() {
        let start = Instant::now();
        let lossy = |share: u64| {
            move |packet: u64| {
                (!packet.is_multiple_of(share)).then(|| Duration::from_millis(packet * 10))
            }
        };
        let mut light = Estimator::new(start);
        run(&mut light, start, 3, lossy(50));
        assert_eq!(light.estimate_bps(), None);
        let mut heavy = Estimator::new(start);
        run(&mut heavy, start, 3, lossy(4));
        assert!(heavy.estimate_bps().is_some());
    }

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "a starting point for the virtual clock"
    )]
    fn feedback_for_packets_never_sent_changes_nothing() {
        let now = Instant::now();
        let mut estimator = Estimator::new(now);
        let bogus = (0..=u16::MAX).map(|sequence| (sequence, None));
        estimator.handle_feedback(now, bogus);
        assert_eq!(estimator.estimate_bps(), None);
        estimator.handle_remb(now, 1);
        assert_eq!(estimator.estimate_bps(), Some(100_000));
    }
}
