//! The sockets of relayed addresses.

use std::collections::HashMap;
use std::net::SocketAddr;

use net::{Arena, Datagram, Path, Protocol, ReceiveBuffers, UdpSockets};
use nix::sys::epoll::Epoll;

use super::{PORT, add};
use crate::server::ToPeer;

/// Open relayed ports.
#[derive(Debug, Default)]
pub(super) struct Ports {
    open: HashMap<SocketAddr, Port>,
    /// Numbers are never used twice, so a late event cannot reach another port.
    by_number: HashMap<u64, SocketAddr>,
    next: u64,
    /// Data on its way out, all of one port.
    arena: Option<Arena>,
    sending: Option<SocketAddr>,
    /// By ports that are closed by now: datagrams the kernel did not take.
    dropped: u64,
}

#[derive(Debug)]
struct Port {
    sockets: UdpSockets,
    number: u64,
}

impl Ports {
    /// Datagrams the kernel did not take.
    pub(super) fn dropped(&self) -> u64 {
        let open = self.open.values().map(|port| port.sockets.dropped());
        self.dropped + open.sum::<u64>()
    }

    /// Opens all of these addresses, or none.
    pub(super) fn open(&mut self, addresses: &[SocketAddr], epoll: &Epoll) -> bool {
        let opened = addresses
            .iter()
            .map(|address| self.open_one(*address, epoll));
        let opened: Vec<bool> = opened.collect();
        let are_open = opened.iter().all(|is_open| *is_open);
        if !are_open {
            for (address, _) in addresses.iter().zip(opened).filter(|(_, is_open)| *is_open) {
                self.close(*address);
            }
        }
        are_open
    }

    fn open_one(&mut self, address: SocketAddr, epoll: &Epoll) -> bool {
        if self.open.contains_key(&address) {
            return false;
        }
        let Ok(sockets) = UdpSockets::bind_address(address, BUFFER_BYTES) else {
            return false;
        };
        let number = self.next;
        // Without the option the kernel decides, which is good enough.
        sockets.allow_fragments(true).ok();
        if add(epoll, sockets.fd(0), PORT, number).is_err() {
            return false;
        }
        self.next += 1;
        self.by_number.insert(number, address);
        self.open.insert(address, Port { sockets, number });
        true
    }

    /// Closes a port; dropping its socket takes it out of the epoll set.
    pub(super) fn close(&mut self, address: SocketAddr) {
        if self.sending == Some(address) {
            self.flush();
        }
        if let Some(port) = self.open.remove(&address) {
            self.by_number.remove(&port.number);
            self.dropped += port.sockets.dropped();
        }
    }

    /// Closes all ports.
    pub(super) fn close_all(&mut self) {
        let open: Vec<SocketAddr> = self.open.keys().copied().collect();
        open.into_iter().for_each(|address| self.close(address));
    }

    /// Takes one batch from a port; the address it came to.
    pub(super) fn receive<'b>(
        &mut self,
        number: u64,
        buffers: &'b mut ReceiveBuffers,
        batch: &mut Vec<Datagram<'b>>,
    ) -> Option<SocketAddr> {
        let address = *self.by_number.get(&number)?;
        let port = self.open.get_mut(&address)?;
        port.sockets.receive(0, buffers, batch);
        Some(address)
    }

    /// Queues data for a peer; data of one client in a row leave together.
    pub(super) fn send(&mut self, to_peer: &ToPeer<'_>) {
        if self.sending != Some(to_peer.from) {
            self.flush();
        }
        if to_peer.dont_fragment {
            self.flush();
            self.allow_fragments(to_peer.from, false);
        }
        let queued = self.queue(to_peer) || {
            self.flush();
            self.queue(to_peer)
        };
        if to_peer.dont_fragment {
            self.flush();
            self.allow_fragments(to_peer.from, true);
        }
        debug_assert!(queued, "an empty arena takes what an allocation may send");
    }

    fn queue(&mut self, to_peer: &ToPeer<'_>) -> bool {
        let arena = self.arena.get_or_insert_with(Arena::new);
        let length = to_peer.bytes.len();
        let Some(out) = arena.reserve_bytes(length) else {
            return false;
        };
        out.copy_from_slice(to_peer.bytes);
        arena.aim(Path {
            local: to_peer.from,
            remote: to_peer.to,
            protocol: Protocol::Udp,
        });
        arena.commit(length);
        self.sending = Some(to_peer.from);
        true
    }

    /// Sends what is queued.
    pub(super) fn flush(&mut self) {
        let Some(arena) = self.arena.as_mut().filter(|arena| !arena.runs().is_empty()) else {
            return;
        };
        let port = self
            .sending
            .take()
            .and_then(|address| self.open.get_mut(&address));
        if let Some(port) = port {
            port.sockets.send(arena);
        }
        arena.clear();
    }

    fn allow_fragments(&self, address: SocketAddr, are_allowed: bool) {
        if let Some(port) = self.open.get(&address) {
            port.sockets.allow_fragments(are_allowed).ok();
        }
    }
}

/// Kernel buffer of a relayed port: a quarter of a second at what an allocation may carry.
const BUFFER_BYTES: usize = 256 << 10;
