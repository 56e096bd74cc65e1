//! The network between browsers and a shard: seeded loss, delay, jitter, reordering, duplicates, rate.
//!
//! A pure machine: time is an argument, and the same seed and calls give the same deliveries.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sfu::shard::{Path, Protocol};

/// Which way a datagram travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Direction {
    /// To the shard.
    Up,
    /// To the browser.
    Down,
}

/// What one direction of one browser's access does to datagrams.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub(crate) loss: f64,
    pub(crate) delay: Duration,
    /// Up to this much is added to the delay; order is kept.
    pub(crate) jitter: Duration,
    /// Share of datagrams that are held back by up to 30 ms and overtaken.
    pub(crate) reorder: f64,
    pub(crate) duplicate: f64,
    pub(crate) rate_bps: Option<u64>,
}

impl Link {
    /// 10 ms of delay and nothing else.
    pub(crate) const GOOD: Self = Self {
        loss: 0.0,
        delay: Duration::from_millis(10),
        jitter: Duration::ZERO,
        reorder: 0.0,
        duplicate: 0.0,
        rate_bps: None,
    };

    pub(crate) fn losing(share: f64) -> Self {
        Self {
            loss: share,
            ..Self::GOOD
        }
    }

    pub(crate) fn reordering(share: f64) -> Self {
        Self {
            reorder: share,
            ..Self::GOOD
        }
    }

    pub(crate) fn duplicating(share: f64) -> Self {
        Self {
            duplicate: share,
            ..Self::GOOD
        }
    }
}

/// A queue longer than this on a limited rate loses what comes after.
const QUEUE_MAX: Duration = Duration::from_millis(300);

/// A datagram that has arrived.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) direction: Direction,
    pub(crate) path: Path,
    pub(crate) bytes: Vec<u8>,
}

struct Flight {
    at: Instant,
    order: u64,
    delivery: Delivery,
}

impl PartialEq for Flight {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Flight {}
impl PartialOrd for Flight {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Flight {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// All links; a browser is known by its IP address.
pub(crate) struct Network {
    random: StdRng,
    links: HashMap<(IpAddr, Direction), Link>,
    free_at: HashMap<(IpAddr, Direction), Instant>,
    last_arrival: HashMap<(Path, Direction), Instant>,
    in_flight: BinaryHeap<Reverse<Flight>>,
    order: u64,
    pub(crate) lost: u64,
}

impl Network {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            links: HashMap::new(),
            free_at: HashMap::new(),
            last_arrival: HashMap::new(),
            in_flight: BinaryHeap::new(),
            order: 0,
            lost: 0,
        }
    }

    /// Changes one direction of a browser's access from now on.
    pub(crate) fn set(&mut self, browser: IpAddr, direction: Direction, link: Link) {
        self.links.insert((browser, direction), link);
    }

    pub(crate) fn send(&mut self, now: Instant, direction: Direction, path: Path, bytes: Vec<u8>) {
        let key = (path.remote.ip(), direction);
        let link = self.links.get(&key).copied().unwrap_or(Link::GOOD);
        // Drawn for every datagram, so that what is lost does not depend on its neighbours.
        let [loss, duplicate, reorder, jitter] = [(); 4].map(|()| self.random.random::<f64>());
        let is_reliable = matches!(path.protocol, Protocol::Tcp(_));
        if loss < link.loss && !is_reliable {
            self.lost += 1;
            return;
        }
        let Some(departure) = self.depart(now, key, &link, &bytes) else {
            self.lost += 1;
            return;
        };
        let arrival = departure + link.delay + link.jitter.mul_f64(jitter);
        let last = self
            .last_arrival
            .entry((path, direction))
            .or_insert(arrival);
        let at = if reorder < link.reorder && !is_reliable {
            arrival + Duration::from_millis(5) + Duration::from_millis(25).mul_f64(jitter)
        } else {
            *last = arrival.max(*last);
            *last
        };
        if duplicate < link.duplicate && !is_reliable {
            self.deliver_at(
                at + Duration::from_millis(3),
                direction,
                path,
                bytes.clone(),
            );
        }
        self.deliver_at(at, direction, path, bytes);
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.in_flight.peek().map(|Reverse(flight)| flight.at)
    }

    /// The next datagram that has arrived by `now`.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<Delivery> {
        let due = self.in_flight.peek().is_some_and(|f| f.0.at <= now);
        due.then(|| self.in_flight.pop().map(|f| f.0.delivery))
            .flatten()
    }

    /// When the last byte leaves on a limited rate; `None`: the queue is full.
    fn depart(
        &mut self,
        now: Instant,
        key: (IpAddr, Direction),
        link: &Link,
        bytes: &[u8],
    ) -> Option<Instant> {
        let Some(rate) = link.rate_bps else {
            return Some(now);
        };
        // The size of DTLS messages varies with their signatures, which no seed decides.
        let is_dtls = bytes.first().is_some_and(|byte| (20..64).contains(byte));
        let length = if is_dtls { 1200 } else { bytes.len() + 28 };
        let free = self.free_at.entry(key).or_insert(now);
        let start = (*free).max(now);
        if start - now > QUEUE_MAX {
            return None;
        }
        *free = start + Duration::from_nanos(length as u64 * 8_000_000_000 / rate);
        Some(*free)
    }

    fn deliver_at(&mut self, at: Instant, direction: Direction, path: Path, bytes: Vec<u8>) {
        self.order += 1;
        let delivery = Delivery {
            direction,
            path,
            bytes,
        };
        let order = self.order;
        self.in_flight.push(Reverse(Flight {
            at,
            order,
            delivery,
        }));
    }
}
