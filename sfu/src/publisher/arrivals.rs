//! Records when packets of one transport came in, for transport-wide feedback to their sender
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01).

use std::time::{Duration, Instant};

/// Arrivals that are remembered; at 100 ms a report this is 10 000 packets a second.
const WINDOW: u64 = 1024;
/// Packets one report tells of: keeps it within one datagram.
pub(crate) const REPORT_PACKETS_MAX: usize = 400;
/// A report goes out this often at most...
const INTERVAL_MIN: Duration = Duration::from_millis(50);
/// ...and this often at least while packets come; few packets need no haste.
const INTERVAL_MAX: Duration = Duration::from_millis(100);
/// So many waiting packets are worth the shorter interval.
const HASTE_PACKETS: u64 = 50;
/// A number this far from the newest is a new beginning, not a late packet or a loss.
const JUMP_MAX: u64 = 8192;
/// The largest step a 16-bit delta holds.
const DELTA_MAX: u64 = 0x7fff;
/// Times are counted in these, as on the wire.
const TICK: Duration = Duration::from_micros(250);
/// Ticks in one unit of the reference time (64 ms).
const TICKS_PER_REFERENCE: u64 = 256;

/// One report about arrivals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Feedback<'a> {
    /// The sequence number of the first entry.
    pub(crate) base_sequence: u16,
    /// Units of 64 ms; arrivals count from it. The wire takes the lower 24 bits.
    pub(crate) reference_time: u32,
    /// Counts reports.
    pub(crate) count: u8,
    /// Each sequence number in turn, and when it came in ticks of 250 µs since the recorder began.
    pub(crate) arrivals: &'a [(u16, Option<u64>)],
}

/// The arrivals of one transport. Numbers run over all its streams.
#[derive(Debug)]
pub(crate) struct Arrivals {
    epoch: Instant,
    /// For `sequence % WINDOW`: the arrival's tick plus one, 0 for none. Empty until the first packet:
    /// most peers only receive.
    ticks: Box<[u64]>,
    /// One past the highest number seen, extended; starts one cycle up so that late ones fit below.
    end: Option<u64>,
    /// The first number not reported yet; goes back for a late arrival.
    next: u64,
    last_report: Instant,
    report_count: u8,
    scratch: Vec<(u16, Option<u64>)>,
}

