//! What clients are offered to reach this server by, kind by kind, and what an operator should know about it.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// Everything clients are offered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offered {
    /// Addresses of all but TURN over TLS, best first.
    pub addresses: Vec<IpAddr>,
    /// Media over UDP, a port for each media thread.
    pub udp_ports: Vec<u16>,
    /// Media and TURN over TCP.
    pub tcp_port: u16,
    /// TURN over UDP, a port for each media thread that could get one.
    pub turn_udp_ports: Vec<u16>,
    /// Whether there is a TURN server.
    pub has_turn: bool,
    /// Name or address, and port, of TURN over TLS.
    pub turn_tls: Option<(String, u16)>,
}

/// Something that keeps clients away unless somebody sees to it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Concern {
    /// Addresses that are none of this machine's: something in between has to forward to it.
    Elsewhere {
        /// Those addresses.
        addresses: Vec<IpAddr>,
        /// What has to be forwarded.
        ports: String,
    },
    /// TURN over TLS is at an address that means the client's own machine.
    TlsAtLoopback,
    /// Only clients on this machine can connect.
    OnlyLoopback,
    /// Only clients in the same network can connect.
    OnlyPrivate,
}

impl Offered {
    /// Each kind with its addresses and ports, as for a log.
    pub fn kinds(&self) -> Vec<(&'static str, String)> {
        let mut kinds = vec![
            ("UDP", self.at(&self.udp_ports)),
            ("TCP", self.at(&[self.tcp_port])),
        ];
        if !self.turn_udp_ports.is_empty() {
            kinds.push(("TURN/UDP", self.at(&self.turn_udp_ports)));
        }
        if self.has_turn {
            kinds.push(("TURN/TCP", self.at(&[self.tcp_port])));
        }
        if let Some((host, port)) = &self.turn_tls {
            kinds.push(("TURN/TLS", format!("{host}:{port}")));
        }
        kinds
    }

    fn at(&self, ports: &[u16]) -> String {
        let ports = spans(ports);
        let with_ports = |ip: &IpAddr| match ip {
            IpAddr::V4(ip) => format!("{ip}:{ports}"),
            IpAddr::V6(ip) => format!("[{ip}]:{ports}"),
        };
        let all: Vec<String> = self.addresses.iter().map(with_ports).collect();
        all.join(", ")
    }

    /// What to see to; `own`: the addresses of this machine.
    pub fn concerns(&self, own: &[IpAddr]) -> Vec<Concern> {
        let mut concerns = Vec::new();
        let elsewhere = self.addresses.iter().filter(|ip| !own.contains(ip));
        let elsewhere: Vec<IpAddr> = elsewhere.copied().collect();
        if !elsewhere.is_empty() {
            concerns.push(Concern::Elsewhere {
                addresses: elsewhere,
                ports: self.ports(),
            });
        }
        if self.addresses.iter().all(IpAddr::is_loopback) {
            concerns.push(Concern::OnlyLoopback);
            return concerns;
        }
        if self.addresses.iter().all(is_local) {
            concerns.push(Concern::OnlyPrivate);
        }
        if self
            .turn_tls
            .as_ref()
            .is_some_and(|(host, _)| is_loopback(host))
        {
            concerns.push(Concern::TlsAtLoopback);
        }
        concerns
    }

    /// All ports, as for whoever opens or forwards them.
    pub fn ports(&self) -> String {
        let mut ports = format!("UDP {}, TCP {}", spans(&self.udp_ports), self.tcp_port);
        if !self.turn_udp_ports.is_empty() {
            ports.push_str(&format!(", UDP {}", spans(&self.turn_udp_ports)));
        }
        ports
    }
}

impl fmt::Display for Concern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Elsewhere { addresses, ports } => {
                let all: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
                let (all, is) = (all.join(", "), if all.len() == 1 { "is" } else { "are" });
                write!(
                    f,
                    "{all} {is} not of this machine: its router or provider must forward {ports}"
                )
            }
            Self::TlsAtLoopback => f.write_str(
                "clients are sent to a loopback address for TURN over TLS: set http.public_url to a \
                 name that leads here from everywhere",
            ),
            Self::OnlyLoopback => f.write_str(
                "only loopback addresses are offered, so only this machine can connect: set \
                 media.advertise to an address that clients can reach",
            ),
            Self::OnlyPrivate => f.write_str(
                "only private addresses are offered, so only clients in the same network can connect: \
                 for others set media.advertise to the public address, or media.discover",
            ),
        }
    }
}

