//! Keeps a sum of many voices within full scale, without wrapping and without crackling.

use super::{Sample, TICK_SAMPLES};

/// Turns loud ticks down at once and lets them come up again slowly.
#[derive(Clone, Debug)]
pub(super) struct Limiter {
    gain: f32,
}

impl Default for Limiter {
    fn default() -> Self {
        Self { gain: 1.0 }
    }
}

impl Limiter {
    /// Limits one tick in place. Whether anything was too loud.
    pub(super) fn apply(&mut self, tick: &mut [Sample; TICK_SAMPLES]) -> bool {
        let peak = tick.as_flattened().iter().fold(0.0, loudest);
        let wanted = if peak > CEILING { CEILING / peak } else { 1.0 };
        if wanted >= 1.0 && self.gain >= 1.0 {
            return false;
        }
        let target = wanted.min(self.gain + RELEASE);
        let step = (target - self.gain) / if target < self.gain { ATTACK } else { RAMP };
        for sample in tick.iter_mut() {
            self.gain = if step < 0.0 {
                (self.gain + step).max(target)
            } else {
                (self.gain + step).min(target)
            };
            *sample = sample.map(|value| bend(value * self.gain));
        }
        wanted < 1.0
    }
}

fn loudest(peak: f32, value: &f32) -> f32 {
    // What is no number counts for nothing here and becomes silence in `bend`.
    peak.max(value.abs())
}

/// Rounds off what is above the ceiling: full scale is approached and never passed.
fn bend(value: f32) -> f32 {
    if value.is_nan() {
        return 0.0;
    }
    if value.abs() <= CEILING {
        return value;
    }
    let above = (value.abs() - CEILING) / (1.0 - CEILING);
    (CEILING + (1.0 - CEILING) * above.tanh()).copysign(value)
}

const CEILING: f32 = 0.9;
/// 1 ms, in which the first samples of a loud tick are rounded off.
const ATTACK: f32 = 48.0;
const RAMP: f32 = 960.0;
/// Each tick comes up so much: from half to full in 200 ms.
const RELEASE: f32 = 0.05;
