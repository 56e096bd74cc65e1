//! Data between clients and peers: channels and indications (RFC 8656 §11, §12). Allocation-free.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Instant;

use net::cursor::u16_at;
use net::stun::{Class, Message, MessageWriter};
use net::{Arena, Path, Protocol};
use rand::Rng;

use super::Server;
use crate::allocation::Allocation;
use crate::attributes::{DATA, DONT_FRAGMENT, Family, XOR_PEER_ADDRESS, peers};
use crate::auth::Account;
use crate::counts::DropReason;

/// What a client sends to a peer.
#[derive(Debug, PartialEq, Eq)]
pub struct ToPeer<'b> {
    /// The relayed address it is from.
    pub from: SocketAddr,
    /// The peer.
    pub to: SocketAddr,
    /// The number of the allocation when the peer is our own media, reached without leaving the process;
    /// `None`: through the socket bound to `from`.
    pub own: Option<u64>,
    /// It must not be fragmented on its way.
    pub dont_fragment: bool,
    /// The datagram.
    pub bytes: &'b mut [u8],
}

/// What became of data for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It is in the arena, or was dropped and counted.
    Done,
    /// The arena is full: send it and try again.
    ArenaFull,
}

/// A Send indication that was looked at.
#[derive(Clone, Debug)]
pub(super) struct Indicated {
    peer: SocketAddr,
    data: Range<usize>,
    dont_fragment: bool,
}

impl Server {
    /// Data for a client from our own media, through the allocation with this number.
    pub fn handle_own(
        &mut self,
        now: Instant,
        (number, peer): (u64, SocketAddr),
        bytes: &[u8],
        arena: &mut Arena,
    ) -> Delivery {
        let key = key_of(number);
        let allocation = self.allocations.get(key);
        if allocation.is_none_or(|allocation| allocation.number(key) != number) {
            self.counts.dropped(DropReason::NoAllocation);
            return Delivery::Done;
        }
        self.deliver(now, (key, peer), bytes, arena)
    }

    /// Data for a client from a peer that sent it to this relayed address.
    pub fn handle_peer(
        &mut self,
        now: Instant,
        (relayed, peer): (SocketAddr, SocketAddr),
        bytes: &[u8],
        arena: &mut Arena,
    ) -> Delivery {
        let Some(key) = self.by_relayed.get(&relayed).copied() else {
            self.counts.dropped(DropReason::NoAllocation);
            return Delivery::Done;
        };
        self.deliver(now, (key, peer), bytes, arena)
    }

    fn deliver(
        &mut self,
        now: Instant,
        (key, peer): (usize, SocketAddr),
        bytes: &[u8],
        arena: &mut Arena,
    ) -> Delivery {
        let Some(allocation) = self.allocations.get_mut(key) else {
            return Delivery::Done;
        };
        let channel = allocation.channel_of(now, peer);
        if channel.is_none() && !allocation.has_permission(now, peer.ip()) {
            self.counts.dropped(DropReason::NoPermission);
            return Delivery::Done;
        }
        if bytes.len() > DATA_BYTES_MAX {
            self.counts.dropped(DropReason::TooLong);
            return Delivery::Done;
        }
        let Some(out) = arena.reserve_bytes(bytes.len() + OVERHEAD_BYTES_MAX) else {
            return Delivery::ArenaFull;
        };
        let is_stream = allocation.client.protocol != Protocol::Udp;
        let length = match channel {
            Some(number) => write_channel_data(out, number, bytes, is_stream),
            None => write_data_indication(out, self.random.random(), peer, bytes),
        };
        if !self.carries(now, key, bytes.len()) {
            return Delivery::Done;
        }
        self.counts.relayed_in += 1;
        self.counts.relayed_in_bytes += bytes.len() as u64;
        let client = self
            .allocations
            .get(key)
            .map(|allocation| allocation.client);
        client
            .into_iter()
            .for_each(|client| super::replies::commit(client, length, arena));
        Delivery::Done
    }

    /// Whether what an allocation carries leaves room for this much; our own media regulates itself.
    fn carries(&mut self, now: Instant, key: usize, bytes: usize) -> bool {
        let Some(allocation) = self.allocations.get_mut(key) else {
            return false;
        };
        if matches!(allocation.account, Account::User(_)) {
            return true;
        }
        let is_within = allocation.bandwidth.take(now, bytes)
            && self
                .total
                .as_mut()
                .is_none_or(|total| total.take(now, bytes));
        if !is_within {
            self.counts.dropped(DropReason::Bandwidth);
        }
        is_within
    }

