//! Which peers an allocation with a real relayed address may reach.
//!
//! What is special-purpose is denied in every encoding: an IPv6 address that carries an IPv4 address is
//! judged by both. Published bypasses of other servers were always a form the filter did not look at.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

/// Judges peer addresses.
#[derive(Clone, Debug, Default)]
pub struct PeerFilter {
    /// Networks that may be reached although they are special or ours.
    allowed: Vec<IpNet>,
    /// Addresses of this machine.
    own: HashSet<IpAddr>,
    /// Where this server listens; nothing lifts this.
    listening: HashSet<SocketAddr>,
}

impl PeerFilter {
    /// `own`: addresses of this machine, local and advertised; `listening`: the address and port pairs
    /// this server listens on, with wildcard addresses resolved to `own`.
    pub fn new(
        allowed: Vec<IpNet>,
        own: impl IntoIterator<Item = IpAddr>,
        listening: impl IntoIterator<Item = SocketAddr>,
    ) -> Self {
        let canonical =
            |address: SocketAddr| SocketAddr::new(innermost(address.ip()), address.port());
        Self {
            allowed,
            own: own.into_iter().map(innermost).collect(),
            listening: listening.into_iter().map(canonical).collect(),
        }
    }

    /// Whether a permission for this address may be installed.
    pub fn permits(&self, ip: IpAddr) -> bool {
        let forms = [ip.to_canonical(), innermost(ip)];
        if forms.iter().any(|form| is_never_a_peer(*form)) {
            return false;
        }
        // What carries another address inside is reached through a translator, maybe our own network's.
        let is_plain = forms[0] == forms[1];
        let is_ours = forms.iter().any(|form| self.own.contains(form));
        let is_special = !is_plain || is_special_purpose(forms[0]) || is_ours;
        !is_special || forms.iter().all(|form| self.is_allowed(*form))
    }

    /// Whether data may be sent to this address and port.
    pub fn permits_address(&self, address: SocketAddr) -> bool {
        let inner = SocketAddr::new(innermost(address.ip()), address.port());
        address.port() != 0 && !self.listening.contains(&inner) && self.permits(address.ip())
    }

    fn is_allowed(&self, ip: IpAddr) -> bool {
        self.allowed.iter().any(|network| network.contains(&ip))
    }
}

/// Multicast, broadcast and the unspecified address: nothing lifts these.
fn is_never_a_peer(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_multicast() || ip.is_broadcast() || ip.octets()[0] == 0,
        IpAddr::V6(ip) => ip.is_multicast() || ip.is_unspecified(),
    }
}

/// The address an address leads to in the end: IPv4 carried inside IPv6 in any of its forms.
fn innermost(ip: IpAddr) -> IpAddr {
    let mut ip = ip.to_canonical();
    // 6to4 may carry nothing but IPv4, so this ends at once; the bound makes that plain.
    for _ in 0..2 {
        let IpAddr::V6(v6) = ip else { break };
        let Some(inner) = embedded(v6) else { break };
        ip = inner.into();
    }
    ip
}

/// The IPv4 address inside an IPv6 address.
fn embedded(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = ip.segments();
    let from = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match [a, b, c, d, e, f] {
        // IPv4-mapped (RFC 4291 §2.5.5.2), -compatible (§2.5.5.1) and -translated (RFC 2765 §2.1).
        [0, 0, 0, 0, 0, 0xffff] | [0, 0, 0, 0, 0xffff, 0] => Some(from(g, h)),
        [0, 0, 0, 0, 0, 0] if (g, h) > (0, 1) => Some(from(g, h)),
        // NAT64, well-known (RFC 6052 §2.1) and local-use (RFC 8215), whose prefix length is not known.
        [0x64, 0xff9b, 0, 0, 0, 0] | [0x64, 0xff9b, 1, ..] => Some(from(g, h)),
        // ISATAP (RFC 5214 §6.1), with either universal bit.
        [_, _, _, _, 0 | 0x200, 0x5efe] => Some(from(g, h)),
        // 6to4 (RFC 3056 §2).
        [0x2002, ..] => Some(from(b, c)),
        // Teredo (RFC 4380 §4): the client's address, inverted.
        [0x2001, 0, ..] => Some(from(!g, !h)),
        _ => None,
    }
}

/// The registries of special-purpose addresses (RFC 6890 and IANA), and what is not global unicast.
fn is_special_purpose(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_in(&SPECIAL_V4, ip.to_bits(), 32),
        IpAddr::V6(ip) => {
            let is_global_unicast = ip.segments()[0] & 0xe000 == 0x2000;
            !is_global_unicast || is_in(&SPECIAL_V6, ip.to_bits(), 128)
        }
    }
}

fn is_in<T>(networks: &[(T, u32)], address: T, width: u32) -> bool
where
    T: Copy + PartialEq + std::ops::Shr<u32, Output = T>,
{
    networks
        .iter()
        .any(|(network, length)| address >> (width - length) == *network >> (width - length))
}

const fn v4(a: u8, b: u8, c: u8, d: u8) -> u32 {
    u32::from_be_bytes([a, b, c, d])
}

const fn v6(a: u16, b: u16, c: u16) -> u128 {
    (a as u128) << 112 | (b as u128) << 96 | (c as u128) << 80
}

