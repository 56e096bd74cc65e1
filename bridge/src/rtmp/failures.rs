//! Wrong keys are counted by where they come from: who guesses is not listened to for a while.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Failures of each address within the last minute, for so many addresses at most.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    sources: HashMap<IpAddr, Source>,
}

#[derive(Clone, Copy, Debug)]
struct Source {
    count: u32,
    ends_at: Instant,
}

impl Failures {
    /// Whether that address may try.
    pub(crate) fn may_try(&self, now: Instant, address: IpAddr) -> bool {
        let source = self.sources.get(&network(address));
        source.is_none_or(|source| source.ends_at <= now || source.count < FAILURES_MAX)
    }

    /// A key from there was wrong.
    pub(crate) fn count(&mut self, now: Instant, address: IpAddr) {
        let network = network(address);
        if self.sources.len() >= SOURCES_MAX && !self.sources.contains_key(&network) {
            self.make_room(now);
        }
        let fresh = Source {
            count: 0,
            ends_at: now + PERIOD,
        };
        let source = self.sources.entry(network).or_insert(fresh);
        if source.ends_at <= now {
            *source = fresh;
        }
        source.count = source.count.saturating_add(1);
    }

    /// Forgets what is over; if nothing is, who has failed least.
    fn make_room(&mut self, now: Instant) {
        self.sources.retain(|_, source| source.ends_at > now);
        if self.sources.len() >= SOURCES_MAX {
            let least = self
                .sources
                .iter()
                .min_by_key(|(_, source)| (source.count, source.ends_at));
            if let Some(network) = least.map(|(network, _)| *network) {
                self.sources.remove(&network);
            }
        }
    }
}

/// What counts as one source: an IPv4 address, or an IPv6 network of 64 bits.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) >> 64 << 64;
            IpAddr::V6(network.into())
        }
        address => address,
    }
}

const FAILURES_MAX: u32 = 10;
const PERIOD: Duration = Duration::from_secs(60);
const SOURCES_MAX: usize = 4096;

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "where the virtual clock starts")]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    #[test]
    fn ten_failures_a_minute_are_the_most() {
        let now = Instant::now();
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        let mut failures = Failures::default();
        for _ in 0..FAILURES_MAX {
            assert!(failures.may_try(now, address));
            failures.count(now, address);
        }
        assert!(!failures.may_try(now, address));
        assert!(!failures.may_try(now, "::ffff:192.0.2.1".parse().unwrap()));
        assert!(failures.may_try(now, "192.0.2.2".parse().unwrap()));
        assert!(failures.may_try(now + PERIOD, address));
        failures.count(now + PERIOD, address);
        assert!(failures.may_try(now + PERIOD, address));
    }

    #[test]
    fn a_network_of_ipv6_is_one_source_and_their_number_has_an_end() {
        let now = Instant::now();
        let mut failures = Failures::default();
        for host in 0..u16::try_from(FAILURES_MAX).unwrap() {
            failures.count(
                now,
                Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, host).into(),
            );
        }
        let guesser: IpAddr = "2001:db8:0:1::ffff".parse().unwrap();
        assert!(!failures.may_try(now, guesser));
        for network in 2..6000 {
            failures.count(
                now,
                Ipv6Addr::new(0x2001, 0xdb8, 0, network, 0, 0, 0, 1).into(),
            );
        }
        assert_eq!(failures.sources.len(), SOURCES_MAX);
        assert!(!failures.may_try(now, guesser));
    }
}
