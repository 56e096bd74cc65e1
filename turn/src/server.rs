//! The pure machine of one TURN server (RFC 8656): client datagrams in, what goes to peers out, and back.
//!
//! Contract: after a call of `handle_client` drain `poll_open` (answer each with `handle_opened`) and
//! `poll_close`; send the arena before it fills.
#![warn(clippy::indexing_slicing)]

mod allocating;
mod binding;
mod relaying;
mod replies;
mod requests;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use net::stun::Message;
use net::{Arena, Datagram, Path};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use slab::Slab;

use crate::allocation::Allocation;
use crate::attributes::Token;
use crate::auth::{Account, Secrets, User};
use crate::budget::{Bucket, ReplyBudget};
use crate::counts::{Counts, DropReason};
use crate::peer_filter::PeerFilter;
use crate::quotas::{Quotas, Seat};

pub use relaying::{Delivery, ToPeer};

/// What a server is made from.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where our own media listens: the only peers of our own users, reached inside the process.
    pub media: Vec<SocketAddr>,
    /// What clients authenticate with.
    pub secrets: Secrets,
    /// How many allocations there may be.
    pub quotas: Quotas,
    /// Serves those who have credentials made elsewhere; `None`: nobody but our own users.
    pub relay: Option<RelaySettings>,
    /// Answers from another address and port when asked to (RFC 5780).
    pub discovery: Option<Discovery>,
    /// Where its randomness comes from: from the system in a server, fixed in tests.
    pub seed: [u8; 32],
    /// The moment `unix_started` stands for.
    pub started: Instant,
    /// Unix time in seconds at `started`.
    pub unix_started: u64,
}

/// How allocations with real relayed addresses are made.
#[derive(Clone, Debug)]
pub struct RelaySettings {
    /// Their ports.
    pub ports: RangeInclusive<u16>,
    /// Their addresses, best first.
    pub addresses: Vec<RelayAddress>,
    /// Which peers they may reach.
    pub filter: PeerFilter,
    /// What each may carry, both directions together.
    pub allocation_bytes_per_second: u64,
    /// What all of this server may carry; 0: any amount.
    pub total_bytes_per_second: u64,
}

/// An address for relayed ports: what sockets are bound to, and what clients are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayAddress {
    /// An address of this machine.
    pub local: IpAddr,
    /// The same as the outside sees it.
    pub public: IpAddr,
}

/// The two addresses and ports of behaviour discovery (RFC 5780 §3); of one IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Discovery {
    /// Two addresses of this machine.
    pub addresses: [IpAddr; 2],
    /// The port of this server, and the other one.
    pub ports: [u16; 2],
}

/// Sockets that are wanted for an allocation: all or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// To be given back with the outcome.
    pub number: u64,
    /// What to bind.
    pub addresses: Vec<SocketAddr>,
}

/// The STUN and TURN server of one shard.
#[derive(Debug)]
pub struct Server {
    settings: Settings,
    random: StdRng,
    allocations: Slab<Allocation>,
    by_client: HashMap<Path, usize>,
    /// Of real relayed addresses only, as they are bound.
    by_relayed: HashMap<SocketAddr, usize>,
    users: HashSet<User>,
    serial: u64,
    reservations: Vec<Reservation>,
    replies: ReplyBudget,
    total: Option<Bucket>,
    openings: VecDeque<Opening>,
    opening: Option<allocating::Pending>,
    closings: VecDeque<SocketAddr>,
    next_sweep: Option<Instant>,
    counts: Counts,
    /// A test wants the next datagram to end in a panic.
    #[cfg(test)]
    pub(crate) stumbles: bool,
}

/// A relayed port that waits for the allocation it was reserved for (RFC 8656 §7.2).
#[derive(Debug)]
struct Reservation {
    token: Token,
    account: Account,
    /// As it is bound; `None` in the process.
    bound: Option<SocketAddr>,
    public: SocketAddr,
    expires_at: Instant,
    /// Counts as an allocation until it is one.
    seat: Seat,
}

impl Server {
    /// Makes a server without allocations.
    pub fn new(settings: Settings) -> Self {
        let mut random = StdRng::from_seed(settings.seed);
        let started = settings.started;
        let total = settings
            .relay
            .as_ref()
            .map(|relay| relay.total_bytes_per_second);
        let total = total.filter(|rate| *rate > 0);
        Self {
            replies: ReplyBudget::new(started, random.random()),
            total: total.map(|rate| Bucket::new(started, rate, rate / 4)),
            random,
            settings,
            allocations: Slab::new(),
            by_client: HashMap::new(),
            by_relayed: HashMap::new(),
            users: HashSet::new(),
            serial: 0,
            reservations: Vec::new(),
            openings: VecDeque::new(),
            opening: None,
            closings: VecDeque::new(),
            next_sweep: None,
            counts: Counts::default(),
            #[cfg(test)]
            stumbles: false,
        }
    }

