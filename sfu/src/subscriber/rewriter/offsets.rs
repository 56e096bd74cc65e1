//! Where a number of one source stands in the outgoing numbering, with the drops between.

use std::collections::VecDeque;

/// Runs of drops that are remembered. A temporal layer drops a run per frame, so this is one to
/// two seconds of late packets.
const RUN_COUNT: usize = 64;

/// Consecutive numbers that were dropped on purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Run {
    first: u64,
    last: u64,
    /// Numbers dropped since the switch, up to and with this run.
    dropped: u64,
}

/// What place a number has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It is the highest so far; its outgoing number.
    Newest(u64),
    /// It stands below the highest; its outgoing number.
    Late(u64),
    /// It was dropped, or lies before the switch or before what is remembered.
    Gone,
}

/// The numbering since one switch: `base_in` became `base_out`, and every drop moved what follows.
#[derive(Clone, Debug)]
pub(super) struct Offsets {
    base_in: u64,
    base_out: u64,
    newest: Option<u64>,
    /// Numbers up to this one lie before what is remembered.
    forgotten_through: Option<u64>,
    /// Oldest first; takes memory with the first drop, once.
    runs: VecDeque<Run>,
    dropped: u64,
}

impl Default for Offsets {
    fn default() -> Self {
        Self::new(0, 0)
    }
}

impl Offsets {
    /// A numbering in which `base_in` becomes `base_out`.
    pub(super) fn new(base_in: u64, base_out: u64) -> Self {
        Self {
            base_in,
            base_out,
            newest: None,
            forgotten_through: None,
            runs: VecDeque::new(),
            dropped: 0,
        }
    }

    /// The place of a number that is forwarded. A jump of more than `jump_max` is closed.
    pub(super) fn forward(&mut self, number: u64, jump_max: u64) -> Place {
        if number < self.base_in {
            return Place::Gone;
        }
        if self.newest.is_some_and(|newest| number <= newest) {
            return self.late(number).map_or(Place::Gone, Place::Late);
        }
        self.close_jump(number, jump_max);
        self.newest = Some(number);
        Place::Newest(self.out(number, self.dropped))
    }

    /// Drops a number. The outgoing number it leaves open, when it is too late to close it.
    pub(super) fn skip(&mut self, number: u64, jump_max: u64) -> Option<u64> {
        if number < self.base_in {
            return None;
        }
        if self.newest.is_some_and(|newest| number <= newest) {
            return self.late(number);
        }
        self.close_jump(number, jump_max);
        self.close(number, number);
        self.newest = Some(number);
        None
    }

    fn close_jump(&mut self, number: u64, jump_max: u64) {
        let expected = self
            .newest
            .map_or(self.base_in, |newest| newest.saturating_add(1));
        if number - expected.min(number) > jump_max {
            self.close(expected, number - 1);
        }
    }

    /// Adds a run that lies above all others, joined with the last one where they touch.
    fn close(&mut self, first: u64, last: u64) {
        self.dropped += last - first + 1;
        let dropped = self.dropped;
        if let Some(run) = self.runs.back_mut()
            && run.last + 1 == first
        {
            run.last = last;
            run.dropped = dropped;
            return;
        }
        if self.runs.len() == RUN_COUNT {
            self.forgotten_through = self.runs.pop_front().map(|run| run.last);
        } else if self.runs.capacity() < RUN_COUNT {
            self.runs.reserve_exact(RUN_COUNT - self.runs.len());
        }
        self.runs.push_back(Run {
            first,
            last,
            dropped,
        });
    }

    /// Begins a numbering in which `base_in` becomes `base_out`; keeps the memory.
    pub(super) fn begin(&mut self, base_in: u64, base_out: u64) {
        self.runs.clear();
        *self = Self {
            runs: std::mem::take(&mut self.runs),
            ..Self::new(base_in, base_out)
        };
    }

    /// The outgoing number of one that is not above the newest.
    fn late(&self, number: u64) -> Option<u64> {
        if self
            .forgotten_through
            .is_some_and(|through| number <= through)
        {
            return None;
        }
        // Late packets are mostly a little late: look from the newest run down.
        let mut dropped = self.dropped;
        for run in self.runs.iter().rev() {
            if number > run.last {
                return Some(self.out(number, run.dropped));
            }
            if number >= run.first {
                return None;
            }
            dropped = run.dropped - (run.last - run.first + 1);
        }
        Some(self.out(number, dropped))
    }

    fn out(&self, number: u64, dropped: u64) -> u64 {
        self.base_out
            .wrapping_add(number - self.base_in)
            .wrapping_sub(dropped)
    }
}
