//! Decode times: from the broadcast's microseconds to strictly increasing ticks of a track.

use super::VIDEO_TIMESCALE;

/// The decode times of a video track.
#[derive(Clone, Copy, Debug, Default)]
pub struct VideoClock {
    last: Option<u64>,
}

/// The decode times of a track of sound: without holes while its frames follow each other.
#[derive(Clone, Copy, Debug)]
pub struct AudioClock {
    sample_rate: u32,
    next: Option<u64>,
}

/// A frame this much earlier than the one before is no jitter of the mapping any more.
const BACKWARDS_MAX: u64 = VIDEO_TIMESCALE as u64 / 10;

impl VideoClock {
    /// The decode time of the next frame, in 1/90000 s: later than every one before.
    ///
    /// `None`: the frame is before the timeline or far before the last one, and must be left out.
    pub fn place(&mut self, at_us: i64) -> Option<u64> {
        let at = ticks(at_us, VIDEO_TIMESCALE)?;
        let at = match self.last {
            Some(last) if at.saturating_add(BACKWARDS_MAX) < last => return None,
            Some(last) => at.max(last.saturating_add(1)),
            None => at,
        };
        self.last = Some(at);
        Some(at)
    }
}

impl AudioClock {
    /// A clock for frames with that many samples a second.
    pub fn new(sample_rate: u32) -> Self {
        Self {
            sample_rate: sample_rate.max(1),
            next: None,
        }
    }

    /// The decode time of the next frame, in samples.
    ///
    /// It follows the frame before without a hole if it is less than half a frame off.
    /// `None`: it is before the timeline, or sounds while another one already does, and must be left out.
    pub fn place(&mut self, at_us: i64, samples: u32) -> Option<u64> {
        let at = ticks(at_us, self.sample_rate)?;
        let half = u64::from(samples / 2);
        let at = match self.next {
            Some(next) if at.saturating_add(half) < next => return None,
            Some(next) if at <= next.saturating_add(half) => next,
            _ => at,
        };
        self.next = Some(at.saturating_add(samples.into()));
        Some(at)
    }
}

/// `None` before the timeline begins.
fn ticks(at_us: i64, timescale: u32) -> Option<u64> {
    let at_us = u128::from(u64::try_from(at_us).ok()?);
    u64::try_from((at_us * u128::from(timescale) + 500_000) / 1_000_000).ok()
}
