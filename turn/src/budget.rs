//! Token buckets: what may be sent to sources that have proven nothing, and what an allocation carries.
#![warn(clippy::indexing_slicing)]

use std::net::IpAddr;
use std::time::{Duration, Instant};

/// A bucket of bytes that fills with time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    bytes_per_second: u64,
    burst_bytes: u64,
    /// Bytes left at `at`.
    left: u64,
    at: Instant,
}

impl Bucket {
    /// A full bucket.
    pub(crate) fn new(now: Instant, bytes_per_second: u64, burst_bytes: u64) -> Self {
        Self {
            bytes_per_second,
            burst_bytes,
            left: burst_bytes,
            at: now,
        }
    }

    /// Takes `bytes` out, if they are there.
    pub(crate) fn take(&mut self, now: Instant, bytes: usize) -> bool {
        let elapsed = now.saturating_duration_since(self.at);
        let gained = elapsed.as_micros() * u128::from(self.bytes_per_second) / 1_000_000;
        if gained > 0 {
            // What is less than a byte goes on counting.
            self.at = now;
            let gained = u64::try_from(gained).unwrap_or(u64::MAX);
            self.left = self.left.saturating_add(gained).min(self.burst_bytes);
        }
        let is_there = self.left >= bytes as u64;
        if is_there {
            self.left -= bytes as u64;
        }
        is_there
    }
}

/// What replies to unproven sources may cost: by source, and for all of them.
///
/// Sources share a fixed table by a keyed hash, so that a million of them take no more memory than one.
#[derive(Debug)]
pub(crate) struct ReplyBudget {
    key: u64,
    sources: Box<[Source]>,
    all: Bucket,
    started: Instant,
}

/// A bucket as small as it can be.
#[derive(Clone, Copy, Debug)]
struct Source {
    /// Bytes left at `at_ms`.
    left: u32,
    /// Milliseconds since the start.
    at_ms: u32,
}

impl ReplyBudget {
    /// `key` is random: nobody can aim at the place of another source.
    pub(crate) fn new(now: Instant, key: u64) -> Self {
        let full = Source {
            left: SOURCE_BURST_BYTES,
            at_ms: 0,
        };
        Self {
            key,
            sources: vec![full; SOURCES].into_boxed_slice(),
            all: Bucket::new(now, ALL_BYTES_PER_SECOND, ALL_BURST_BYTES),
            started: now,
        }
    }

    /// Whether a source that sent `request` bytes may be answered with `reply` bytes now.
    ///
    /// At most four times the request and 100 bytes, and within what the source and all together have left.
    pub(crate) fn take(&mut self, now: Instant, ip: IpAddr, request: usize, reply: usize) -> bool {
        if reply > reply_bytes_max(request) {
            return false;
        }
        let elapsed = now.saturating_duration_since(self.started);
        let now_ms = u32::try_from(elapsed.as_millis() & 0xffff_ffff).unwrap_or_default();
        let place = self.place(ip);
        let Some(source) = self.sources.get_mut(place) else {
            return false;
        };
        let gained = now_ms
            .wrapping_sub(source.at_ms)
            .saturating_mul(SOURCE_BYTES_PER_MS);
        source.left = source.left.saturating_add(gained).min(SOURCE_BURST_BYTES);
        source.at_ms = now_ms;
        let bytes = u32::try_from(reply).unwrap_or(u32::MAX);
        if source.left < bytes || !self.all.take(now, reply) {
            return false;
        }
        source.left -= bytes;
        true
    }

    /// An IPv4 address, or the /64 an IPv6 host has to itself, counts as one source.
    fn place(&self, ip: IpAddr) -> usize {
        let bits = match ip {
            IpAddr::V4(ip) => u64::from(ip.to_bits()),
            IpAddr::V6(ip) => high_half(ip.to_bits()),
        };
        // Two rounds of multiply and fold (as in wyhash): the key decides where a source falls.
        let mixed = fold(bits ^ self.key, 0x9e37_79b9_7f4a_7c15);
        let mixed = fold(mixed ^ self.key.rotate_left(32), 0xd6e8_feb8_6659_fd93);
        usize::try_from(mixed % SOURCES as u64).unwrap_or_default()
    }
}

