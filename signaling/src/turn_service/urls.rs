//! The addresses of TURN as browsers want them (RFC 7065).

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};

use crate::config::Config;

/// Makes the list of one participant.
#[derive(Debug)]
pub(super) struct Urls {
    /// What clients can reach, best first.
    addresses: Vec<IpAddr>,
    /// The UDP port of each shard, where it could be had.
    udp: Vec<Option<u16>>,
    /// 0 until it is known.
    tcp: AtomicU16,
    /// Host and port of HTTPS, where this server speaks it itself.
    tls: Option<(String, u16)>,
}

impl Urls {
    pub(super) fn new(
        config: &Config,
        own: &[IpAddr],
        udp: Vec<Option<u16>>,
        http: SocketAddr,
    ) -> Self {
        let advertised = &config.media.advertise;
        let addresses = if advertised.is_empty() {
            own
        } else {
            advertised
        };
        Self {
            addresses: addresses.to_vec(),
            udp,
            tcp: AtomicU16::new(0),
            tls: config.http.is_https().then(|| tls_place(config, own, http)),
        }
    }

    pub(super) fn set_tcp_port(&self, port: u16) {
        self.tcp.store(port, Ordering::Relaxed);
    }

    /// The UDP ports there are.
    pub(super) fn udp_ports(&self) -> Vec<u16> {
        self.udp.iter().copied().flatten().collect()
    }

    /// Where TURN over TLS is.
    pub(super) fn tls(&self) -> Option<(String, u16)> {
        self.tls.clone()
    }

    /// UDP first, then TCP, then TLS: each costs more than the one before. At most four, because browsers
    /// try all of them at once.
    pub(super) fn list(&self, shard: usize, reached: Option<IpAddr>) -> Vec<String> {
        let udp = self.udp.get(shard).copied().flatten();
        let tcp = Some(self.tcp.load(Ordering::Relaxed)).filter(|port| *port > 0);
        let v4 = self.pick(reached, IpAddr::is_ipv4);
        let v6 = self.pick(reached, IpAddr::is_ipv6);
        let mut ips: Vec<IpAddr> = v4.into_iter().chain(v6).collect();
        if ips.iter().any(|ip| !ip.is_loopback()) {
            ips.retain(|ip| !ip.is_loopback());
        }
        let mut urls = Vec::new();
        for ip in &ips {
            urls.extend(
                udp.map(|port| format!("turn:{}?transport=udp", SocketAddr::new(*ip, port))),
            );
        }
        let first = ips.first().copied().zip(tcp);
        urls.extend(
            first.map(|(ip, port)| format!("turn:{}?transport=tcp", SocketAddr::new(ip, port))),
        );
        let tls = self.tls.as_ref();
        urls.extend(tls.map(|(host, port)| format!("turns:{host}:{port}?transport=tcp")));
        urls
    }

    /// The address the client reached, if it is one to offer; else the first that is not loopback.
    fn pick(&self, reached: Option<IpAddr>, is_fit: fn(&IpAddr) -> bool) -> Option<IpAddr> {
        let fit = || self.addresses.iter().copied().filter(is_fit);
        let is_reached = |ip: &IpAddr| Some(*ip) == reached && !ip.is_loopback();
        let outside = || fit().find(|ip| !ip.is_loopback());
        let loopback = || {
            fit()
                .next()
                .filter(|_| reached.is_none_or(|ip| ip.is_loopback()))
        };
        fit().find(is_reached).or_else(outside).or_else(loopback)
    }
}

/// The name in the certificate, as far as it is known: that of `public_url`.
fn tls_place(config: &Config, own: &[IpAddr], mut http: SocketAddr) -> (String, u16) {
    // Where nothing names this server, an address that others can reach says more than loopback.
    if http.ip().is_unspecified() && config.media.advertise.is_empty() {
        let outside = own.iter().find(|ip| !ip.is_loopback());
        http.set_ip(outside.copied().unwrap_or(http.ip()));
    }
    let url = config.public_url(http);
    let rest = url.strip_prefix("https://").unwrap_or(&url);
    let authority = rest.split('/').next().unwrap_or(rest);
    let port = |text: &str| text.parse().ok();
    let split = authority
        .rsplit_once(':')
        .and_then(|(host, text)| Some((host, port(text)?)));
    match split {
        Some((host, port)) => (host.to_owned(), port),
        None => (authority.to_owned(), HTTPS_PORT),
    }
}

const HTTPS_PORT: u16 = 443;

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(advertise: &[&str], tls: bool) -> Urls {
        let mut config = Config::default();
        config.media.advertise = advertise.iter().map(|ip| ip.parse().unwrap()).collect();
        if tls {
            config.http.tls_cert = "a".to_owned();
            config.http.tls_key = "b".to_owned();
            config.http.public_url = "https://meet.example".to_owned();
        }
        let own: Vec<IpAddr> = vec!["192.0.2.9".parse().unwrap(), "127.0.0.1".parse().unwrap()];
        let urls = Urls::new(&config, &own, vec![Some(3478), None], config.http.addr);
        urls.set_tcp_port(7800);
        urls
    }

    #[test]
    fn lists_what_costs_least_first() {
        let listed = urls(&["192.0.2.1", "2001:db8::1"], true).list(0, None);
        let expected = [
            "turn:192.0.2.1:3478?transport=udp",
            "turn:[2001:db8::1]:3478?transport=udp",
            "turn:192.0.2.1:7800?transport=tcp",
            "turns:meet.example:443?transport=tcp",
        ];
        assert_eq!(listed, expected);
    }

    #[test]
    fn a_server_without_a_name_is_found_by_an_address_others_can_reach() {
        let mut config = Config::default();
        config.http.tls_cert = "a".to_owned();
        config.http.tls_key = "b".to_owned();
        let own = ["127.0.0.1", "192.0.2.9"].map(|ip| ip.parse().unwrap());
        let everywhere = "0.0.0.0:443".parse().unwrap();
        let urls = Urls::new(&config, &own, vec![None], everywhere);
        assert_eq!(urls.list(0, None), ["turns:192.0.2.9:443?transport=tcp"]);
    }

    #[test]
    fn a_shard_without_a_udp_port_still_has_tcp() {
        let listed = urls(&["192.0.2.1"], false).list(1, None);
        assert_eq!(listed, ["turn:192.0.2.1:7800?transport=tcp"]);
    }

    #[test]
    fn the_address_that_was_reached_comes_first_but_never_loopback_where_there_is_another() {
        let with = |advertise: &[&str], reached: &str| {
            urls(advertise, false)
                .list(0, reached.parse().ok())
                .remove(0)
        };
        assert_eq!(
            with(&["192.0.2.1", "192.0.2.2"], "192.0.2.2"),
            "turn:192.0.2.2:3478?transport=udp"
        );
        assert_eq!(
            with(&["192.0.2.1"], "10.0.0.7"),
            "turn:192.0.2.1:3478?transport=udp"
        );
        assert_eq!(with(&[], "127.0.0.1"), "turn:192.0.2.9:3478?transport=udp");
        assert_eq!(
            with(&["127.0.0.1"], "127.0.0.1"),
            "turn:127.0.0.1:3478?transport=udp"
        );
        let listed = urls(&["192.0.2.1", "::1"], false).list(0, None);
        assert!(
            listed.iter().all(|url| url.contains("192.0.2.1")),
            "{listed:?}"
        );
    }
}
