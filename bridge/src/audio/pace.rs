//! How much faster or slower samples are played so that a drifting clock stays in step.

/// A controller of the resampler: errors in, corrections out.
///
/// Times jump about a little (RTMP counts whole milliseconds), so errors are smoothed over a second
/// and small ones left alone: while nothing is corrected samples pass unchanged.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace {
    /// How late the samples are meant to be heard, against when they would be; in samples.
    smoothed: f64,
    is_correcting: bool,
}

impl Pace {
    /// What to play the next `count` samples slower by, as a fraction: they should have been heard
    /// `error` samples later than they would be. Within [`CORRECTION_MAX`].
    pub(super) fn correct(&mut self, error: f64, count: f64) -> f64 {
        self.smoothed += (error - self.smoothed) * (count / SMOOTHING).min(1.0);
        if self.smoothed.abs() > BEGIN {
            self.is_correcting = true;
        } else if self.smoothed.abs() < END {
            self.is_correcting = false;
        }
        if !self.is_correcting {
            return 0.0;
        }
        (self.smoothed / SETTLING).clamp(-CORRECTION_MAX, CORRECTION_MAX)
    }
}

/// Half a percent: nobody hears the change of pitch.
const CORRECTION_MAX: f64 = 0.005;
/// A second; with [`SETTLING`] twice that the control neither swings nor creeps.
const SMOOTHING: f64 = 48_000.0;
const SETTLING: f64 = 96_000.0;
/// 0.75 ms, and 0.1 ms.
const BEGIN: f64 = 36.0;
const END: f64 = 5.0;