/// The longest reply to an unproven request.
pub(crate) fn reply_bytes_max(request: usize) -> usize {
    (4 * request).min(REPLY_BYTES_MAX)
}

#[expect(clippy::cast_possible_truncation, reason = "the halves of a product")]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}

fn high_half(bits: u128) -> u64 {
    (bits >> 64) as u64
}

/// What a source that lies about its address can make us send to that address at once.
const REPLY_BYTES_MAX: usize = 100;
const SOURCES: usize = 1 << 14;
/// 10 kB/s: 100 challenges a second, for offices behind one address.
const SOURCE_BYTES_PER_MS: u32 = 10;
const SOURCE_BURST_BYTES: u32 = 20_000;
/// A shard's replies to unproven sources stay below 8 Mbit/s, whoever floods it.
const ALL_BYTES_PER_SECOND: u64 = 1_000_000;
const ALL_BURST_BYTES: u64 = 1_000_000;
/// What an allocation may send at once: this long at its rate.
pub(crate) const BURST: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "where the virtual clock starts")]
        Instant::now()
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let now = start();
        let mut bucket = Bucket::new(now, 1000, 500);
        let mut taken = 0;
        for ms in 0..10_000 {
            while bucket.take(now + Duration::from_millis(ms), 50) {
                taken += 50;
            }
        }
        assert!((10_400..=10_500).contains(&taken), "{taken}");
    }

    #[test]
    fn no_reply_exceeds_four_times_its_request_nor_100_bytes() {
        let now = start();
        let mut budget = ReplyBudget::new(now, 7);
        let ip = "192.0.2.1".parse().unwrap();
        assert!(budget.take(now, ip, 20, 80) && !budget.take(now, ip, 20, 81));
        assert!(budget.take(now, ip, 500, 100) && !budget.take(now, ip, 500, 101));
    }

    #[test]
    fn one_source_gets_no_more_than_its_share_and_others_get_theirs() {
        let now = start();
        let mut budget = ReplyBudget::new(now, 7);
        let noisy = "192.0.2.1".parse().unwrap();
        let mut sent = 0;
        for ms in 0..10_000 {
            for _ in 0..20 {
                sent += u64::from(budget.take(now + Duration::from_millis(ms), noisy, 28, 88)) * 88;
            }
        }
        assert!((110_000..=121_000).contains(&sent), "{sent} bytes in 10 s");
        let end = now + Duration::from_secs(10);
        let others = (1..=50).map(|last| IpAddr::from([203, 0, 113, last]));
        let answered = others.filter(|ip| budget.take(end, *ip, 28, 88)).count();
        assert!(
            answered >= 49,
            "one of them may share the place of the noisy one"
        );
    }

    #[test]
    fn a_flood_from_many_sources_stays_within_the_budget_of_all() {
        let now = start();
        let mut budget = ReplyBudget::new(now, 7);
        let mut sent = 0;
        for number in 0..1_000_000u32 {
            let at = now + Duration::from_micros(u64::from(number));
            let ip = IpAddr::from(number.wrapping_mul(2_654_435_761).to_be_bytes());
            sent += u64::from(budget.take(at, ip, 28, 88)) * 88;
        }
        assert!(
            sent <= ALL_BURST_BYTES + ALL_BYTES_PER_SECOND,
            "{sent} bytes in 1 s"
        );
    }

    #[test]
    fn an_ipv6_network_is_one_source() {
        let budget = ReplyBudget::new(start(), 7);
        let place = |text: &str| budget.place(text.parse().unwrap());
        assert_eq!(place("2001:db8:1:2::1"), place("2001:db8:1:2:ffff::9"));
        assert_ne!(place("2001:db8:1:2::1"), place("2001:db8:1:3::1"));
    }
}
