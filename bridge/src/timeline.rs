//! Senders' clocks become times on the timeline of one broadcast.
//!
//! A [`SenderClock`] belongs to a participant and is shared by its sound and picture, so that what is
//! wrong in it leaves them in step; a [`TrackClock`] belongs to one encoding of a track. Before the
//! first sender report frames are placed by their arrival; what a report corrects is slewed, not
//! stepped.

mod relation;
mod sender_clock;
#[cfg(test)]
mod tests;
mod track_clock;
mod window;

use std::time::Instant;

pub use self::sender_clock::SenderClock;
pub use self::track_clock::{Mapped, SenderReport, TrackClock};

/// The server's clock since a broadcast began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeline {
    zero: Instant,
}

impl Timeline {
    /// Begins at this instant.
    pub fn new(zero: Instant) -> Self {
        Self { zero }
    }

    /// Where an instant is, in microseconds; before the beginning it is negative.
    pub fn at_us(&self, at: Instant) -> i64 {
        let micros = |later: Instant, earlier: Instant| {
            i64::try_from(later.saturating_duration_since(earlier).as_micros()).unwrap_or(FAR_US)
        };
        if at >= self.zero {
            micros(at, self.zero).min(FAR_US)
        } else {
            -micros(self.zero, at).min(FAR_US)
        }
    }
}

/// Further than any time that is ever asked for, and near enough that sums do not overflow.
const FAR_US: i64 = 1 << 58;
/// A time that is further off than this is not slewed to.
const STEP_US: i64 = 5_000_000;
