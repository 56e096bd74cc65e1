//! Tokens during a stay: renewed before they end, followed when another one comes.

use sfu::{Command, ParticipantId};

use super::Room;
use crate::auth::{Claims, Grants};
use crate::message::{ServerEvent, ServerReply, Token};
use crate::session::Door;

/// A renewed token is good for this long, as recommended for the first one.
const LIFETIME_S: u64 = 600;
/// A token with less than this left is renewed: a socket may be lost at any time, and the session can
/// be resumed for up to two minutes after.
const MARGIN_S: u64 = 150;

impl Room {
    /// Sends a fresh token to everyone whose own is about to end. `sign` makes it, with the API key of
    /// that id; without the key there is none, and the participant's next join is its last.
    pub fn renew_tokens(
        &mut self,
        now_s: u64,
        mut sign: impl FnMut(&str, Claims) -> Option<String>,
    ) {
        let mut renewed = Vec::new();
        for session in self.sessions.values_mut() {
            let is_reachable =
                session.door == Door::Native && session.is_attached() && !session.is_welcoming();
            if !is_reachable || session.grants.expires_at_s > now_s + MARGIN_S {
                continue;
            }
            let expires_at_s = now_s + LIFETIME_S;
            let claims = session.grants.claims(&session.identity, expires_at_s);
            if let Some(token) = sign(&session.grants.key, claims) {
                session.grants.expires_at_s = expires_at_s;
                renewed.push((session.id, token));
            }
        }
        for (participant, token) in renewed {
            self.reply(participant, ServerReply::Token(Token { token }));
        }
    }

    /// A participant came back with another token: what it may do follows.
    pub fn follow_token(&mut self, participant: ParticipantId, grants: &Grants) {
        let Some(session) = self.sessions.get_mut(&participant) else {
            return;
        };
        if !session.grants.follow(grants) {
            return;
        }
        let (view, grants) = (session.grants.view(), session.grants.media.clone());
        self.command(Command::SetGrants {
            participant,
            grants,
        });
        self.tell(participant, ServerEvent::Grants(view));
    }
}