const SPECIAL_V4: [(u32, u32); 17] = [
    (v4(0, 0, 0, 0), 8),       // this network
    (v4(10, 0, 0, 0), 8),      // private
    (v4(100, 64, 0, 0), 10),   // shared by carriers
    (v4(127, 0, 0, 0), 8),     // loopback
    (v4(169, 254, 0, 0), 16),  // link-local, and metadata of clouds
    (v4(172, 16, 0, 0), 12),   // private
    (v4(192, 0, 0, 0), 24),    // IETF protocols
    (v4(192, 0, 2, 0), 24),    // documentation
    (v4(192, 31, 196, 0), 24), // AS112
    (v4(192, 52, 193, 0), 24), // AMT
    (v4(192, 88, 99, 0), 24),  // 6to4 relays
    (v4(192, 168, 0, 0), 16),  // private
    (v4(192, 175, 48, 0), 24), // AS112
    (v4(198, 18, 0, 0), 15),   // benchmarks
    (v4(198, 51, 100, 0), 24), // documentation
    (v4(203, 0, 113, 0), 24),  // documentation
    (v4(224, 0, 0, 0), 3),     // multicast, reserved, broadcast
];

/// Within 2000::/3; all else is special already.
const SPECIAL_V6: [(u128, u32); 5] = [
    (v6(0x2001, 0, 0), 23), // IETF protocols: Teredo, benchmarks, ORCHID and others
    (v6(0x2001, 0xdb8, 0), 32), // documentation
    (v6(0x2002, 0, 0), 16), // 6to4
    (v6(0x2620, 0x4f, 0x8000), 48), // AS112
    (v6(0x3fff, 0, 0), 20), // documentation
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn strict() -> PeerFilter {
        PeerFilter::new(
            Vec::new(),
            ["93.184.216.34".parse().unwrap()],
            ["93.184.216.34:7800".parse().unwrap()],
        )
    }

    fn allowing(networks: &[&str]) -> PeerFilter {
        PeerFilter {
            allowed: networks.iter().map(|text| text.parse().unwrap()).collect(),
            ..strict()
        }
    }

    /// Every way to write an IPv4 address as IPv6 that some network would translate back.
    fn encodings(ip: Ipv4Addr) -> Vec<IpAddr> {
        let bits = u128::from(ip.to_bits());
        let tail = |prefix: &str| {
            let prefix: Ipv6Addr = prefix.parse().unwrap();
            IpAddr::from(Ipv6Addr::from_bits(prefix.to_bits() | bits))
        };
        let mut all: Vec<IpAddr> = [
            "::ffff:0:0",
            "::ffff:0:0:0",
            "64:ff9b::",
            "64:ff9b:1::",
            "64:ff9b:1:7:9:8::",
            "fe80::5efe:0:0",
            "2a00:1450:4001:800:200:5efe:0:0",
        ]
        .map(tail)
        .to_vec();
        all.push(ip.into());
        if ip.to_bits() > 1 {
            all.push(tail("::"));
        }
        all.push(Ipv6Addr::from_bits(0x2002 << 112 | bits << 80 | 0x17).into());
        let teredo = 0x2001_0000_4136_e378_8000_63bf_u128 << 32 | (!bits & 0xffff_ffff);
        all.push(Ipv6Addr::from_bits(teredo).into());
        all
    }

    #[test]
    fn plain_public_addresses_are_peers() {
        for text in [
            "8.8.8.8",
            "1.1.1.1",
            "172.32.0.1",
            "2a00:1450:4001:800::200e",
            "2600::1",
        ] {
            assert!(strict().permits(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn special_addresses_are_denied_in_every_encoding() {
        let denied = [
            "0.0.0.0",
            "0.1.2.3",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.255.255.250",
            "240.0.0.1",
            "255.255.255.255",
            "93.184.216.34",
        ];
        for text in denied {
            for form in encodings(text.parse().unwrap()) {
                assert!(!strict().permits(form), "{text} as {form}");
            }
        }
        for text in [
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fec0::1",
            "ff02::1",
            "2001:db8::1",
            "100::1",
        ] {
            assert!(!strict().permits(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn the_allow_list_lifts_denials_but_not_all() {
        let filter = allowing(&["0.0.0.0/0", "::/0"]);
        for text in [
            "10.1.2.3",
            "127.0.0.1",
            "93.184.216.34",
            "fc00::1",
            "::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(filter.permits(text.parse().unwrap()), "{text}");
        }
        for text in [
            "0.0.0.0",
            "0.0.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "ff02::1",
            "::ffff:0.0.0.0",
        ] {
            assert!(!filter.permits(text.parse().unwrap()), "{text}");
        }
        for text in [
            "93.184.216.34:7800",
            "[::ffff:93.184.216.34]:7800",
            "[2002:5db8:d822::1]:7800",
            "8.8.8.8:0",
        ] {
            assert!(!filter.permits_address(text.parse().unwrap()), "{text}");
        }
        assert!(filter.permits_address("93.184.216.34:7801".parse().unwrap()));
    }

    #[test]
    fn allowing_a_translator_does_not_allow_what_is_behind_it() {
        let filter = allowing(&["64:ff9b::/96"]);
        assert!(!filter.permits("64:ff9b::10.0.0.1".parse().unwrap()));
        let both = allowing(&["64:ff9b::/96", "10.0.0.0/8"]);
        assert!(both.permits("64:ff9b::10.0.0.1".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn no_encoding_of_a_denied_address_passes(bits in any::<u32>()) {
            let ip = Ipv4Addr::from_bits(bits);
            let is_denied = !strict().permits(ip.into());
            for form in encodings(ip) {
                if is_denied {
                    prop_assert!(!strict().permits(form), "{ip} as {form}");
                }
            }
        }

        #[test]
        fn only_global_unicast_passes(bits in any::<u128>()) {
            let ip = Ipv6Addr::from_bits(bits);
            if strict().permits(ip.into()) {
                prop_assert!(ip.to_ipv4_mapped().is_some() || ip.segments()[0] >> 13 == 1);
            }
        }
    }
}