    /// A new machine in the place of one that panicked: its allocations are gone, its users stay.
    ///
    /// Numbers go on and nothing random comes again: what the media core keeps of an allocation that is gone
    /// must not lead to a new one.
    pub(crate) fn succeed(&mut self) -> Self {
        let mut settings = self.settings.clone();
        settings.seed = self.random.random();
        Self {
            users: std::mem::take(&mut self.users),
            serial: self.serial,
            ..Self::new(settings)
        }
    }

    /// Takes in what a client sent; what it wants a peer to have comes back.
    ///
    /// Replies go into the arena, which has room for one (`Arena::reserve` gives some).
    pub fn handle_client<'b>(
        &mut self,
        now: Instant,
        datagram: Datagram<'b>,
        arena: &mut Arena,
    ) -> Option<ToPeer<'b>> {
        #[cfg(test)]
        assert!(!self.stumbles, "a test wants this");
        let Datagram { path, bytes, .. } = datagram;
        match bytes.first() {
            Some(0x40..=0x7f) => self.relay_channel_data(now, path, bytes),
            Some(0x00..=0x3f) => {
                let indicated = {
                    let Some(message) = Message::parse(bytes) else {
                        self.counts.dropped(DropReason::Malformed);
                        return None;
                    };
                    self.handle_message(now, path, &message, arena)?
                };
                self.relay_indication(now, path, indicated, bytes)
            }
            _ => {
                self.counts.dropped(DropReason::Malformed);
                None
            }
        }
    }

    /// Lets one of our own users use its credentials.
    pub fn handle_joined(&mut self, user: User) {
        self.users.insert(user);
    }

    /// Ends one of our own users: its allocations are gone and its credentials are worth nothing.
    pub fn handle_left(&mut self, user: User) {
        if self.users.remove(&user) {
            self.remove_where(|allocation| allocation.account == Account::User(user));
        }
    }

    /// Ends all users that are not there any more.
    pub fn retain_users(&mut self, is_here: &dyn Fn(User) -> bool) {
        let gone = self.users.iter().filter(|user| !is_here(**user));
        let gone: Vec<User> = gone.copied().collect();
        gone.into_iter().for_each(|user| self.handle_left(user));
    }

    /// Ends the allocations of a connection that has closed (RFC 8656 §3.1).
    pub fn handle_closed(&mut self, client: Path) {
        if let Some(key) = self.by_client.get(&client) {
            self.remove(*key);
        }
    }

    /// Ends what has expired.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.next_sweep.is_none_or(|at| now < at) {
            return;
        }
        self.remove_where(|allocation| allocation.expires_at <= now);
        let reservations = std::mem::take(&mut self.reservations);
        for reservation in reservations {
            if now < reservation.expires_at {
                self.reservations.push(reservation);
            } else {
                self.closings.extend(reservation.bound);
            }
        }
        let is_idle = self.allocations.is_empty() && self.reservations.is_empty();
        self.next_sweep = (!is_idle).then_some(now + SWEEP_INTERVAL);
    }

    /// When `handle_timeout` has something to do; `None`: nothing pending.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next_sweep
    }

    /// Sockets to open, to be answered with `handle_opened` before anything else.
    pub fn poll_open(&mut self) -> Option<Opening> {
        self.openings.pop_front()
    }

    /// A socket to close.
    pub fn poll_close(&mut self) -> Option<SocketAddr> {
        self.closings.pop_front()
    }

    /// What was counted since the start.
    pub fn counts(&self) -> Counts {
        let mut counts = self.counts.clone();
        counts.allocations = self.allocations.len() as u64;
        counts
    }

    /// Whether a path has an allocation.
    pub fn has_allocation(&self, path: &Path) -> bool {
        self.by_client.contains_key(path)
    }

    /// Our own users that are let in.
    pub fn users(&self) -> &HashSet<User> {
        &self.users
    }

    /// Sets the wall clock, which may have been stepped: at `now` it is `unix_time`, in seconds.
    pub fn set_clock(&mut self, now: Instant, unix_time: u64) {
        (self.settings.started, self.settings.unix_started) = (now, unix_time);
    }

    /// Unix time in seconds.
    fn unix_time(&self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.settings.started);
        self.settings.unix_started + elapsed.as_secs()
    }

    fn schedule_sweep(&mut self, now: Instant) {
        self.next_sweep.get_or_insert(now + SWEEP_INTERVAL);
    }

    fn remove_where(&mut self, is_over: impl Fn(&Allocation) -> bool) {
        let over = self
            .allocations
            .iter()
            .filter(|(_, allocation)| is_over(allocation));
        let over: Vec<usize> = over.map(|(key, _)| key).collect();
        over.into_iter().for_each(|key| self.remove(key));
    }

    fn remove(&mut self, key: usize) {
        let Some(allocation) = self.allocations.try_remove(key) else {
            return;
        };
        self.by_client.remove(&allocation.client);
        let closings = &mut self.closings;
        self.by_relayed.retain(|address, owner| {
            if *owner == key {
                closings.push_back(*address);
            }
            *owner != key
        });
    }
}

/// How often expired allocations are looked for; they may live this much longer.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// A reserved port waits this long (RFC 8656 §7.2: at least 30 s).
const RESERVATION_LIFETIME: Duration = Duration::from_secs(30);
