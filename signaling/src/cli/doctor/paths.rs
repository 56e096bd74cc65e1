//! The ways media can take to the server, each tried with real packets, and what is wrong where one
//! fails.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rustls::RootCertStore;

use super::answer::{TurnKind, TurnServer};
use super::certificate::{complaint, examine};
use super::dial::Line;
use super::ice::Check as IceCheck;
use super::report::{Check, Status};
use super::session::{Ids, Session};
use super::turn::{Client, TurnError};
use super::web::{resolve, server_name};
use super::wire::Wire;
use crate::candidates::is_local;

/// From where we look.
#[derive(Debug)]
pub(super) struct Viewpoint {
    /// The addresses of this machine.
    pub(super) own: Vec<IpAddr>,
    /// The server runs on this machine.
    pub(super) is_at_server: bool,
    pub(super) now_s: u64,
    pub(super) roots: RootCertStore,
}

/// A place that has to be reached.
#[derive(Clone, Copy, Debug)]
struct Place {
    address: SocketAddr,
    protocol: &'static str,
}

/// One way, to be tried.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way<'a> {
    /// To a candidate over UDP.
    Udp(&'a Session, SocketAddr),
    /// To a candidate over TCP.
    Tcp(&'a Session, SocketAddr),
    /// Through a TURN server.
    Turn(&'a Session, &'a TurnServer),
}

/// Every way that these sessions were offered, each once.
pub(super) fn ways(sessions: &[Session]) -> Vec<Way<'_>> {
    let (mut udp, mut tcp, mut turn): (Vec<Way<'_>>, Vec<Way<'_>>, Vec<Way<'_>>) =
        Default::default();
    let mut seen = Vec::new();
    for session in sessions {
        for address in &session.answer.udp {
            if is_new(&mut seen, format!("udp {address}")) {
                udp.push(Way::Udp(session, *address));
            }
        }
        for address in &session.answer.tcp {
            if is_new(&mut seen, format!("tcp {address}")) {
                tcp.push(Way::Tcp(session, *address));
            }
        }
        for server in &session.turn {
            if is_new(
                &mut seen,
                format!("{:?} {} {}", server.kind, server.host, server.port),
            ) {
                turn.push(Way::Turn(session, server));
            }
        }
    }
    turn.sort_by_key(|way| match way {
        Way::Turn(_, server) => Some(server.kind),
        _ => None,
    });
    [udp, tcp, turn].concat()
}

fn is_new(seen: &mut Vec<String>, name: String) -> bool {
    let is_new = !seen.contains(&name);
    if is_new {
        seen.push(name);
    }
    is_new
}

impl Way<'_> {
    /// Tries it.
    pub(super) fn prove(&self, view: &Viewpoint, ids: &Ids) -> Check {
        match *self {
            Self::Udp(session, address) => {
                let place = Place {
                    address,
                    protocol: "UDP",
                };
                view.judge("UDP", place, || check(session, ids, Wire::udp(address)?))
            }
            Self::Tcp(session, address) => {
                let place = Place {
                    address,
                    protocol: "TCP",
                };
                view.judge("TCP", place, || {
                    check(session, ids, Wire::Frames(Line::connect(address)?))
                })
            }
            Self::Turn(session, server) => relay(view, ids, session, server),
        }
    }
}

fn check(session: &Session, ids: &Ids, mut wire: Wire) -> io::Result<String> {
    let check = IceCheck::new(&session.ours, &session.answer, ids.draw());
    let check = check.ok_or_else(|| io::Error::other("the ICE credentials are too long"))?;
    let local = wire.local()?;
    let started = Instant::now();
    let mapped = check.make(&mut wire)?;
    let took = shown(started.elapsed());
    if mapped == local {
        return Ok(format!("answers in {took}"));
    }
    // Behind a NAT, or bound to no address in particular.
    Ok(format!("answers in {took}, and saw it come from {mapped}"))
}

fn shown(took: Duration) -> String {
    format!("{:.1} ms", took.as_secs_f64() * 1000.0)
}

