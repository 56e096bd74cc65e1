//! Allocate requests (RFC 8656 §7): what is wanted, whether it may be had, and where.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use net::Arena;
use net::stun::{Class, Message, XOR_MAPPED_ADDRESS};
use rand::Rng;

use super::replies::put_addresses;
use super::requests::{
    BAD_REQUEST, ErrorCode, FAMILY_UNSUPPORTED, INSUFFICIENT_CAPACITY, MISMATCH, QUOTA_REACHED,
    Request, TRANSPORT_UNSUPPORTED, UNAUTHORIZED,
};
use super::{Opening, RESERVATION_LIFETIME, RelayAddress, RelaySettings, Reservation, Server};
use crate::allocation::{Allocation, LIFETIME_DEFAULT};
use crate::attributes::{
    Attributes, Family, LIFETIME, RESERVATION_TOKEN, Token, XOR_RELAYED_ADDRESS,
};
use crate::auth::Account;
use crate::budget::{BURST, Bucket};
use crate::quotas::Seat;

/// An Allocate request that waits for its sockets.
#[derive(Debug)]
pub(super) struct Pending {
    allocation: Allocation,
    /// As they are bound, with what clients are told.
    addresses: Vec<(SocketAddr, SocketAddr)>,
    reservation: Option<Reservation>,
    wanted: Wanted,
    tries_left: u32,
    /// To write the reply with.
    request: Vec<u8>,
}

/// What an Allocate request asks for.
#[derive(Clone, Debug)]
struct Wanted {
    families: Vec<Family>,
    /// An even port, and whether the next is to be reserved.
    even_port: Option<bool>,
}

impl Server {
    pub(super) fn allocate(
        &mut self,
        request: &Request<'_, '_>,
        account: Option<Account>,
        arena: &mut Arena,
    ) -> Result<(), ErrorCode> {
        let Request {
            now,
            path,
            message,
            attributes,
            key,
        } = *request;
        if let Some(known) = self.by_client.get(&path).copied() {
            let same = |allocation: &Allocation| {
                allocation.transaction_id == message.transaction_id && account.is_none()
            };
            if !self.allocations.get(known).is_some_and(same) {
                return Err(MISMATCH);
            }
            self.confirm(known, message, arena);
            return Ok(());
        }
        let wanted = wanted(attributes)?;
        let account = account.ok_or(UNAUTHORIZED)?;
        let username = attributes.username.ok_or(BAD_REQUEST)?.to_owned();
        let reservation = match attributes.token {
            Some(token) => Some(self.take_reservation(&token, &account)?),
            None => None,
        };
        let seat = match &reservation {
            Some(_) => None,
            None => Some(self.settings.quotas.take(&account).ok_or(QUOTA_REACHED)?),
        };
        let rate = self
            .settings
            .relay
            .as_ref()
            .map_or(0, |relay| relay.allocation_bytes_per_second);
        let burst = rate * u64::try_from(BURST.as_millis()).unwrap_or_default() / 1000;
        let bandwidth = Bucket::new(now, rate, burst);
        self.serial += 1;
        let who = (account, username, key);
        let id = message.transaction_id;
        let (reserved, seat) = match (reservation, seat) {
            (Some(reservation), _) => (
                Some((reservation.bound, reservation.public)),
                reservation.seat,
            ),
            (None, Some(seat)) => (None, seat),
            (None, None) => return Err(QUOTA_REACHED),
        };
        let mut allocation = Allocation::new(now, (path, self.serial), who, (bandwidth, seat), id);
        if let Some((bound, public)) = reserved {
            let bound: Vec<_> = bound.map(|bound| (bound, public)).into_iter().collect();
            allocation.relayed = vec![public];
            self.insert(allocation, &bound, message, arena);
            return Ok(());
        }
        match &allocation.account {
            Account::User(_) => self.allocate_own(allocation, &wanted, message, arena),
            Account::Shared(_) => self.allocate_sockets(allocation, wanted, message),
        }
    }

    /// Allocates addresses that exist in this process only.
    fn allocate_own(
        &mut self,
        mut allocation: Allocation,
        wanted: &Wanted,
        message: &Message<'_>,
        arena: &mut Arena,
    ) -> Result<(), ErrorCode> {
        let local = allocation.client.local.ip();
        let media = &self.settings.media;
        let ip_of = |family: Family| {
            let is_fit = |address: &&SocketAddr| Family::of(**address) == family;
            let reached = media
                .iter()
                .find(|address| address.ip() == local && is_fit(address));
            reached
                .or_else(|| media.iter().find(is_fit))
                .map(SocketAddr::ip)
        };
        let had: Vec<Option<IpAddr>> = wanted
            .families
            .iter()
            .map(|family| ip_of(*family))
            .collect();
        let Some(first) = had.first().copied().flatten() else {
            return Err(FAMILY_UNSUPPORTED);
        };
        if had.get(1) == Some(&None) {
            allocation.missing = wanted.families.get(1).copied();
        }
        let now = allocation.expires_at - LIFETIME_DEFAULT;
        let port = self.random.random_range(VIRTUAL_PORTS)
            & if wanted.even_port.is_some() { !1 } else { !0 };
        let relayed: Vec<SocketAddr> = had
            .into_iter()
            .flatten()
            .map(|ip| SocketAddr::new(ip, port))
            .collect();
        if wanted.even_port == Some(true) {
            let account = allocation.account.clone();
            let seat = self
                .settings
                .quotas
                .take(&account)
                .ok_or(INSUFFICIENT_CAPACITY)?;
            let public = SocketAddr::new(first, port + 1);
            let reservation = self.reserve(now, (account, seat), None, public);
            allocation.reserved = Some(reservation.token);
            self.reservations.push(reservation);
        }
        allocation.relayed = relayed;
        self.insert(allocation, &[], message, arena);
        Ok(())
    }