/// Whether clients on the internet cannot reach this address by its nature.
pub fn is_local(ip: &IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [first, second, ..] = ip.octets();
            // 100.64.0.0/10 is between a provider and its customers (RFC 6598).
            let is_shared = first == 100 && second & 0xc0 == 64;
            ip.is_private() || ip.is_loopback() || ip.is_link_local() || is_shared
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || is_link_local(ip),
    }
}

/// Whether a host as URLs have it is the machine of whoever reads it.
fn is_loopback(host: &str) -> bool {
    let bare = host.trim_matches(['[', ']']);
    bare == "localhost" || bare.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

fn is_link_local(ip: Ipv6Addr) -> bool {
    ip.is_unicast_link_local()
}

/// `7800-7803, 9000`.
fn spans(ports: &[u16]) -> String {
    let mut ports = ports.to_vec();
    ports.sort_unstable();
    let mut spans: Vec<(u16, u16)> = Vec::new();
    for port in ports {
        match spans.last_mut() {
            Some((_, last)) if *last == port || last.checked_add(1) == Some(port) => *last = port,
            _ => spans.push((port, port)),
        }
    }
    let written = spans.iter().map(|(first, last)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    });
    written.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn offered(addresses: &[&str]) -> Offered {
        Offered {
            addresses: ips(addresses),
            udp_ports: vec![7800, 7801],
            tcp_port: 7800,
            turn_udp_ports: vec![3478, 3480],
            has_turn: true,
            turn_tls: Some(("meet.example".to_owned(), 443)),
        }
    }

    #[test]
    fn every_kind_has_its_line() {
        let kinds = offered(&["192.0.2.1", "2001:db8::1"]).kinds();
        let lines: Vec<String> = kinds
            .iter()
            .map(|(kind, at)| format!("{kind} {at}"))
            .collect();
        assert_eq!(
            lines,
            [
                "UDP 192.0.2.1:7800-7801, [2001:db8::1]:7800-7801",
                "TCP 192.0.2.1:7800, [2001:db8::1]:7800",
                "TURN/UDP 192.0.2.1:3478,3480, [2001:db8::1]:3478,3480",
                "TURN/TCP 192.0.2.1:7800, [2001:db8::1]:7800",
                "TURN/TLS meet.example:443",
            ]
        );
        let none = Offered {
            turn_udp_ports: Vec::new(),
            has_turn: false,
            turn_tls: None,
            ..offered(&["192.0.2.1"])
        };
        assert_eq!(none.kinds().len(), 2);
    }

    #[test]
    fn addresses_of_other_machines_need_forwarding() {
        let own = ips(&["10.0.0.5", "127.0.0.1"]);
        let concerns = offered(&["203.0.113.9", "10.0.0.5"]).concerns(&own);
        let expected = "203.0.113.9 is not of this machine: its router or provider must forward \
            UDP 7800-7801, TCP 7800, UDP 3478,3480";
        let texts: Vec<String> = concerns.iter().map(Concern::to_string).collect();
        assert_eq!(texts, [expected]);
    }

    #[test]
    fn addresses_nobody_else_can_reach_are_a_concern() {
        for (offered_addresses, concern) in [
            (&["127.0.0.1", "::1"][..], Some(Concern::OnlyLoopback)),
            (&["10.0.0.5", "127.0.0.1"], Some(Concern::OnlyPrivate)),
            (
                &["fd00::5", "100.64.0.1", "169.254.0.9"],
                Some(Concern::OnlyPrivate),
            ),
            (&["10.0.0.5", "192.0.2.1"], None),
            (&["100.128.0.1"], None),
            (&["2001:db8::1"], None),
        ] {
            let concerns = offered(offered_addresses).concerns(&ips(offered_addresses));
            let expected: Vec<Concern> = concern.into_iter().collect();
            assert_eq!(concerns, expected, "{offered_addresses:?}");
        }
    }

    #[test]
    fn a_name_that_means_the_client_itself_is_a_concern() {
        for (host, is_concern) in [
            ("localhost", true),
            ("127.0.0.1", true),
            ("[::1]", true),
            ("meet.example", false),
            ("192.0.2.1", false),
        ] {
            let mut offered = offered(&["192.0.2.1"]);
            offered.turn_tls = Some((host.to_owned(), 443));
            let concerns = offered.concerns(&ips(&["192.0.2.1"]));
            assert_eq!(concerns == [Concern::TlsAtLoopback], is_concern, "{host}");
        }
    }

    #[test]
    fn ports_in_a_row_are_one_span() {
        assert_eq!(spans(&[]), "");
        assert_eq!(spans(&[5, 4, 3, 9, 65_535, 9]), "3-5,9,65535");
    }
}
