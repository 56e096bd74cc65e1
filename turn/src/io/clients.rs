//! Clients being served: their datagrams through the machine, replies and data out again.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use net::{Arena, Datagram, Path, Protocol, UdpSockets};
use nix::sys::epoll::Epoll;

use super::connections::Connections;
use super::ports::Ports;
use crate::counts::Counts;
use crate::server::{Delivery, Server, ToPeer};

/// The machine and all it sends through: everything of a [`Relay`](super::Relay) but what is received into.
#[derive(Debug)]
pub(super) struct Clients {
    pub(super) server: Server,
    /// What machines before this one have counted.
    pub(super) before: Counts,
    /// `None`: its port could not be had, and clients come over TCP and TLS.
    pub(super) udp: Option<UdpSockets>,
    /// The other port of behaviour discovery: to send from, and received here if nobody else does.
    pub(super) other: Option<UdpSockets>,
    pub(super) connections: Connections,
    pub(super) ports: Ports,
    pub(super) epoll: Epoll,
    pub(super) arena: Arena,
}

impl Clients {
    /// Takes in what clients sent and sends what that causes; what is for our own media is appended.
    pub(super) fn serve<'b>(
        &mut self,
        now: Instant,
        batch: impl Iterator<Item = Datagram<'b>>,
        datagrams: &mut Vec<Datagram<'b>>,
    ) {
        let is_well = self.contain(|clients| {
            batch.for_each(|datagram| clients.serve_one(now, datagram, datagrams));
        });
        if !is_well {
            datagrams.clear();
        }
        self.ports.flush();
        self.send();
    }

    fn serve_one<'b>(
        &mut self,
        now: Instant,
        datagram: Datagram<'b>,
        datagrams: &mut Vec<Datagram<'b>>,
    ) {
        if self.arena.reserve().is_none() {
            self.send();
        }
        let ecn = datagram.ecn;
        let to_peer = self.server.handle_client(now, datagram, &mut self.arena);
        if let Some(to_peer) = to_peer {
            match to_peer.own {
                Some(number) => datagrams.push(to_media(number, ecn, to_peer)),
                None => self.ports.send(&to_peer),
            }
        }
        while let Some(opening) = self.server.poll_open() {
            let are_open = self.ports.open(&opening.addresses, &self.epoll);
            self.server
                .handle_opened(opening.number, are_open, &mut self.arena);
        }
        while let Some(address) = self.server.poll_close() {
            self.ports.close(address);
        }
    }

    /// Queues data of a peer for the client that has this relayed address.
    pub(super) fn deliver(&mut self, now: Instant, about: (SocketAddr, SocketAddr), bytes: &[u8]) {
        let full = Delivery::ArenaFull;
        if self.server.handle_peer(now, about, bytes, &mut self.arena) == full {
            self.send();
            self.server.handle_peer(now, about, bytes, &mut self.arena);
        }
    }

    /// Sends what is queued for clients.
    pub(super) fn send(&mut self) {
        if self.arena.runs().is_empty() {
            return;
        }
        for sockets in [&mut self.udp, &mut self.other].into_iter().flatten() {
            sockets.send(&self.arena);
        }
        for run in self.arena.runs() {
            if let Protocol::Tcp(number) = run.path.protocol {
                let bytes = self.arena.bytes(run);
                self.connections.send(number, bytes, &self.epoll);
            }
        }
        self.arena.clear();
    }

    /// Lets the machine work; false: it panicked, which ended its allocations and nothing else.
    pub(super) fn contain(&mut self, work: impl FnOnce(&mut Self)) -> bool {
        let is_well = catch_unwind(AssertUnwindSafe(|| work(self))).is_ok();
        if !is_well {
            tracing::error!("the TURN server panicked: all its allocations have ended");
            // Nothing of the old machine is used but plain data.
            self.before.add_counters(&self.server.counts());
            self.before.panics += 1;
            self.server = self.server.succeed();
            self.arena.clear();
            self.ports.close_all();
        }
        is_well
    }
}

/// What the media core is given: as if the peer address had received it from the relayed address.
fn to_media(number: u64, ecn: u8, to_peer: ToPeer<'_>) -> Datagram<'_> {
    Datagram {
        path: Path {
            local: to_peer.to,
            remote: to_peer.from,
            protocol: Protocol::Relayed(number),
        },
        ecn,
        bytes: to_peer.bytes,
    }
}