    /// Asks for the sockets of an allocation.
    fn allocate_sockets(
        &mut self,
        allocation: Allocation,
        wanted: Wanted,
        message: &Message<'_>,
    ) -> Result<(), ErrorCode> {
        let reservation = match wanted.even_port {
            Some(true) => {
                let account = allocation.account.clone();
                let seat = self
                    .settings
                    .quotas
                    .take(&account)
                    .ok_or(INSUFFICIENT_CAPACITY)?;
                let now = allocation.expires_at - LIFETIME_DEFAULT;
                let nowhere = allocation.client.local;
                Some(self.reserve(now, (account, seat), None, nowhere))
            }
            _ => None,
        };
        let pending = Pending {
            allocation,
            addresses: Vec::new(),
            reservation,
            wanted,
            tries_left: PORT_TRIES,
            request: message.bytes().to_vec(),
        };
        self.try_ports(pending)
    }

    /// Draws ports and asks for sockets there.
    fn try_ports(&mut self, mut pending: Pending) -> Result<(), ErrorCode> {
        let relay = self.settings.relay.as_ref().ok_or(UNAUTHORIZED)?;
        let port =
            draw_port(&mut self.random, relay, &pending.wanted).ok_or(INSUFFICIENT_CAPACITY)?;
        let local = pending.allocation.client.local.ip();
        pending.addresses.clear();
        for (place, family) in pending.wanted.families.iter().enumerate() {
            match relay_address(relay, *family, local) {
                Some(address) => pending.addresses.push((
                    SocketAddr::new(address.local, port),
                    SocketAddr::new(address.public, port),
                )),
                None if place == 0 => return Err(FAMILY_UNSUPPORTED),
                None => pending.allocation.missing = Some(*family),
            }
        }
        let mut addresses: Vec<SocketAddr> =
            pending.addresses.iter().map(|(bound, _)| *bound).collect();
        if let (Some(reservation), Some((bound, public))) =
            (&mut pending.reservation, pending.addresses.first())
        {
            let next = |address: &SocketAddr| SocketAddr::new(address.ip(), port + 1);
            (reservation.bound, reservation.public) = (Some(next(bound)), next(public));
            addresses.push(next(bound));
        }
        let number = pending.allocation.serial;
        self.openings.push_back(Opening { number, addresses });
        self.opening = Some(pending);
        Ok(())
    }

    /// Says whether the sockets of an [`Opening`] could be had, all of them.
    pub fn handle_opened(&mut self, number: u64, are_open: bool, arena: &mut Arena) {
        let Some(mut pending) = self.opening.take() else {
            return;
        };
        if pending.allocation.serial != number {
            self.opening = Some(pending);
            return;
        }
        let request = std::mem::take(&mut pending.request);
        let Some(message) = Message::parse(&request) else {
            return;
        };
        let (path, key) = (pending.allocation.client, pending.allocation.key);
        let outcome = if are_open {
            let mut allocation = pending.allocation;
            let public = pending.addresses.iter().map(|(_, public)| *public);
            allocation.relayed = public.collect();
            allocation.reserved = pending.reservation.as_ref().map(|reserved| reserved.token);
            self.reservations.extend(pending.reservation);
            self.insert(allocation, &pending.addresses, &message, arena);
            Ok(())
        } else if pending.tries_left > 1 {
            pending.tries_left -= 1;
            pending.request.clone_from(&request);
            self.try_ports(pending)
        } else {
            Err(INSUFFICIENT_CAPACITY)
        };
        if let Err(code) = outcome {
            self.counts.refused += 1;
            self.reply((path, &message), (Class::Error, &key), arena, |writer| {
                writer.put_error(code)
            });
        }
    }

    fn insert(
        &mut self,
        mut allocation: Allocation,
        bound: &[(SocketAddr, SocketAddr)],
        message: &Message<'_>,
        arena: &mut Arena,
    ) {
        allocation.bound = bound.iter().map(|(bound, _)| *bound).collect();
        let client = allocation.client;
        let now = allocation.expires_at - LIFETIME_DEFAULT;
        let key = self.allocations.insert(allocation);
        self.by_client.insert(client, key);
        self.by_relayed
            .extend(bound.iter().map(|(bound, _)| (*bound, key)));
        self.counts.allocated += 1;
        self.schedule_sweep(now);
        self.confirm(key, message, arena);
    }

