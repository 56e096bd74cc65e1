//! Samples at one rate become samples at another that may change all the time.

use std::f64::consts::PI;
use std::sync::{Arc, LazyLock};

use super::Sample;

/// Windowed-sinc interpolation at any ratio, without delay: the first sample out is the first one in.
///
/// At ratio 1 samples pass unchanged. The last [`AHEAD`] samples wait for those after them.
#[derive(Clone, Debug)]
pub(super) struct Resampler {
    filter: Arc<Filter>,
    /// What is still needed of what came in; begins with silence before the first sample.
    history: Vec<Sample>,
    /// Where the window of the next sample out begins in `history`, in 2^-32 of a sample.
    position: u64,
    /// Samples in for one sample out, in 2^-32.
    ratio: f64,
}

impl Resampler {
    /// From this rate to that, both in samples a second.
    pub(super) fn new(from: u32, to: u32) -> Self {
        let filter = if from <= to {
            Arc::clone(&UNITY)
        } else {
            Arc::new(Filter::new(f64::from(to) / f64::from(from)))
        };
        Self {
            filter,
            history: vec![[0.0; 2]; BEHIND],
            position: 0,
            ratio: f64::from(from) / f64::from(to),
        }
    }

    /// How many samples are in whose time has not been given out, in samples of the rate it comes in.
    pub(super) fn pending(&self) -> f64 {
        to_f64(self.history.len()) - to_f64(BEHIND) - fixed_to_f64(self.position)
    }

    /// Takes samples in and appends what comes out, slowed down by the fraction `correction`.
    pub(super) fn push(&mut self, input: &[Sample], correction: f64, out: &mut Vec<Sample>) {
        self.history.extend_from_slice(input);
        let step = fixed(self.ratio * (1.0 - correction));
        let mut position = self.position;
        if step == WHOLE && fraction(position) == 0 && self.filter.passes_whole() {
            position += self.pass(whole(position), out);
        }
        while let Some(window) = self
            .history
            .get(whole(position)..)
            .and_then(|rest| rest.first_chunk::<TAPS>())
        {
            out.push(self.filter.apply(window, fraction(position)));
            // Nothing is to be corrected: the rest of the last correction is, too, and samples pass unchanged.
            if step == WHOLE {
                position += HOME.min(u64::from(fraction(position).wrapping_neg()));
            }
            position += step;
        }
        let used = whole(position).min(self.history.len());
        self.history.drain(..used);
        self.position = position - (u64::try_from(used).unwrap_or(0) << 32);
    }

    /// Gives out all samples whose windows are whole, unchanged; how far that goes, in 2^-32 of a sample.
    fn pass(&self, from: usize, out: &mut Vec<Sample>) -> u64 {
        let end = (self.history.len() + 1).saturating_sub(TAPS);
        let Some(unchanged) = self.history.get(from + BEHIND..end + BEHIND) else {
            return 0;
        };
        out.extend_from_slice(unchanged);
        u64::try_from(unchanged.len()).unwrap_or(0) << 32
    }
}

/// What each sample of a window counts, for each of [`PHASES`] places between two samples.
#[derive(Debug)]
struct Filter {
    phases: Vec<[f32; TAPS]>,
}

impl Filter {
    /// Lets frequencies below `cutoff` pass, where 1 is half the rate of what comes in.
    fn new(cutoff: f64) -> Self {
        let phase = |phase: usize| {
            let shift = to_f64(phase) / to_f64(PHASES);
            let mut taps = [0.0_f64; TAPS];
            for (index, tap) in taps.iter_mut().enumerate() {
                let distance = to_f64(index) - to_f64(BEHIND) - shift;
                *tap = cutoff * sinc(distance * cutoff) * window(distance);
            }
            // Every phase passes a constant alike, or the phases would be heard as a tone.
            let sum: f64 = taps.iter().sum();
            taps.map(|tap| to_f32(tap / sum))
        };
        Self {
            phases: (0..=PHASES).map(phase).collect(),
        }
    }

