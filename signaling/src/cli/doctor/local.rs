//! What can be looked at on this machine alone: free ports, limits of the system, the clock.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::{Duration, UNIX_EPOCH};

use net::UdpSockets;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::certificate;
use super::paths::Viewpoint;
use super::report::Check;
use super::web::Reply;
use crate::config::{Config, TURN_PORT_DEFAULT, TurnMode};

/// Clocks may differ by this much.
const CLOCK_MAX: Duration = Duration::from_secs(30);
/// No clock that is right shows less: 2026-01-01.
const PAST_S: u64 = 1_767_225_600;

/// What limits a server that is started on this machine.
pub(super) fn limits(config: &Config) -> Vec<Check> {
    let limits = match sfu::limits(config.media.socket_buffer_bytes) {
        Ok(limits) => limits,
        Err(error) => {
            let fix = "see what else is wrong with this machine";
            return vec![Check::warn("limits", error.to_string(), fix)];
        }
    };
    let check = |limit: sfu::Limit| {
        let detail = format!("{} of {} wanted", limit.given, limit.wanted);
        match limit.remedy {
            None => Check::ok(limit.name, limit.given.to_string()),
            Some(remedy) => Check::warn(
                limit.name,
                format!("{detail}: {}", limit.consequence),
                remedy,
            ),
        }
    };
    limits.into_iter().map(check).collect()
}

/// Whether the ports that a server would take are free.
pub(super) fn ports(config: &Config) -> Vec<Check> {
    let media = &config.media;
    let shards = media.shard_count();
    let mut checks = Vec::new();
    let mut udp = |option: &'static str, first: u16, is_needed: bool| {
        for index in (0..shards).filter(|_| first > 0) {
            let port = first.saturating_add(index);
            let bound = UdpSockets::bind(port, media.socket_buffer_bytes).map(drop);
            checks.push(port_check("UDP", (option, port), bound, is_needed));
        }
    };
    udp("media.udp_port", media.udp_port, true);
    if config.turn.mode != TurnMode::Off {
        let port = config.turn.port;
        udp("turn.port", port, port != TURN_PORT_DEFAULT);
    }
    let mut tcp = |option: &'static str, addresses: &[SocketAddr]| {
        let port = addresses.first().map_or(0, SocketAddr::port);
        if port > 0 {
            let bound = addresses.iter().try_for_each(|address| listen(*address));
            checks.push(port_check("TCP", (option, port), bound, true));
        }
    };
    let wildcard = [
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, media.tcp_port)),
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, media.tcp_port)),
    ];
    tcp("media.tcp_port", &wildcard);
    tcp("http.addr", &[config.http.addr]);
    if let Ok(address) = config.http.admin_addr.parse() {
        tcp("http.admin_addr", &[address]);
    }
    checks
}

fn listen(address: SocketAddr) -> io::Result<()> {
    match TcpListener::bind(address) {
        // The IPv4 listener of the same port, on systems where an IPv6 socket takes both.
        Err(error) if address.is_ipv6() && net::is_family_missing(&error) => Ok(()),
        bound => bound.map(drop),
    }
}

fn port_check(
    protocol: &str,
    (option, port): (&str, u16),
    bound: io::Result<()>,
    is_needed: bool,
) -> Check {
    let what = format!("{protocol} port {port}");
    let Err(error) = bound else {
        return Check::ok(what, format!("free for {option}"));
    };
    let flag = if protocol == "UDP" { 'u' } else { 't' };
    let fix = match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!(
                "`ss -l{flag}np sport = :{port}` names the program that has it; end that, or \
                 set {option}"
            )
        }
        io::ErrorKind::PermissionDenied => {
            "let the server have ports below 1024: AmbientCapabilities=CAP_NET_BIND_SERVICE \
             in its systemd unit"
                .to_owned()
        }
        io::ErrorKind::AddrNotAvailable => format!("set {option} to an address of this machine"),
        _ => format!("set {option} to a port that can be had"),
    };
    let detail = format!("{error} ({option})");
    if is_needed {
        return Check::fail(what, detail, fix);
    }
    let detail = format!("{detail}: the server starts, but without TURN over UDP");
    Check::warn(what, detail, fix)
}