impl Arrivals {
    /// A recorder; times count from `now`.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            epoch: now,
            ticks: Box::default(),
            end: None,
            next: 0,
            last_report: now,
            report_count: 0,
            scratch: Vec::new(),
        }
    }

    /// Notes that the packet with this transport-wide number came in.
    pub(crate) fn record(&mut self, sequence: u16, now: Instant) {
        let tick = self.tick_of(now);
        let known = self.end.map(|end| (end, extend(sequence, end - 1)));
        let near = known.filter(|(end, extended)| extended.abs_diff(*end) <= JUMP_MAX);
        let Some((end, extended)) = near else {
            let first = (1 << 16) + u64::from(sequence);
            self.begin_at(first);
            self.note(first, tick);
            return;
        };
        if extended >= end {
            // What is skipped has not come, whatever stood in its place a window ago.
            for skipped in end.max((extended + 1).saturating_sub(WINDOW))..extended {
                self.note(skipped, None);
            }
            self.end = Some(extended + 1);
            self.next = self.next.max((extended + 1).saturating_sub(WINDOW));
        } else if end - extended > WINDOW {
            return;
        } else {
            self.next = self.next.min(extended);
        }
        self.note(extended, tick);
    }

    /// The next report if one is due; call again until `None`.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "wire forms of extended numbers"
    )]
    pub(crate) fn poll_feedback(&mut self, now: Instant) -> Option<Feedback<'_>> {
        let end = self.end.filter(|&end| end > self.next)?;
        let waited = now.saturating_duration_since(self.last_report);
        let waiting = end - self.next;
        let is_behind = waiting >= REPORT_PACKETS_MAX as u64;
        let has_haste = waiting >= HASTE_PACKETS && waited >= INTERVAL_MIN;
        if !is_behind && !has_haste && waited < INTERVAL_MAX {
            return None;
        }
        // A report begins with a packet that came, so that its time is the reference. There is one:
        // the last number seen came, and numbers behind it are only left by a report that ends.
        let first = (self.next..end).find(|&number| self.tick_at(number).is_some())?;
        let first_tick = self.tick_at(first)?;
        self.scratch.clear();
        let base = if first - self.next < REPORT_PACKETS_MAX as u64 {
            self.next
        } else {
            first
        };
        let mut last_tick = first_tick;
        for number in base..end.min(base + REPORT_PACKETS_MAX as u64) {
            let tick = self.tick_at(number);
            if let Some(tick) = tick {
                if tick.abs_diff(last_tick) > DELTA_MAX {
                    break;
                }
                last_tick = tick;
            }
            self.scratch.push((number as u16, tick));
        }
        // What was lost at the end may still come: leave it to the next report.
        while self.scratch.last().is_some_and(|(_, tick)| tick.is_none()) {
            self.scratch.pop();
        }
        self.next = base + self.scratch.len() as u64;
        self.last_report = now;
        let count = self.report_count;
        self.report_count = count.wrapping_add(1);
        Some(Feedback {
            base_sequence: base as u16,
            reference_time: (first_tick / TICKS_PER_REFERENCE) as u32,
            count,
            arrivals: &self.scratch,
        })
    }

    /// When the next report is due; `None` while there is nothing to tell.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let waiting = self.end?.saturating_sub(self.next);
        match waiting {
            0 => None,
            _ if waiting >= REPORT_PACKETS_MAX as u64 => Some(self.last_report),
            _ if waiting >= HASTE_PACKETS => Some(self.last_report + INTERVAL_MIN),
            _ => Some(self.last_report + INTERVAL_MAX),
        }
    }

    fn begin_at(&mut self, extended: u64) {
        if self.ticks.is_empty() {
            self.ticks = vec![0; index(WINDOW)].into_boxed_slice();
        }
        self.ticks.fill(0);
        self.end = Some(extended + 1);
        self.next = extended;
    }

    fn note(&mut self, extended: u64, tick: impl Into<Option<u64>>) {
        let stored = tick.into().map_or(0, |tick| tick + 1);
        if let Some(place) = self.ticks.get_mut(index(extended % WINDOW)) {
            *place = stored;
        }
    }

    fn tick_at(&self, extended: u64) -> Option<u64> {
        self.ticks.get(index(extended % WINDOW))?.checked_sub(1)
    }

    fn tick_of(&self, now: Instant) -> u64 {
        let ticks = now.saturating_duration_since(self.epoch).as_micros() / TICK.as_micros();
        u64::try_from(ticks).unwrap_or(u64::MAX >> 1)
    }
}

/// A number below the window as an index.
fn index(number: u64) -> usize {
    number.min(WINDOW) as usize
}

