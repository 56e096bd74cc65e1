//! One visit to a server, from the machine it runs on or from another.

use std::io;
use std::net::IpAddr;

use anyhow::{Context, Result};

use super::paths::Viewpoint;
use super::report::{Check, Report};
use super::session::Ids;
use super::web::{Reply, Url, Web};
use super::{certificate, local};
use crate::candidates::Offered;
use crate::cli::unix_time;
use crate::config::Config;
use crate::message::SUBPROTOCOL;

/// One visit: what is known, and what was found so far.
pub(super) struct Examination<'a> {
    pub(super) config: &'a Config,
    pub(super) view: Viewpoint,
    pub(super) ids: Ids,
    pub(super) report: Report,
}

impl<'a> Examination<'a> {
    pub(super) fn new(config: &'a Config) -> Result<Self> {
        let view = Viewpoint {
            own: sfu::machine_addresses().context("cannot list the addresses of this machine")?,
            is_at_server: true,
            now_s: unix_time()?,
            roots: certificate::authorities(),
        };
        Ok(Self {
            config,
            view,
            ids: Ids::new()?,
            report: Report::default(),
        })
    }

    /// The server on this machine; without one, what it would need.
    pub(super) fn look_from_here(&mut self, key: Option<&str>) -> Result<()> {
        let http = &self.config.http;
        let mut address = http.addr;
        if address.ip().is_unspecified() {
            address.set_ip(IpAddr::from([127, 0, 0, 1]));
        }
        let public = Url::parse(&self.config.public_url(address));
        let public = public.context("http.public_url is no http:// or https:// address")?;
        let web = Web {
            url: Url::of(address, http.is_https()),
            address,
            name: Some(public.host.clone()),
            is_proxied: http.proxy_protocol,
        };
        let greeted = match self.greet(&web) {
            Ok(reply) => reply,
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                self.look_without_server(&web, &public);
                return Ok(());
            }
            Err(error) => {
                let fix = match error.kind() {
                    io::ErrorKind::TimedOut => "see its log, and start it again",
                    _ => "is another program there? set http.addr to a free port, or end that one",
                };
                self.report.add(Check::fail(
                    format!("server {}", web.url),
                    error.to_string(),
                    fix,
                ));
                return Ok(());
            }
        };
        let outside = self.look_at_public(&public, &web);
        if outside.is_none() {
            self.look_at_websocket(&web);
        }
        let shown = outside.as_ref().unwrap_or(&greeted);
        if public.is_https {
            self.look_at_certificate(shown, &public.host);
        }
        self.look_at_media(&web, key);
        self.report.add(local::clock(&self.view, Some(&greeted)));
        self.look_at_machine();
        Ok(())
    }

    /// A server as its clients see it.
    pub(super) fn look_from_outside(&mut self, url: Url, key: Option<&str>) {
        let addresses = match url.resolve() {
            Ok(addresses) => addresses,
            Err(error) => {
                let fix = "make sure that the name is right and has an address in the DNS";
                self.report
                    .add(Check::fail(format!("server {url}"), error.to_string(), fix));
                return;
            }
        };
        let is_here = |ip: IpAddr| ip.is_loopback() || self.view.own.contains(&ip);
        self.view.is_at_server = addresses.iter().any(|address| is_here(address.ip()));
        let mut found = None;
        for address in addresses {
            let web = Web {
                url: url.clone(),
                address,
                name: None,
                is_proxied: false,
            };
            match self.greet(&web) {
                Ok(reply) => found = found.or(Some((web, reply))),
                Err(error) => {
                    let check = self.no_server(&web, &error);
                    self.report.add(check);
                }
            }
        }
        let Some((web, greeted)) = found else {
            return;
        };
        self.look_at_websocket(&web);
        if url.is_https {
            self.look_at_certificate(&greeted, &url.host);
        }
        self.look_at_media(&web, key);
        self.report.add(local::clock(&self.view, Some(&greeted)));
        if self.view.is_at_server {
            self.look_at_machine();
        }
    }

    fn look_at_machine(&mut self) {
        self.report.extend(local::limits(self.config));
        let note = "Seen from the server's own machine. Firewalls and NATs between it and its clients \
             show from outside only: plenum doctor --url <public URL>, on another machine.";
        self.report.note = Some(note.to_owned());
    }

    /// Says hello; adds a line only when there is an answer.
    fn greet(&mut self, web: &Web) -> io::Result<Reply> {
        let what = format!("server {}", web.url);
        let reply = web.get("/readyz")?;
        let at = match web.url.host.parse::<IpAddr>() {
            Ok(_) => String::new(),
            Err(_) => format!(" at {}", web.address.ip()),
        };
        let check = match (reply.status, reply.body.trim()) {
            (200, "ready") => Check::ok(what, format!("is ready{at}")),
            (503, "draining") => Check::warn(
                what,
                format!("is going down{at}, and lets nobody in"),
                "wait until it is up again",
            ),
            (status, _) => {
                let text = format!("something else than Plenum answers with status {status}");
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
        };
        self.report.add(check);
        Ok(reply)
    }

    fn no_server(&self, web: &Web, error: &io::Error) -> Check {
        let what = format!("server {} at {}", web.url, web.address.ip());
        let port = web.url.port;
        match error.kind() {
            io::ErrorKind::TimedOut => Check::fail(
                what,
                "no answer",
                format!("open TCP port {port} in the server's firewall and at its provider"),
            ),
            io::ErrorKind::ConnectionRefused => Check::fail(
                what,
                "nothing listens there",
                "start the server, or the proxy in front of it, on this address",
            ),
            io::ErrorKind::NetworkUnreachable => Check::warn(
                what,
                "not tried: this machine has no route to it",
                "run this again on a machine that has",
            ),
            _ => Check::fail(
                what,
                error.to_string(),
                "make the name lead to the server, and a proxy in between pass everything on",
            ),
        }
    }

    /// The address in join links, if it is another one than the server's own; what was shown there.
    fn look_at_public(&mut self, public: &Url, web: &Web) -> Option<Reply> {
        if self.config.http.public_url.is_empty() {
            if web.address.ip().is_loopback() && self.config.http.addr.ip().is_loopback() {
                self.report.add(Check::warn(
                    "public address",
                    format!("join links lead to {public}, which works on this machine only"),
                    "set http.public_url to the address that clients use",
                ));
            }
            return None;
        }
        let addresses = match public.resolve() {
            Ok(addresses) => addresses,
            Err(error) => {
                let what = format!("public address {public}");
                let fix = "set http.public_url to a name that has an address in the DNS";
                self.report.add(Check::fail(what, error.to_string(), fix));
                return None;
            }
        };
        let mut found = None;
        for address in addresses {
            let outside = Web {
                url: public.clone(),
                address,
                name: None,
                is_proxied: false,
            };
            match self.greet(&outside) {
                Ok(reply) => {
                    self.look_at_websocket(&outside);
                    found = found.or(Some(reply));
                }
                Err(error) => {
                    let failed = self.no_server(&outside, &error);
                    let is_here = self.view.own.contains(&address.ip());
                    self.report
                        .add(if is_here { failed } else { perhaps_nat(failed) });
                }
            }
        }
        found
    }

    /// A proxy may pass pages on and WebSockets not.
    fn look_at_websocket(&mut self, web: &Web) {
        let what = "WebSocket";
        let fix = "make the proxy pass on WebSockets (nginx: proxy_http_version 1.1, and the headers \
             Upgrade and Connection)";
        let check = match web.upgrade("/v1/signal", SUBPROTOCOL) {
            Ok(reply) if reply.status == 101 => Check::ok(what, "gets through"),
            Ok(reply) => Check::fail(what, format!("refused: {}", reply.reason()), fix),
            Err(error) => Check::fail(what, error.to_string(), fix),
        };
        self.report.add(check);
        if !web.url.is_https && !web.address.ip().is_loopback() {
            self.report.add(Check::warn(
                "HTTPS",
                "browsers give pages without it no camera and no microphone",
                "set http.tls_cert and http.tls_key, or put a proxy with TLS in front",
            ));
        }
    }

    fn look_at_certificate(&mut self, reply: &Reply, host: &str) {
        let (now_s, roots) = (self.view.now_s, &self.view.roots);
        let checks = certificate::examine(&reply.chain, host, now_s, roots);
        self.report.extend(checks);
    }

    /// There is no server to look at: would one start, and be of use?
    fn look_without_server(&mut self, web: &Web, public: &Url) {
        self.report.add(Check::warn(
            format!("server {}", web.url),
            "does not run here: looking at what it will need",
            "start it with `plenum serve`, and run this again",
        ));
        if self.config.auth.keys.is_empty() {
            self.report.add(Check::fail(
                "API key",
                "there is none, and the server will not start",
                "add one to [auth.keys]; `openssl rand -hex 32` makes a secret",
            ));
        }
        self.report.extend(local::ports(self.config));
        let files = local::certificate_files(self.config, &public.host, &self.view);
        self.report.extend(files);
        let advertised = &self.config.media.advertise;
        let offered = Offered {
            addresses: match advertised.as_slice() {
                [] => self.view.own.clone(),
                advertised => advertised.to_vec(),
            },
            udp_ports: (0..self.config.media.shard_count())
                .map(|index| self.config.media.udp_port.saturating_add(index))
                .collect(),
            tcp_port: self.config.media.tcp_port,
            ..Offered::default()
        };
        for concern in offered.concerns(&self.view.own) {
            let fix = "run this again when the server runs, on another machine with --url";
            self.report
                .add(Check::warn("addresses", concern.to_string(), fix));
        }
        self.report.add(local::clock(&self.view, None));
        self.report.extend(local::limits(self.config));
    }
}

/// From behind a NAT its public side often cannot be reached.
fn perhaps_nat(failed: Check) -> Check {
    Check::warn(
        failed.what,
        format!("{}, but many NATs do not lead back in", failed.detail),
        "run `plenum doctor --url` with this address on another machine",
    )
}