/// The certificate in the files, when no server shows it.
pub(super) fn certificate_files(config: &Config, host: &str, view: &Viewpoint) -> Vec<Check> {
    let path = &config.http.tls_cert;
    if path.is_empty() {
        return Vec::new();
    }
    let chain: Result<Vec<CertificateDer<'static>>, _> =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    match chain {
        Ok(chain) => certificate::examine(&chain, host, view.now_s, &view.roots),
        Err(error) => {
            let fix = "name PEM files that the server's user may read";
            vec![Check::fail(
                "http.tls_cert",
                format!("cannot read {path}: {error}"),
                fix,
            )]
        }
    }
}

/// This machine's clock, compared with that of a server elsewhere.
pub(super) fn clock(view: &Viewpoint, reply: Option<&Reply>) -> Check {
    let what = "clock";
    let sync = "set the clock by the network, as `timedatectl set-ntp true` does: tokens and TURN \
         credentials are good for a few minutes only";
    if view.now_s < PAST_S {
        return Check::fail(what, "this machine's clock is years behind", sync);
    }
    let elsewhere = reply.filter(|_| !view.is_at_server);
    let Some(reply) = elsewhere else {
        let shown = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(view.now_s));
        return Check::ok(what, format!("{shown}, with nothing to compare it with"));
    };
    let date = reply.headers("date").next();
    let Some(theirs) = date.and_then(|date| httpdate::parse_http_date(date).ok()) else {
        return Check::ok(what, "the server does not say what time it is there");
    };
    let theirs_s = theirs.duration_since(UNIX_EPOCH).unwrap_or_default();
    let ours_s = Duration::from_secs(view.now_s);
    let apart = ours_s.abs_diff(theirs_s);
    if apart <= CLOCK_MAX {
        return Check::ok(what, "the same as the server's");
    }
    let side = if theirs_s > ours_s {
        "ahead of"
    } else {
        "behind"
    };
    let detail = format!(
        "the server's is {} s {side} this machine's",
        apart.as_secs()
    );
    Check::fail(what, detail, sync)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use rustls::RootCertStore;

    use super::super::report::Status;
    use super::*;

    fn view(now_s: u64) -> Viewpoint {
        Viewpoint {
            own: Vec::new(),
            is_at_server: false,
            now_s,
            roots: RootCertStore::empty(),
        }
    }

    #[test]
    fn a_port_of_another_program_is_named() {
        let taken = UdpSocket::bind("0.0.0.0:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let mut config = Config::default();
        config.media.shards = 1;
        config.media.tcp_port = 0;
        config.http.addr.set_port(0);
        config.turn.mode = TurnMode::Off;
        config.media.udp_port = port;
        let [check] = ports(&config).try_into().unwrap();
        assert_eq!(check.status, Status::Fail);
        assert_eq!(check.what, format!("UDP port {port}"));
        let fix = check.fix.unwrap();
        assert!(
            fix.contains("media.udp_port") && fix.contains("ss -lunp"),
            "{fix}"
        );
        drop(taken);
        let [check] = ports(&config).try_into().unwrap();
        assert_eq!(check.status, Status::Ok, "{check:?}");
    }

    #[test]
    fn the_usual_turn_port_is_not_needed() {
        let in_use = || Err(io::ErrorKind::AddrInUse.into());
        let check = port_check("UDP", ("turn.port", 3478), in_use(), false);
        assert_eq!(check.status, Status::Warn);
        let check = port_check("UDP", ("turn.port", 3479), in_use(), true);
        assert_eq!(check.status, Status::Fail);
    }

    #[test]
    fn clocks_may_be_half_a_minute_apart() {
        let answer = b"HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 2026 00:01:00 GMT\r\n\r\n";
        let reply = Reply::read(answer).unwrap();
        for (now_s, status, detail) in [
            (PAST_S + 30, Status::Ok, "the same"),
            (PAST_S + 90, Status::Ok, "the same"),
            (PAST_S + 29, Status::Fail, "31 s ahead of"),
            (PAST_S + 91, Status::Fail, "31 s behind"),
            (PAST_S - 1, Status::Fail, "years"),
        ] {
            let check = clock(&view(now_s), Some(&reply));
            assert_eq!(check.status, status, "{check:?}");
            assert!(check.detail.contains(detail), "{check:?}");
        }
        assert_eq!(clock(&view(PAST_S), None).status, Status::Ok);
    }

    #[test]
    fn limits_are_told_whatever_they_are() {
        let checks = limits(&Config::default());
        assert_eq!(checks.len(), 3);
        assert!(checks.iter().all(|check| check.status != Status::Fail));
    }
}