fn relay(view: &Viewpoint, ids: &Ids, session: &Session, server: &TurnServer) -> Check {
    let (kind, protocol) = match server.kind {
        TurnKind::Udp => ("TURN/UDP", "UDP"),
        TurnKind::Tcp => ("TURN/TCP", "TCP"),
        TurnKind::Tls => ("TURN/TLS", "TCP"),
    };
    let found = resolve(&server.host, server.port);
    let Some(address) = found.ok().and_then(|found| found.first().copied()) else {
        return Check::fail(
            format!("{kind} {}:{}", server.host, server.port),
            "the name has no address",
            "set http.public_url to a name that clients can look up",
        );
    };
    if !view.is_at_server && address.ip().is_loopback() {
        return Check::fail(
            format!("{kind} {address}"),
            "clients are sent to a loopback address, which is their own machine",
            match server.kind {
                TurnKind::Tls => {
                    "set http.public_url to a name that leads to the server from everywhere"
                }
                _ => "set media.advertise to an address that leads to the server from everywhere",
            },
        );
    }
    let place = Place { address, protocol };
    let mut complaint = None;
    let proven = view.judge(kind, place, || {
        let (wire, unfit) = connect(view, server, address)?;
        complaint = unfit;
        through(wire, ids, session, server)
    });
    match (proven.status, complaint) {
        (Status::Ok, Some(unfit)) => Check::warn(
            proven.what,
            format!(
                "{}, but clients refuse the certificate: {}",
                proven.detail, unfit.detail
            ),
            unfit.fix.unwrap_or_default(),
        ),
        _ => proven,
    }
}

/// A way to the server, and what clients would have against its certificate.
fn connect(
    view: &Viewpoint,
    server: &TurnServer,
    address: SocketAddr,
) -> io::Result<(Wire, Option<Check>)> {
    match server.kind {
        TurnKind::Udp => Ok((Wire::udp(address)?, None)),
        TurnKind::Tcp => Ok((Wire::Messages(Line::connect(address)?), None)),
        TurnKind::Tls => {
            let line = Line::connect(address)?;
            let (line, chain) = line.secure(server_name(&server.host)?, b"stun.turn")?;
            let checks = examine(&chain, &server.host, view.now_s, &view.roots);
            Ok((Wire::Messages(line), complaint(&checks).cloned()))
        }
    }
}

/// Sends a check to the media candidate through the server.
fn through(
    mut wire: Wire,
    ids: &Ids,
    session: &Session,
    server: &TurnServer,
) -> io::Result<String> {
    let candidates = || session.answer.udp.iter();
    let v4 = candidates().find(|address| address.is_ipv4());
    let peer = v4.or(candidates().next()).copied();
    let peer = peer.ok_or_else(|| io::Error::other("the server offers no UDP candidate"))?;
    let check = IceCheck::new(&session.ours, &session.answer, ids.draw());
    let check = check.ok_or_else(|| io::Error::other("the ICE credentials are too long"))?;
    let draw = || ids.draw();
    let credential = (server.username.as_str(), server.credential.as_str());
    let started = Instant::now();
    let relayed = Client::new(&mut wire, credential, &draw).relay(&check, peer);
    let from = relayed.map_err(|error| match error {
        TurnError::Unreachable(error) => error,
        refused => io::Error::other(refused.to_string()),
    })?;
    let took = shown(started.elapsed());
    Ok(format!(
        "relays media of {peer} in {took}, seen there as {from}"
    ))
}

impl Viewpoint {
    /// Tries to reach a place, and says what it means if that fails.
    fn judge(&self, kind: &str, place: Place, prove: impl FnOnce() -> io::Result<String>) -> Check {
        let what = format!("{kind} {}", place.address);
        if !self.is_at_server && place.address.ip().is_loopback() {
            return Check::warn(
                what,
                "not tried: a loopback address means this machine, not the server",
                "clients elsewhere try it in vain; media.advertise leaves such addresses out",
            );
        }
        match prove() {
            Ok(detail) => Check::ok(what, detail),
            Err(error) => self.explain(what, place, &error),
        }
    }

    fn explain(&self, what: String, place: Place, error: &io::Error) -> Check {
        use io::ErrorKind::{
            ConnectionRefused, HostUnreachable, NetworkUnreachable, PermissionDenied, TimedOut,
        };
        let Place { address, protocol } = place;
        let (ip, port) = (address.ip(), address.port());
        if error.kind() == NetworkUnreachable || net::is_family_missing(error) {
            if !self.is_at_server && is_local(&ip) {
                return self.unanswered(what, place, "no route");
            }
            let version = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
            return Check::warn(
                what,
                "not tried: this machine has no route to it",
                format!("run this again on a machine with {version} that can reach the server"),
            );
        }
        match error.kind() {
            PermissionDenied => Check::fail(
                what,
                "a firewall on this machine forbids sending there",
                format!("allow outgoing {protocol} to port {port}"),
            ),
            TimedOut => self.unanswered(what, place, "no answer"),
            // What the kernel makes of a firewall's rejection, too.
            ConnectionRefused | HostUnreachable => self.unanswered(what, place, "rejected"),
            _ => Check::fail(
                what,
                error.to_string(),
                format!("make sure that {protocol} port {port} of {ip} leads to this server"),
            ),
        }
    }

