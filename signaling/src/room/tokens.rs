//! Tokens and TURN credentials during a stay: renewed before they end; tokens followed when another comes.

use std::net::IpAddr;

use sfu::{Command, ParticipantId};

use super::Room;
use crate::auth::{Claims, Grants};
use crate::message::{IceServer, IceServers, ServerEvent, ServerReply, Token};
use crate::session::Door;

/// A renewed token is good for this long, as recommended for the first one.
const LIFETIME_S: u64 = 600;
/// A token with less than this left is renewed: a socket may be lost at any time, and the session can
/// be resumed for up to two minutes after.
const MARGIN_S: u64 = 150;
/// TURN credentials with less than this left are renewed; they are good for 300 s.
const ICE_SERVERS_MARGIN_S: u64 = 120;

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

    /// Gives participants new TURN credentials before theirs end, so that a connection that breaks finds
    /// good ones. `issue` makes them.
    pub fn renew_ice_servers(
        &mut self,
        now_s: u64,
        issue: impl Fn(ParticipantId, &str, Option<IpAddr>) -> Vec<IceServer>,
    ) {
        let mut renewed = Vec::new();
        for session in self.sessions.values_mut() {
            let ends_at_ms = session
                .ice_servers
                .iter()
                .map(|server| server.expires_at)
                .min();
            if ends_at_ms.is_none_or(|at_ms| at_ms > (now_s + ICE_SERVERS_MARGIN_S) * 1000) {
                continue;
            }
            let (identity, reached) = (&session.identity, session.reached);
            session.ice_servers = issue(session.id, identity, reached);
            if !session.is_welcoming() {
                renewed.push((session.id, session.ice_servers.clone()));
            }
        }
        for (participant, ice_servers) in renewed {
            self.reply(
                participant,
                ServerReply::IceServers(IceServers { ice_servers }),
            );
        }
    }

    /// What a participant was given last to get through firewalls with.
    pub fn ice_servers_of(&self, participant: ParticipantId) -> &[IceServer] {
        let session = self.sessions.get(&participant);
        session.map_or(&[], |session| &session.ice_servers)
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
