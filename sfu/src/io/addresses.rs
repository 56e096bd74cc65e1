//! The addresses clients can reach us on, in the order answers list them.

use std::io;
use std::net::{IpAddr, SocketAddr};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::SockaddrStorage;

use crate::shard::Candidates;

/// Every address of this machine's interfaces that are up, best first.
///
/// Link-local IPv6 addresses are left out: they mean nothing without an interface, and an SDP
/// candidate cannot name one.
///
/// # Errors
/// The system does not list them.
pub fn machine_addresses() -> io::Result<Vec<IpAddr>> {
    let addresses = getifaddrs()?
        .filter(|interface| interface.flags.contains(InterfaceFlags::IFF_UP))
        .filter_map(|interface| ip_of(&interface.address?));
    Ok(ordered(addresses))
}

/// The candidates of a shard: each address with its UDP port and, where there is one, the TCP port.
pub(crate) fn candidates(addresses: &[IpAddr], udp_port: u16, tcp_port: u16) -> Candidates {
    let with = |port| {
        addresses
            .iter()
            .map(|&ip| SocketAddr::new(ip, port))
            .collect()
    };
    Candidates {
        udp: with(udp_port),
        tcp: with(tcp_port),
    }
}

fn ip_of(address: &SockaddrStorage) -> Option<IpAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(v4.ip().into());
    }
    Some(address.as_sockaddr_in6()?.ip().into())
}

/// IPv4 before IPv6, loopback last; each once, otherwise in the order of the interfaces.
fn ordered(addresses: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let mut ordered = Vec::new();
    for address in addresses.map(|address| address.to_canonical()) {
        if is_usable(address) && !ordered.contains(&address) {
            ordered.push(address);
        }
    }
    ordered.sort_by_key(|address| (address.is_loopback(), address.is_ipv6()));
    ordered
}

fn is_usable(address: IpAddr) -> bool {
    let is_link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    !is_link_local && !address.is_unspecified() && !address.is_multicast()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_ipv4_first_and_loopback_last() {
        let given = [
            "::1",
            "fe80::1",
            "127.0.0.1",
            "2001:db8::1",
            "10.0.0.1",
            "10.0.0.1",
        ];
        let addresses = ordered(given.iter().map(|text| text.parse().unwrap()));
        let listed: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
        assert_eq!(listed, ["10.0.0.1", "2001:db8::1", "127.0.0.1", "::1"]);
    }

    #[test]
    fn writes_mapped_addresses_as_ipv4() {
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        let plain: IpAddr = "192.0.2.1".parse().unwrap();
        assert_eq!(ordered([mapped, plain].into_iter()), [plain]);
    }

    #[test]
    fn this_machine_has_a_loopback_address() {
        assert!(machine_addresses().unwrap().iter().any(IpAddr::is_loopback));
    }
}