    /// No answer can be the port's fault or, for some addresses, lie in the nature of things.
    fn unanswered(&self, what: String, place: Place, detail: &str) -> Check {
        let Place { address, protocol } = place;
        let (ip, port) = (address.ip(), address.port());
        let lower = protocol.to_lowercase();
        if self.own.contains(&ip) {
            return Check::fail(
                what,
                detail,
                format!(
                    "allow {protocol} port {port} in this machine's firewall (as `ufw allow \
                     {port}/{lower}`)"
                ),
            );
        }
        if self.is_at_server {
            return Check::warn(
                what,
                format!(
                    "{detail}, but it is an address of a NAT in front of this machine, and many of \
                     those do not lead back in"
                ),
                format!(
                    "forward {protocol} port {port} there to this machine, and run `plenum doctor \
                     --url <public URL>` on another one"
                ),
            );
        }
        if is_local(&ip) {
            return Check::warn(
                what,
                format!("{detail}: an address of the server's own network, out of reach from here"),
                "nothing to do for clients there; others need a public address in media.advertise",
            );
        }
        Check::fail(
            what,
            detail,
            format!(
                "open {protocol} port {port} in the server's firewall and at its provider, forward it \
                 if there is a NAT, or see whether the network here blocks it"
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(is_at_server: bool) -> Viewpoint {
        Viewpoint {
            own: vec!["10.0.0.5".parse().unwrap(), "127.0.0.1".parse().unwrap()],
            is_at_server,
            now_s: 0,
            roots: RootCertStore::empty(),
        }
    }

    fn judged(is_at_server: bool, address: &str, kind: io::ErrorKind) -> Check {
        let place = Place {
            address: address.parse().unwrap(),
            protocol: "UDP",
        };
        view(is_at_server).judge("UDP", place, || Err(kind.into()))
    }

    #[test]
    fn silence_is_judged_by_the_address() {
        use io::ErrorKind::TimedOut;
        for (is_at_server, address, status, hint) in [
            (true, "10.0.0.5:7800", Status::Fail, "ufw allow 7800/udp"),
            (
                true,
                "203.0.113.9:7800",
                Status::Warn,
                "forward UDP port 7800",
            ),
            (
                false,
                "203.0.113.9:7800",
                Status::Fail,
                "open UDP port 7800",
            ),
            (false, "10.9.9.9:7800", Status::Warn, "media.advertise"),
            (false, "127.0.0.1:7800", Status::Warn, "media.advertise"),
        ] {
            let check = judged(is_at_server, address, TimedOut);
            assert_eq!(check.status, status, "{check:?}");
            assert!(check.fix.as_deref().unwrap().contains(hint), "{check:?}");
            assert_eq!(check.what, format!("UDP {address}"));
        }
    }

    #[test]
    fn errors_are_told_apart() {
        use io::ErrorKind::{ConnectionRefused, InvalidData, NetworkUnreachable, PermissionDenied};
        for (kind, status, word) in [
            (ConnectionRefused, Status::Fail, "rejected"),
            (NetworkUnreachable, Status::Warn, "no route"),
            (PermissionDenied, Status::Fail, "forbids"),
            (InvalidData, Status::Fail, ""),
        ] {
            let check = judged(false, "203.0.113.9:7800", kind);
            assert_eq!(check.status, status, "{check:?}");
            assert!(check.detail.contains(word), "{check:?}");
        }
    }

    #[test]
    fn what_works_is_said_to_work() {
        let place = Place {
            address: "203.0.113.9:7800".parse().unwrap(),
            protocol: "UDP",
        };
        let check = view(false).judge("UDP", place, || Ok("answers".to_owned()));
        assert_eq!(check, Check::ok("UDP 203.0.113.9:7800", "answers"));
    }
}
