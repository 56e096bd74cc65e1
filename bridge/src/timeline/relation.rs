//! How a track's media clock relates to its sender's clock, learned from sender reports.

/// A line through the reports: an alpha-beta filter, because reports of real senders are some
/// milliseconds off, each another way, and media clocks run apart from the sender's by some ppm.
#[derive(Clone, Copy, Debug)]
pub(super) struct Relation {
    /// Where on the media clock the line was fixed last.
    media_us: i64,
    /// What the sender's clock is there.
    sender_us: i64,
    /// How much faster the sender's clock runs, in parts per billion.
    slope_ppb: i64,
    reports: i64,
}

impl Relation {
    pub(super) fn new(media_us: i64, sender_us: i64) -> Self {
        Self {
            media_us,
            sender_us,
            slope_ppb: 0,
            reports: 1,
        }
    }

    /// The sender's clock at a place on the media clock.
    pub(super) fn sender_us(&self, media_us: i64) -> i64 {
        let distance = media_us.saturating_sub(self.media_us);
        let bend = i128::from(distance) * i128::from(self.slope_ppb) / 1_000_000_000;
        // The slope is small, so what bends is smaller than what was given.
        let bend = i64::try_from(bend).unwrap_or_default();
        self.sender_us.saturating_add(distance).saturating_add(bend)
    }

    /// Whether a report there is newer than all before.
    pub(super) fn is_before(&self, media_us: i64) -> bool {
        self.media_us < media_us
    }

    /// Bends the line towards one more report.
    pub(super) fn update(&mut self, media_us: i64, sender_us: i64) {
        let elapsed = media_us.saturating_sub(self.media_us);
        let predicted = self.sender_us(media_us);
        let error = sender_us.saturating_sub(predicted);
        self.reports = (self.reports + 1).min(REPORTS_SETTLED);
        self.media_us = media_us;
        // After a long silence more of the error is drift than noise.
        let by_silence = i128::from(error) * i128::from(elapsed)
            / (i128::from(elapsed) + i128::from(SILENCE_HALF_US)).max(1);
        let by_silence = i64::try_from(by_silence).unwrap_or_default();
        let by_count = error / self.reports;
        let correction = if by_silence.abs() > by_count.abs() {
            by_silence
        } else {
            by_count
        };
        self.sender_us = predicted.saturating_add(correction);
        if elapsed >= ELAPSED_MIN_US {
            let bend = i128::from(error) * SLOPE_GAIN_PPB / i128::from(elapsed);
            let bend = i64::try_from(bend).unwrap_or_default();
            let slope = self.slope_ppb.saturating_add(bend);
            self.slope_ppb = slope.clamp(-SLOPE_MAX_PPB, SLOPE_MAX_PPB);
        }
    }
}

/// An error counts a half, and from then on a third.
const REPORTS_SETTLED: i64 = 3;
/// After as long without a report the next error counts a half.
const SILENCE_HALF_US: i64 = 10_000_000;
/// 3 % of what the slope seems to be off.
const SLOPE_GAIN_PPB: i128 = 30_000_000;
/// 1000 ppm: ten times what the worst crystal is off.
const SLOPE_MAX_PPB: i64 = 1_000_000;
/// Reports that are nearer to each other tell nothing about slope.
const ELAPSED_MIN_US: i64 = 500_000;
