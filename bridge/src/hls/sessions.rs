//! Who is watching: players with a session each, counted and limited per user.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use thiserror::Error;

/// Decides who may watch a room's protected broadcast; the service implements it with its tokens.
pub trait Gate: Send + Sync {
    /// Checks a token as it stood in the query of the entry playlist; empty if there was none.
    ///
    /// # Errors
    /// The token is not good, or not for this.
    fn admit(&self, room: &str, token: &str) -> Result<Viewer, Refusal>;
}

/// Who a token belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Viewer {
    /// Whose sessions are counted together.
    pub user: String,
    /// When watching must end, in Unix seconds.
    pub expires_at_s: u64,
}

/// Why somebody may not watch; the text is shown to them.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// There is no token, or it is not a good one.
    #[error("{0}")]
    Unauthorized(String),
    /// The token does not allow it.
    #[error("{0}")]
    Forbidden(String),
}

/// The sessions of a broadcast.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    sessions: HashMap<String, Session>,
    made: u64,
}

#[derive(Debug)]
struct Session {
    /// `None`: anyone may watch.
    user: Option<String>,
    expires_at_s: u64,
    seen_at: Instant,
}

/// Why there is no session for somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SessionRefused {
    /// The user watches with as many players as allowed.
    UserLimit,
    /// Nobody more can be counted.
    Full,
}

/// What a session needs in memory, ~200 bytes, times this is a few megabytes.
const SESSIONS_MAX: usize = 20_000;

impl Sessions {
    /// The number of the next session: its name is made from it.
    pub(super) fn next_number(&mut self) -> u64 {
        self.made += 1;
        self.made
    }

    /// Begins a session; `active` is how long one counts after its last request.
    pub(super) fn begin(
        &mut self,
        now: Instant,
        id: String,
        viewer: Option<(Viewer, usize)>,
        active: Duration,
    ) -> Result<(), SessionRefused> {
        if self.sessions.len() >= SESSIONS_MAX {
            self.sessions
                .retain(|_, session| session.is_active(now, active));
        }
        if self.sessions.len() >= SESSIONS_MAX {
            return Err(SessionRefused::Full);
        }
        if let Some((viewer, sessions_max)) = &viewer {
            let user = Some(&viewer.user);
            let theirs = self
                .sessions
                .values()
                .filter(|session| session.user.as_ref() == user);
            if theirs
                .filter(|session| session.is_active(now, active))
                .count()
                >= *sessions_max
            {
                return Err(SessionRefused::UserLimit);
            }
        }
        let expires_at_s = viewer
            .as_ref()
            .map_or(u64::MAX, |(viewer, _)| viewer.expires_at_s);
        let session = Session {
            user: viewer.map(|(viewer, _)| viewer.user),
            expires_at_s,
            seen_at: now,
        };
        self.sessions.insert(id, session);
        Ok(())
    }

    /// A session made a request: when it ends, in Unix seconds. `None`: it is not known.
    pub(super) fn touch(&mut self, now: Instant, id: &str) -> Option<u64> {
        let session = self.sessions.get_mut(id)?;
        session.seen_at = session.seen_at.max(now);
        Some(session.expires_at_s)
    }

    /// How many are watching.
    pub(super) fn active_count(&self, now: Instant, active: Duration) -> usize {
        let sessions = self.sessions.values();
        sessions
            .filter(|session| session.is_active(now, active))
            .count()
    }

    /// Ends one session.
    pub(super) fn end(&mut self, id: &str) {
        self.sessions.remove(id);
    }

    /// Ends all sessions of a user.
    pub(super) fn end_user(&mut self, user: &str) {
        self.sessions
            .retain(|_, session| session.user.as_deref() != Some(user));
    }
}

impl Session {
    fn is_active(&self, now: Instant, active: Duration) -> bool {
        now.saturating_duration_since(self.seen_at) < active
    }
}
