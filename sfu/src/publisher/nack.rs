//! Asks a publisher for what was lost on the way from it (RFC 4585 §6.2.1).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Missing packets that are remembered; past it a keyframe costs less.
const MISSING_MAX: usize = 1000;
/// Requests for one packet before it is given up.
const REQUESTS_MAX: u8 = 10;
/// The least time between two requests for one packet.
const SPACING_MIN: Duration = Duration::from_millis(20);
/// Packets overtake each other by this much without being lost...
const REORDER_DELAY: Duration = Duration::from_millis(10);
/// ...or by this many packets, whichever comes first.
const REORDER_PACKETS: u64 = 3;
/// After this long nobody waits for a packet any more.
const AGE_MAX: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, Debug)]
struct Missing {
    sequence: u64,
    noticed: Instant,
    last_request: Option<Instant>,
    requests: u8,
}

/// The gaps of one incoming stream and when to ask for them.
#[derive(Debug)]
pub(crate) struct NackGenerator {
    /// In the order of their sequence numbers.
    missing: VecDeque<Missing>,
    newest: Option<u64>,
    wants_keyframe: bool,
}

impl NackGenerator {
    /// Nothing received yet, nothing missing.
    pub(crate) fn new() -> Self {
        Self {
            missing: VecDeque::new(),
            newest: None,
            wants_keyframe: false,
        }
    }

    /// Notes a packet that came in, first hand or retransmitted; `sequence` is extended.
    pub(crate) fn received(&mut self, now: Instant, sequence: u64) {
        let Some(newest) = self.newest else {
            self.newest = Some(sequence);
            return;
        };
        if sequence <= newest {
            if let Ok(at) = self.missing.binary_search_by_key(&sequence, |m| m.sequence) {
                self.missing.remove(at);
            }
            return;
        }
        self.newest = Some(sequence);
        let gap = sequence - newest - 1;
        if gap > MISSING_MAX as u64 {
            // The source jumped: what lies between was never sent or is beyond recovery.
            self.missing.clear();
            self.wants_keyframe = true;
            return;
        }
        for lost in newest + 1..sequence {
            if self.missing.len() >= MISSING_MAX {
                self.missing.pop_front();
                self.wants_keyframe = true;
            }
            let missing = Missing {
                sequence: lost,
                noticed: now,
                last_request: None,
                requests: 0,
            };
            self.missing.push_back(missing);
        }
    }

    /// Fills `out` with the sequence numbers to ask for now, in order; returns how many.
    ///
    /// Asks again no sooner than after a round trip. What does not fit comes with the next call.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the wire form of an extended number"
    )]
    pub(crate) fn poll(&mut self, now: Instant, rtt: Duration, out: &mut [u16]) -> usize {
        self.give_up(now);
        let Some(newest) = self.newest else {
            return 0;
        };
        let spacing = rtt.max(SPACING_MIN);
        let due = self
            .missing
            .iter_mut()
            .filter(|missing| missing.is_due(now, newest, spacing));
        let mut count = 0;
        for (place, missing) in out.iter_mut().zip(due) {
            *place = missing.sequence as u16;
            missing.requests += 1;
            missing.last_request = Some(now);
            count += 1;
        }
        count
    }

    /// Something is missing, so `poll` should be called within 10 ms or so.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.missing.is_empty()
    }

    /// Whether so much was lost for good that only a keyframe helps; asked once.
    pub(crate) fn take_wants_keyframe(&mut self) -> bool {
        std::mem::take(&mut self.wants_keyframe)
    }

    fn give_up(&mut self, now: Instant) {
        let before = self.missing.len();
        self.missing.retain(|missing| {
            missing.requests < REQUESTS_MAX
                && now.saturating_duration_since(missing.noticed) < AGE_MAX
        });
        self.wants_keyframe |= self.missing.len() < before;
    }
}

impl Missing {
    fn is_due(&self, now: Instant, newest: u64, spacing: Duration) -> bool {
        match self.last_request {
            Some(last) => now.saturating_duration_since(last) >= spacing,
            None => {
                newest - self.sequence >= REORDER_PACKETS
                    || now.saturating_duration_since(self.noticed) >= REORDER_DELAY
            }
        }
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "tests need some instant to count from"
)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RTT: Duration = Duration::from_millis(50);

    fn poll(nack: &mut NackGenerator, now: Instant) -> Vec<u16> {
        let mut out = [0; 64];
        let count = nack.poll(now, RTT, &mut out);
        out[..count].to_vec()
    }

    #[test]
    fn asks_after_reordering_had_its_chance() {
        let start = Instant::now();
        let mut nack = NackGenerator::new();
        nack.received(start, 65_534);
        nack.received(start, 65_537);
        assert_eq!(poll(&mut nack, start), [0u16; 0]);
        assert_eq!(poll(&mut nack, start + REORDER_DELAY), [65_535, 0]);
        nack.received(start, 65_535);
        nack.received(start + REORDER_DELAY, 65_542);
        // Three newer packets are proof enough; 65 539 and up have to wait.
        assert_eq!(poll(&mut nack, start + REORDER_DELAY), [2, 3]);
        assert_eq!(
            poll(&mut nack, start + REORDER_DELAY + RTT),
            [0, 2, 3, 4, 5]
        );
    }

    #[test]
    fn gives_up_after_ten_requests_and_wants_a_keyframe() {
        let mut now = Instant::now();
        let mut nack = NackGenerator::new();
        nack.received(now, 1);
        nack.received(now, 3);
        let mut requests = 0;
        while nack.is_waiting() {
            now += RTT;
            requests += poll(&mut nack, now).len();
        }
        assert_eq!(requests, 10);
        assert!(nack.take_wants_keyframe() && !nack.take_wants_keyframe());
    }

    #[test]
    fn a_jump_starts_over() {
        let now = Instant::now();
        let mut nack = NackGenerator::new();
        nack.received(now, 1);
        nack.received(now, 3);
        nack.received(now, 3 + 1002);
        assert!(!nack.is_waiting() && nack.take_wants_keyframe());
        nack.received(now, u64::MAX);
        assert!(!nack.is_waiting());
    }

    proptest! {
        #[test]
        fn asks_only_for_what_is_missing_and_stays_bounded(
            arrivals in proptest::collection::vec((0u64..3000, 0u64..30), 1..100),
        ) {
            let mut now = Instant::now();
            let mut nack = NackGenerator::new();
            let mut seen = std::collections::BTreeSet::new();
            for (sequence, wait) in arrivals {
                now += Duration::from_millis(wait);
                nack.received(now, sequence);
                seen.insert(sequence);
                prop_assert!(nack.missing.len() <= MISSING_MAX);
                for asked in poll(&mut nack, now) {
                    prop_assert!(!seen.contains(&u64::from(asked)));
                    prop_assert!(u64::from(asked) < *seen.last().unwrap());
                }
            }
        }
    }
}
