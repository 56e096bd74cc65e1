//! The send quantum: how long a media thread lets packets gather, so that more of them leave in one run.
//!
//! A frame comes in as several datagrams within microseconds. A thread that handles the first of them at
//! once serves all subscribers with one packet, then all of them again with the rest. Serving costs less
//! the more of a frame each run has: state is fetched once, and the kernel takes a run in one send. So a
//! busy thread waits a moment before it receives, no longer than a turn takes it anyway; one with little to
//! do does not wait at all.

use std::time::Duration;

/// The longest wait.
const HOLD_MAX: Duration = Duration::from_micros(100);
/// Shorter waits are not worth a system call.
const HOLD_MIN: Duration = Duration::from_micros(40);
/// Turns are averaged over about so many.
const MEMORY: u32 = 8;

/// Learns what turns take.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Quantum {
    /// What a turn that received packets takes, on average.
    work: Duration,
}

impl Quantum {
    /// Notes how long the work of a turn took in which packets came in.
    pub(super) fn worked(&mut self, took: Duration) {
        self.work = (self.work * (MEMORY - 1) + took.min(HOLD_MAX * 2)) / MEMORY;
    }

    /// How long to let packets gather before they are received; `None`: not at all.
    pub(super) fn hold(&self) -> Option<Duration> {
        let hold = self.work.min(HOLD_MAX);
        (hold >= HOLD_MIN).then_some(hold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(took_us: u64, turns: usize) -> Quantum {
        let mut quantum = Quantum::default();
        for _ in 0..turns {
            quantum.worked(Duration::from_micros(took_us));
        }
        quantum
    }

    #[test]
    fn an_idle_thread_waits_for_nothing() {
        assert_eq!(Quantum::default().hold(), None);
        assert_eq!(after(30, 100).hold(), None);
    }

    #[test]
    fn a_busy_thread_waits_as_long_as_a_turn_takes_up_to_a_limit() {
        let hold = after(80, 100).hold().unwrap();
        assert!((75..=80).contains(&hold.as_micros()), "{hold:?}");
        assert_eq!(after(100_000, 100).hold(), Some(HOLD_MAX));
    }

    #[test]
    fn one_long_turn_is_soon_forgotten() {
        let mut quantum = after(10, 100);
        quantum.worked(Duration::from_secs(1));
        let turns = (0..).take_while(|_| {
            quantum.worked(Duration::from_micros(10));
            quantum.hold().is_some()
        });
        assert!(turns.count() < 10);
    }
}
