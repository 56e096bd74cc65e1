//! What comes in from the network: bytes with the path they came on.

use std::net::{IpAddr, SocketAddr};

/// Bytes that came in, with where from and which local address they reached.
///
/// `local` carries the local address of a packet on a wildcard socket, so that the reply leaves from
/// the same address.
#[derive(Debug)]
pub struct Datagram<'a> {
    /// The way it came.
    pub path: Path,
    /// The two congestion bits of the IP header (RFC 3168), 0 when unknown.
    pub ecn: u8,
    /// The bytes; decrypted in place.
    pub bytes: &'a mut [u8],
}

/// A way between a client and this shard: both addresses and the transport protocol.
///
/// Addresses are canonical: IPv4-mapped IPv6 forms are written as IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Path {
    /// Our address.
    pub local: SocketAddr,
    /// The client's address.
    pub remote: SocketAddr,
    /// UDP, or which TCP connection.
    pub protocol: Protocol,
}

impl Path {
    /// Names a path by its two addresses, in any form.
    pub fn new(local: SocketAddr, remote: SocketAddr, protocol: Protocol) -> Self {
        Self {
            local: canonical(local),
            remote: canonical(remote),
            protocol,
        }
    }
}

/// How datagrams travel between two addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// One UDP datagram each.
    Udp,
    /// Framed on the TCP connection with this number (never reused by a driver): by RFC 4571 for media,
    /// by the messages' own lengths for TURN.
    Tcp(u64),
    /// Through the allocation with this number of our own TURN server, without leaving the process.
    Relayed(u64),
}

/// The one form of an address: IPv4-mapped IPv6 becomes IPv4, the flow label is dropped.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(_) => address,
        SocketAddr::V6(mut v6) => match v6.ip().to_ipv4_mapped() {
            Some(ip) => SocketAddr::new(IpAddr::V4(ip), v6.port()),
            None => {
                v6.set_flowinfo(0);
                SocketAddr::V6(v6)
            }
        },
    }
}

/// Empties a list and keeps its memory for datagrams of another lifetime.
pub fn recycle<'b>(mut datagrams: Vec<Datagram<'_>>) -> Vec<Datagram<'b>> {
    datagrams.clear();
    // Collecting an emptied list of the same layout keeps its allocation.
    datagrams
        .into_iter()
        .map(|_| unreachable!("the list is empty"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recycled_list_keeps_its_memory() {
        let list: Vec<Datagram<'_>> = Vec::with_capacity(100);
        let address = list.as_ptr() as usize;
        let recycled = recycle(list);
        assert_eq!(
            (recycled.capacity(), recycled.as_ptr() as usize),
            (100, address)
        );
    }
}