/// The number nearest to `reference` with these lower 16 bits.
fn extend(sequence: u16, reference: u64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the lower 16 bits are compared"
    )]
    let difference = sequence.wrapping_sub(reference as u16).cast_signed();
    reference.saturating_add_signed(i64::from(difference))
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "tests need some instant to count from"
)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn reports_arrivals_and_gaps_over_the_wrap() {
        let start = Instant::now();
        let mut arrivals = Arrivals::new(start);
        assert_eq!(arrivals.poll_timeout(), None);
        arrivals.record(65_534, at(start, 70));
        arrivals.record(0, at(start, 71));
        arrivals.record(65_535, at(start, 72));
        arrivals.record(2, at(start, 73));
        assert_eq!(arrivals.poll_feedback(at(start, 99)), None);
        assert_eq!(arrivals.poll_timeout(), Some(at(start, 100)));
        let feedback = arrivals.poll_feedback(at(start, 100)).unwrap();
        assert_eq!(
            (feedback.base_sequence, feedback.reference_time),
            (65_534, 1)
        );
        assert_eq!(feedback.count, 0);
        let expected = [
            (65_534, Some(280)),
            (65_535, Some(288)),
            (0, Some(284)),
            (1, None),
            (2, Some(292)),
        ];
        assert_eq!(feedback.arrivals, expected);
        assert_eq!(arrivals.poll_feedback(at(start, 300)), None);
        // A late one is told of, with what came after it.
        arrivals.record(1, at(start, 301));
        let feedback = arrivals.poll_feedback(at(start, 301)).unwrap();
        assert_eq!(feedback.arrivals, [(1, Some(1204)), (2, Some(292))]);
        assert_eq!(feedback.count, 1);
    }

    #[test]
    fn hurries_when_many_wait_and_splits_long_reports() {
        let start = Instant::now();
        let mut arrivals = Arrivals::new(start);
        for sequence in 0..50 {
            arrivals.record(sequence, start);
        }
        assert!(arrivals.poll_feedback(at(start, 49)).is_none());
        assert_eq!(
            arrivals
                .poll_feedback(at(start, 50))
                .unwrap()
                .arrivals
                .len(),
            50
        );
        for sequence in 50..650 {
            arrivals.record(sequence, at(start, 51));
        }
        assert_eq!(
            arrivals
                .poll_feedback(at(start, 51))
                .unwrap()
                .arrivals
                .len(),
            400
        );
        assert!(arrivals.poll_feedback(at(start, 51)).is_none());
        assert_eq!(
            arrivals
                .poll_feedback(at(start, 151))
                .unwrap()
                .arrivals
                .len(),
            200
        );
    }

    #[test]
    fn a_jump_begins_anew_and_a_long_pause_splits() {
        let start = Instant::now();
        let mut arrivals = Arrivals::new(start);
        arrivals.record(10, start);
        arrivals.record(11, at(start, 9000));
        assert_eq!(
            arrivals.poll_feedback(at(start, 9000)).unwrap().arrivals,
            [(10, Some(0))]
        );
        assert_eq!(
            arrivals
                .poll_feedback(at(start, 9100))
                .unwrap()
                .arrivals
                .len(),
            1
        );
        arrivals.record(20_000, at(start, 9200));
        let feedback = arrivals.poll_feedback(at(start, 9300)).unwrap();
        assert_eq!(feedback.arrivals, [(20_000, Some(36_800))]);
    }

    #[test]
    fn many_jumps_back_do_not_wear_the_numbers_out() {
        let start = Instant::now();
        let mut arrivals = Arrivals::new(start);
        let mut sequence = 0u16;
        for step in 1..20 {
            sequence = sequence.wrapping_sub(20_000);
            arrivals.record(sequence, start);
            let feedback = arrivals.poll_feedback(at(start, 100 * step)).unwrap();
            assert_eq!(feedback.arrivals, [(sequence, Some(0))]);
            assert_eq!(feedback.base_sequence, sequence);
        }
    }

    proptest! {
        #[test]
        fn reports_what_came_and_nothing_else(
            packets in proptest::collection::vec((0u16..40, 0u64..30), 1..300), first: u16,
        ) {
            let start = Instant::now();
            let mut now = start;
            let mut arrivals = Arrivals::new(start);
            let mut came = BTreeMap::new();
            let mut told = BTreeMap::new();
            for (step, (jitter, wait)) in packets.into_iter().enumerate() {
                now += Duration::from_millis(wait);
                let sequence = first.wrapping_add(u16::try_from(step).unwrap()).wrapping_add(jitter);
                came.insert(sequence, now);
                arrivals.record(sequence, now);
                while let Some(feedback) = arrivals.poll_feedback(now) {
                    let entries = feedback.arrivals;
                    prop_assert!(!entries.is_empty() && entries.len() <= REPORT_PACKETS_MAX);
                    prop_assert_eq!(entries[0].0, feedback.base_sequence);
                    for pair in entries.windows(2) {
                        prop_assert_eq!(pair[1].0, pair[0].0.wrapping_add(1));
                    }
                    for (sequence, tick) in entries {
                        if let Some(tick) = tick {
                            prop_assert!(*tick + 40_000 >= u64::from(feedback.reference_time) * 256);
                            told.insert(*sequence, *tick);
                        }
                    }
                }
            }
            now += INTERVAL_MAX;
            while let Some(feedback) = arrivals.poll_feedback(now) {
                told.extend(feedback.arrivals.iter().filter_map(|(n, t)| t.map(|t| (*n, t))));
                now += INTERVAL_MAX;
            }
            let expected: Vec<u16> = came.keys().copied().collect();
            prop_assert_eq!(told.keys().copied().collect::<Vec<_>>(), expected);
        }
    }
}
