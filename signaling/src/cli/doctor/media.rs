//! Every way for media that a server offers: proved, and compared with what clients need.

use std::thread;

use super::answer::TurnKind;
use super::examination::Examination;
use super::paths::{Way, ways};
use super::report::{Check, Status};
use super::session::{Session, SessionError, Visitor};
use super::web::Web;
use crate::candidates::{Concern, Offered};
use crate::cli::choose_key;
use crate::config::TurnMode;

/// Sessions at a time; a server may have more media threads, which are like the others then.
const SESSIONS_MAX: usize = 64;
/// After so many sessions that brought no other port all media threads have been seen.
const REPEATS_MAX: usize = 4;

/// What lines about candidates begin with.
const DIRECT: [&str; 2] = ["UDP ", "TCP "];

impl Examination<'_> {
    /// Every way for media that the server offers.
    pub(super) fn look_at_media(&mut self, web: &Web, key: Option<&str>) {
        let key = match choose_key(self.config, key) {
            Ok(key) => key,
            Err(error) => {
                self.report.add(no_key(&error));
                return;
            }
        };
        let visitor = Visitor::new(self.config, key, web, self.view.now_s);
        // Elsewhere there may be more or fewer cores.
        let threads = match self.view.is_at_server {
            true => usize::from(self.config.media.shard_count()),
            false => SESSIONS_MAX,
        };
        let sessions = match open_sessions(&visitor, threads) {
            Ok(sessions) => sessions,
            Err(error) => {
                self.report.add(no_session(&error));
                return;
            }
        };
        let threads = if sessions.len() == 1 {
            "on its media thread".to_owned()
        } else {
            format!("on {} media threads", sessions.len())
        };
        self.report
            .add(Check::ok("sessions", format!("opened by WHEP {threads}")));
        let ways = ways(&sessions);
        let proven = self.prove(&ways);
        self.judge_addresses(&sessions, &proven, web);
        self.report.extend(proven);
        self.look_at_turn(&ways);
        for session in &sessions {
            visitor.close(session);
        }
    }

    /// All at once: each takes up to some seconds when it fails.
    fn prove(&self, ways: &[Way<'_>]) -> Vec<Check> {
        let (view, ids) = (&self.view, &self.ids);
        thread::scope(|scope| {
            let prove = |way| scope.spawn(move || Way::prove(way, view, ids));
            let threads: Vec<_> = ways.iter().map(prove).collect();
            let join = |thread: thread::ScopedJoinHandle<'_, Check>| match thread.join() {
                Ok(check) => check,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            threads.into_iter().map(join).collect()
        })
    }

    /// Whether anybody can make use of the offered addresses at all.
    fn judge_addresses(&mut self, sessions: &[Session], proven: &[Check], web: &Web) {
        let what = "addresses";
        let candidates = sessions.iter().flat_map(|session| &session.answer.udp);
        let mut offered = Offered::default();
        for candidate in candidates {
            if !offered.addresses.contains(&candidate.ip()) {
                offered.addresses.push(candidate.ip());
            }
        }
        // Addresses that could be reached have their own lines, whether they are.
        let is_direct = |check: &&Check| DIRECT.iter().any(|kind| check.what.starts_with(kind));
        let mut direct = proven.iter().filter(is_direct);
        if !self.view.is_at_server && direct.all(|check| check.status == Status::Warn) {
            let fix = format!(
                "set media.advertise = [\"{}\"], if that leads to the server itself",
                web.address.ip()
            );
            let detail = "none that the server offers for media can be reached from here";
            self.report.add(Check::fail(what, detail, fix));
            return;
        }
        // Each address of a NAT has its own line below.
        for concern in offered.concerns(&self.view.own) {
            match concern {
                Concern::OnlyLoopback => self.report.add(Check::warn(
                    what,
                    "only loopback addresses are offered: nobody else can connect",
                    "set media.advertise to an address that clients can reach",
                )),
                Concern::OnlyPrivate => self.report.add(Check::warn(
                    what,
                    "only private addresses are offered: clients elsewhere cannot connect",
                    "for clients on the internet, set media.advertise to the public address",
                )),
                Concern::Elsewhere { .. } | Concern::TlsAtLoopback => {}
            }
        }
    }

    /// What the server does not offer, but some clients need.
    fn look_at_turn(&mut self, ways: &[Way<'_>]) {
        let has = |kind| {
            let mut servers = ways.iter();
            servers.any(|way| matches!(way, Way::Turn(_, server) if server.kind == kind))
        };
        if ![TurnKind::Udp, TurnKind::Tcp, TurnKind::Tls]
            .into_iter()
            .any(has)
        {
            self.report.add(Check::warn(
                "TURN",
                "none: clients in networks that let only HTTPS out cannot connect",
                "set turn.mode = \"sfu\"",
            ));
            return;
        }
        if !has(TurnKind::Udp) && self.config.turn.mode != TurnMode::Off {
            self.report.add(Check::warn(
                "TURN/UDP",
                "not offered: its port was taken when the server started",
                "set turn.port to a free one",
            ));
        }
        if !has(TurnKind::Tls) {
            self.report.add(Check::warn(
                "TURN/TLS",
                "not offered: clients in networks that let only HTTPS out cannot connect",
                "let the server speak HTTPS itself, on port 443 (http.addr, http.tls_cert, http.tls_key)",
            ));
        }
        let tls = ways.iter().find_map(|way| match way {
            Way::Turn(_, server) if server.kind == TurnKind::Tls => Some(server.port),
            _ => None,
        });
        if let Some(port) = tls.filter(|port| *port != 443) {
            self.report.add(Check::warn(
                "port of TURN/TLS",
                format!("{port}: networks that let only HTTPS out let only port 443 out"),
                "let the server listen on port 443 (http.addr)",
            ));
        }
    }
}

/// One session for each media thread; the server places each new room where there is least to do.
fn open_sessions(visitor: &Visitor<'_>, threads: usize) -> Result<Vec<Session>, SessionError> {
    let mut sessions: Vec<Session> = Vec::new();
    let mut repeats = Vec::new();
    let mut failed = None;
    while sessions.len() < threads.min(SESSIONS_MAX) && repeats.len() < REPEATS_MAX {
        let session = match visitor.open() {
            Ok(session) => session,
            Err(error) => {
                failed = Some(error);
                break;
            }
        };
        let is_known = |known: &Session| known.answer.udp == session.answer.udp;
        if sessions.iter().any(is_known) {
            repeats.push(session);
        } else {
            sessions.push(session);
        }
    }
    for repeat in &repeats {
        visitor.close(repeat);
    }
    match failed {
        Some(error) if sessions.is_empty() => Err(error),
        _ => Ok(sessions),
    }
}

/// Without a key there are no tokens, and without these no way to media.
fn no_key(error: &anyhow::Error) -> Check {
    let text = error.to_string();
    let first = text.split(". ").next().unwrap_or(&text);
    let fix = "use the configuration that the server runs with: --config FILE, or PLENUM_AUTH__KEYS__<id>";
    Check::fail("API key", first, fix)
}

fn no_session(error: &SessionError) -> Check {
    let fix = match error {
        SessionError::Key { .. } => {
            "let the server read its keys again (SIGHUP), or use the configuration that it runs with"
        }
        SessionError::Unreachable(_) => "see whether the server still runs",
        SessionError::Refused(_) => "see the server's log; is it full, or going down?",
        SessionError::Answer | SessionError::Here(_) => "run this again",
    };
    Check::fail("sessions", error.to_string(), fix)
}
