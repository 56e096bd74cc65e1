//! A participant's clock as seen from the server.

use std::collections::VecDeque;
use std::time::Instant;

use super::window::Window;
use super::{STEP_US, Timeline};

/// What is to be added to a participant's clock, shared by all its tracks.
///
/// It is the least of (arrival - sender's time) over half a minute: the network's fastest way. It
/// moves by at most 5 ms a second, as a function of the sender's time and not of ours: frames
/// captured together get the same offset however late one of them comes.
#[derive(Debug)]
pub struct SenderClock {
    timeline: Timeline,
    /// The first NTP timestamp; times are counted from it.
    base: Option<u64>,
    /// How far the sender's clock has been set forward, all in all, since then.
    set_by_us: i64,
    samples: Window,
    knots: VecDeque<Knot>,
}

/// From a time of the sender on, the offset moves to another value.
#[derive(Clone, Copy, Debug)]
struct Knot {
    from_us: i64,
    offset_us: i64,
    target_us: i64,
}

impl SenderClock {
    /// Nothing is known before the first report.
    pub fn new(timeline: Timeline) -> Self {
        Self {
            timeline,
            base: None,
            set_by_us: 0,
            samples: Window::default(),
            knots: VecDeque::new(),
        }
    }

    /// Whether any report of any of its tracks has come.
    pub fn is_synchronized(&self) -> bool {
        !self.knots.is_empty()
    }

    /// An NTP timestamp as microseconds since the first one, whose era does not matter.
    pub(super) fn raw_us(&mut self, ntp: u64) -> i64 {
        let base = *self.base.get_or_insert(ntp);
        let fraction = i128::from(ntp.wrapping_sub(base).cast_signed());
        // 31 bits of seconds remain, whose microseconds fit.
        i64::try_from((fraction * 1_000_000) >> 32).unwrap_or_default()
    }

    /// How far the clock has been set forward.
    pub(super) fn set_by_us(&self) -> i64 {
        self.set_by_us
    }

    /// A report shows that somebody set the clock: the sender's time goes on as if nobody had.
    pub(super) fn set(&mut self, by_us: i64) {
        self.set_by_us = by_us;
    }

    /// A report with this time of the sender, as if its clock had never been set, has come.
    pub(super) fn sample(&mut self, now: Instant, sender_us: i64) {
        let now_us = self.timeline.at_us(now);
        self.samples.push(now_us, now_us.saturating_sub(sender_us));
        let Some(target_us) = self.samples.least() else {
            return;
        };
        let last = self.knots.back();
        if last.is_some_and(|last| last.target_us == target_us) {
            return;
        }
        let from_us = last.map_or(sender_us, |last| sender_us.max(last.from_us));
        let offset_us = self.offset_at(from_us).unwrap_or(target_us);
        let is_far = target_us.saturating_sub(offset_us).saturating_abs() > STEP_US;
        self.knots.push_back(Knot {
            from_us,
            offset_us: if is_far { target_us } else { offset_us },
            target_us,
        });
        if self.knots.len() > KNOTS_MAX {
            self.knots.pop_front();
        }
    }

    /// The timeline its times are on.
    pub fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// What is to be added to this time of the sender.
    pub(super) fn offset_at(&self, sender_us: i64) -> Option<i64> {
        let mut knots = self.knots.iter().rev();
        let knot = knots.find(|knot| knot.from_us <= sender_us);
        let knot = knot.or(self.knots.front())?;
        let elapsed = sender_us.saturating_sub(knot.from_us).max(0);
        let reach = elapsed / OFFSET_US_PER_US;
        let way = knot.target_us.saturating_sub(knot.offset_us);
        Some(knot.offset_us.saturating_add(way.clamp(-reach, reach)))
    }
}

/// The offset moves by a 200th of the time that passes: nobody hears 0.5 %.
const OFFSET_US_PER_US: i64 = 200;
/// Frames are never so late that older ones matter: reports are a second apart.
const KNOTS_MAX: usize = 32;
