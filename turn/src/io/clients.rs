//! Clients being served: their datagrams through the machine, replies and data out again.

use std::time::Instant;

use net::{Arena, Datagram, Path, Protocol, UdpSockets};
use nix::sys::epoll::Epoll;

use super::connections::Connections;
use super::ports::Ports;
use crate::server::{Server, ToPeer};

/// The parts of a [`Relay`](super::Relay) that serve clients while their datagrams are borrowed.
pub(super) struct Clients<'r> {
    pub(super) server: &'r mut Server,
    pub(super) udp: &'r mut Option<UdpSockets>,
    pub(super) other: &'r mut Option<UdpSockets>,
    pub(super) connections: &'r mut Connections,
    pub(super) ports: &'r mut Ports,
    pub(super) epoll: &'r Epoll,
    pub(super) arena: &'r mut Arena,
}

impl Clients<'_> {
    pub(super) fn serve<'b>(
        &mut self,
        now: Instant,
        batch: impl Iterator<Item = Datagram<'b>>,
        datagrams: &mut Vec<Datagram<'b>>,
    ) {
        for datagram in batch {
            if self.arena.reserve().is_none() {
                self.send();
            }
            let ecn = datagram.ecn;
            let to_peer = self.server.handle_client(now, datagram, self.arena);
            if let Some(to_peer) = to_peer {
                match to_peer.own {
                    Some(number) => datagrams.push(to_media(number, ecn, to_peer)),
                    None => self.ports.send(&to_peer),
                }
            }
            while let Some(opening) = self.server.poll_open() {
                let are_open = self.ports.open(&opening.addresses, self.epoll);
                self.server
                    .handle_opened(opening.number, are_open, self.arena);
            }
            while let Some(address) = self.server.poll_close() {
                self.ports.close(address);
            }
        }
    }

    pub(super) fn finish(&mut self) {
        self.ports.flush();
        self.send();
    }

    fn send(&mut self) {
        send_to_clients(
            self.arena,
            (self.udp, self.other),
            self.connections,
            self.epoll,
        );
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

pub(super) fn send_to_clients(
    arena: &mut Arena,
    (udp, other): (&mut Option<UdpSockets>, &mut Option<UdpSockets>),
    connections: &mut Connections,
    epoll: &Epoll,
) {
    if arena.runs().is_empty() {
        return;
    }
    for sockets in [udp, other].into_iter().flatten() {
        sockets.send(arena);
    }
    for run in arena.runs() {
        if let Protocol::Tcp(number) = run.path.protocol {
            connections.send(number, arena.bytes(run), epoll);
        }
    }
    arena.clear();
}
