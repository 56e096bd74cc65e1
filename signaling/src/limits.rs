//! Token buckets: how often something may happen, alone and for each of many callers.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// A rate and how far it may be exceeded for a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Times a second in the long run, at least 1.
    pub per_second: u32,
    /// Times at once, at least 1.
    pub burst: u32,
}

/// Counts one caller against a [`Rate`].
#[derive(Clone, Debug)]
pub struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    /// A full bucket.
    pub fn new(now: Instant, rate: Rate) -> Self {
        Self {
            tokens: f64::from(rate.burst),
            at: now,
        }
    }

    /// Takes one token.
    ///
    /// # Errors
    /// How long to wait for the next one.
    pub fn take(&mut self, now: Instant, rate: Rate) -> Result<(), Duration> {
        self.refill(now, rate);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64(
            (1.0 - self.tokens) / f64::from(rate.per_second.max(1)),
        ))
    }

    fn refill(&mut self, now: Instant, rate: Rate) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        let tokens = self.tokens + passed * f64::from(rate.per_second.max(1));
        self.tokens = tokens.min(f64::from(rate.burst.max(1)));
        self.at = now;
    }
}

/// One bucket for each caller; callers whose bucket is full again are forgotten.
#[derive(Debug)]
pub struct Buckets<K> {
    rate: Rate,
    buckets: HashMap<K, Bucket>,
}

/// Beyond this many callers at a time new ones share one verdict: refused. 64 Ki callers with partly
/// used buckets at once are an attack, and the map must not grow with it.
const CALLERS_MAX: usize = 1 << 16;

impl<K: Eq + Hash> Buckets<K> {
    /// No callers yet.
    pub fn new(rate: Rate) -> Self {
        Self {
            rate,
            buckets: HashMap::new(),
        }
    }

    /// Takes one token of this caller.
    ///
    /// # Errors
    /// How long to wait for the next one.
    pub fn take(&mut self, now: Instant, caller: K) -> Result<(), Duration> {
        let rate = self.rate;
        if self.buckets.len() >= CALLERS_MAX && !self.buckets.contains_key(&caller) {
            self.forget_idle(now);
            if self.buckets.len() >= CALLERS_MAX {
                return Err(Duration::from_secs(1));
            }
        }
        self.buckets
            .entry(caller)
            .or_insert_with(|| Bucket::new(now, rate))
            .take(now, rate)
    }

    /// Forgets callers whose bucket is full; call now and then.
    pub fn forget_idle(&mut self, now: Instant) {
        let rate = self.rate;
        self.buckets.retain(|_, bucket| {
            bucket.refill(now, rate);
            bucket.tokens < f64::from(rate.burst)
        });
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests start from some moment")]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        per_second: 10,
        burst: 3,
    };

    #[test]
    fn allows_the_burst_then_the_rate() {
        let now = Instant::now();
        let mut bucket = Bucket::new(now, RATE);
        for _ in 0..3 {
            assert_eq!(bucket.take(now, RATE), Ok(()));
        }
        let wait = bucket.take(now, RATE).unwrap_err();
        assert!(wait > Duration::from_millis(90) && wait <= Duration::from_millis(100));
        assert_eq!(bucket.take(now + Duration::from_millis(101), RATE), Ok(()));
        assert!(bucket.take(now + Duration::from_millis(101), RATE).is_err());
    }

    #[test]
    fn callers_do_not_share_and_idle_ones_are_forgotten() {
        let now = Instant::now();
        let mut buckets = Buckets::new(RATE);
        for _ in 0..3 {
            buckets.take(now, "a").unwrap();
        }
        assert!(buckets.take(now, "a").is_err());
        buckets.take(now, "b").unwrap();
        buckets.forget_idle(now + Duration::from_millis(150));
        assert_eq!(buckets.buckets.len(), 1, "b is full again, a is not");
    }
}