    /// Tells a client what it got.
    fn confirm(&self, key: usize, message: &Message<'_>, arena: &mut Arena) {
        let Some(allocation) = self.allocations.get(key) else {
            return;
        };
        let (path, proof) = (allocation.client, &allocation.key);
        self.reply((path, message), (Class::Success, proof), arena, |writer| {
            put_addresses(writer, XOR_RELAYED_ADDRESS, &allocation.relayed)?;
            let seconds = u32::try_from(LIFETIME_DEFAULT.as_secs()).ok()?;
            writer.put(LIFETIME, &seconds.to_be_bytes())?;
            if let Some(token) = &allocation.reserved {
                writer.put(RESERVATION_TOKEN, token)?;
            }
            if let Some(family) = allocation.missing {
                let family = if family == Family::V4 { 1 } else { 2 };
                writer.put(ADDRESS_ERROR_CODE, &[family, 0, 4, 40])?;
            }
            writer.put_xor_address(XOR_MAPPED_ADDRESS, allocation.client.remote)
        });
    }

    fn reserve(
        &mut self,
        now: Instant,
        (account, seat): (Account, Seat),
        bound: Option<SocketAddr>,
        public: SocketAddr,
    ) -> Reservation {
        self.schedule_sweep(now);
        Reservation {
            token: self.random.random(),
            account,
            bound,
            public,
            expires_at: now + RESERVATION_LIFETIME,
            seat,
        }
    }

    /// A token is good for the account it was given to.
    fn take_reservation(
        &mut self,
        token: &Token,
        account: &Account,
    ) -> Result<Reservation, ErrorCode> {
        let mut reservations = self.reservations.iter();
        let place = reservations
            .position(|reservation| reservation.token == *token && reservation.account == *account);
        let place = place.ok_or(INSUFFICIENT_CAPACITY)?;
        Ok(self.reservations.swap_remove(place))
    }
}

/// What an Allocate request asks for, after the checks of RFC 8656 §7.2 in their order.
fn wanted(attributes: &Attributes<'_>) -> Result<Wanted, ErrorCode> {
    match attributes.transport {
        None => return Err(BAD_REQUEST),
        Some(UDP) => {}
        Some(_) => return Err(TRANSPORT_UNSUPPORTED),
    }
    let (family, additional) = (attributes.family, attributes.additional_family);
    let excludes_token = attributes.even_port.is_some() || family.is_some() || additional.is_some();
    let is_contradictory = attributes.token.is_some() && excludes_token
        || family.is_some() && additional.is_some()
        || additional == Some(Family::V4)
        || additional.is_some() && attributes.even_port == Some(true);
    if is_contradictory {
        return Err(BAD_REQUEST);
    }
    if attributes.has_unknown_family {
        return Err(FAMILY_UNSUPPORTED);
    }
    let mut families = vec![family.unwrap_or(Family::V4)];
    families.extend(additional);
    Ok(Wanted {
        families,
        even_port: attributes.even_port,
    })
}

/// A random port, even where asked for, with the next one in range where that is reserved too.
fn draw_port(random: &mut impl Rng, relay: &RelaySettings, wanted: &Wanted) -> Option<u16> {
    let (low, high) = (*relay.ports.start(), *relay.ports.end());
    match wanted.even_port {
        None => (low <= high).then(|| random.random_range(low..=high)),
        Some(is_pair) => {
            let low = u32::from(low).div_ceil(2);
            let high = (u32::from(high) + u32::from(!is_pair)).checked_sub(1)? / 2;
            let half = (low <= high).then(|| random.random_range(low..=high))?;
            u16::try_from(half * 2).ok()
        }
    }
}

/// The address to relay from: the one the client reached, else the first of the family.
fn relay_address(relay: &RelaySettings, family: Family, reached: IpAddr) -> Option<RelayAddress> {
    let is_fit = |ip: IpAddr| ip.is_ipv4() == (family == Family::V4);
    let mut fit = relay
        .addresses
        .iter()
        .filter(|address| is_fit(address.local));
    let first = fit.clone().next();
    fit.find(|address| address.local == reached)
        .or(first)
        .copied()
}

/// REQUESTED-TRANSPORT of UDP; TCP allocations (RFC 6062) are not offered.
const UDP: u8 = 17;
/// Ports that relayed addresses inside the process are told with; nothing listens there.
const VIRTUAL_PORTS: std::ops::RangeInclusive<u16> = 49_152..=65_534;
/// Ports tried for one allocation; a range with one in sixteen free is found with two tries in three.
const PORT_TRIES: u32 = 16;
const ADDRESS_ERROR_CODE: u16 = 0x8001;
