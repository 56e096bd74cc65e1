//! The samples of one participant, each in its place on the timeline.

use std::collections::VecDeque;

use super::pace::Pace;
use super::resampler::Resampler;
use super::{SAMPLE_RATE, Sample, TICK_SAMPLES};

/// What one participant has to say in the next moments.
///
/// Samples come in runs: within one they are unbroken, resampled by a trifle so that the sender's clock
/// stays in step with ours; a run begins and ends with a fade, so that nothing clicks.
#[derive(Debug)]
pub(super) struct Source {
    /// From `start` to `end`; empty if all is to be dropped until `start`.
    buffer: VecDeque<Sample>,
    /// The first sample not mixed yet; where the next tick begins, in samples on the mixer's timeline.
    start: i64,
    /// Where the next sample goes.
    end: i64,
    run: Option<Run>,
    /// Where the last run ended because nothing had come in time.
    dried_at: Option<i64>,
    resampled: Vec<Sample>,
    gain: f32,
    gain_wanted: f32,
}

#[derive(Debug)]
struct Run {
    resampler: Resampler,
    pace: Pace,
    /// Samples that are still to be faded in.
    fading: u16,
}

/// What became of samples that were pushed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Placed {
    /// They came after their time was mixed.
    pub(super) late: u64,
    /// They were too far from where the run would have put them: a new one began.
    pub(super) is_reanchored: bool,
    /// They were so far ahead that they were not kept.
    pub(super) is_refused: bool,
    /// They go on where the source seemed to have ended: with more delay nothing would have been missing.
    pub(super) is_overdue: bool,
}

impl Source {
    /// With its first sample mixed at `start`, in samples on the mixer's timeline.
    pub(super) fn new(start: i64) -> Self {
        Self {
            buffer: VecDeque::new(),
            start,
            end: start,
            run: None,
            dried_at: None,
            resampled: Vec::new(),
            gain: 1.0,
            gain_wanted: 1.0,
        }
    }

    /// Puts samples at `at`, in samples on the mixer's timeline.
    pub(super) fn push(&mut self, at: f64, samples: &[Sample]) -> Placed {
        let mut placed = Placed::default();
        if at - to_f64(self.start) > AHEAD_MAX {
            placed.is_refused = true;
            return placed;
        }
        let mut error = self.error(at);
        if error.is_some_and(|error| error.abs() > ERROR_MAX) {
            placed.is_reanchored = true;
            self.finish();
            error = None;
        }
        if error.is_none() {
            let dried_at = self.dried_at.take();
            placed.is_overdue = dried_at.is_some_and(|end| (at - to_f64(end)).abs() < OVERDUE_MAX);
            self.begin(round(at));
        }
        let Some(run) = &mut self.run else {
            return placed;
        };
        let correction = run.pace.correct(error.unwrap_or(0.0), count(samples));
        self.resampled.clear();
        run.resampler.push(samples, correction, &mut self.resampled);
        let is_plain = run.fading == 0 && self.end >= self.start;
        if is_plain {
            self.end += to_i64(self.resampled.len());
            self.buffer.extend(&self.resampled);
            return placed;
        }
        for sample in &self.resampled {
            self.end += 1;
            if self.end <= self.start {
                placed.late += 1;
                continue;
            }
            let gain = 1.0 - f32::from(run.fading) / f32::from(FADE);
            run.fading = run.fading.saturating_sub(1);
            self.buffer.push_back(sample.map(|value| value * gain));
        }
        placed
    }

    /// Ends the run: the next samples begin another one wherever they belong.
    pub(super) fn finish(&mut self) {
        if self.run.take().is_some() {
            self.fade_out();
        }
    }

    /// Whether it will not be heard, fading there and back.
    pub(super) fn set_muted(&mut self, is_muted: bool) {
        self.gain_wanted = if is_muted { 0.0 } else { 1.0 };
    }

    /// Adds its part to the next tick. Whether there was any.
    pub(super) fn mix(&mut self, tick: &mut [Sample; TICK_SAMPLES]) -> bool {
        let next = self.start + TICK;
        if self.end < next + i64::from(FADE) {
            // Nothing follows in time: what there is becomes the end.
            if self.run.is_some() {
                self.dried_at = Some(self.end);
            }
            self.finish();
        }
        let available = self.buffer.len().min(TICK_SAMPLES);
        let is_heard = available > 0 && (self.gain > 0.0 || self.gain_wanted > 0.0);
        let samples = self.buffer.drain(..available);
        if self.gain == 1.0 && self.gain_wanted == 1.0 {
            for (sum, sample) in tick.iter_mut().zip(samples) {
                sum[0] += sample[0];
                sum[1] += sample[1];
            }
            self.start = next;
            return is_heard;
        }
        for (sum, sample) in tick.iter_mut().zip(samples) {
            let step = (self.gain_wanted - self.gain).clamp(-FADE_STEP, FADE_STEP);
            self.gain += step;
            sum[0] += sample[0] * self.gain;
            sum[1] += sample[1] * self.gain;
        }
        if available == 0 {
            self.gain = self.gain_wanted;
        }
        self.start = next;
        is_heard
    }

    /// Whether all it has was mixed, or is muted.
    pub(super) fn is_drained(&self) -> bool {
        self.buffer.is_empty() || (self.gain == 0.0 && self.gain_wanted == 0.0)
    }

    /// How much later these samples should be heard than the run would put them.
    fn error(&self, at: f64) -> Option<f64> {
        let run = self.run.as_ref()?;
        Some(at - run.resampler.pending() - to_f64(self.end))
    }

    /// Begins a run at `at`; what was to be heard from then on is dropped.
    fn begin(&mut self, at: i64) {
        if at < self.end {
            let kept = self.offset(at);
            if kept < self.buffer.len() {
                self.buffer.truncate(kept);
                self.fade_out();
            }
        }
        // Bounded by AHEAD_MAX.
        self.buffer.resize(self.offset(at), [0.0; 2]);
        self.end = at;
        self.run = Some(Run {
            resampler: Resampler::new(SAMPLE_RATE, SAMPLE_RATE),
            pace: Pace::default(),
            fading: FADE,
        });
    }

    /// How far into the buffer this is.
    fn offset(&self, at: i64) -> usize {
        usize::try_from(at.saturating_sub(self.start)).unwrap_or(0)
    }

    /// Lets the end of what there is fade away.
    fn fade_out(&mut self) {
        for (index, sample) in (0..FADE).zip(self.buffer.iter_mut().rev()) {
            let gain = f32::from(index) / f32::from(FADE);
            *sample = sample.map(|value| value * gain);
        }
    }
}

/// 5 ms.
const FADE: u16 = 240;
const FADE_STEP: f32 = 1.0 / 240.0;
const TICK: i64 = 960;
/// 80 ms: more than that is no drift.
const ERROR_MAX: f64 = 3_840.0;
/// 10 ms: what begins so close to where a run ended belongs to it.
const OVERDUE_MAX: f64 = 480.0;
/// Two seconds, which is also what one source can hold.
const AHEAD_MAX: f64 = 96_000.0;

fn to_f64(samples: i64) -> f64 {
    samples as f64
}

fn to_i64(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn count(samples: &[Sample]) -> f64 {
    samples.len() as f64
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "float to integer saturates, and far times are refused"
)]
fn round(at: f64) -> i64 {
    at.round() as i64
}
