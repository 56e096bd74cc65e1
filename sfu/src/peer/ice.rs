//! ICE as a lite agent (RFC 8445 §2.5): answers checks, follows nominations, watches consent.

pub(crate) mod check;

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use crate::shard::Path;

use check::Check;

/// One side's short-term credentials (RFC 8445 §5.3).
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    /// The username fragment.
    pub(crate) ufrag: String,
    /// The password.
    pub(crate) pwd: String,
}

impl std::fmt::Debug for Credentials {
    /// Names the ufrag only: passwords are never printed.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("ufrag", &self.ufrag)
            .finish_non_exhaustive()
    }
}

/// What a check led to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct CheckOutcome {
    /// Bytes of the reply in `out`, to be sent back on the check's tuple; 0: none.
    pub(crate) reply_len: usize,
    /// What changed for the transport.
    pub(crate) change: Option<IceChange>,
    /// A tuple that made room and is no longer a valid source.
    pub(crate) evicted: Option<Path>,
}

/// A change that a check brought about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum IceChange {
    /// The tuple is now a valid source; it was not nominated.
    Validated(Path),
    /// The tuple is now the one we send on; also a valid source if it was not.
    Selected(Path),
}

/// Whether the peer still wants what we send (RFC 7675).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum IceState {
    /// No check has succeeded yet.
    New,
    /// Heard within 5 s on the tuple we send on.
    Connected,
    /// Nothing for 5 s; sending goes on.
    Disconnected,
    /// Nothing for 30 s: consent has expired, nothing may be sent.
    Failed,
}

/// The ICE-lite machine of one transport.
///
/// We are always the controlled side. Before a nomination the first validated tuple carries DTLS
/// replies only, so that the handshake need not wait; media goes to `selected` alone.
/// Holds: nothing changes before a check's integrity has been verified with our password.
#[derive(Debug)]
pub(crate) struct IceLite {
    current: Pairing,
    /// The credentials before a restart, valid until the first check with the new ones.
    previous: Option<Pairing>,
    /// In order of validation; at most `TUPLES_MAX`.
    tuples: Vec<ValidTuple>,
    selected: Option<Path>,
}

#[derive(Debug)]
struct Pairing {
    local: Credentials,
    remote: Option<Credentials>,
}

#[derive(Debug)]
struct ValidTuple {
    tuple: Path,
    last_heard: Instant,
}

impl IceLite {
    /// Starts with our own credentials; no check is answered before `set_remote`.
    pub(crate) fn new(local: Credentials) -> Self {
        let current = Pairing {
            local,
            remote: None,
        };
        Self {
            current,
            previous: None,
            tuples: Vec::with_capacity(TUPLES_MAX),
            selected: None,
        }
    }

    /// Takes the peer's credentials from its first offer or answer.
    pub(crate) fn set_remote(&mut self, remote: Credentials) {
        self.current.remote = Some(remote);
    }

    /// Takes new credentials of both sides (RFC 8445 §9).
    ///
    /// Media flows on as before: the old ones stay valid until the first check with the new ones,
    /// and the selected tuple stays until another is nominated.
    pub(crate) fn restart(&mut self, local: Credentials, remote: Credentials) {
        let renewed = Pairing {
            local,
            remote: Some(remote),
        };
        let replaced = std::mem::replace(&mut self.current, renewed);
        // After two restarts in a row the peer still checks with what it proved last.
        self.previous.get_or_insert(replaced);
    }

    /// Our current credentials.
    pub(crate) fn local(&self) -> &Credentials {
        &self.current.local
    }

    /// The peer's current credentials.
    pub(crate) fn remote(&self) -> Option<&Credentials> {
        self.current.remote.as_ref()
    }

    /// Answers a connectivity check that arrived on `tuple`.
    ///
    /// A check that does not prove it knows our password gets no reply and changes nothing, so that
    /// we never answer to a spoofed source. `out` takes up to
    /// `check::RESPONSE_BYTES_MAX` bytes.
    /// RFC 8445 §7.3.
    pub(crate) fn handle_check(
        &mut self,
        now: Instant,
        tuple: Path,
        check: &Check<'_>,
        out: &mut [u8],
    ) -> CheckOutcome {
        let Some(is_current) = self.authenticate(check) else {
            return CheckOutcome::default();
        };
        if let Some(reply_len) = self.refuse(check, is_current, out) {
            return CheckOutcome {
                reply_len,
                ..CheckOutcome::default()
            };
        }
        let key = self.password(is_current).as_bytes();
        let reply_len = check::write_success(out, &check.transaction_id, tuple.remote, key);
        if is_current {
            self.previous = None;
        }
        let (is_new, evicted) = self.validate(now, tuple);
        let is_selected = check.use_candidate && self.selected != Some(tuple);
        if is_selected {
            self.selected = Some(tuple);
        }
        let change = match (is_selected, is_new) {
            (true, _) => Some(IceChange::Selected(tuple)),
            (false, true) => Some(IceChange::Validated(tuple)),
            (false, false) => None,
        };
        CheckOutcome {
            reply_len,
            change,
            evicted,
        }
    }

    /// Counts an authenticated SRTP or SRTCP packet as consent on its tuple (RFC 7675 §5.1 asks the
    /// side that sends checks; a lite agent sends none and takes what it hears as consent).
    pub(crate) fn note_authenticated(&mut self, now: Instant, tuple: Path) {
        if let Some(valid) = self.tuples.iter_mut().find(|valid| valid.tuple == tuple) {
            valid.last_heard = valid.last_heard.max(now);
        }
    }