    /// Between no two samples it is the sample.
    fn passes_whole(&self) -> bool {
        self.phases.first().is_some_and(|taps| taps[BEHIND] == 1.0)
    }

    /// The value `fraction` (of 2^32) after the sample in the middle of the window.
    fn apply(&self, window: &[Sample; TAPS], fraction: u32) -> Sample {
        if fraction == 0 && self.passes_whole() {
            return window[BEHIND];
        }
        let phase = fraction >> (32 - PHASES.ilog2());
        let phase = usize::try_from(phase).unwrap_or(0);
        let between = f64::from(fraction) / 4_294_967_296.0 * to_f64(PHASES) - to_f64(phase);
        let between = to_f32(between);
        let (near, far) = (&self.phases[phase], &self.phases[phase + 1]);
        // In lanes that do not wait for each other.
        let mut sums = [[0.0; 2]; LANES];
        let samples = window.as_chunks::<LANES>().0;
        let weights = near.as_chunks::<LANES>().0.iter();
        let weights = weights.zip(far.as_chunks::<LANES>().0);
        for (samples, (near, far)) in samples.iter().zip(weights) {
            for lane in 0..LANES {
                let weight = near[lane] + (far[lane] - near[lane]) * between;
                sums[lane][0] += samples[lane][0] * weight;
                sums[lane][1] += samples[lane][1] * weight;
            }
        }
        let add = |sum: Sample, lane: &Sample| [sum[0] + lane[0], sum[1] + lane[1]];
        sums.iter().fold([0.0; 2], add)
    }
}

fn sinc(x: f64) -> f64 {
    if x.abs() < 1e-9 {
        return 1.0;
    }
    // Exactly zero at the whole numbers, where the sine is not.
    if (x - x.round()).abs() < 1e-9 {
        return 0.0;
    }
    (PI * x).sin() / (PI * x)
}

/// Kaiser's window, whose side lobes are about 90 dB down.
fn window(distance: f64) -> f64 {
    let x = distance / to_f64(AHEAD);
    if x.abs() >= 1.0 {
        return 0.0;
    }
    bessel(BETA * (1.0 - x * x).sqrt()) / bessel(BETA)
}

/// The modified Bessel function of the first kind, order 0, by its series.
fn bessel(x: f64) -> f64 {
    let mut term = 1.0;
    let mut sum = 1.0;
    for n in 1..64 {
        term *= x * x / (4.0 * f64::from(n * n));
        sum += term;
    }
    sum
}

/// For what has one rate on both sides, and for going up: the same for all.
static UNITY: LazyLock<Arc<Filter>> = LazyLock::new(|| Arc::new(Filter::new(1.0)));

const TAPS: usize = 32;
/// Samples before and including, and after, the place a value is sought at.
const BEHIND: usize = TAPS / 2 - 1;
const AHEAD: usize = TAPS / 2;
const PHASES: usize = 256;
const LANES: usize = 8;
/// One sample, in 2^-32.
const WHOLE: u64 = 1 << 32;
/// How far a sample out may be moved to get back to those that came in: 200 ppm, which nobody hears.
const HOME: u64 = WHOLE / 5_000;
const BETA: f64 = 9.0;

fn whole(position: u64) -> usize {
    usize::try_from(position >> 32).unwrap_or(usize::MAX)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the low half is what is wanted"
)]
fn fraction(position: u64) -> u32 {
    position as u32
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "ratios are small and positive"
)]
fn fixed(ratio: f64) -> u64 {
    (ratio * 4_294_967_296.0).round() as u64
}

fn fixed_to_f64(position: u64) -> f64 {
    position as f64 / 4_294_967_296.0
}

fn to_f64(count: usize) -> f64 {
    count as f64
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "weights need no more digits"
)]
fn to_f32(value: f64) -> f32 {
    value as f32
}