    pub(super) fn relay_channel_data<'b>(
        &mut self,
        now: Instant,
        path: Path,
        bytes: &'b mut [u8],
    ) -> Option<ToPeer<'b>> {
        let header = u16_at(bytes, 0).zip(u16_at(bytes, 2));
        let Some((number, length)) = header else {
            self.counts.dropped(DropReason::Malformed);
            return None;
        };
        let data = CHANNEL_HEADER_BYTES..CHANNEL_HEADER_BYTES + usize::from(length);
        let Some(key) = self.by_client.get(&path).copied() else {
            self.counts.dropped(DropReason::NoAllocation);
            return None;
        };
        let allocation = self.allocations.get(key)?;
        let Some(peer) = allocation.peer_of(now, number) else {
            self.counts.dropped(DropReason::NoPermission);
            return None;
        };
        let indicated = Indicated {
            peer,
            data,
            dont_fragment: false,
        };
        self.relay(now, key, indicated, bytes)
    }

    /// Reads a Send indication.
    pub(super) fn read_indication(&mut self, message: &Message<'_>) -> Option<Indicated> {
        let peer = peers(message).and_then(|peers| peers.first().copied());
        let indicated = peer.zip(message.attribute_range(DATA));
        let Some((peer, data)) = indicated else {
            self.counts.dropped(DropReason::Malformed);
            return None;
        };
        let dont_fragment = message.attribute(DONT_FRAGMENT).is_some();
        Some(Indicated {
            peer,
            data,
            dont_fragment,
        })
    }

    pub(super) fn relay_indication<'b>(
        &mut self,
        now: Instant,
        path: Path,
        indicated: Indicated,
        bytes: &'b mut [u8],
    ) -> Option<ToPeer<'b>> {
        let Some(key) = self.by_client.get(&path).copied() else {
            self.counts.dropped(DropReason::NoAllocation);
            return None;
        };
        let allocation = self.allocations.get(key)?;
        if !allocation.has_permission(now, indicated.peer.ip()) {
            self.counts.dropped(DropReason::NoPermission);
            return None;
        }
        self.relay(now, key, indicated, bytes)
    }

    fn relay<'b>(
        &mut self,
        now: Instant,
        key: usize,
        indicated: Indicated,
        bytes: &'b mut [u8],
    ) -> Option<ToPeer<'b>> {
        let Indicated {
            peer: to,
            data,
            dont_fragment,
        } = indicated;
        let allocation = self.allocations.get(key)?;
        let own = matches!(allocation.account, Account::User(_)).then(|| allocation.number(key));
        let from = allocation.source(Family::of(to));
        // A permission is for an address; its ports are judged here, before anything leaves.
        let is_permitted = self.permits_address(&allocation.account, to);
        let Some(from) = from.filter(|_| is_permitted) else {
            self.counts.dropped(DropReason::NoPermission);
            return None;
        };
        let Some(bytes) = bytes.get_mut(data) else {
            self.counts.dropped(DropReason::Malformed);
            return None;
        };
        if !self.carries(now, key, bytes.len()) {
            return None;
        }
        self.counts.relayed_out += 1;
        self.counts.relayed_out_bytes += bytes.len() as u64;
        Some(ToPeer {
            from,
            to,
            own,
            dont_fragment,
            bytes,
        })
    }

    /// Whether an account may send to this address and port.
    pub(super) fn permits_address(&self, account: &Account, peer: SocketAddr) -> bool {
        match account {
            Account::User(_) => self.settings.media.contains(&peer),
            Account::Shared(_) => {
                let relay = self.settings.relay.as_ref();
                relay.is_some_and(|relay| relay.filter.permits_address(peer))
            }
        }
    }
}

impl Allocation {
    /// What names it outside: its place, and which of those that had it.
    pub(super) fn number(&self, key: usize) -> u64 {
        self.serial << KEY_BITS | key as u64
    }
}

fn key_of(number: u64) -> usize {
    usize::try_from(number & ((1 << KEY_BITS) - 1)).unwrap_or(usize::MAX)
}

/// `| channel number (16) | length (16) | data |`, padded to four bytes on streams (RFC 8656 §12.5).
fn write_channel_data(out: &mut [u8], number: u16, data: &[u8], is_stream: bool) -> Option<usize> {
    let mut writer = net::cursor::Writer::new(out);
    writer.put_u16(number)?;
    writer.put_u16(u16::try_from(data.len()).ok()?)?;
    writer.put(data)?;
    if is_stream {
        writer.pad_to_word()?;
    }
    Some(writer.len())
}

fn write_data_indication(
    out: &mut [u8],
    id: [u8; 12],
    peer: SocketAddr,
    data: &[u8],
) -> Option<usize> {
    let mut writer = MessageWriter::new(out, Class::Indication, DATA_METHOD, &id)?;
    writer.put_xor_address(XOR_PEER_ADDRESS, peer)?;
    writer.put(DATA, data)?;
    writer.finish(None)
}

/// Places there may be at a time, as a power of two.
const KEY_BITS: u32 = 20;
const DATA_METHOD: u16 = 7;
const CHANNEL_HEADER_BYTES: usize = 4;
/// The longest datagram relayed to a client: a jumbo frame's.
const DATA_BYTES_MAX: usize = 9000;
/// What a Data indication adds: header, IPv6 address, attribute header, padding.
const OVERHEAD_BYTES_MAX: usize = 20 + 24 + 4 + 3;