    /// Drops a tuple whose TCP connection has closed.
    pub(crate) fn remove_tuple(&mut self, tuple: Path) {
        self.tuples.retain(|valid| valid.tuple != tuple);
        self.selected = self.selected.filter(|selected| *selected != tuple);
    }

    /// The tuple that media goes to: the latest that carried USE-CANDIDATE.
    pub(crate) fn selected(&self) -> Option<Path> {
        self.selected
    }

    /// Where DTLS replies go: the selected tuple, or the first validated one before any nomination.
    pub(crate) fn send_tuple(&self) -> Option<Path> {
        self.selected
            .or_else(|| self.tuples.first().map(|valid| valid.tuple))
    }

    /// Whether a check has succeeded on this tuple: only then may its other datagrams be looked at.
    pub(crate) fn is_valid_source(&self, tuple: Path) -> bool {
        self.tuples.iter().any(|valid| valid.tuple == tuple)
    }

    /// Whether the peer is still there, by what was heard on the tuple we send on.
    pub(crate) fn state(&self, now: Instant) -> IceState {
        let Some(last_heard) = self.last_heard() else {
            return IceState::New;
        };
        let silence = now.saturating_duration_since(last_heard);
        if silence >= CONSENT_EXPIRY {
            IceState::Failed
        } else if silence >= DISCONNECTED_AFTER {
            IceState::Disconnected
        } else {
            IceState::Connected
        }
    }

    /// When `state` changes next if nothing is heard; `None` when it will not.
    pub(crate) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let last_heard = self.last_heard()?;
        match self.state(now) {
            IceState::New | IceState::Failed => None,
            IceState::Connected => Some(last_heard + DISCONNECTED_AFTER),
            IceState::Disconnected => Some(last_heard + CONSENT_EXPIRY),
        }
    }

    fn last_heard(&self) -> Option<Instant> {
        let sending_on = self.send_tuple()?;
        let valid = self.tuples.iter().find(|valid| valid.tuple == sending_on)?;
        Some(valid.last_heard)
    }

    /// Whether the check was made with current credentials (`true`) or those before a restart.
    fn authenticate(&self, check: &Check<'_>) -> Option<bool> {
        let matches = |pairing: &Pairing| {
            pairing.is_named_by(check.username)
                && check.verify_integrity(pairing.local.pwd.as_bytes())
        };
        if matches(&self.current) {
            return Some(true);
        }
        self.previous.as_ref().is_some_and(matches).then_some(false)
    }

    fn password(&self, is_current: bool) -> &str {
        match (&self.previous, is_current) {
            (Some(previous), false) => &previous.local.pwd,
            _ => &self.current.local.pwd,
        }
    }

    /// Writes the error an authenticated check deserves; `None`: it deserves none.
    ///
    /// Only full agents repair role conflicts (RFC 8445 §7.3.1.1). A peer that believes to be
    /// controlled would wait for our nomination for ever, so it is told to switch (487).
    fn refuse(&self, check: &Check<'_>, is_current: bool, out: &mut [u8]) -> Option<usize> {
        let unknown = check.unknown_required();
        let code = if !unknown.is_empty() {
            UNKNOWN_ATTRIBUTE
        } else if check.is_controlled {
            ROLE_CONFLICT
        } else {
            return None;
        };
        let key = self.password(is_current).as_bytes();
        Some(check::write_error(
            out,
            &check.transaction_id,
            code,
            unknown,
            key,
        ))
    }

    /// Whether the tuple is new, and which had to make room for it.
    fn validate(&mut self, now: Instant, tuple: Path) -> (bool, Option<Path>) {
        if let Some(valid) = self.tuples.iter_mut().find(|valid| valid.tuple == tuple) {
            valid.last_heard = valid.last_heard.max(now);
            return (false, None);
        }
        let evicted = if self.tuples.len() < TUPLES_MAX {
            None
        } else {
            self.evict()
        };
        self.tuples.push(ValidTuple {
            tuple,
            last_heard: now,
        });
        (true, evicted)
    }

    /// Removes the tuple unheard for longest, but never the selected one.
    fn evict(&mut self) -> Option<Path> {
        let candidates = self.tuples.iter().enumerate();
        let (position, _) = candidates
            .filter(|(_, valid)| Some(valid.tuple) != self.selected)
            .min_by_key(|(_, valid)| valid.last_heard)?;
        Some(self.tuples.remove(position).tuple)
    }
}

impl Pairing {
    /// Whether `username` is "our ufrag:their ufrag" (RFC 8445 §7.2.2).
    fn is_named_by(&self, username: &str) -> bool {
        let Some(remote) = &self.remote else {
            return false;
        };
        username
            .strip_prefix(self.local.ufrag.as_str())
            .and_then(|rest| rest.strip_prefix(':'))
            .is_some_and(|theirs| theirs == remote.ufrag)
    }
}

/// Validated tuples kept: IPv4, IPv6, TCP, and one network to move to.
const TUPLES_MAX: usize = 4;
const DISCONNECTED_AFTER: Duration = Duration::from_secs(5);
/// RFC 7675 §5.1.
const CONSENT_EXPIRY: Duration = Duration::from_secs(30);

const UNKNOWN_ATTRIBUTE: u16 = 420;
const ROLE_CONFLICT: u16 = 487;
