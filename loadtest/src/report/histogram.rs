//! A histogram of fixed size for times from microseconds to hours, after HdrHistogram.

use std::time::Duration;

/// Counts times in buckets whose width is at most 1/64 of what they hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    counts: Box<[u64]>,
    count: u64,
    sum_us: u128,
    max_us: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: vec![0; BUCKETS].into_boxed_slice(),
            count: 0,
            sum_us: 0,
            max_us: 0,
        }
    }
}

impl Histogram {
    /// Counts one time.
    pub fn record(&mut self, time_us: u64) {
        self.record_many(time_us, 1);
    }

    /// Counts one time as often as this.
    pub fn record_many(&mut self, time_us: u64, count: u64) {
        if let Some(bucket) = self.counts.get_mut(bucket_of(time_us)) {
            *bucket += count;
        }
        self.count += count;
        self.sum_us += u128::from(time_us) * u128::from(count);
        self.max_us = self.max_us.max(time_us);
    }

    /// Adds what another counted.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.count += other.count;
        self.sum_us += other.sum_us;
        self.max_us = self.max_us.max(other.max_us);
    }

    /// What was counted since an earlier state; all of it when that is no earlier one. The maximum is
    /// that of all.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        if earlier.count > self.count {
            return self.clone();
        }
        let mut since = self.clone();
        for (mine, theirs) in since.counts.iter_mut().zip(&earlier.counts) {
            *mine = mine.saturating_sub(*theirs);
        }
        since.count -= earlier.count;
        since.sum_us = since.sum_us.saturating_sub(earlier.sum_us);
        since
    }

    /// How many times were counted.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The longest, exactly.
    pub const fn max(&self) -> Duration {
        Duration::from_micros(self.max_us)
    }

    /// The mean, exactly.
    pub fn mean(&self) -> Duration {
        let mean = self.sum_us / u128::from(self.count.max(1));
        Duration::from_micros(u64::try_from(mean).unwrap_or(u64::MAX))
    }

    /// The time that `per_mille` of 1000 do not exceed, at most 1/64 too long; zero when empty.
    pub fn quantile(&self, per_mille: u64) -> Duration {
        let rank = (u128::from(self.count) * u128::from(per_mille))
            .div_ceil(1000)
            .max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += u128::from(*count);
            if seen >= rank {
                return Duration::from_micros(highest_in(bucket).min(self.max_us));
            }
        }
        Duration::ZERO
    }
}

/// Up to 127 each has its own bucket; above, each doubling has 64.
fn bucket_of(value: u64) -> usize {
    let value = value.min(VALUE_MAX);
    let shift = (64 - SUB_BITS - 1_u32).saturating_sub(value.leading_zeros());
    usize::try_from(u64::from(shift) * SUB_COUNT + (value >> shift)).unwrap_or(BUCKETS - 1)
}

/// The largest value of a bucket.
fn highest_in(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let shift = (bucket / SUB_COUNT).saturating_sub(1);
    let base = bucket - shift * SUB_COUNT;
    ((base + 1) << shift) - 1
}

const SUB_BITS: u32 = 6;
const SUB_COUNT: u64 = 1 << SUB_BITS;
/// 2^34 us are 4.8 hours.
const VALUE_MAX: u64 = (1 << 34) - 1;
const BUCKETS: usize = (34 - SUB_BITS as usize + 1) << SUB_BITS;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_a_bucket_that_is_close_to_it() {
        let values = (0..3000)
            .chain((0..34).map(|bit| 1 << bit))
            .chain([VALUE_MAX]);
        for value in values {
            let highest = highest_in(bucket_of(value));
            assert!(
                highest >= value && highest - value <= value / 64,
                "{value}: {highest}"
            );
        }
        assert!(bucket_of(u64::MAX) < BUCKETS);
    }

    #[test]
    fn quantiles_of_known_values() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(500), Duration::ZERO);
        (1..=1000).for_each(|value| histogram.record(value * 100));
        let close = |per_mille: u64, wanted: u64| {
            let found = u64::try_from(histogram.quantile(per_mille).as_micros()).unwrap();
            assert!(
                found >= wanted && found - wanted <= wanted / 64,
                "{per_mille}: {found}"
            );
        };
        close(500, 50_000);
        close(990, 99_000);
        assert_eq!(histogram.quantile(1000), Duration::from_millis(100));
        assert_eq!(histogram.max(), Duration::from_millis(100));
        assert_eq!(histogram.mean(), Duration::from_micros(50_050));
    }

    #[test]
    fn two_histograms_add_up() {
        let (mut one, mut other) = (Histogram::default(), Histogram::default());
        one.record(10);
        other.record_many(20, 3);
        one.add(&other);
        assert_eq!((one.count(), one.max()), (4, Duration::from_micros(20)));
        assert_eq!(one.quantile(250), Duration::from_micros(10));
        assert_eq!(one.quantile(260), Duration::from_micros(20));
        let since = one.since(&other);
        assert_eq!(
            (since.count(), since.quantile(1000)),
            (1, Duration::from_micros(10))
        );
        assert_eq!(other.since(&one), other);
    }
}
